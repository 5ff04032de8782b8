"""What is decided about each due message, and what is sent: consent, suppression, wording."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, Self
from uuid import UUID

from activities.message_queue import Facts, Reader
from activities.message_wordings import Wording, Wordings
from domain.clock import REAL_TIME, Clock
from domain.contacts import (
    ChannelFacts,
    ConsentState,
    ContactFacts,
    Decision,
    Outcome,
    Rule,
    Way,
    choose_channel,
    may_send,
)
from domain.errors import where
from domain.messages import Channel, MessageClass, MessageState, Purpose, Template
from domain.sending import Stream
from messaging.links import Links
from messaging.provider import AutoSubmitted, OutgoingMessage
from messaging.render import NotRendered, Rendered, Renderer
from messaging.render_process import RenderProcess
from messaging.staff_wording import RenderJob
from messaging.tracking import tracked

_STAFF = Reader(
    name="team",
    reference="",
    locale="en",
    tone=None,
    zone="UTC",
    clock=REAL_TIME,
    stated={},
    open_cases=(),
    sent={},
)
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
    shortest_hold: float = 2.0  # seconds, also for a clock that runs very fast
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
    provider: str
    channel: Channel
    message_class: MessageClass
    attempts: int
    due_since: datetime
    clock: Clock
    outgoing: OutgoingMessage
    claimed_at: float  # monotonic
    is_repeat: bool = False  # of a request whose outcome is unknown

    @property
    def selling(self) -> bool:
        return self.message_class is MessageClass.MARKETING


class Via(NamedTuple):
    """Who is asked to send a message, and as whom it is sent."""

    provider: str
    stream: Stream
    detour: str = ""  # why not the provider that the policy names first


@dataclass(frozen=True)
class Decided:
    """The row to be written about a due message, and the claim if it is to be sent."""

    row: dict[str, Any]
    state: MessageState | None  # None: nothing has become of it yet
    claim: Claim | None = None

    @property
    def id(self) -> UUID:
        return UUID(self.row["id"])

    def unstored(self) -> Self:
        """As it is when the row was refused: given up, nothing to be sent."""
        return replace(self, state=MessageState.FAILED, claim=None)


@dataclass(frozen=True)
class ClaimWriter:
    renderer: Renderer
    links: Links
    rules: DispatchRules
    still_ours: Callable[[UUID], bool]
    wordings: Wordings
    staff: RenderProcess

    async def decide(self, due: Any, facts: Facts, token: str, via: Via) -> Decided:
        """One message: suppressed, cancelled, held, or rendered and claimed under `token`.

        Whatever is wrong with one message holds up no other.
        """
        try:
            return await self._decide(due, facts, token, via)
        except NotRendered as problem:
            return self._unfit(due, f"not rendered: {problem}")
        except Exception as problem:
            log.error("message %s could not be decided about: %s", due.id, where(problem))
            return self._unfit(due, f"not decided: {type(problem).__name__}")

    def decide_again(
        self, row: Any, facts: Facts, token: str, via: Via
    ) -> tuple[Decision, Decided | None]:
        """A message whose outcome is unknown: the very same request, if it still may go.

        It was counted for its customer's limit when it was first sent.
        """
        reader = facts.readers[row.customer_id] if row.customer_id is not None else _STAFF
        try:
            decision = _decision(row, facts, reader, row.channel, row.address, None, limited=False)
        except Exception as problem:  # as above: it holds up no other
            log.error("message %s could not be decided about: %s", row.id, where(problem))
            why = f"not decided: {type(problem).__name__}"
            return Decision(outcome=Outcome.HOLD, decided_by="fault", because=why), None
        if decision.outcome is not Outcome.SEND:
            return decision, None
        words = Rendered(row.locale, row.subject, row.text, row.html)
        outgoing = self._outgoing(row, facts, reader, row.address, words, via.stream)
        outgoing = outgoing._replace(key=row.asked_under)
        decided = self._claimed(
            row, decision, reader, outgoing, token, via, row.locale, is_repeat=True
        )
        return decision, decided

    async def _decide(self, due: Any, facts: Facts, token: str, via: Via) -> Decided:
        reader = facts.readers[due.customer_id] if due.customer_id is not None else _STAFF
        channel, chosen_because = self._channel(due, facts, reader)
        address, locale = self._address(due, facts, channel)
        locale = reader.chosen_locale or locale or reader.locale
        wording = self.wordings.choose(due, locale, reader.tone)
        decision = _decision(due, facts, reader, channel, address, wording)
        if chosen_because is not None:
            decision = decision.model_copy(update={"rules": (chosen_because, *decision.rules)})
        if decision.outcome is Outcome.SUPPRESS or address is None:
            return _unsent(due, decision, MessageState.SUPPRESSED)
        if decision.outcome is Outcome.CANCEL:
            return _unsent(due, decision, MessageState.CANCELLED)
        if decision.outcome is Outcome.HOLD:
            return self._held(due, decision, reader.clock)
        if channel is not due.channel:
            return self._moved(due, decision, channel)
        if wording is None:
            raise NotRendered(f"{due.template}: version {due.template_version} is gone")
        rendered = await self._render(due, facts, reader, address, locale, wording)
        outgoing = self._outgoing(due, facts, reader, address, rendered, via.stream)
        if due.customer_id is not None:
            reader.sent.setdefault(f"{due.channel}/{due.purpose}", []).append(_now(reader))
        return self._claimed(
            due, decision, reader, outgoing, token, via, locale, version=wording.version
        )

    def _claimed(
        self,
        due: Any,
        decision: Decision,
        reader: Reader,
        outgoing: OutgoingMessage,
        token: str,
        via: Via,
        locale: str,
        *,
        version: str | None = None,
        is_repeat: bool = False,
    ) -> Decided:
        if via.detour:
            detour = Rule(name="provider", passed=True, because=via.detour)
            decision = decision.model_copy(update={"rules": (*decision.rules, detour)})
        row = {
            **_row(due, decision, MessageState.SENDING),
            "token": token,
            "provider": via.provider,
            "asked_under": outgoing.key,
            "attempts": due.attempts + 1,
            "address": outgoing.address,
            "locale": locale,
            "template_version": version,
            "message_id": outgoing.message_id,
            "subject": outgoing.subject,
            "text": outgoing.text,
            "html": outgoing.html,
        }
        claim = Claim(
            id=due.id,
            token=token,
            provider=via.provider,
            channel=due.channel,
            message_class=due.message_class,
            attempts=due.attempts + 1,
            due_since=due.due_since,
            clock=reader.clock,
            outgoing=outgoing,
            claimed_at=time.monotonic(),
            is_repeat=is_repeat,
        )
        return Decided(row, MessageState.SENDING, claim)

    def _moved(self, due: Any, decision: Decision, channel: Channel) -> Decided:
        """It goes by another channel, so by another provider: its turn comes there."""
        return Decided({**_row(due, decision, MessageState.QUEUED), "channel": channel}, None)

    def _held(self, due: Any, decision: Decision, clock: Clock) -> Decided:
        """Looked at again when it may go, where that is known."""
        row = _row(due, decision, MessageState.HELD)
        if decision.until is None:
            wait = max(self.rules.hold.total_seconds() / clock.speed, self.rules.shortest_hold)
            return Decided({**row, "delay": wait}, MessageState.HELD)
        not_before = min(clock.machine(decision.until), datetime.now(UTC) + _LONGEST_HOLD)
        return Decided({**row, "not_before": not_before.isoformat()}, MessageState.HELD)

    def _channel(self, due: Any, facts: Facts, reader: Reader) -> tuple[Channel, Rule | None]:
        """The channel it goes by; the rule where there was something to choose."""
        asked: Channel = due.asked_channel or due.channel
        if due.customer_id is None:
            return asked, None
        return choose_channel(
            ChannelFacts(
                asked=asked,
                fixed=due.channel_fixed,
                preferred=reader.preferred_channel,
                message_class=due.message_class,
                purpose=due.purpose,
                consents=reader.consents,
                ways={
                    channel: self._way(due, facts, reader, channel)
                    for channel in Channel
                    if (due.customer_id, channel) in facts.addresses
                },
            )
        )

    def _way(self, due: Any, facts: Facts, reader: Reader, channel: Channel) -> Way:
        address, locale = facts.addresses[due.customer_id, channel]
        locale = reader.chosen_locale or locale or reader.locale
        wording = self.wordings.choose(due, locale, reader.tone)
        if wording is None or wording.sources is None:
            worded = self.renderer.has_wording(due.template, channel, locale)
        else:
            worded = channel is Channel.EMAIL or wording.sources.sms is not None
        return Way(address, facts.suppression(channel, address, due.purpose), worded)

    def _address(self, due: Any, facts: Facts, channel: Channel) -> tuple[str | None, str | None]:
        if due.customer_id is None:
            return due.context.get("to") or None, due.context.get("locale")
        return facts.addresses.get((due.customer_id, channel), (None, None))

    async def _render(
        self,
        due: Any,
        facts: Facts,
        reader: Reader,
        address: str,
        locale: str,
        wording: Wording,
    ) -> Rendered:
        context = {**due.context, "name": reader.name, "reference": reader.reference}
        if due.text_id is not None:
            context["text"] = facts.texts.get(due.text_id, "")
        if due.context.get("survey_id"):
            context["survey_url"] = self.links.survey(due.context["survey_id"])
        unsubscribe = self._unsubscribe_url(due) or context.get("unsubscribe_url", "")
        context["unsubscribe_url"] = unsubscribe
        refusable = due.message_class in (MessageClass.MARKETING, MessageClass.SERVICE)
        if refusable and due.customer_id is not None:
            context["preferences_url"] = self.links.preferences(due.customer_id, due.channel)
        if due.context.get("confirms"):
            until = datetime.fromisoformat(due.context["confirm_until"])
            context["confirm_url"] = self.links.confirm(
                due.customer_id, due.channel, until, address
            )
        rendered = await self._put_in_words(due, wording, locale, context, reader.zone)
        if "test" in context:
            rendered = rendered._replace(subject=f"[Test] {rendered.subject}")
        if rendered.html is None or not facts.policy.track or not _may_track(reader, due.channel):
            return rendered
        return rendered._replace(html=tracked(rendered.html, due.id, self.links))

    async def _put_in_words(
        self, due: Any, wording: Wording, locale: str, context: Mapping[str, str], zone: str
    ) -> Rendered:
        """The files are ours and rendered here; what staff wrote, where it can be killed."""
        if wording.sources is None:
            return self.renderer.render(due.template, due.channel, locale, context, zone=zone)
        return await self.staff.render(
            RenderJob(
                company=self.renderer.company,
                template=due.template,
                sources=wording.sources,
                wording=wording.locale,
                locale=locale,
                channel=due.channel,
                context=context,
                claims={name: claim.wording for name, claim in wording.claims.items() if claim},
                zone=zone,
            )
        )

    def _unsubscribe_url(self, due: Any) -> str:
        if due.message_class is not MessageClass.MARKETING or due.customer_id is None:
            return ""
        return self.links.unsubscribe(due.customer_id, due.channel, due.purpose)

    def _outgoing(
        self,
        due: Any,
        facts: Facts,
        reader: Reader,
        address: str,
        rendered: Rendered,
        stream: Stream,
    ) -> OutgoingMessage:
        message_id: UUID = due.id
        by_mail = due.channel is Channel.EMAIL
        answerable = by_mail and due.customer_id is not None
        thread = facts.threads.get(message_id, ())
        return OutgoingMessage(
            effect=str(message_id),
            message_id=self.links.message_id(due.key),
            address=address,
            name=reader.name,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            unsubscribe_url=self._unsubscribe_url(due),
            sender=stream.sender,
            return_path=self.links.return_path(message_id) if by_mail else "",
            key=_key(message_id, address),
            reply_to=stream.reply_to or (self.links.reply_to(message_id) if answerable else ""),
            thread=thread,
            auto_submitted=_auto_submitted(due, thread),
            urgent=due.message_class is not MessageClass.MARKETING,
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


def _key(message_id: UUID, address: str) -> str:
    """That the provider knows it proves that this very address was written to, and no other.

    It is kept with the claim: a later version may choose keys otherwise, but not for what is in
    doubt when it comes.
    """
    return f"{message_id}/{sha256(address.lower().encode()).hexdigest()[:16]}"


def _auto_submitted(due: Any, thread: Sequence[str]) -> AutoSubmitted:
    """RFC 3834: what staff wrote is no mail of a machine; who has opened a case by mail is answered
    by one.
    """
    if due.text_id is not None:
        return ""
    answers = due.template is Template.CASE_ACKNOWLEDGED and thread
    return "auto-replied" if answers else "auto-generated"


def _may_track(reader: Reader, channel: Channel) -> bool:
    return reader.consents.get(f"{channel}/{Purpose.TRACKING}") is ConsentState.GRANTED


def _decision(
    due: Any,
    facts: Facts,
    reader: Reader,
    channel: Channel,
    address: str | None,
    wording: Wording | None,
    *,
    limited: bool = True,
) -> Decision:
    reason = facts.suppression(channel, address, due.purpose) if address else None
    of_customer = due.customer_id is not None
    policy = facts.policy
    return may_send(
        ContactFacts(
            at=_now(reader),
            zone=reader.zone,
            message_class=due.message_class,
            purpose=due.purpose,
            channel=channel,
            address=address,
            consents=reader.consents,
            stated=reader.stated.get(f"{channel}/{due.purpose}"),
            suppressed_because=reason,
            open_cases=reader.open_cases,
            quiet_hours=policy.quiet_hours(channel, due.purpose) if of_customer else None,
            cap=policy.cap(channel, due.purpose) if of_customer and limited else None,
            sent=tuple(reader.sent.get(f"{channel}/{due.purpose}", ())),
            not_after=due.not_after,
            process_ended=due.workflow_id in facts.ended,
            answered=due.workflow_id in facts.answered,
            marketing_paused_until=reader.marketing_paused_until,
            is_test="test" in due.context,
            confirms=due.context.get("confirms"),
            claims={
                name: claim.expires_on if claim else None
                for name, claim in (wording.claims if wording else {}).items()
            },
        )
    )


def _now(reader: Reader) -> datetime:
    return reader.clock.business(datetime.now(UTC))


def _unsent(due: Any, decision: Decision, state: MessageState) -> Decided:
    return Decided(_row(due, decision, state), state)


def _row(due: Any, decision: Decision | None, state: MessageState) -> dict[str, Any]:
    """Every column of a decision; what is not given is empty."""
    nothing = ("not_before", "token", "provider", "asked_under", "channel")
    unwritten = (
        *("address", "locale", "template_version", "message_id"),
        *("subject", "text", "html", "answer"),
    )
    return {
        "id": str(due.id),
        "state": state,
        "decision": decision.model_dump(mode="json") if decision else None,
        "delay": 0.0,
        "attempts": due.attempts,
        **dict.fromkeys(nothing + unwritten),
    }
