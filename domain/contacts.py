"""May we write to this customer now? One pure function over the facts, and its explained answer."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from domain.messages import Channel, MessageClass, Purpose
from domain.payload import Payload
from domain.policies import CaseKind
from domain.quiet_hours import ContactCap, QuietHours


class ConsentState(StrEnum):
    GRANTED = "granted"
    PENDING = "pending"  # said, and not confirmed yet where that is asked for (double opt-in)
    WITHDRAWN = "withdrawn"


class Outcome(StrEnum):
    SEND = "send"
    HOLD = "hold"  # it is asked again later
    SUPPRESS = "suppress"
    CANCEL = "cancel"  # its moment has passed


class Stated(NamedTuple):
    """What a customer stated about a contact: when, in business time, and by which way."""

    state: ConsentState
    at: datetime
    source: str


class ContactFacts(BaseModel):
    """What is known at the moment of the claim. All moments are business time."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    message_class: MessageClass
    purpose: Purpose
    channel: Channel
    address: str | None
    zone: str = "UTC"  # where the customer lives, IANA
    consents: Mapping[str, ConsentState] = {}  # "<channel>/<purpose>" -> the newest statement
    stated: Stated | None = None  # of them the one about this channel and purpose, for the record
    suppressed_because: str | None = None  # hard bounce, complaint, STOP: everything but by phone
    open_cases: tuple[CaseKind, ...] = ()  # of those kinds that selling waits for
    quiet_hours: QuietHours | None = None  # the policy's for this channel and purpose
    cap: ContactCap | None = None  # likewise
    sent: tuple[datetime, ...] = ()  # on this channel for this purpose, by whichever process
    not_after: datetime | None = None  # the message's own deadline
    process_ended: bool = False  # the process whose series it belongs to
    answered: bool = False  # that series: the customer wrote back to the process
    claims: Mapping[str, date | None] = {}  # that its wording makes -> last day; None: not approved
    marketing_paused_until: datetime | None = None  # by the customer
    is_test: bool = False  # of a wording, sent by staff to whomever staff names
    confirms: str | None = None  # "<channel>/<purpose>" of a consent it asks to confirm


class Rule(Payload):
    name: str
    passed: bool
    because: str


class DecidedOn(Payload):
    """The facts that a decision was made upon, as they are kept with it: nothing personal, such as
    the address or why it is suppressed. Moments are business time.
    """

    at: datetime
    zone: str = Field(description="where the customer lives, IANA")
    channel: Channel
    address_known: bool
    suppressed: bool = Field(description="whether the address takes nothing of the kind")
    consent: ConsentState | None = Field(description="null: nothing was stated about it")
    consent_at: datetime | None = Field(description="when it was stated")
    consent_source: str | None = Field(description="how it was stated, such as a form or a link")
    process_ended: bool = Field(description="of a message that belongs to a series")
    answered: bool = Field(False, description="of such a series: by the customer")
    not_after: datetime | None = Field(description="the message's own deadline")
    claims: Mapping[str, date | None] = Field(description="each with its last day; null: refused")
    open_cases: tuple[CaseKind, ...] = Field(description="of the kinds that selling waits for")
    marketing_paused_until: datetime | None = Field(description="by the customer")
    quiet_hours: QuietHours | None = Field(description="null: it keeps none")
    cap: ContactCap | None = Field(description="null: it has none")
    sent: int | None = Field(description="counted for the limit, without this one")


class Decision(Payload):
    """The answer with every rule consulted; the last one decided."""

    outcome: Outcome
    decided_by: str
    because: str
    rules: tuple[Rule, ...] = ()
    until: datetime | None = None  # of a hold, where it is known: business time
    facts: DecidedOn | None = None  # of older decisions they were not kept


class _Objection(NamedTuple):
    outcome: Outcome
    because: str
    until: datetime | None = None


class _Asked(NamedTuple):
    """A rule: what it says when it agrees, or its objection."""

    name: str
    agrees: str
    objection: _Objection | None


def may_send(facts: ContactFacts) -> Decision:
    """Consult the rules in order; the first that objects decides. No I/O, no clock.

    A hold that would outlast the message's own deadline is none: it is cancelled at once.
    """
    rules: list[Rule] = []
    decided_on = _decided_on(facts)
    for name, agrees, objection in _rules(facts):
        because = agrees if objection is None else objection.because
        rules.append(Rule(name=name, passed=objection is None, because=because))
        if objection is None:
            continue
        outcome, because, until = objection
        if until is not None and facts.not_after is not None and until > facts.not_after:
            outcome, until = Outcome.CANCEL, None
            because = f"{because}; that is after {_moment(facts.not_after)}, when it is too late"
        return Decision(
            outcome=outcome,
            decided_by=name,
            because=because,
            rules=tuple(rules),
            until=until,
            facts=decided_on,
        )
    return Decision(
        outcome=Outcome.SEND,
        decided_by="all",
        because="every rule agrees",
        rules=tuple(rules),
        facts=decided_on,
    )


