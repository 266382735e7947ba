"""What is recorded of a run?  What happened by batch and by epoch, in bounded memory, as tables and plots."""
