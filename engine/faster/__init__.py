"""What makes a run faster?  Actions that are compiled, captured or work ahead, who refuses them, what would help."""
