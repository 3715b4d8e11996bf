"""Methods: one file each. This import list is the registry."""