def _decided_on(facts: ContactFacts) -> DecidedOn:
    consent = facts.consents.get(f"{facts.channel}/{facts.purpose}")
    return DecidedOn(
        at=facts.at,
        zone=facts.zone,
        channel=facts.channel,
        address_known=facts.address is not None,
        suppressed=facts.suppressed_because is not None,
        consent=consent,
        consent_at=facts.stated.at if facts.stated else None,
        consent_source=facts.stated.source if facts.stated else None,
        process_ended=facts.process_ended,
        answered=facts.answered,
        not_after=facts.not_after,
        claims=facts.claims,
        open_cases=facts.open_cases,
        marketing_paused_until=facts.marketing_paused_until,
        quiet_hours=facts.quiet_hours,
        cap=facts.cap,
        sent=len(facts.cap.counted(facts.at, facts.sent)) if facts.cap else None,
    )


def _rules(facts: ContactFacts) -> Iterator[_Asked]:
    """In the order of their weight: what forbids it for good before what only delays it."""
    yield _Asked(
        "address",
        f"an address for {facts.channel} is known",
        None
        if facts.address is not None
        else _Objection(Outcome.SUPPRESS, f"no address for {facts.channel} is known"),
    )
    yield _Asked(
        "suppression",
        "the address is not suppressed",
        _Objection(Outcome.SUPPRESS, facts.suppressed_because)
        if facts.suppressed_because is not None
        else None,
    )
    yield _consent(facts, facts.channel)
    if facts.confirms is not None:
        yield _confirmation(facts)
    yield _Asked(
        "process",
        "the process that asked for it goes on, or needn't",
        _Objection(Outcome.CANCEL, "the process that asked for it has ended")
        if facts.process_ended
        else None,
    )
    yield _Asked(
        "reply",
        "nothing came from the customer that answers it",
        _Objection(Outcome.CANCEL, "the customer answered before it went")
        if facts.answered
        else None,
    )
    yield _deadline(facts)
    yield _claims(facts)
    yield _open_cases(facts)
    yield _pause(facts)
    yield _quiet_hours(facts)
    yield _cap(facts)


def _consent(facts: "ContactFacts | ChannelFacts", channel: Channel) -> _Asked:
    what = f"{facts.purpose} by {channel}"
    consent = facts.consents.get(f"{channel}/{facts.purpose}")
    match facts.message_class:
        case MessageClass.TRANSACTIONAL:
            return _Asked("consent", "part of the contract: needs no consent", None)
        case MessageClass.STAFF:
            is_test = isinstance(facts, ContactFacts) and facts.is_test
            kind = "a test that staff sends" if is_test else "for our own staff"
            return _Asked("consent", f"{kind}: needs no consent", None)
        case MessageClass.SERVICE:
            withdrawn = consent is ConsentState.WITHDRAWN
            objection = _Objection(Outcome.SUPPRESS, f"{what} was objected to")
            return _Asked("consent", f"no objection to {what}", objection if withdrawn else None)
        case MessageClass.MARKETING:
            granted = consent is ConsentState.GRANTED
            lacks = f"no consent to {what}"
            if consent is ConsentState.PENDING:
                lacks = f"the consent to {what} is not confirmed"
            objection = _Objection(Outcome.SUPPRESS, lacks)
            return _Asked("consent", f"consent to {what}", None if granted else objection)


def _confirmation(facts: ContactFacts) -> _Asked:
    """Who changed his mind meanwhile is not asked whether he meant it."""
    assert facts.confirms is not None
    waiting = facts.consents.get(facts.confirms) is ConsentState.PENDING
    over = f"the consent to {facts.confirms} waits for no confirmation any more"
    objection = None if waiting else _Objection(Outcome.CANCEL, over)
    return _Asked("confirmation", f"the consent to {facts.confirms} waits for it", objection)


def _deadline(facts: ContactFacts) -> _Asked:
    if facts.not_after is None:
        return _Asked("deadline", "it has no deadline", None)
    late = f"it made sense until {_moment(facts.not_after)}, and that has passed"
    return _Asked(
        "deadline",
        f"it makes sense until {_moment(facts.not_after)}",
        _Objection(Outcome.CANCEL, late) if facts.at > facts.not_after else None,
    )


def claim_holds(last_day: date | None, at: datetime) -> bool:
    """Through its last day, by the calendar of UTC; None: it was not approved."""
    return last_day is not None and at.astimezone(UTC).date() <= last_day


def _claims(facts: ContactFacts) -> _Asked:
    """Held it would wait for an approval that may never come: it is given up, and says so."""
    if not facts.claims:
        return _Asked("claims", "it makes no claim that needs approval", None)
    said = [
        f"the claim {name} is not approved"
        if last_day is None
        else f"the claim {name} expired on {last_day}"
        for name, last_day in sorted(facts.claims.items())
        if not claim_holds(last_day, facts.at)
    ]
    names = ", ".join(sorted(facts.claims))
    objection = _Objection(Outcome.CANCEL, "; ".join(said)) if said else None
    return _Asked("claims", f"approved: {names}", objection)


