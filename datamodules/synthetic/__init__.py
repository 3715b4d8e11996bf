"""Synthetic talking heads, rendered on the spot: demo, smoke tests and probes."""
