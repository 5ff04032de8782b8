"""May we write to this customer? One pure function over the facts, and its explained answer."""

from collections.abc import Mapping
from enum import StrEnum

from domain.messages import Channel, MessageClass, Purpose
from domain.payload import Payload


class ConsentState(StrEnum):
    GRANTED = "granted"
    WITHDRAWN = "withdrawn"


class Outcome(StrEnum):
    SEND = "send"
    HOLD = "hold"
    SUPPRESS = "suppress"


class ContactFacts(Payload):
    """What is known at the moment of the claim."""

    message_class: MessageClass
    purpose: Purpose
    channel: Channel
    address: str | None
    consents: Mapping[str, ConsentState] = {}  # "<channel>/<purpose>" -> the newest statement
    suppressed_because: str | None = None  # hard bounce, complaint, STOP: everything but by phone
    open_recovery_cases: int = 0


class Rule(Payload):
    name: str
    passed: bool
    because: str


class Decision(Payload):
    """The answer with every rule consulted; the last one decided."""

    outcome: Outcome
    decided_by: str
    because: str
    rules: tuple[Rule, ...] = ()


def may_send(facts: ContactFacts) -> Decision:
    """Consult the rules in order; the first that objects decides. No I/O, no clock."""
    rules: list[Rule] = []
    for name, outcome, passed, because in _consult(facts):
        rules.append(Rule(name=name, passed=passed, because=because))
        if not passed:
            return Decision(outcome=outcome, decided_by=name, because=because, rules=tuple(rules))
    return Decision(
        outcome=Outcome.SEND, decided_by="all", because="every rule agrees", rules=tuple(rules)
    )


def _consult(facts: ContactFacts) -> list[tuple[str, Outcome, bool, str]]:
    consent = facts.consents.get(f"{facts.channel}/{facts.purpose}")
    return [
        (
            "address",
            Outcome.SUPPRESS,
            facts.address is not None,
            f"an address for {facts.channel} is known"
            if facts.address is not None
            else f"no address for {facts.channel} is known",
        ),
        (
            "suppression",
            Outcome.SUPPRESS,
            facts.suppressed_because is None,
            facts.suppressed_because or "the address is not suppressed",
        ),
        ("consent", Outcome.SUPPRESS, *_consent(facts, consent)),
        (
            "open_recovery",
            Outcome.HOLD,
            facts.message_class is not MessageClass.MARKETING or not facts.open_recovery_cases,
            f"{facts.open_recovery_cases} recovery cases are open; selling waits"
            if facts.open_recovery_cases and facts.message_class is MessageClass.MARKETING
            else "nothing holds it back",
        ),
    ]


def _consent(facts: ContactFacts, consent: ConsentState | None) -> tuple[bool, str]:
    what = f"{facts.purpose} by {facts.channel}"
    match facts.message_class:
        case MessageClass.TRANSACTIONAL | MessageClass.STAFF:
            return True, "part of the contract: needs no consent"
        case MessageClass.SERVICE:
            withdrawn = consent is ConsentState.WITHDRAWN
            return (
                not withdrawn,
                f"{what} was objected to" if withdrawn else f"no objection to {what}",
            )
        case MessageClass.MARKETING:
            granted = consent is ConsentState.GRANTED
            return granted, f"consent to {what}" if granted else f"no consent to {what}"
