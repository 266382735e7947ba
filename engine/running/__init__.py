"""How does a table become a run that goes on?  Linked rows, the loop that they come to, and what drives it."""
