"""What is decided about each due message, and what is sent: consent, suppression, wording."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from activities.message_queue import Facts, Reader
from domain.clock import REAL_TIME, Clock
from domain.contacts import ContactFacts, Decision, Outcome, may_send
from domain.messages import Channel, MessageClass, MessageState
from messaging.links import Links
from messaging.provider import OutgoingMessage
from messaging.render import NotRendered, Renderer

_STAFF = Reader(
    name="team",
    reference="",
    locale="en",
    zone="UTC",
    clock=REAL_TIME,
    consents={},
    open_recovery_cases=0,
    sent={},
)
_SHORTEST_HOLD = 2.0  # seconds of machine time, also for a clock that runs very fast
_LONGEST_HOLD = timedelta(days=1)  # of machine time: what it was based on may change
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DispatchRules:
    """The dispatcher's own times. All are machine time but `hold`."""

    batch: int = 50
    lease: timedelta = timedelta(seconds=10)  # a claim not renewed for so long is nobody's
    grace: timedelta = timedelta(seconds=3)  # before missing evidence counts as evidence
    resend_after: timedelta = timedelta(minutes=15)  # of an unknown outcome; never of marketing
    first_retry: timedelta = timedelta(seconds=5)
    longest_retry: timedelta = timedelta(minutes=15)
    give_up_after: timedelta = timedelta(days=3)
    hold: timedelta = timedelta(minutes=15)  # business time: until a held message is looked at
    longest_pause: timedelta = timedelta(seconds=15)  # of a provider that nobody gets through to
    fastest_poll: float = 0.05
    slowest_poll: float = 0.3

    def retry_delay(self, attempts: int) -> float:
        """Seconds after that many attempts: 5, 10, 20 and so on up to the longest."""
        doublings = min(max(attempts - 1, 0), 20)
        return min(self.first_retry * (1 << doublings), self.longest_retry).total_seconds()

    def gives_up(self, due_since: datetime) -> bool:
        return datetime.now(UTC) - due_since > self.give_up_after


@dataclass(frozen=True)
class Claim:
    """A message that is ours to send until the lease runs out."""

    id: UUID
    token: str
    channel: Channel
    message_class: MessageClass
    attempts: int
    due_since: datetime
    clock: Clock
    outgoing: OutgoingMessage
    claimed_at: float  # monotonic


@dataclass(frozen=True)
class Decided:
    """The row to be written about a due message, and the claim if it is to be sent."""

    row: dict[str, Any]
    state: MessageState
    claim: Claim | None = None


