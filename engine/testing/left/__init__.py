"""What does a run leave behind?  The stock before it and after it, and whose the difference is."""
