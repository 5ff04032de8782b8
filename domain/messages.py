"""The messages: what each is for, in which languages it exists, what its wording may use."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from domain.payload import Payload


class Channel(StrEnum):
    EMAIL = "email"
    SMS = "sms"


class MessageClass(StrEnum):
    """Transactional: part of a contract. Service: about it. Marketing: only with consent."""

    TRANSACTIONAL = "transactional"
    SERVICE = "service"
    MARKETING = "marketing"
    STAFF = "staff"


class Purpose(StrEnum):
    """What a consent is given for, or withdrawn from."""

    ORDERS = "orders"
    SUPPORT = "support"
    FEEDBACK = "feedback"
    MARKETING = "marketing"
    TRACKING = "tracking"  # of no message: that opening and clicking in them is counted


class MessageState(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"
    HELD = "held"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def settled(self) -> bool:
        """Nothing more will be done about it without new evidence."""
        return self not in (MessageState.QUEUED, MessageState.SENDING, MessageState.HELD)


class SettledBy(StrEnum):
    """How it was settled what became of a message whose outcome was unknown."""

    EVIDENCE = "evidence"  # the inbox, the provider's own memory of the key, a delivery report
    CLASS = "class"  # of the message: marketing stays unknown, all else is sent again


class Template(StrEnum):
    MARKETING_WELCOME = "marketing_welcome"
    MARKETING_VALUE = "marketing_value"
    MARKETING_LAST = "marketing_last"
    ORDER_CONFIRMED = "order_confirmed"
    ORDER_DISPATCHED = "order_dispatched"
    ORDER_AT_RISK = "order_at_risk"
    ORDER_LATE = "order_late"
    ORDER_RESCHEDULED = "order_rescheduled"
    ORDER_DELIVERED = "order_delivered"
    DELIVERY_ATTEMPT_FAILED = "delivery_attempt_failed"
    ORDER_RETURNED = "order_returned"
    ORDER_UNAVAILABLE = "order_unavailable"
    ORDER_CANCELLED = "order_cancelled"
    SURVEY_REQUEST = "survey_request"
    SURVEY_REMINDER = "survey_reminder"
    REFERRAL_REQUEST = "referral_request"
    RECOVERY_STARTED = "recovery_started"
    RECOVERY_OUTCOME = "recovery_outcome"
    CASE_ACKNOWLEDGED = "case_acknowledged"
    CASE_REPLY = "case_reply"
    CASE_WAITING = "case_waiting"
    CASE_WAITING_REMINDER = "case_waiting_reminder"
    CASE_RESOLVED = "case_resolved"
    RETENTION_CHECK_IN = "retention_check_in"
    RETENTION_OFFER = "retention_offer"
    WIN_BACK = "win_back"
    CONFIRM_OPT_IN = "confirm_opt_in"
    SMS_HELP = "sms_help"
    STAFF_DIGEST = "staff_digest"


class MessageKind(NamedTuple):
    message_class: MessageClass
    purpose: Purpose
    locales: tuple[str, ...]
    variables: tuple[str, ...] = ()  # of the process; messaging/render.py adds the common ones


_BOTH = ("en", "pt-BR")
_ENGLISH = ("en",)
_C = MessageClass
_P = Purpose

MESSAGES: dict[Template, MessageKind] = {
    Template.MARKETING_WELCOME: MessageKind(_C.MARKETING, _P.MARKETING, _BOTH),
    Template.MARKETING_VALUE: MessageKind(_C.MARKETING, _P.MARKETING, _BOTH),
    Template.MARKETING_LAST: MessageKind(_C.MARKETING, _P.MARKETING, _BOTH),
    Template.ORDER_CONFIRMED: MessageKind(
        _C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "lines", "total", "promised_on")
    ),
    Template.ORDER_DISPATCHED: MessageKind(
        _C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "carrier", "tracking", "promised_on")
    ),
    Template.ORDER_AT_RISK: MessageKind(
        _C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "promised_on")
    ),
    Template.ORDER_LATE: MessageKind(_C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "promised_on")),
    Template.ORDER_RESCHEDULED: MessageKind(
        _C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "promised_on", "previously_promised_on")
    ),
    Template.ORDER_DELIVERED: MessageKind(
        _C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "delivered_on", "late")
    ),
    Template.DELIVERY_ATTEMPT_FAILED: MessageKind(_C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order",)),
    Template.ORDER_RETURNED: MessageKind(_C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order",)),
    Template.ORDER_UNAVAILABLE: MessageKind(
        _C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "refund", "alternative")
    ),
    Template.ORDER_CANCELLED: MessageKind(
        _C.TRANSACTIONAL, _P.ORDERS, _BOTH, ("order", "refund", "alternative")
    ),
    Template.SURVEY_REQUEST: MessageKind(
        _C.SERVICE, _P.FEEDBACK, _BOTH, ("about", "survey_id", "scale")
    ),
    Template.SURVEY_REMINDER: MessageKind(
        _C.SERVICE, _P.FEEDBACK, _BOTH, ("about", "survey_id", "scale")
    ),
    Template.REFERRAL_REQUEST: MessageKind(_C.MARKETING, _P.MARKETING, _BOTH),
    Template.RECOVERY_STARTED: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH, ("contact_by",)),
    Template.RECOVERY_OUTCOME: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH, ("text",)),
    Template.CASE_ACKNOWLEDGED: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH, ("case", "respond_by")),
    Template.CASE_REPLY: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH, ("case", "text")),
    Template.CASE_WAITING: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH, ("case", "text")),
    Template.CASE_WAITING_REMINDER: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH, ("case",)),
    Template.CASE_RESOLVED: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH, ("case", "text")),
    Template.RETENTION_CHECK_IN: MessageKind(_C.MARKETING, _P.MARKETING, _BOTH),
    Template.RETENTION_OFFER: MessageKind(_C.MARKETING, _P.MARKETING, _BOTH, ("offer_until",)),
    Template.WIN_BACK: MessageKind(_C.MARKETING, _P.MARKETING, _BOTH),
    # Not of the purpose marketing: it is counted against no limit of selling.
    Template.CONFIRM_OPT_IN: MessageKind(_C.TRANSACTIONAL, _P.SUPPORT, _BOTH, ("confirm_until",)),
    Template.SMS_HELP: MessageKind(_C.SERVICE, _P.SUPPORT, _BOTH),
    Template.STAFF_DIGEST: MessageKind(_C.STAFF, _P.SUPPORT, _ENGLISH, ("day", "lines")),
}


class MessageRequest(Payload):
    """Ask for one message. `occurrence` tells two askings of one template in a process apart.

    The key (workflow, template, occurrence) is unique in PostgreSQL: asking again changes nothing.
    `context` holds ids, dates (ISO) and numbers; personal data is read when the message is sent.
    """

    template: Template
    occurrence: str = "1"
    context: dict[str, str] = {}
    channel: Channel = Channel.EMAIL
    channel_fixed: bool = False  # not to be exchanged for the one the customer prefers
    text_id: UUID | None = None  # what a member of staff wrote, stored in PostgreSQL
    not_after: datetime | None = None  # business time from which on it would make no sense


def message_key(workflow_id: str, template: str, occurrence: str) -> str:
    return f"{workflow_id}/{template}/{occurrence}"


DISPATCH_WORKFLOW_ID = "messages/dispatch"


class DispatchRound(Payload):
    """A run of the dispatching activity; it returns after `lasts` so that its workflow goes on."""

    lasts: timedelta = timedelta(minutes=2)


class DispatchCounts(Payload):
    """What became of messages in a round, or in all of them."""

    accepted: int = 0
    suppressed: int = 0
    held: int = 0
    retried: int = 0
    failed: int = 0
    unknown: int = 0
    recovered: int = 0  # left behind by a dispatcher that died, and settled by evidence or by class
    cancelled: int = 0  # their moment had passed

    def plus(self, other: "DispatchCounts") -> "DispatchCounts":
        mine, theirs = self.model_dump(), other.model_dump()
        return DispatchCounts(**{name: mine[name] + theirs[name] for name in mine})


class DispatchInput(Payload):
    """Carried over continue-as-new, which comes after so many rounds at the latest."""

    round: DispatchRound = DispatchRound()
    rounds: int = 200
    so_far: DispatchCounts = DispatchCounts()


INTAKE_WORKFLOW_ID = "messages/intake"


class IntakeRound(Payload):
    """A run of the activity that takes in what came back; it returns after `lasts`."""

    lasts: timedelta = timedelta(minutes=2)


class IntakeCounts(Payload):
    """What was taken in, in a round or in all of them."""

    reports: int = 0  # about the delivery of messages; of them:
    delivered: int = 0
    bounced: int = 0
    complained: int = 0
    mails: int = 0
    texts: int = 0

    def plus(self, other: "IntakeCounts") -> "IntakeCounts":
        mine, theirs = self.model_dump(), other.model_dump()
        return IntakeCounts(**{name: mine[name] + theirs[name] for name in mine})


class IntakeInput(Payload):
    """Carried over continue-as-new, which comes after so many rounds at the latest."""

    round: IntakeRound = IntakeRound()
    rounds: int = 200
    so_far: IntakeCounts = IntakeCounts()
