"""The one error that is the user's to mend."""


class UserError(Exception):
    """What is wrong, where, and how to mend it: shown as it is, without a traceback, exit 2."""
