"""The customer's lifecycle: the facts it takes, and what it carries from run to run."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from domain.clock import REAL_TIME, Clock
from domain.follow_up import NeedStated
from domain.messages import Channel, Purpose
from domain.payload import Payload
from domain.policies import CaseKind, RetentionPolicy, Terms
from domain.processes import Fact, Phase, ProcessKind, Stage, Step


class LeadReceived(Fact):
    source: str = ""
    campaign: str = ""
    by_staff: bool = False
    by_schedule: bool = False  # nobody has stirred: it is no sign of the customer


class OptedOut(Fact):
    channel: Channel | None = None  # None: every channel
    purpose: Purpose = Purpose.MARKETING

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(Channel) if self.channel is None else (self.channel,)


class MailUnclear(Fact):
    """A mail names something of the customer, and its sender is none of his addresses."""

    mail_id: UUID


def unclear_mail_key(mail_id: UUID) -> str:
    """Of the task that asks a person whose mail it is, within the lifecycle."""
    return f"mail/{mail_id}"


class OrderNews(Fact):
    """An order began or ended; from its delivery process."""

    order_id: UUID
    kind: str  # placed, delivered, ended


class LifecycleState(Payload):
    """Everything the lifecycle remembers; carried over continue-as-new."""

    stage: Stage = Stage.NEW
    stage_since: datetime | None = None
    clock: Clock = REAL_TIME
    policy: RetentionPolicy = RetentionPolicy()
    seen: tuple[str, ...] = ()
    open_processes: dict[str, ProcessKind] = {}
    open_orders: tuple[UUID, ...] = ()
    ordered_at: tuple[datetime, ...] = ()
    open_cases: dict[UUID, CaseKind] = {}
    resolved_cases: tuple[UUID, ...] = ()  # a reply reopens them
    marketing_sequence: int = 0
    last_heard_at: datetime | None = None
    silence_handled: bool = False
    lost: bool = False
    commands: int = 0
    tasks: dict[UUID, str] = {}

    def with_process(self, workflow_id: str, kind: ProcessKind) -> Self:
        return self.model_copy(
            update={"open_processes": {**self.open_processes, workflow_id: kind}}
        )


class LifecycleInput(Payload):
    """Started by the first event with no state; continued with what was remembered."""

    customer_id: UUID
    state: LifecycleState | None = None


class LifecycleTerms(Terms[RetentionPolicy]):
    """The clock of the customer, the retention policy and the facts found in PostgreSQL."""

    marketing_sequence: int = 0


class LifecycleStep(Step):
    """A fact taken note of: the stage that follows, what may start, and who else must hear it."""

    fact: str  # the signal's name
    stage: Stage  # after the fact, and after the start of `starts` if that is allowed
    stage_otherwise: Stage
    stage_reason: str = ""
    last_heard_at: datetime | None = None
    silence_due_at: datetime | None = None
    opens: bool = False  # the first step: answers with the terms
    starts: ProcessKind | None = None  # marketing or retention, if the facts allow it
    need: NeedStated | None = None
    unclear: MailUnclear | None = None
    tell: tuple[str, ...] = ()  # workflow ids of stage processes
    tell_signal: str = ""
    tell_fact: dict[str, Any] = {}
    closes: tuple[Channel, ...] = ()  # to selling: nobody is told while another one is open
    facts: dict[str, str] = {}

    @property
    def phase(self) -> Phase:
        """Before the first order, during one, after it (features.md A1)."""
        if self.stage in (Stage.NEW, Stage.MARKETING):
            return Phase.BEFORE
        return Phase.DURING if self.stage is Stage.DELIVERY else Phase.AFTER


class FactRecorded(Payload):
    """Whether the stage process that the fact calls for may start; the terms, when asked."""

    allowed: bool = True
    because: str = ""
    unheard: tuple[str, ...] = ()  # processes that had ended when they were to be told
    terms: LifecycleTerms | None = None
    # By which rules the lifecycle goes on; of steps taken before there was a choice: 0. From 1 on a
    # cause that comes again is another outreach, and a reply to an outreach opens a case.
    rules: int = 0


def stage_of(state: LifecycleState) -> Stage:
    """The stage that follows from what is open: what the customer would call most pressing."""
    kinds = set(state.open_processes.values())
    if state.open_cases:
        return Stage.SUPPORT
    if state.open_orders:
        return Stage.DELIVERY
    for kind, stage in (
        (ProcessKind.RETENTION, Stage.RETENTION),
        (ProcessKind.MARKETING, Stage.MARKETING),
        (ProcessKind.FOLLOW_UP, Stage.FOLLOW_UP),
    ):
        if kind in kinds:
            return stage
    return Stage.LOST if state.lost else Stage.QUIET
