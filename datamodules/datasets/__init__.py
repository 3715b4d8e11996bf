"""Data sets as their authors distribute them, read as records of a manifest."""
