"""How does the user's own loop take a run forward?  Reports, where such a loop is, and what is said out of order."""
