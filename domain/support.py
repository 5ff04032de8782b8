"""Support cases: their states, their clocks, and what may be done in which state."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.clock import Clock
from domain.messages import Template
from domain.payload import Payload
from domain.policies import CaseKind, Priority, SupportPolicy, Terms
from domain.processes import Command, Fact, Step
from domain.tasks import Role, TaskKind, TaskRequest


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
    # Of a recovery: a staff id, or the role whose queue it waits in. Cases of old have none here.
    owner: str = ""


def outcome_template(kind: CaseKind) -> Template:
    """What tells the customer that the case is resolved."""
    return Template.RECOVERY_OUTCOME if kind is CaseKind.RECOVERY else Template.CASE_RESOLVED


FIRST_TASK = "first_response"  # its key within the case


def first_task(policy: SupportPolicy, opened: CaseInput) -> TaskRequest:
    """What a new case asks of a person first; due with the case's first-response clock."""
    recovery = opened.kind is CaseKind.RECOVERY
    return TaskRequest(
        key=FIRST_TASK,
        kind=TaskKind.CONTACT_DISAPPOINTED if recovery else TaskKind.FIRST_RESPONSE,
        role=opened.queue,
        due_at=opened.contact_by or opened.opened_at + policy.first_response[opened.priority],
    )


def acknowledge_by(policy: SupportPolicy, clock: Clock, began_at: datetime) -> datetime:
    """When the acknowledgement must have been accepted (business time); `began_at` is machine time.

    The mail server lives by the machine's time, also for a customer of a simulation.
    """
    return clock.business(began_at + policy.acknowledge_within)


class CaseStep(Step):
    """Where the case stands after the step, its clocks included."""

    case_id: UUID
    case_kind: CaseKind
    case_state: CaseState
    priority: Priority
    first_response_due: datetime | None = None
    resolution_due: datetime | None = None  # None: the clock rests
    tasks: tuple[TaskRequest, ...] = ()  # to open
    withdrawn: tuple[str, ...] = ()  # keys of tasks that nobody needs any more
    by: str = ""
    event_id: str = ""
    first: bool = False  # the customer heard from a person for the first time


class CaseOpenedStep(CaseStep):
    opened: CaseInput
    began_at: datetime  # machine time


class CaseAnsweredStep(CaseStep):
    """Staff wrote to the customer; the words are in PostgreSQL under `text_id`."""

    template: Template
    text_id: UUID | None = None


class CaseAssignedStep(CaseStep):
    owner: str


class CaseEscalatedStep(CaseStep):
    """`clock` names the clock that was missed; empty when a person escalated."""

    clock: str = ""
    reason: str = ""


class CaseResolvedStep(CaseStep):
    template: Template
    text_id: UUID | None = None
    cause: CaseCause = CaseCause.UNKNOWN
    case_outcome: str = "resolved"


class Respond(Command):
    text_id: UUID


class WaitForCustomer(Command):
    text_id: UUID | None = None


class Assign(Command):
    owner: str  # empty: nobody; the case goes back to its queue


class Resolve(Command):
    text_id: UUID | None = None
    cause: CaseCause = CaseCause.UNKNOWN


class CaseOpened(Fact):
    case_id: UUID
    kind: CaseKind
    reopened: bool = False


class CaseResolved(Fact):
    case_id: UUID
    kind: CaseKind


class CaseClosed(Fact):
    case_id: UUID
    kind: CaseKind
