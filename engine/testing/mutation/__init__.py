"""Which broken machines does a test not notice?  Tables and walks with one fault, put in force one by one."""
