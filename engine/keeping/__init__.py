"""What is written down, and what is given back?  Checkpoints, files, sinks of numbers, what is undone."""
