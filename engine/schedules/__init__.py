"""What does a hyperparameter do over a run?  Curves, put together, written into an optimizer, and drawn."""
