"""The customer's lifecycle: the facts it takes, and what it carries from run to run."""

from datetime import datetime
from uuid import UUID

from domain.clock import REAL_TIME, Clock
from domain.follow_up import FollowUpInput
from domain.marketing import MarketingInput
from domain.messages import Channel, Purpose
from domain.payload import Payload
from domain.policies import RetentionPolicy, Terms
from domain.processes import Fact, ProcessKind, Stage, Step
from domain.retention import RetentionInput
from domain.support import CaseKind


class LeadReceived(Fact):
    source: str = ""
    campaign: str = ""
    by_staff: bool = False


class OptedOut(Fact):
    channel: Channel | None = None  # None: every channel
    purpose: Purpose = Purpose.MARKETING


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
    marketing_sequence: int = 0
    last_heard_at: datetime | None = None
    silence_handled: bool = False
    paused: bool = False
    stopped: bool = False
    steps: int = 0


class LifecycleInput(Payload):
    """Started by the first event with no state; continued with what was remembered."""

    customer_id: UUID
    state: LifecycleState | None = None


class LifecycleTerms(Terms[RetentionPolicy]):
    """The clock of the customer, the retention policy and the facts found in PostgreSQL."""

    zone: str = "UTC"
    marketing_sequence: int = 0


class LifecycleStep(Step):
    event_id: str = ""
    stage: Stage
    stage_reason: str = ""
    stage_changed: bool = False
    silence_due_at: datetime | None = None
    last_heard_at: datetime | None = None
    paused: bool = False
    tell: tuple[str, ...] = ()  # workflow ids of stage processes that must hear of the fact
    tell_signal: str = ""
    facts: dict[str, str] = {}


class StageStart(Payload):
    """What the lifecycle may start next, or why not."""

    allowed: bool = True
    because: str = ""
    marketing: MarketingInput | None = None
    follow_up: FollowUpInput | None = None
    retention: RetentionInput | None = None
