"""The policies: every duration, count and limit of the processes, versioned and published by staff.

A process takes the policy in force at its start and keeps it to its end; those of kind contact and
sending are read anew for the messages that are due, that of kind storage every night. Durations are
business time; ISO 8601 in JSON.
"""

import re
from datetime import time, timedelta
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from domain.clock import REAL_TIME, Clock
from domain.messages import Channel, MessageClass, Purpose
from domain.payload import Payload
from domain.quiet_hours import ContactCap, QuietHours
from domain.sending import Account, ProviderName, Stream


class PolicyKind(StrEnum):
    MARKETING = "marketing"
    DELIVERY = "delivery"
    SUPPORT = "support"
    FOLLOW_UP = "follow_up"
    RETENTION = "retention"
    CONTACT = "contact"
    SENDING = "sending"
    STORAGE = "storage"


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"

    def raised(self) -> "Priority":
        order = list(Priority)
        return order[min(order.index(self) + 1, len(order) - 1)]


class CaseKind(StrEnum):
    REQUEST = "request"
    QUESTION = "question"
    INCIDENT = "incident"
    FAILED_DELIVERY = "failed_delivery"
    RECOVERY = "recovery"


class SurveyScale(StrEnum):
    """Stars 1-5 (customer satisfaction) or 0-10 (likelihood to recommend: Reichheld 2003)."""

    STARS = "stars"
    NPS = "nps"


class _Policy(Payload):
    model_config = ConfigDict(frozen=True, extra="ignore")


def _duration(default: timedelta, what: str) -> timedelta:
    field: timedelta = Field(default, gt=timedelta(0), le=timedelta(days=3650), description=what)
    return field


class MarketingPolicy(_Policy):
    touches: tuple[str, ...] = Field(
        ("marketing_welcome", "marketing_value", "marketing_last"),
        min_length=1,
        max_length=12,
        description="templates of the touches, in order",
    )
    between_touches: timedelta = _duration(timedelta(days=4), "from one touch to the next")
    after_last_touch: timedelta = _duration(timedelta(days=7), "still listening after the last")
    first_response: timedelta = _duration(
        timedelta(hours=4), "a reply is answered by a person within"
    )
    escalated_response: timedelta = _duration(
        timedelta(hours=4), "after a missed first response, the manager's time to answer"
    )
    scheduled_contacts: int = Field(
        0,
        ge=0,
        le=10_000,
        description="so many customers a day who agreed, have not ordered and were never contacted "
        "are contacted by a schedule; 0: none",
    )


class DeliveryPolicy(_Policy):
    approval_expected: timedelta = _duration(
        timedelta(days=3), "an order is approved within; else a task for operations"
    )
    warn_before: timedelta = _duration(
        timedelta(days=2), "before the promised day ends, tell the customer when nothing arrived"
    )
    chase_every: timedelta = _duration(
        timedelta(days=7), "a late order is looked at by a person again after"
    )
    chases: int = Field(3, ge=0, le=50, description="how often at most")
    redelivery_expected: timedelta = _duration(
        timedelta(days=2), "after a failed attempt, news within; else a support case"
    )
    failed_attempts: int = Field(2, ge=1, le=20, description="so many of them: a support case")
    compensation_due: timedelta = _duration(
        timedelta(days=1), "a person handles a cancelled or unavailable order within"
    )


class SupportPolicy(_Policy):
    first_response: dict[Priority, timedelta] = Field(
        {
            Priority.LOW: timedelta(hours=24),
            Priority.NORMAL: timedelta(hours=8),
            Priority.HIGH: timedelta(hours=2),
            Priority.URGENT: timedelta(minutes=30),
        },
        description="a person answers a new case within, by its priority",
    )
    resolution: dict[Priority, timedelta] = Field(
        {
            Priority.LOW: timedelta(days=10),
            Priority.NORMAL: timedelta(days=5),
            Priority.HIGH: timedelta(days=2),
            Priority.URGENT: timedelta(days=1),
        },
        description="a case is resolved within, by its priority; rests while the customer is asked",
    )
    acknowledge_within: timedelta = _duration(
        timedelta(minutes=5),
        "the acknowledgement was accepted by the mail server within; machine time",
    )
    remind_waiting_customer: timedelta = _duration(
        timedelta(days=3), "when the customer owes an answer, remind after"
    )
    give_up_waiting: timedelta = _duration(
        timedelta(days=7), "no answer after the reminder: resolve as unanswered after"
    )
    reopening_window: timedelta = _duration(
        timedelta(days=7), "a reply within it reopens a resolved case"
    )


