"""Text that strangers wrote, made fit to be stored and shown."""

import re

# What can't be stored (NUL, halves of surrogate pairs), other controls, and what would reorder or
# hide what a reader sees.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]"
)


def clean(text: str) -> str:
    """Without what can't be stored or deceives, and with line ends as in Unix."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