@dataclass(frozen=True)
class ClaimWriter:
    renderer: Renderer
    links: Links
    rules: DispatchRules
    still_ours: Callable[[UUID], bool]

    def decide(self, due: Any, facts: Facts, token: str) -> Decided:
        """One message: suppressed, cancelled, held, or rendered and claimed under `token`.

        Whatever is wrong with one message holds up no other.
        """
        try:
            return self._decide(due, facts, token)
        except NotRendered as problem:
            return self._unfit(due, f"not rendered: {problem}")
        except Exception as problem:
            log.exception("message %s could not be decided about", due.id)
            return self._unfit(due, f"not decided: {type(problem).__name__}")

    def _decide(self, due: Any, facts: Facts, token: str) -> Decided:
        reader = facts.readers[due.customer_id] if due.customer_id is not None else _STAFF
        address, locale = self._address(due, facts)
        decision = _decision(due, facts, reader, address)
        if decision.outcome is Outcome.SUPPRESS or address is None:
            return _unsent(due, decision, MessageState.SUPPRESSED)
        if decision.outcome is Outcome.CANCEL:
            return _unsent(due, decision, MessageState.CANCELLED)
        if decision.outcome is Outcome.HOLD:
            return self._held(due, decision, reader.clock)
        locale = locale or reader.locale
        outgoing = self._write(due, facts, reader, address, locale)
        row = {
            **_row(due, decision, MessageState.SENDING),
            "token": token,
            "attempts": due.attempts + 1,
            "address": address,
            "locale": locale,
            "message_id": outgoing.message_id,
            "subject": outgoing.subject,
            "text": outgoing.text,
            "html": outgoing.html,
        }
        if due.customer_id is not None:
            reader.sent.setdefault(f"{due.channel}/{due.purpose}", []).append(_now(reader))
        claim = Claim(
            id=due.id,
            token=token,
            channel=due.channel,
            message_class=due.message_class,
            attempts=due.attempts + 1,
            due_since=due.due_since,
            clock=reader.clock,
            outgoing=outgoing,
            claimed_at=time.monotonic(),
        )
        return Decided(row, MessageState.SENDING, claim)

    def _held(self, due: Any, decision: Decision, clock: Clock) -> Decided:
        """Looked at again when it may go, where that is known."""
        row = _row(due, decision, MessageState.HELD)
        if decision.until is None:
            wait = max(self.rules.hold.total_seconds() / clock.speed, _SHORTEST_HOLD)
            return Decided({**row, "delay": wait}, MessageState.HELD)
        not_before = min(clock.machine(decision.until), datetime.now(UTC) + _LONGEST_HOLD)
        return Decided({**row, "not_before": not_before.isoformat()}, MessageState.HELD)

    def _address(self, due: Any, facts: Facts) -> tuple[str | None, str | None]:
        if due.customer_id is None:
            return due.context.get("to") or None, None
        return facts.addresses.get((due.customer_id, due.channel), (None, None))

    def _write(
        self, due: Any, facts: Facts, reader: Reader, address: str, locale: str
    ) -> OutgoingMessage:
        context = {**due.context, "name": reader.name, "reference": reader.reference}
        if due.text_id is not None:
            context["text"] = facts.texts.get(due.text_id, "")
        if due.context.get("survey_id"):
            context["survey_url"] = self.links.survey(due.context["survey_id"])
        unsubscribe = ""
        if due.message_class is MessageClass.MARKETING and due.customer_id is not None:
            unsubscribe = self.links.unsubscribe(due.customer_id, due.channel, due.purpose)
        context["unsubscribe_url"] = unsubscribe
        rendered = self.renderer.render(
            due.template, due.channel, locale, context, zone=reader.zone
        )
        message_id: UUID = due.id
        by_mail, of_customer = due.channel is Channel.EMAIL, due.customer_id is not None
        return OutgoingMessage(
            effect=str(message_id),
            message_id=self.links.message_id(due.key),
            address=address,
            name=reader.name,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            unsubscribe_url=unsubscribe,
            return_path=self.links.return_path(message_id) if by_mail else "",
            reply_to=self.links.reply_to(message_id) if by_mail and of_customer else "",
            still_ours=lambda: self.still_ours(message_id),
        )

    def _unfit(self, due: Any, why: str) -> Decided:
        """A fault of ours: it waits for the mended template as it would for a provider."""
        if self.rules.gives_up(due.due_since):
            row = _row(due, None, MessageState.FAILED)
            return Decided({**row, "answer": why}, MessageState.FAILED)
        row = {
            **_row(due, None, MessageState.QUEUED),
            "attempts": due.attempts + 1,
            "delay": self.rules.retry_delay(due.attempts + 1),
            "answer": why,
        }
        return Decided(row, MessageState.QUEUED)


def _decision(due: Any, facts: Facts, reader: Reader, address: str | None) -> Decision:
    reason = facts.suppression(due.channel, address, due.purpose) if address else None
    of_customer = due.customer_id is not None
    policy = facts.policy
    return may_send(
        ContactFacts(
            at=_now(reader),
            zone=reader.zone,
            message_class=due.message_class,
            purpose=due.purpose,
            channel=due.channel,
            address=address,
            consents=reader.consents,
            suppressed_because=reason,
            open_recovery_cases=reader.open_recovery_cases,
            quiet_hours=policy.quiet_hours(due.channel, due.purpose) if of_customer else None,
            cap=policy.cap(due.channel, due.purpose) if of_customer else None,
            sent=tuple(reader.sent.get(f"{due.channel}/{due.purpose}", ())),
            not_after=due.not_after,
            process_ended=due.workflow_id in facts.ended,
        )
    )


def _now(reader: Reader) -> datetime:
    return reader.clock.business(datetime.now(UTC))


def _unsent(due: Any, decision: Decision, state: MessageState) -> Decided:
    return Decided(_row(due, decision, state), state)


def _row(due: Any, decision: Decision | None, state: MessageState) -> dict[str, Any]:
    """Every column of a decision; what is not given is empty."""
    nothing = ("not_before", "token", "address", "locale", "message_id", "answer")
    unwritten = ("subject", "text", "html")
    return {
        "id": str(due.id),
        "state": state,
        "decision": decision.model_dump(mode="json") if decision else None,
        "delay": 0.0,
        "attempts": due.attempts,
        **dict.fromkeys(nothing + unwritten),
    }