class FollowUpPolicy(_Policy):
    after_delivery: timedelta = _duration(timedelta(days=3), "survey after a delivery")
    after_case: timedelta = _duration(timedelta(days=1), "survey after a resolved case")
    remind_after: timedelta = _duration(timedelta(days=4), "one reminder after")
    close_after: timedelta = _duration(timedelta(days=10), "no answer after the reminder")
    answer_changeable: timedelta = _duration(
        timedelta(days=2), "a second click changes the answer, and what follows from it, within"
    )
    scale: SurveyScale = Field(
        SurveyScale.STARS, description="stars from 1 to 5, or 0 to 10: would recommend us"
    )
    recovery_contact: timedelta = _duration(
        timedelta(hours=8), "a person contacts a disappointed customer within"
    )
    opportunity_due: timedelta = _duration(timedelta(days=2), "a stated need is taken up within")


class RetentionPolicy(_Policy):
    silence: timedelta = _duration(
        timedelta(days=180), "silence of a customer whose own rhythm isn't known yet"
    )
    rhythm_factor: float = Field(
        2.0, gt=1, le=20, description="own rhythm x this is a silence (rhythm: mean interval)"
    )
    shortest_silence: timedelta = _duration(timedelta(days=30), "never sooner than")
    answer_within: timedelta = _duration(timedelta(days=5), "after the first message")
    manager_within: timedelta = _duration(timedelta(days=3), "the account manager's task is due in")
    offer_stands: timedelta = _duration(timedelta(days=14), "after the offer")
    win_back_after: timedelta = _duration(timedelta(days=90), "after a customer was lost")


_PURPOSES = tuple(purpose for purpose in Purpose if purpose is not Purpose.TRACKING)
_CONTACT = re.compile(f"({'|'.join(Channel)})/({'|'.join(_PURPOSES)})")


def _known_contacts(named: tuple[str, ...]) -> tuple[str, ...]:
    for name in named:
        if not _CONTACT.fullmatch(name):
            raise ValueError(f"{name!r}: write <channel>/<purpose>, such as sms/marketing")
    return named


def _only_marketing(named: tuple[str, ...]) -> tuple[str, ...]:
    for name in named:
        if not name.endswith(f"/{Purpose.MARKETING}"):
            raise ValueError(f"{name!r}: only consent to marketing is confirmed")
    return named


_Contacts = Annotated[tuple[str, ...], AfterValidator(_known_contacts)]
_Marketing = Annotated[_Contacts, AfterValidator(_only_marketing)]


class ContactPolicy(_Policy):
    """When and how often customers are written to. A contact is "<channel>/<purpose>".

    Quiet hours are wall time in the customer's zone. The limit has no zone: `within` is a window
    that ends now and moves with the customer's time, no day or week of a calendar.
    """

    quiet: _Contacts = Field(
        tuple(f"sms/{purpose}" for purpose in _PURPOSES),
        max_length=20,
        description="contacts that keep the quiet hours, such as sms/marketing",
    )
    quiet_from: time = Field(time(21), description="where the customer lives")
    quiet_until: time = Field(time(8), description="likewise; the same as quiet_from: none")
    capped: _Contacts = Field(
        ("email/marketing", "sms/marketing"),
        max_length=20,
        description="contacts that are limited, each for itself, over all processes",
    )
    at_most: int = Field(4, ge=1, le=1000, description="messages of a capped contact")
    within: timedelta = _duration(
        timedelta(days=7), "the limit counts the messages of so long before now"
    )
    double_opt_in: _Marketing = Field(
        (),
        max_length=2,
        description="contacts whose consent holds once the customer has confirmed it by a link",
    )
    confirm_within: timedelta = _duration(timedelta(days=7), "the link to confirm works for")
    selling_waits_for: tuple[CaseKind, ...] = Field(
        (CaseKind.INCIDENT, CaseKind.FAILED_DELIVERY, CaseKind.RECOVERY),
        max_length=len(CaseKind),
        description="nothing is sold to a customer while one of these cases is open",
    )
    track: bool = Field(
        False,
        strict=True,
        description="count opening and clicking, of customers with consent to tracking",
    )

    def quiet_hours(self, channel: Channel, purpose: Purpose) -> QuietHours | None:
        if f"{channel}/{purpose}" not in self.quiet or self.quiet_from == self.quiet_until:
            return None
        return QuietHours(begins=self.quiet_from, ends=self.quiet_until)

    def confirms(self, channel: Channel, purpose: Purpose) -> bool:
        """Whether a consent is asked about again, by a message to the address itself."""
        return f"{channel}/{purpose}" in self.double_opt_in

    def cap(self, channel: Channel, purpose: Purpose) -> ContactCap | None:
        if f"{channel}/{purpose}" not in self.capped:
            return None
        return ContactCap(at_most=self.at_most, within=self.within)


