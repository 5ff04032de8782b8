"""A policy as a form and back: one entry for each leaf of its document, made from its model.

Names of nested fields are joined by dots: `marketing.sender`, `first_response.low`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from enum import StrEnum
from itertools import product
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from console import durations
from console.rendering import pairs, words
from domain.messages import MESSAGES, Channel, MessageClass, Purpose, Template
from domain.policies import POLICIES, CaseKind, PolicyKind
from domain.sending import SENDS

_MARKETING = [
    template for template in Template if MESSAGES[template].message_class is MessageClass.MARKETING
]
_CONTACTS = [
    f"{channel}/{purpose}"
    for purpose, channel in product(Purpose, Channel)
    if purpose is not Purpose.TRACKING
]
# What a list may hold. In those that are ordered a person says what comes first.
_OPTIONS: Mapping[str, Sequence[str]] = {
    "touches": _MARKETING,
    "quiet": _CONTACTS,
    "capped": _CONTACTS,
    "selling_waits_for": [str(kind) for kind in CaseKind],
    "double_opt_in": [one for one in _CONTACTS if one.endswith(f"/{Purpose.MARKETING}")],
    "email": [name for name, channel in SENDS.items() if channel is Channel.EMAIL],
    "sms": [name for name, channel in SENDS.items() if channel is Channel.SMS],
}
_ORDERED = {"touches": 12, "email": 2, "sms": 2}  # -> so many at most

Document = dict[str, Any]


class Widget(StrEnum):
    DURATION = "duration"
    WHOLE = "whole"
    NUMBER = "number"
    FLAG = "flag"
    TIME = "time"
    DAY = "day"
    TEXT = "text"
    CHOICE = "choice"
    ORDER = "order"
    SEVERAL = "several"


@dataclass(frozen=True)
class Leaf:
    """One field of the form."""

    name: str
    widget: Widget
    options: Sequence[tuple[str, str]] = ()
    most: int = 0  # of an order

    @property
    def label(self) -> str:
        return words(self.name.rpartition(".")[2])

    def shown(self, value: Any) -> str:
        """A value of the document in words, for reading and comparing."""
        match self.widget:
            case Widget.DURATION:
                return durations.said(durations.from_iso(value))
            case Widget.FLAG:
                return "yes" if value else "no"
            case Widget.ORDER:
                return ", then ".join(words(one) for one in value)
            case Widget.SEVERAL:
                return ", ".join(value) or "none"
            case Widget.TIME:
                return str(value)[:5]
            case Widget.CHOICE:
                return words(value)
            case _:
                return _plain(value) or "none"

    def same(self, one: Any, other: Any) -> bool:
        return one == other or (self.widget is Widget.SEVERAL and set(one) == set(other))

    def typed(self, value: Any) -> list[str]:
        """What stands in the form for a value of the document."""
        if isinstance(value, list):
            return [str(one) for one in value]
        if self.widget is Widget.FLAG:
            return ["on"] if value else []
        if self.widget in (Widget.DURATION, Widget.TIME):
            return [self.shown(value)]
        return [_plain(value)]

    def read(self, typed: Sequence[str]) -> Any:
        """The value of the document for what was typed. Raises ValueError."""
        text = typed[-1].strip() if typed else ""
        match self.widget:
            case Widget.DURATION:
                return durations.as_iso(durations.understood(text))
            case Widget.FLAG:
                return text == "on"
            case Widget.ORDER:
                return [one for one in typed if one]
            case Widget.SEVERAL:  # in the order of the options: a browser knows no other
                return [one for one, _ in self.options if one in typed]
            case Widget.WHOLE:
                return _whole(text)
            case Widget.NUMBER:
                return _number(text)
            case Widget.DAY:
                return text or None
            case _:
                return text


class Unreadable(Exception):
    """`faults`: the name of a field -> what is wrong with it."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__("the form could not be read")
        self.faults = faults


def leaves(kind: PolicyKind) -> list[Leaf]:
    return list(_leaves(POLICIES[kind], ""))


def typed_of(kind: PolicyKind, document: Document) -> dict[str, list[str]]:
    """The form filled in with a document."""
    return {leaf.name: leaf.typed(value_at(document, leaf.name)) for leaf in leaves(kind)}


def document_of(kind: PolicyKind, typed: Mapping[str, Sequence[str]]) -> Document:
    """The document of a filled-in form. Raises Unreadable with every fault."""
    document: Document = {}
    faults: dict[str, str] = {}
    for leaf in leaves(kind):
        try:
            _put(document, leaf.name, leaf.read(typed.get(leaf.name, ())))
        except ValueError as fault:
            faults[leaf.name] = str(fault)
    if faults:
        raise Unreadable(faults)
    return document


def value_at(document: Document, name: str) -> Any:
    found: Any = document
    for part in name.split("."):
        found = found[part]
    return found


def differences(kind: PolicyKind, before: Document, after: Document) -> list[tuple[Leaf, str, str]]:
    """(leaf, before, after) in words, where they differ."""
    found = []
    for leaf in leaves(kind):
        was, will = value_at(before, leaf.name), value_at(after, leaf.name)
        if not leaf.same(was, will):
            found.append((leaf, leaf.shown(was), leaf.shown(will)))
    return found


def merged(kind: PolicyKind, base: Document, theirs: Document, mine: Document) -> Document:
    """Their document with my changes in it; where both changed a field, mine."""
    document: Document = {}
    for leaf in leaves(kind):
        own, old = value_at(mine, leaf.name), value_at(base, leaf.name)
        _put(document, leaf.name, own if own != old else value_at(theirs, leaf.name))
    return document


def _put(document: Document, name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        document = document.setdefault(part, {})
    document[last] = value


def _leaves(policy: type[BaseModel], within: str) -> Iterator[Leaf]:
    for name, field in policy.model_fields.items():
        path, kind = f"{within}{name}", field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{path}.")
        elif get_origin(kind) is dict:
            keys, _ = get_args(kind)
            yield from (Leaf(f"{path}.{key}", Widget.DURATION) for key in keys)
        elif name in _OPTIONS:
            widget = Widget.ORDER if name in _ORDERED else Widget.SEVERAL
            yield Leaf(path, widget, pairs(_OPTIONS[name]), _ORDERED.get(name, 0))
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            yield Leaf(path, Widget.CHOICE, pairs(kind))
        else:
            yield Leaf(path, _WIDGETS[kind])


_WIDGETS: Mapping[Any, Widget] = {
    timedelta: Widget.DURATION,
    int: Widget.WHOLE,
    float: Widget.NUMBER,
    bool: Widget.FLAG,
    time: Widget.TIME,
    date | None: Widget.DAY,
    str: Widget.TEXT,
}


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError("is not a number: write it as 2.5") from None


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
