"""What does the command `stateloop` do?  Its commands, and the `module:factory` that each is given."""
