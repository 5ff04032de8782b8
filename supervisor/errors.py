"""What stops a start, worded for the person who typed the command."""


class Refused(Exception):
    """We can't go on. The message is one line that says what is wrong and what to do."""
