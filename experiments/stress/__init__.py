"""A trained run under stress: on perturbed videos, and on videos where only a shortcut is left."""
