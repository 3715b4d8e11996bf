"""Errors about data that a user can mend."""


class DataError(Exception):
    """Say in one line what is wrong with which file or folder, and what to do about it."""
