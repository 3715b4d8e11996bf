"""Pre-trained weights: where they come from, how they are read, and proof that they fit."""
