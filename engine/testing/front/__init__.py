"""What do the command and the pytest plugin share and need?  Items, fixtures, claims as text, Ctrl-C."""