def _open_cases(facts: ContactFacts) -> _Asked:
    selling = facts.message_class is MessageClass.MARKETING
    if not selling or not facts.open_cases:
        return _Asked("open_cases", "no open case holds it back", None)
    kinds = sorted({kind.replace("_", " ") for kind in facts.open_cases})
    waits = f"selling waits: a case is open ({', '.join(kinds)})"
    return _Asked("open_cases", "", _Objection(Outcome.HOLD, waits))


def _pause(facts: ContactFacts) -> _Asked:
    until = facts.marketing_paused_until
    selling = facts.message_class is MessageClass.MARKETING
    if not selling or until is None or until <= facts.at:
        return _Asked("pause", "the customer has paused nothing of it", None)
    paused = f"the customer paused marketing; it goes at {_moment(until)}"
    return _Asked("pause", "", _Objection(Outcome.HOLD, paused, until))


def _quiet_hours(facts: ContactFacts) -> _Asked:
    if facts.quiet_hours is None:
        what = f"{facts.purpose} by {facts.channel}"
        return _Asked("quiet_hours", f"{what} keeps no quiet hours", None)
    over_at = facts.quiet_hours.over_at(facts.at, facts.zone)
    if over_at is None:
        return _Asked("quiet_hours", f"it is day in {facts.zone}", None)
    quiet = f"quiet hours in {facts.zone}; it goes at {_moment(over_at)}"
    return _Asked("quiet_hours", "", _Objection(Outcome.HOLD, quiet, over_at))


def _cap(facts: ContactFacts) -> _Asked:
    if facts.cap is None:
        return _Asked("cap", f"no limit on {facts.purpose} by {facts.channel}", None)
    what = f"{facts.cap.at_most} of {facts.purpose} by {facts.channel}"
    limit = f"{what} in {_duration(facts.cap.within)}"
    free_at = facts.cap.free_at(facts.at, facts.sent)
    if free_at is None:
        return _Asked("cap", f"below the limit of {limit}", None)
    full = f"the limit of {limit} is reached; it goes at {_moment(free_at)}"
    return _Asked("cap", "", _Objection(Outcome.HOLD, full, free_at))


class Way(NamedTuple):
    """What is known of writing to the customer on a channel."""

    address: str | None = None
    suppressed_because: str | None = None
    worded: bool = True  # the message has wording for the channel


class ChannelFacts(BaseModel):
    """What the choice of a message's channel depends on."""

    model_config = ConfigDict(frozen=True)

    asked: Channel  # by the process
    fixed: bool = False  # the process insists on it
    preferred: Channel | None = None  # by the customer
    message_class: MessageClass
    purpose: Purpose
    consents: Mapping[str, ConsentState] = {}
    ways: Mapping[Channel, Way]


_BY_ANY_CHANNEL = (MessageClass.TRANSACTIONAL, MessageClass.MARKETING)


def choose_channel(facts: ChannelFacts) -> tuple[Channel, Rule | None]:
    """The preferred channel, else the asked one, else any open one: of what belongs to a contract,
    and of selling, since nobody is sold to on a channel without his consent to that one.

    Service messages need no consent, only that nobody objects: they go nowhere unasked. No channel
    open: the asked one, so that `may_send` says what is in its way. No rule when nothing but the
    asked channel came into question.
    """
    asked, preferred = facts.asked, facts.preferred or facts.asked
    if facts.fixed:
        return asked, None
    others = Channel if facts.message_class in _BY_ANY_CHANNEL else ()
    obstacles: list[str] = []
    chosen: Channel | None = None
    for channel in dict.fromkeys((preferred, asked, *others)):
        obstacle = _obstacle(facts, channel)
        if obstacle is None:
            chosen = channel
            break
        obstacles.append(obstacle)
    if preferred is asked and chosen in (asked, None):
        return asked, None
    prefers = f"; the customer prefers {facts.preferred}" if facts.preferred else ""
    but = f", but {', '.join(obstacles)}" if obstacles else ""
    goes = f"it goes by {chosen}" if chosen else "no channel is open"
    because = f"asked by {asked}{prefers}{but}: {goes}"
    return chosen or asked, Rule(name="channel", passed=chosen is not None, because=because)


def _obstacle(facts: ChannelFacts, channel: Channel) -> str | None:
    way = facts.ways.get(channel, Way())
    if way.address is None:
        return f"no address for {channel} is known"
    if way.suppressed_because is not None:
        return f"the address for {channel} is suppressed"
    if not way.worded:
        return f"it has no wording for {channel}"
    objection = _consent(facts, channel).objection
    return objection.because if objection else None


def was_asked_for(suppression: str) -> bool:
    """Whether its reason is the recipient's own wish (a complaint, STOP), not a dead address."""
    return suppression.startswith(("complaint:", "asked by "))


def _duration(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours / 24:g} days" if hours > 48 else f"{hours:g} hours"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
