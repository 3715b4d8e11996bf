"""Whether a prepared folder can be trusted: damage, leaks between splits, and its data card."""
