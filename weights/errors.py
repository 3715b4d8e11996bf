"""Errors about weights that a user can mend."""


class WeightsError(Exception):
    """Say in one line what is wrong with which weights, and what to do about it."""
