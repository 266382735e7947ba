"""How well did it go?  Loss and metrics of a pass, outputs that are kept, and whether a metric improved."""
