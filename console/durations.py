"""Durations as people say them, and as the policies are written (ISO 8601)."""

import re
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

_ISO = TypeAdapter(timedelta)
_UNITS = {
    "week": timedelta(weeks=1),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
}
_SHORT = {"w": "week", "d": "day", "h": "hour", "m": "minute", "min": "minute", "s": "second"}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_HOW = "write it as 3 days, 8 hours or 1 day 12 hours (or P3D, as ISO 8601 has it)"


def said(duration: timedelta) -> str:
    """`1 day 12 hours`: read again by `understood` it is the same duration."""
    left = duration
    parts = []
    for unit, size in _UNITS.items():
        if unit == "week":  # days are what the policies are spoken of in
            continue
        count: float = left // size
        if unit == "second":
            count = left / size
        left -= count * size
        if count:
            parts.append(f"{count:g} {unit}{'' if count == 1 else 's'}")
    return " ".join(parts) or "0 seconds"


def from_iso(text: str) -> timedelta:
    """Raises ValueError."""
    try:
        return _ISO.validate_python(text)
    except ValidationError:
        raise ValueError(f"{text!r} is not a duration: {_HOW}") from None


def understood(text: str) -> timedelta:
    """What a person meant. Raises ValueError with how to write it.

    Months and years have no fixed length, and are refused: 90 days is meant by 90 days.
    """
    asked = text.strip()
    if asked[:1] == "P":
        return from_iso(asked)
    words = asked.lower().replace(",", " ").replace(" and ", " ")
    parts = _PART.findall(words)
    if not parts or _PART.sub("", words).strip():
        raise ValueError(f"is not a duration: {_HOW}" if asked else f"is empty: {_HOW}")
    total = timedelta(0)
    for count, word in parts:
        unit = _SHORT.get(word, word.removesuffix("s"))
        if unit in ("month", "mo", "year", "y"):
            raise ValueError(f"has no fixed length in {unit}s: write the days")
        if unit not in _UNITS:
            raise ValueError(f"has a unit that is not known ({word}): {_HOW}")
        try:
            total += float(count) * _UNITS[unit]
        except OverflowError:
            raise ValueError("is longer than any calendar") from None
    return total


def as_iso(duration: timedelta) -> str:
    return str(_ISO.dump_python(duration, mode="json"))
