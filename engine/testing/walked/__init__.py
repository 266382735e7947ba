"""Does an engine do what a machine says?  All that may happen, random programs, loops of one's own, random machines."""
