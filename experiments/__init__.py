"""Programs: the only package that knows all others."""
