"""What is written about a message: after its provider's answer, and when the answer got lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from activities.lines import Line
from activities.message_claims import Claim, DispatchRules
from activities.message_queue import Settlement
from database.customers import clock_in
from domain.contacts import Decision, Outcome
from domain.messages import MessageClass, MessageState, SettledBy
from messaging.provider import Answer
from messaging.provider import Outcome as Answered

_LONGEST_HOLD = 3600.0  # seconds of machine time


@dataclass(frozen=True)
class Fates:
    rules: DispatchRules

    def after_answer(self, claim: Claim, answer: Answer, line: Line) -> Settlement:
        """What the provider's answer means for the message; `line` has heard it already."""
        written = _Written(claim, answer.said)
        match answer.outcome:
            case Answered.ACCEPTED:
                return written.accepted(datetime.now(UTC))
            case Answered.PERMANENT:
                return written.failed(answer.bad_address)
        delay = self.rules.retry_delay(claim.attempts)
        if answer.retry_after is not None:
            delay = answer.retry_after.total_seconds()
        if claim.is_repeat:  # not taken now, but perhaps before
            return written.unknown(line.pause if answer.nobody else delay)
        if answer.outcome is Answered.UNKNOWN:
            return written.unknown(self.rules.grace.total_seconds())
        if self.rules.gives_up(claim.due_since):
            return written.failed(bad_address=False)
        if answer.nobody:  # at once: the line pauses, unless another provider takes it
            return written.again(0.0, uncounted=1)
        return written.again(delay)

    def by_evidence(self, row: Any, found: Mapping[str, datetime]) -> Settlement:
        """Of a provider that can be asked: what was not found was not taken.

        Then it goes at once, since most often it was its dispatcher that died; after that as after
        a refusal.
        """
        taken_at = found.get(row.message_id)
        if taken_at is None:
            words = "its answer was lost; the provider has not taken it"
            state, delay = MessageState.QUEUED, 0.0
            if self.rules.gives_up(row.due_since):
                state = MessageState.FAILED
            elif row.attempts > 1:
                delay = self.rules.retry_delay(row.attempts)
            return _of_nobody(row, state, words, delay=delay, settled_by=SettledBy.EVIDENCE)
        return _of_nobody(
            row,
            MessageState.ACCEPTED,
            "its answer was lost; found at the provider by its Message-ID",
            accepted_at=taken_at,
            told_at=clock_in(row).business(taken_at),
            settled_by=SettledBy.EVIDENCE,
        )

    def is_for_class(self, row: Any, repeat_within: timedelta | None) -> bool:
        """Whether nothing but the class of the message can decide any more.

        Selling can wait for the provider's word; a message that is part of a contract can't, unless
        it was sent again already. What an earlier version has asked for under a key that it did not
        keep can't be asked for again.
        """
        since = row.now - row.since
        if repeat_within is None or since >= repeat_within or row.asked_under is None:
            return True
        waits = row.message_class is MessageClass.MARKETING or row.possible_duplicate
        return not waits and since >= self.rules.resend_after

    def by_class(self, row: Any) -> Settlement:
        """Selling is never sent again blindly, and nothing is a second time."""
        if row.message_class is MessageClass.MARKETING:
            words = "its answer was lost; marketing is never sent again blindly"
            return _of_nobody(row, MessageState.UNKNOWN, words, settled_by=SettledBy.CLASS)
        if row.possible_duplicate:
            words = "its answer was lost a second time; it was sent again once, and is not any more"
            return _of_nobody(row, MessageState.UNKNOWN, words, settled_by=SettledBy.CLASS)
        left = self.rules.resend_after - (row.now - row.since)
        if left > timedelta(0):
            words = "its answer was lost; waiting for evidence"
            return _of_nobody(row, MessageState.SENDING, words, delay=left.total_seconds())
        words = "its answer was lost and nothing was heard since; sent again"
        return _of_nobody(
            *(row, MessageState.QUEUED, words),
            possible_duplicate=True,
            settled_by=SettledBy.CLASS,
        )

    def not_asked_again(self, row: Any, decision: Decision) -> Settlement:
        """The rules forbid to repeat what may have been sent."""
        if decision.outcome is not Outcome.HOLD:
            words = f"its answer was lost; not asked again: {decision.because}"
            return _of_nobody(row, MessageState.UNKNOWN, words)
        wait = self.rules.hold.total_seconds()
        if decision.until is not None:
            wait = (clock_in(row).machine(decision.until) - datetime.now(UTC)).total_seconds()
        return _of_nobody(
            row,
            MessageState.SENDING,
            f"its answer was lost; asked again later: {decision.because}",
            delay=min(max(wait, self.rules.shortest_hold), _LONGEST_HOLD),
        )


def _of_nobody(row: Any, state: MessageState, answer: str, **more: Any) -> Settlement:
    return Settlement(
        id=row.id, token=None, state=state, answer=answer, provider=row.provider, **more
    )


@dataclass(frozen=True)
class _Written:
    """What is written about a claim of ours, by the provider's answer."""

    claim: Claim
    said: str

    def accepted(self, at: datetime) -> Settlement:
        return self._settlement(
            MessageState.ACCEPTED,
            accepted_at=at,
            told_at=self.claim.clock.business(at),
            settled_by=self._settled_by,
        )

    def failed(self, bad_address: bool) -> Settlement:
        address = (self.claim.channel, self.claim.outgoing.address) if bad_address else None
        return self._settlement(MessageState.FAILED, suppress=address, settled_by=self._settled_by)

    def again(self, delay: float, uncounted: int = 0) -> Settlement:
        return self._settlement(MessageState.QUEUED, delay=delay, uncounted=uncounted)

    def unknown(self, delay: float) -> Settlement:
        """Still `sending`, but nobody's: looked into after the delay."""
        return self._settlement(MessageState.SENDING, delay=delay)

    @property
    def _settled_by(self) -> SettledBy | None:
        """A provider that was asked again under the key it knows says what it made of it."""
        return SettledBy.EVIDENCE if self.claim.is_repeat else None

    def _settlement(self, state: MessageState, **more: Any) -> Settlement:
        return Settlement(
            id=self.claim.id,
            token=self.claim.token,
            state=state,
            answer=self.said,
            provider=self.claim.provider,
            **more,
        )
