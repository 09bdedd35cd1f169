"""The paper, row by row: what to train, how to test it, and what the paper reports (`resdet reproduce`)."""
