"""Which learning rate is a good one?  A search, what it found, and what its curve of losses suggests."""
