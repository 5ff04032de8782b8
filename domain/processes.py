"""What every durable process has in common: its kind, its id, and where it stands."""

from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.clock import Clock
from domain.payload import Payload

LIFECYCLE_QUEUE = "lifecycle"
MESSAGING_QUEUE = "messaging"
BULK_QUEUE = "bulk"


class ProcessKind(StrEnum):
    LIFECYCLE = "lifecycle"
    MARKETING = "marketing"
    DELIVERY = "delivery"
    SUPPORT = "support"
    FOLLOW_UP = "follow_up"
    RETENTION = "retention"


# They sell: only with consent, one of a kind at a time, and none during a recovery.
SELLING = (ProcessKind.MARKETING, ProcessKind.RETENTION)


class ProcessState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        return self in (ProcessState.COMPLETED, ProcessState.STOPPED)


class Stage(StrEnum):
    """Where a customer relationship is; `quiet` means that nothing is owed on either side."""

    NEW = "new"
    MARKETING = "marketing"
    DELIVERY = "delivery"
    SUPPORT = "support"
    FOLLOW_UP = "follow_up"
    RETENTION = "retention"
    QUIET = "quiet"
    LOST = "lost"


class Phase(StrEnum):
    """Before, during or after the purchase (features.md A1)."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


PHASES = {
    ProcessKind.LIFECYCLE: Phase.BEFORE,
    ProcessKind.MARKETING: Phase.BEFORE,
    ProcessKind.DELIVERY: Phase.DURING,
    ProcessKind.SUPPORT: Phase.AFTER,
    ProcessKind.FOLLOW_UP: Phase.AFTER,
    ProcessKind.RETENTION: Phase.AFTER,
}


class Standing(Payload):
    """Where a process stands after a step, in words a person on the phone could use."""

    step: str
    waiting_for: str = ""
    next_timer_at: datetime | None = None  # business time
    next_timer_machine_at: datetime | None = None
    state: ProcessState = ProcessState.RUNNING
    outcome: str = ""
    allowed: tuple[str, ...] = ()


class Step(Payload):
    """One step of a process, as its activity receives it.

    `key` names the step within its process. The step's timeline line carries (workflow, key) under
    a unique constraint and is written in the step's transaction, so a repeat changes nothing.
    """

    workflow_id: str
    kind: ProcessKind
    customer_id: UUID
    key: str
    at: datetime  # business time at which the step was decided, or the reported moment of a fact
    standing: Standing
    # By the machine. Of two steps the one decided later says where the process stands, also when
    # the other is written later; see begin_step. None: decided by a version before this.
    decided_at: datetime | None = None

    def with_timer(self, until: datetime | None, clock: Clock) -> Self:
        """A first step, standing before a timer that only its activity could know."""
        standing = self.standing.model_copy(
            update={
                "next_timer_at": until,
                "next_timer_machine_at": None if until is None else clock.machine(until),
            }
        )
        return self.model_copy(update={"standing": standing})

    def on_clock(self, clock: Clock) -> Self:
        """A first step taken at the machine's time, put on the clock the process now knows."""
        return self.model_copy(update={"at": clock.business(self.at)})

    @property
    def phase(self) -> Phase:
        return PHASES[self.kind]


class Fact(Payload):
    """Something that happened outside. `event_id` makes a repeat recognisable for ever."""

    event_id: str
    occurred_at: datetime


class ProcessEnded(Fact):
    """A stage process reports its end to the customer's lifecycle."""

    workflow_id: str
    kind: ProcessKind
    outcome: str


class Command(Payload):
    """What a member of staff tells a process to do. `by` is a staff id, never a name."""

    by: str = "api"
    reason: str = ""


class TaskCompleted(Payload):
    """A person finished a task that the process waits for; `outcome` is one of the task's."""

    task_id: UUID
    outcome: str
    by: str = "api"
    reason: str = ""


class CommandStep(Step):
    command: str
    by: str = ""
    reason: str = ""


class TaskCompletedStep(Step):
    done: TaskCompleted


class MessageSettled(Payload):
    """A message of the process will not arrive; the process takes its undeliverable branch."""

    message_key: str
    state: str


def lifecycle_workflow_id(customer_id: UUID) -> str:
    return f"customer/{customer_id}"


def marketing_workflow_id(customer_id: UUID, sequence: int) -> str:
    return f"marketing/{customer_id}/{sequence}"


def delivery_workflow_id(order_id: UUID) -> str:
    return f"delivery/{order_id}"


def support_workflow_id(case_id: UUID) -> str:
    return f"case/{case_id}"


def follow_up_workflow_id(about_id: UUID) -> str:
    """About an order or a case."""
    return f"follow-up/{about_id}"


def retention_workflow_id(customer_id: UUID, cause: str, event_id: str = "") -> str:
    """`event_id`: of what was noticed. The same cause may come again, and is another outreach."""
    which = f"/{derived_id('risk', event_id).hex[:12]}" if event_id else ""
    return f"retention/{customer_id}/{cause}{which}"


def derived_id(*parts: object) -> UUID:
    """A UUID that follows from its parts, so that a repeat finds the same row."""
    return uuid5(NAMESPACE_URL, "/".join(str(part) for part in parts))


def order_id_of(source: str, reference: str) -> UUID:
    """The id of another system's order: the same for every event about it."""
    return derived_id("order", source, reference)
