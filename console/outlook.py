"""What will happen after a start by hand, in words, by the policies in force."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from console.rendering import span, words
from domain.policies import (
    FollowUpPolicy,
    MarketingPolicy,
    Policy,
    PolicyKind,
    Priority,
    RetentionPolicy,
    SupportPolicy,
)
from domain.processes import ProcessKind

POLICY_OF = {
    ProcessKind.MARKETING: PolicyKind.MARKETING,
    ProcessKind.SUPPORT: PolicyKind.SUPPORT,
    ProcessKind.FOLLOW_UP: PolicyKind.FOLLOW_UP,
    ProcessKind.RETENTION: PolicyKind.RETENTION,
}


class When:
    """Says a duration, with the day it leads to where one customer's time is known."""

    def __init__(self, now: datetime | None = None, zone: str = "UTC") -> None:
        self._now, self._zone = now, ZoneInfo(zone)

    def after(self, *spans: timedelta) -> str:
        """`within 4 days`, or `by Thu 26 Nov, 10:00`, so long after each other from now."""
        whole = sum(spans, timedelta(0))
        if self._now is None:
            return f"within {span(whole)}"
        at = (self._now + whole).astimezone(self._zone)
        return f"by {at:%a} {at.day} {at:%b %Y, %H:%M}"


def outlook(policy: Policy, when: When) -> Sequence[str]:
    """Sentences, in the order of what happens."""
    match policy:
        case MarketingPolicy():
            return _marketing(policy, when)
        case SupportPolicy():
            return _support(policy, when)
        case FollowUpPolicy():
            return _follow_up(policy)
        case RetentionPolicy():
            return _retention(policy, when)
        case _:
            return ()


def _marketing(policy: MarketingPolicy, when: When) -> list[str]:
    first, *further = policy.touches
    said = [f"“{words(first)}” is sent on the customer's preferred channel, as soon as it may go."]
    if further:
        names = ", then ".join(f"“{words(touch)}”" for touch in further)
        said.append(
            f"Without an answer {when.after(policy.between_touches)}, {names} follow, "
            f"{span(policy.between_touches)} apart."
        )
    waits = [policy.between_touches * len(further), policy.after_last_touch]
    said.append(f"If nothing has come {when.after(*waits)}, the contact ends.")
    said.append(
        "An answer stops the messages: a sales rep gets the task to respond within "
        f"{span(policy.first_response)}; if that is missed, the manager gets it."
    )
    said.append("An order or an opt-out ends the contact at once.")
    return said


def _support(policy: SupportPolicy, when: When) -> list[str]:
    return [
        "The customer gets an acknowledgement with the case's reference at once.",
        "A person answers "
        + "; ".join(
            f"{when.after(policy.first_response[priority])} at {words(priority).lower()} priority"
            for priority in reversed(Priority)
        )
        + ".",
        f"At normal priority it is to be resolved {when.after(policy.resolution[Priority.NORMAL])};"
        " a clock that is missed escalates the case to the manager.",
        "After the resolution the customer is asked how it went.",
        f"A reply within {span(policy.reopening_window)} of the resolution opens it again.",
    ]


def _follow_up(policy: FollowUpPolicy) -> list[str]:
    return [
        f"The customer is thanked and asked how it went, {span(policy.after_delivery)} after a"
        f" delivery, {span(policy.after_case)} after a resolved case; at once if that has passed.",
        f"Without an answer, one reminder goes after {span(policy.remind_after)}; "
        f"{span(policy.close_after)} after that it ends.",
        "A disappointed answer opens a recovery case: a person makes contact within "
        f"{span(policy.recovery_contact)}.",
    ]


def _retention(policy: RetentionPolicy, when: When) -> list[str]:
    return [
        "A message asks how things are, on the customer's preferred channel.",
        f"Without an answer {when.after(policy.answer_within)}, the account manager gets the task"
        f" to make contact within {span(policy.manager_within)}.",
        f"If that leads to nothing, an offer goes; it stands for {span(policy.offer_stands)}.",
        f"After that the customer counts as lost; {span(policy.win_back_after)} later one"
        " more message tries to win the customer back.",
        "An answer or an order ends it at once, as saved.",
    ]
