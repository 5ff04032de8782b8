"""The clocks of a case as they run, rest, are met or were missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from database.messages import Message
from database.support import Case
from domain.messages import MessageState, Template
from domain.policies import CaseKind
from domain.support import CaseState

_ACKNOWLEDGES = (Template.CASE_ACKNOWLEDGED, Template.RECOVERY_STARTED)
_ON_THE_WAY = (MessageState.QUEUED, MessageState.SENDING, MessageState.HELD)
_THERE = (MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.COMPLAINED)


class ClockState(StrEnum):
    RUNNING = "running"
    RESTING = "resting"
    MET = "met"
    MISSED = "missed"
    NOT_NEEDED = "not_needed"


@dataclass(frozen=True)
class CaseClock:
    """`at`: business time at which it was met or missed; `due`: at which it rings."""

    name: str
    state: ClockState
    due: datetime | None = None
    at: datetime | None = None
    because: str = ""


def clocks_of(case: Case, messages: Sequence[Message]) -> tuple[CaseClock, CaseClock, CaseClock]:
    """Acknowledgement, first response, resolution."""
    return _acknowledgement(messages), _first_response(case), _resolution(case)


def _acknowledgement(messages: Sequence[Message]) -> CaseClock:
    name = "Acknowledgement"
    sent = next((one for one in messages if one.template in _ACKNOWLEDGES), None)
    if sent is None or sent.state in _ON_THE_WAY:
        return CaseClock(name, ClockState.RUNNING, because="on its way to the customer")
    if sent.state in _THERE:
        return CaseClock(name, ClockState.MET, at=sent.told_at)
    if sent.state is MessageState.CANCELLED:
        because = "the customer has had one lately"
        return CaseClock(name, ClockState.NOT_NEEDED, because=because)
    return CaseClock(name, ClockState.MISSED, because=f"the message is {sent.state}")


def _first_response(case: Case) -> CaseClock:
    name = "First contact" if case.kind is CaseKind.RECOVERY else "First response"
    missed, given = case.first_response_missed_at, case.first_response_at
    if missed is not None:
        because = "given later" if given else "nobody has answered yet"
        return CaseClock(name, ClockState.MISSED, at=missed, because=because)
    if given is not None:
        return CaseClock(name, ClockState.MET, at=given)
    if case.first_response_due is not None:
        return CaseClock(name, ClockState.RUNNING, due=case.first_response_due)
    return CaseClock(name, ClockState.NOT_NEEDED, because="it was resolved before")


def _resolution(case: Case) -> CaseClock:
    name = "Resolution"
    if case.resolution_missed_at is not None:
        because = "resolved later" if case.resolved_at else "not resolved yet"
        return CaseClock(name, ClockState.MISSED, at=case.resolution_missed_at, because=because)
    if case.resolved_at is not None:
        return CaseClock(name, ClockState.MET, at=case.resolved_at)
    if case.resolution_due is not None:
        return CaseClock(name, ClockState.RUNNING, due=case.resolution_due)
    waits = case.state is CaseState.WAITING_FOR_CUSTOMER
    because = "while we wait for the customer" if waits else "until work on it goes on"
    return CaseClock(name, ClockState.RESTING, because=because)
