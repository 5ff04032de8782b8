"""Whether staff may start a process of a customer now: what its lifecycle would say, beforehand."""

from typing import NamedTuple

from domain.messages import Channel
from domain.processes import SELLING, ProcessKind

NO_CONSENT = "no consent to marketing on any channel"


class StartFacts(NamedTuple):
    """What is known of one customer before a process is started by hand."""

    agrees: frozenset[Channel] = frozenset()  # to marketing, by the newest statement
    reachable: frozenset[Channel] = frozenset()  # an address is in use
    running: frozenset[ProcessKind] = frozenset()
    recovering: bool = False  # a recovery case is open
    paused: bool = False  # staff has paused the relationship: it takes no fact now


def obstacle(kind: ProcessKind, facts: StartFacts) -> str:
    """Why such a process would not start now, in words; empty: it would.

    Selling needs consent, waits for a recovery, and is done once at a time (workflows/lifecycle.py
    decides by the same rules). A case may always be opened: the customer may always be helped.
    """
    if kind not in SELLING:
        return ""
    if facts.paused:
        return "the relationship is paused by staff"
    if facts.recovering:
        return "a recovery case is open"
    if kind in facts.running:
        is_contact = kind is ProcessKind.MARKETING
        return "a contact is running already" if is_contact else "a save play is running"
    if not facts.agrees:
        return NO_CONSENT
    if not facts.agrees & facts.reachable:
        return f"no address for {' or '.join(sorted(facts.agrees))}, which is agreed to"
    return ""
