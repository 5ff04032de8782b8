"""The journey curve: a model of how each moment felt to the customer, from -3 to 3.

Journey maps draw a curve of emotion over the touchpoints (J. Kalbach, Mapping Experiences, 2016;
K. Richardson, Using customer journey maps, HBR 2010). Nobody measured these feelings: all but the
scores are our reading of what happened, by the rules below, and the screen says so. What stays in
memory is above all the most intense moment and the last one (peak-end rule: D. Kahneman et al.,
When more pain is preferred to less, 1993).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from domain.follow_up import Verdict
from domain.promises import PromiseState

REACH = 3  # the strongest feeling either way


class Happened(NamedTuple):
    """A line of the timeline, as far as it says how it felt."""

    at: datetime  # business time
    kind: str
    facts: Mapping[str, object]
    words: str
    case: str = ""  # its workflow, of lines of a case


class Moment(NamedTuple):
    at: datetime
    value: int
    words: str
    because: str  # the rule


# Kinds of timeline lines that feel the same each time: value, why.
RULES: Mapping[str, tuple[int, str]] = {
    "order_placed": (1, "looking forward to it"),
    "order_dispatched": (1, "news that it comes"),
    "order_delivered": (1, "it is here"),
    "promise_endangered": (-1, "told of the danger before the day"),
    "promise_missed": (-2, "the promised day passed"),
    "delivery_rescheduled": (-1, "has to wait for another day"),
    "delivery_attempt_failed": (-1, "waited at home for nothing"),
    "order_unavailable": (-3, "will not get it"),
    "order_cancelled": (-1, "will not get it"),
    "order_returned": (-2, "did not keep it"),
    "case_opened": (-1, "needs help"),
    "case_escalated": (-1, "nobody helped in time"),
    "case_waiting": (-1, "is asked instead of helped"),
    "case_resolved": (2, "was helped"),
    "case_reopened": (-2, "it was not solved after all"),
    "first_response_missed": (-1, "wrote and nobody answered in time"),
    "retention_offer": (1, "is worth an offer"),
    "message_complained": (-3, "called our mail spam"),
    "opted_out": (-2, "wants no more of our messages"),
    "customer_lost": (-3, "left"),
}
PROMISES: Mapping[PromiseState, tuple[int, str]] = {
    PromiseState.KEPT: (1, "promise kept"),
    PromiseState.PARTLY_KEPT: (-1, "promise kept in part"),
    PromiseState.BROKEN: (-2, "promise broken"),
}
_SAID: Mapping[Verdict, tuple[int, str]] = {
    Verdict.PROMOTER: (3, "said so: would recommend us"),
    Verdict.PASSIVE: (1, "said so: content"),
    Verdict.DETRACTOR: (-3, "said so: disappointed"),
}
_ANSWERS = frozenset({"case_answered", "case_waiting", "case_resolved"})
# Waiting for a person's first answer: from when on it hurts, and how much.
WAITS: Sequence[tuple[timedelta, int]] = ((timedelta(days=3), -2), (timedelta(days=1), -1))


def moments_of(lines: Iterable[Happened]) -> list[Moment]:
    """The lines that are felt, in the order of time, and the long waits for an answer."""
    found: list[Moment] = []
    asked: dict[str, datetime] = {}
    for line in sorted(lines, key=lambda one: one.at):
        if line.kind in ("case_opened", "case_reopened"):
            asked[line.case] = line.at
        elif line.kind in _ANSWERS and line.case in asked:
            found += _wait(line.at, line.at - asked.pop(line.case))
        felt = _felt(line)
        if felt is not None:
            found.append(Moment(line.at, felt[0], line.words, felt[1]))
    return found


def promise_moment(at: datetime, state: PromiseState, words: str) -> Moment | None:
    """A promise that was settled; None while it is open, or was released."""
    felt = PROMISES.get(state)
    return None if felt is None else Moment(at, felt[0], words, felt[1])


def remembered(moments: Sequence[Moment]) -> float | None:
    """The mean of the most intense moment and the last one (peak-end rule); None of none."""
    if not moments:
        return None
    peak = max(moments, key=lambda moment: abs(moment.value))
    return (peak.value + moments[-1].value) / 2


def _felt(line: Happened) -> tuple[int, str] | None:
    if line.kind != "feedback_received":
        return RULES.get(line.kind)
    try:
        return _SAID[Verdict(str(line.facts.get("verdict")))]
    except ValueError:
        return None


def _wait(until: datetime, waited: timedelta) -> list[Moment]:
    for least, value in WAITS:
        if waited > least:
            days = round(waited / timedelta(days=1))
            words = f"Waited {days} day{'' if days == 1 else 's'} for an answer"
            return [Moment(until, value, words, "a wait is felt when it ends")]
    return []
