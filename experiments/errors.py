"""Errors of the programs that a user can mend."""


class UsageError(Exception):
    """Say in one line what was typed, what is wrong with it, and what to type instead."""
