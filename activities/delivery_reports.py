"""What follows from reports about messages: their state, suppressions, a line in the history."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.service import RPCError

from activities.faults import is_away
from activities.suppressions import suppress
from database.base import Sessions, insert_once, is_known
from database.customers import CLOCK_COLUMNS, ContactPoint, Customer, Simulation, clock_in
from database.delivery_reports import DeliveryReportRow
from database.messages import Message
from database.processes import ProcessRow
from database.queries.customers import withdraw_consents
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.delivery_reports import ReportKind, next_state, was_taken
from domain.errors import where
from domain.lifecycle import OptedOut
from domain.messages import Channel, MessageState, Purpose, SettledBy
from domain.processes import PHASES, Phase, lifecycle_workflow_id
from temporal_runtime import tell_process

_BATCH = 200
_TELL_LIMIT = 5.0  # seconds
_SOFT_BOUNCES = 5  # messages to one address that were given up, within
_SOFT_BOUNCES_WITHIN = timedelta(days=14)  # reliability.md §4
_LINES = {ReportKind.BOUNCED: "message_bounced", ReportKind.COMPLAINED: "message_complained"}

_log = logging.getLogger(__name__)
_messages = cast(sa.Table, Message.__table__)
_reports = cast(sa.Table, DeliveryReportRow.__table__)


async def take_in_reports(sessions: Sessions, client: Client) -> list[ReportKind]:
    """Apply the next reports, at most a batch, in one transaction; the kinds of those applied.

    A report whose message the dispatcher is writing about just now is left for the next time: so
    neither waits for the other. Processes hear of bounces from the dispatcher (`process_told_at`).
    """
    async with sessions.begin() as session:
        rows = _with_one_complaint(await _lock_unprocessed(session))
        if not rows:
            return []
        await _hold_complainers(session, rows)
        batch = _Batch(await _lock_subjects(session, rows))
        taken = [row for row in rows if batch.can_take(row)]
        if not taken:
            return []
        done = [batch.take(row) for row in taken]
        await batch.write(session)
        await session.execute(
            sa.update(_reports)
            .where(_reports.c.id == sa.bindparam("report"))
            .values(processed_at=sa.func.now(), outcome=sa.bindparam("words")),
            done,
        )
        # Before the commit, as with every fact: a repeat is known by its event id.
        for customer, opted_out in batch.complaints:
            await _withdraw(session, customer, opted_out)
            await _tell(client, customer, opted_out)
    return [row.kind for row in taken]


def _with_one_complaint(rows: Sequence[Any]) -> list[Any]:
    """The first complaint and all that are none. Each locks its customer while his process is told,
    and the dispatcher waits for such locks: many at once would hold up everybody's mail.
    """
    complaints = [row.id for row in rows if row.kind is ReportKind.COMPLAINED]
    return [row for row in rows if row.id not in complaints[1:]]


async def _withdraw(session: AsyncSession, customer_id: UUID, opted_out: OptedOut) -> None:
    """Who complains about one message wants no selling on any channel (reliability.md §4)."""
    await withdraw_consents(
        session,
        customer_id,
        opted_out.event_id,
        list(Channel),
        Purpose.MARKETING,
        source="complaint",
        occurred_at=opted_out.occurred_at,
    )


async def _tell(client: Client, customer_id: UUID, opted_out: OptedOut) -> None:
    """A relationship that takes no facts any more holds up no other report: the address is
    suppressed without it.
    """
    try:
        async with asyncio.timeout(_TELL_LIMIT):  # the customer's row is locked meanwhile
            await tell_process(client, lifecycle_workflow_id(customer_id), "opted_out", opted_out)
    except RPCError as problem:
        if is_away(problem):
            raise
        _log.error("%s was not told to its relationship: %s", opted_out.event_id, where(problem))


@dataclass
class _Subject:
    """A message as it was found, and what the reports make of it."""

    found: Any
    state: MessageState
    clock: Clock
    accepted_at: datetime | None
    provider: str | None
    answer: str | None

    @property
    def address(self) -> tuple[Channel, str] | None:
        return (self.found.channel, self.found.address.lower()) if self.found.address else None

    def row(self) -> dict[str, Any]:
        told_at = self.found.told_at
        if told_at is None and self.accepted_at is not None:
            told_at = self.clock.business(self.accepted_at)
        return {
            "message": self.found.id,
            "new_state": self.state,
            "new_accepted_at": self.accepted_at,
            "new_told_at": told_at,
            "new_provider": self.provider,
            "new_answer": self.answer,
            "still_unknown": self.state in (MessageState.SENDING, MessageState.UNKNOWN),
        }


@dataclass
class _Batch:
    subjects: dict[UUID, _Subject]
    _bounced: dict[tuple[Channel, str], str] = field(default_factory=dict)
    _unwelcome: dict[tuple[Channel, str], str] = field(default_factory=dict)
    _expired: set[tuple[Channel, str]] = field(default_factory=set)
    _lines: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[tuple[UUID, OptedOut]] = field(default_factory=list)  # and their customers

    def can_take(self, report: Any) -> bool:
        return report.message_id is None or report.message_id in self.subjects

    def take(self, report: Any) -> dict[str, Any]:
        """Note what follows from a report; the parameters of what is written about itself."""
        if report.message_id is None:
            words = "about no message of ours"
        else:
            words = self._apply(report, self.subjects[report.message_id])
        return {"report": report.id, "words": words}

    def _apply(self, report: Any, subject: _Subject) -> str:
        if report.kind is ReportKind.OTHER:
            return "says nothing about the delivery"
        before, subject.state = subject.state, next_state(subject.state, report.kind)
        if was_taken(report.kind) and subject.accepted_at is None:
            subject.accepted_at = report.reported_at
        subject.provider = subject.provider or report.provider
        also = self._note(report, subject)
        if subject.state is before:
            return f"nothing new: it is {before}{also}"
        if (before, subject.state) != (MessageState.ACCEPTED, MessageState.DELIVERED):
            subject.answer = report.said  # else what the provider answered to us says more
        return f"it was {before} and is {subject.state}{also}"

    def _note(self, report: Any, subject: _Subject) -> str:
        """What follows beside the state."""
        kind: ReportKind = report.kind
        if kind in _LINES and subject.found.customer_id is not None:
            self._lines.append(_line(report, subject))
        address = subject.address
        if kind is ReportKind.COMPLAINED and subject.found.customer_id is not None:
            self.complaints.append((subject.found.customer_id, _opt_out(report, subject)))
        if address is None:
            return ""
        if kind is ReportKind.EXPIRED:
            self._expired.add(address)
        if kind is ReportKind.BOUNCED:
            self._bounced[address] = f"hard bounce: {report.said}"
            return "; its address is suppressed"
        if kind is ReportKind.COMPLAINED:
            self._unwelcome[address] = f"complaint: {report.said}"
            return "; its address is suppressed for marketing"
        return ""

    async def write(self, session: AsyncSession) -> None:
        if self.subjects:
            await session.execute(_WRITE, [one.row() for one in self.subjects.values()])
        for line in self._lines:
            await insert_once(session, TimelineLine, **line)
        await suppress(session, self._bounced)
        await suppress(session, self._unwelcome, Purpose.MARKETING)
        if self._expired:
            await suppress(session, await _too_often_given_up(session, self._expired))


_still_unknown = sa.bindparam("still_unknown", type_=sa.Boolean)
_WRITE = (
    sa.update(_messages)
    .where(_messages.c.id == sa.bindparam("message"))
    .values(
        state=sa.bindparam("new_state"),
        accepted_at=sa.bindparam("new_accepted_at"),
        told_at=sa.bindparam("new_told_at"),
        provider=sa.bindparam("new_provider"),
        provider_answer=sa.bindparam("new_answer"),
        # The token stays with a claim: by it the dispatcher adds its own yes (`_SETTLE`).
        unknown_since=sa.case((_still_unknown, _messages.c.unknown_since)),
        settled_by=sa.case(
            (
                sa.and_(_messages.c.unknown_since.is_not(None), sa.not_(_still_unknown)),
                SettledBy.EVIDENCE,
            ),
            else_=_messages.c.settled_by,
        ),
    )
)


_UNPROCESSED = (
    sa.select(_reports)
    .where(_reports.c.processed_at.is_(None), is_known(*_reports.c))
    .order_by(_reports.c.id)
    .limit(_BATCH)
    .with_for_update(skip_locked=True)
)


async def _lock_unprocessed(session: AsyncSession) -> Sequence[Any]:
    return (await session.execute(_UNPROCESSED)).all()


async def _hold_complainers(session: AsyncSession, reports: Sequence[Any]) -> None:
    """No message to them can be claimed until this is committed: see `hold_messages`."""
    complaints = {one.message_id for one in reports if one.kind is ReportKind.COMPLAINED} - {None}
    if complaints:
        await session.execute(
            sa.select(Customer.id)
            .join(Message, Message.customer_id == Customer.id)
            .where(Message.id.in_(complaints))
            .order_by(Customer.id)
            .with_for_update(key_share=True, of=Customer)
        )


async def _lock_subjects(session: AsyncSession, reports: Sequence[Any]) -> dict[UUID, _Subject]:
    """The messages they are about, but for those that somebody else is writing about, and those
    that only a newer version can read.
    """
    names = ("id", "customer_id", "workflow_id", "template", "channel", "state", "address")
    more = ("accepted_at", "told_at", "provider", "provider_answer")
    found = await session.execute(
        sa.select(
            *(_messages.c[name] for name in names + more),
            ProcessRow.kind.label("process"),
            *CLOCK_COLUMNS,
        )
        .outerjoin(Customer, Customer.id == _messages.c.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .outerjoin(ProcessRow, ProcessRow.workflow_id == _messages.c.workflow_id)
        .where(
            _messages.c.id.in_({one.message_id for one in reports} - {None}),
            is_known(*_messages.c),
        )
        .with_for_update(skip_locked=True, of=_messages)
    )
    return {
        row.id: _Subject(
            found=row,
            state=row.state,
            clock=clock_in(row),
            accepted_at=row.accepted_at,
            provider=row.provider,
            answer=row.provider_answer,
        )
        for row in found
    }


def _line(report: Any, subject: _Subject) -> dict[str, Any]:
    message = subject.found
    return {
        "customer_id": message.customer_id,
        "workflow_id": message.workflow_id,
        "step_key": f"{report.kind}/{message.id}",
        "kind": _LINES[report.kind],
        "phase": PHASES[message.process] if message.process else Phase.AFTER,
        "happened_at": subject.clock.business(report.reported_at),
        "facts": {"message": str(message.id), "template": message.template},
    }


def _opt_out(report: Any, subject: _Subject) -> OptedOut:
    """A complaint is one, on every channel: what is under way for selling ends."""
    return OptedOut(
        event_id=f"complaint/{subject.found.id}",
        occurred_at=subject.clock.business(report.reported_at),
    )


async def _too_often_given_up(
    session: AsyncSession, addresses: set[tuple[Channel, str]]
) -> dict[tuple[Channel, str], str]:
    """Those of the addresses to which too many messages were given up, each for a passing reason.

    A mere delay never counts: a server that says so goes on trying, and says so again when it gives
    up (RFC 3464 §2.3.3, RFC 5321 §4.5.4.1). What came through after a delay nobody reports by plain
    SMTP, so silence after it is no failure. What came through in the end doesn't count either.
    """
    address = sa.func.lower(_messages.c.address)
    lowered = {one for _, one in addresses}
    owners = sa.select(ContactPoint.customer_id).where(
        sa.func.lower(ContactPoint.address).in_(lowered)
    )
    found = await session.execute(
        sa.select(_messages.c.channel, address.label("address"))
        .join_from(_reports, _messages, _messages.c.id == _reports.c.message_id)
        .where(
            _messages.c.customer_id.in_(owners),
            address.in_(lowered),
            _messages.c.state == MessageState.FAILED,
            _reports.c.kind == ReportKind.EXPIRED,
            _reports.c.reported_at > datetime.now(UTC) - _SOFT_BOUNCES_WITHIN,
        )
        .group_by(_messages.c.channel, address)
        .having(sa.func.count(_messages.c.id.distinct()) >= _SOFT_BOUNCES)
    )
    why = f"{_SOFT_BOUNCES} soft bounces in {_SOFT_BOUNCES_WITHIN.days} days"
    return {(row.channel, row.address): why for row in found}
