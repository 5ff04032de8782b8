"""Support cases: their states, their clocks, and what may be done in which state."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.payload import Payload
from domain.policies import Priority, SupportPolicy, Terms
from domain.processes import Command, Fact, Step
from domain.tasks import Role


class CaseKind(StrEnum):
    REQUEST = "request"
    QUESTION = "question"
    INCIDENT = "incident"
    FAILED_DELIVERY = "failed_delivery"
    RECOVERY = "recovery"


class CaseState(StrEnum):
    OPEN = "open"
    IN_PROGRESS = "in_progress"
    WAITING_FOR_CUSTOMER = "waiting_for_customer"
    RESOLVED = "resolved"
    CLOSED = "closed"


class CaseCause(StrEnum):
    """Where the trouble came from (features.md D16)."""

    PRODUCT = "product"
    SERVICE = "service"
    DELIVERY = "delivery"
    INFORMATION = "information"
    PRICE = "price"
    THIRD_PARTY = "third_party"
    CUSTOMER = "customer"
    UNKNOWN = "unknown"


ALLOWED: dict[CaseState, tuple[str, ...]] = {
    CaseState.OPEN: ("assign", "respond", "wait_for_customer", "escalate", "resolve"),
    CaseState.IN_PROGRESS: ("assign", "respond", "wait_for_customer", "escalate", "resolve"),
    CaseState.WAITING_FOR_CUSTOMER: ("assign", "respond", "escalate", "resolve"),
    CaseState.RESOLVED: ("reopen",),
    CaseState.CLOSED: (),
}


class StopClock(Payload):
    """A clock that can rest: it has `left` to run and runs since `since`, or rests (None)."""

    left: timedelta
    since: datetime | None = None

    def started(self, at: datetime) -> "StopClock":
        return self if self.since else StopClock(left=self.left, since=at)

    def rested(self, at: datetime) -> "StopClock":
        """Time that passed since it was started is used up; a rest costs nothing."""
        if self.since is None:
            return self
        return StopClock(left=self.left - max(at - self.since, timedelta(0)))

    @property
    def due_at(self) -> datetime | None:
        return None if self.since is None else self.since + self.left


class CaseInput(Payload):
    case_id: UUID
    customer_id: UUID
    kind: CaseKind = CaseKind.REQUEST
    priority: Priority = Priority.NORMAL
    queue: Role = Role.SUPPORT_AGENT
    opened_at: datetime
    event_id: str
    order_id: UUID | None = None
    feedback_id: UUID | None = None
    contact_by: datetime | None = None  # of a recovery case: a person contacts the customer by then


class CaseTerms(Terms[SupportPolicy]):
    pass


class CaseStep(Step):
    case_id: UUID
    state: CaseState
    priority: Priority
    event_id: str = ""
    first_response_due: datetime | None = None
    resolution_due: datetime | None = None  # None: the clock rests


class CaseOpenedStep(CaseStep):
    opened: CaseInput


class CaseRespondedStep(CaseStep):
    """A member of staff wrote to the customer; the words are in PostgreSQL under `text_id`."""

    text_id: UUID | None = None
    by: str = ""
    template: str = "case_reply"
    first: bool = False


class CaseAssignedStep(CaseStep):
    owner: str
    by: str = ""


class CaseEscalatedStep(CaseStep):
    """`clock` names the clock that was missed; empty when a person escalated."""

    clock: str = ""
    by: str = ""
    reason: str = ""
    due_at: datetime


class CaseResolvedStep(CaseStep):
    text_id: UUID | None = None
    by: str = ""
    cause: CaseCause = CaseCause.UNKNOWN
    outcome: str = "resolved"
    case_kind: CaseKind = CaseKind.REQUEST


class Respond(Command):
    text_id: UUID


class WaitForCustomer(Command):
    text_id: UUID | None = None


class Assign(Command):
    owner: str


class Resolve(Command):
    text_id: UUID | None = None
    cause: CaseCause = CaseCause.UNKNOWN


class CaseOpened(Fact):
    case_id: UUID
    kind: CaseKind


class CaseResolved(Fact):
    case_id: UUID
    kind: CaseKind


class CaseClosed(Fact):
    case_id: UUID
    kind: CaseKind
