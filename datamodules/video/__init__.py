"""Video files: which decoder is exact on a file, and readers of its frames."""