class SendingPolicy(_Policy):
    """Senders and providers by stream, and the rate of each provider account."""

    transactional: Stream = Field(Stream(), description="orders: a part of the contract")
    service: Stream = Field(Stream(), description="support and surveys, and what staff is sent")
    marketing: Stream = Field(Stream(), description="what needs consent")
    smtp: Account = Field(Account(), description="rate and warm-up of the mail server")
    resend: Account = Field(Account(), description="rate and warm-up of the account at Resend")
    local_sms: Account = Field(Account(), description="of the local inbox for text messages")
    twilio: Account = Field(Account(), description="rate and warm-up of the account at Twilio")
    fall_back_after: timedelta = _duration(
        timedelta(seconds=30),
        "a provider that lets nobody through for so long is passed over; machine time",
    )

    def stream(self, message_class: MessageClass) -> Stream:
        match message_class:
            case MessageClass.TRANSACTIONAL:
                return self.transactional
            case MessageClass.MARKETING:
                return self.marketing
            case _:
                return self.service

    def account(self, provider: str) -> Account:
        accounts = {
            ProviderName.SMTP: self.smtp,
            ProviderName.RESEND: self.resend,
            ProviderName.LOCAL_SMS: self.local_sms,
            ProviderName.TWILIO: self.twilio,
        }
        return accounts[ProviderName(provider)]


class StoragePolicy(_Policy):
    """How long what people wrote and were written is kept: no longer than it serves a purpose
    (storage limitation, GDPR art. 5(1)(e)). That it was sent, when, to whom and what came of it
    stays. The years are ours: the law names none, and a year is 365 days.
    """

    message_texts: timedelta = _duration(
        timedelta(days=730), "subject and text of a message, after it was asked for"
    )
    delivery_reports: timedelta = _duration(
        timedelta(days=365), "what a provider said about a message, after it was reported"
    )
    reactions: timedelta = _duration(
        timedelta(days=365), "that a message was opened and its links followed, after it was"
    )
    raw_mails: timedelta = _duration(
        timedelta(days=180), "a mail that came to us as it came, with its attachments"
    )
    # Who publishes a policy must not be able to delete with it what he did.
    staff_actions: timedelta = Field(
        timedelta(days=1095),
        ge=timedelta(days=365),
        le=timedelta(days=3650),
        description="what staff did, with before and after; machine time, at least a year",
    )
    own_words: timedelta = _duration(
        timedelta(days=1095), "what customers and staff wrote to each other, after it came"
    )


Policy = (
    MarketingPolicy
    | DeliveryPolicy
    | SupportPolicy
    | FollowUpPolicy
    | RetentionPolicy
    | ContactPolicy
    | SendingPolicy
    | StoragePolicy
)

POLICIES: dict[PolicyKind, type[Policy]] = {
    PolicyKind.MARKETING: MarketingPolicy,
    PolicyKind.DELIVERY: DeliveryPolicy,
    PolicyKind.SUPPORT: SupportPolicy,
    PolicyKind.FOLLOW_UP: FollowUpPolicy,
    PolicyKind.RETENTION: RetentionPolicy,
    PolicyKind.CONTACT: ContactPolicy,
    PolicyKind.SENDING: SendingPolicy,
    PolicyKind.STORAGE: StoragePolicy,
}


P = TypeVar("P", bound=BaseModel)


class Terms(Payload, Generic[P]):
    """What a process was promised at its start: the clock it lives by and the policy in force."""

    clock: Clock = REAL_TIME
    policy: P
    policy_version: int = 0
