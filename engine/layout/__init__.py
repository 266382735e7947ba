"""How does what we show look?  Pictures, columns, tables of epochs, and where progress is shown."""
