"""Does it matter which of two callbacks comes first?  One training in both orders, compared."""
