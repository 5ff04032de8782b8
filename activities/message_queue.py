"""The queue of messages in PostgreSQL: each function is one statement or one short transaction.

A message is `sending` while a dispatcher holds it. The claim is committed before a socket opens
and carries a token; a late write with another token is refused. `sending` without a token means
that nobody holds it and its outcome is unknown.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, distinct_on
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from activities.suppressions import suppress
from database.base import is_known
from database.customers import (
    CLOCK_COLUMNS,
    NEWEST_STATEMENT,
    Consent,
    ContactPoint,
    Customer,
    Simulation,
    Suppression,
    clock_in,
)
from database.messages import Message
from database.processes import ProcessRow
from database.queries.policies import current_policy
from database.received_mails import ReceivedMail
from database.support import Case, StaffText
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.contacts import ConsentState, Stated
from domain.fairness import Waiting
from domain.messages import Channel, MessageClass, MessageState, Purpose, SettledBy, Template
from domain.plain_text import clean
from domain.policies import CaseKind, ContactPolicy, PolicyKind
from domain.processes import ProcessKind
from domain.sending import ProviderName
from domain.support import CaseState
from domain.templates import Tone

_messages = cast(sa.Table, Message.__table__)
_REFUSALS = (DataError, IntegrityError)
log = logging.getLogger(__name__)
_IS_DUE = sa.and_(
    # States are written out in the statements: only so can the planner use the partial indexes.
    sa.text("messages.state IN ('queued','held')"),
    _messages.c.not_before <= sa.func.now(),
)
# The next few of each series in each lane, wherever 20,000 others wait: the lanes that hold any are
# found by leaps through ix_messages_lanes, and each is read from its beginning.
_WAITING = sa.text("""
    WITH RECURSIVE found AS (
        (SELECT message_class, channel, template FROM messages
         WHERE state IN ('queued','held')
         ORDER BY message_class, channel, template LIMIT 1)
        UNION ALL
        SELECT next.* FROM found CROSS JOIN LATERAL (
            SELECT message_class, channel, template FROM messages AS m
            WHERE state IN ('queued','held') AND (m.message_class, m.channel, m.template)
                > (found.message_class, found.channel, found.template)
            ORDER BY message_class, channel, template LIMIT 1
        ) AS next
    )
    SELECT found.message_class, found.channel, found.template, due.*
    FROM (SELECT * FROM found WHERE template = ANY (:templates)) AS found
    JOIN json_to_recordset(:lanes) AS lane (message_class text, channel text, most int)
        ON (lane.message_class, lane.channel) = (found.message_class, found.channel)
    CROSS JOIN LATERAL (
        SELECT id, not_before, attempts FROM messages AS m
        WHERE state IN ('queued','held') AND not_before <= now()
            AND (m.message_class, m.channel, m.template)
                = (found.message_class, found.channel, found.template)
        ORDER BY not_before LIMIT lane.most
    ) AS due
""").bindparams(
    sa.bindparam("lanes", type_=sa.JSON),
    sa.bindparam("templates", list(Template), type_=sa.ARRAY(sa.Text)),
)
_TO_DECIDE = [
    getattr(_messages.c, name)
    for name in (
        *("id", "key", "customer_id", "template", "message_class", "purpose", "channel"),
        *("context", "text_id", "attempts", "due_since", "not_after", "workflow_id"),
        *("asked_channel", "channel_fixed", "template_version", "address"),
    )
]
_IS_KNOWN = is_known(*_TO_DECIDE)  # what is of a newer version is left to its workers
# Chosen first and locked then: a statement that locks sorts all that is due, not the next few.
_DUE = (
    sa.select(*_TO_DECIDE)
    .where(
        _messages.c.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid))), _IS_DUE, _IS_KNOWN
    )
    .with_for_update(skip_locked=True)
)


def _given(**columns: Any) -> Any:
    """Rows handed over as one JSON parameter: the statement is the same for any number of them."""
    rows = sa.func.json_to_recordset(sa.bindparam("rows", type_=sa.JSON))
    typed = [sa.column(name, kind) for name, kind in columns.items()]
    return rows.table_valued(*typed, name="given").render_derived(with_types=True)


def _any_of(values: list[Any], kind: Any) -> Any:
    """As one array parameter, so that the statement is the same for any number of values."""
    return sa.any_(sa.cast(values, sa.ARRAY(kind)))


def _after(seconds: Any) -> Any:
    return sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


_decided = _given(
    id=sa.Uuid,
    state=sa.Text,
    decision=JSONB,
    delay=sa.Float,
    not_before=sa.DateTime(timezone=True),
    token=sa.Text,
    provider=sa.Text,
    asked_under=sa.Text,
    channel=sa.Text,  # of what is sent
    attempts=sa.Integer,
    address=sa.Text,
    locale=sa.Text,
    template_version=sa.Text,
    message_id=sa.Text,
    subject=sa.Text,
    text=sa.Text,
    html=sa.Text,
    answer=sa.Text,
)
_next_look = sa.func.coalesce(_decided.c.not_before, _after(_decided.c.delay))
_DECIDE = (
    sa.update(_messages)
    .where(_messages.c.id == _decided.c.id)
    .values(
        state=_decided.c.state,
        decision=_decided.c.decision,
        not_before=_next_look,
        due_since=sa.case(
            (_decided.c.state == MessageState.HELD.value, _next_look), else_=_messages.c.due_since
        ),
        channel=sa.func.coalesce(_decided.c.channel, _messages.c.channel),
        asked_channel=sa.func.nullif(
            sa.func.coalesce(_messages.c.asked_channel, _messages.c.channel),
            sa.func.coalesce(_decided.c.channel, _messages.c.channel),
        ),
        claimed_by=_decided.c.token,
        claimed_at=sa.case((_decided.c.token.is_not(None), sa.func.now())),
        provider=sa.func.coalesce(_decided.c.provider, _messages.c.provider),
        asked_under=sa.func.coalesce(_decided.c.asked_under, _messages.c.asked_under),
        attempts=_decided.c.attempts,
        address=_decided.c.address,
        locale=_decided.c.locale,
        template_version=sa.func.coalesce(
            _decided.c.template_version, _messages.c.template_version
        ),
        message_id=_decided.c.message_id,
        subject=_decided.c.subject,
        text=_decided.c.text,
        html=_decided.c.html,
        provider_answer=sa.func.coalesce(_decided.c.answer, _messages.c.provider_answer),
    )
)

_settled = _given(
    id=sa.Uuid,
    at=sa.Text,
    token=sa.Text,
    state=sa.Text,
    delay=sa.Float,
    accepted_at=sa.DateTime(timezone=True),
    told_at=sa.DateTime(timezone=True),
    provider=sa.Text,
    answer=sa.Text,
    uncounted=sa.Integer,
    possible_duplicate=sa.Boolean,
    settled_by=sa.Text,
)
_is_sending = sa.text("messages.state = 'sending'")
# A report was here before the dispatcher's own yes, and left it the token: it adds what only it
# knows. Nothing else that it could say is of use then.
_was_overtaken = sa.and_(_settled.c.token.is_not(None), _settled.c.state == "accepted")
_answer = _messages.c.provider_answer
_LONGEST_CONVERSATION = 20  # answers: the first, which tells how it began, and the newest
_said = sa.func.coalesce(_messages.c.conversation, sa.cast([], JSONB))
_kept = sa.case(
    (sa.func.jsonb_array_length(_said) < _LONGEST_CONVERSATION, _said),
    else_=_said.op("-", return_type=JSONB())(sa.literal(1, sa.Integer)),  # the one after the first
)
_now_said = sa.func.jsonb_build_object(
    *("at", _settled.c.at),
    *("provider", _settled.c.provider),
    *("attempt", _messages.c.attempts),
    *("answer", _settled.c.answer),
    *("then", _settled.c.state),
    type_=JSONB,
)
_SETTLE = (
    sa.update(_messages)
    .where(
        _messages.c.id == _settled.c.id,
        _messages.c.claimed_by.is_not_distinct_from(_settled.c.token),
        sa.or_(_is_sending, _was_overtaken),
    )
    .values(
        state=sa.case((_is_sending, _settled.c.state), else_=_messages.c.state),
        not_before=_after(_settled.c.delay),
        claimed_by=None,
        accepted_at=sa.func.coalesce(_messages.c.accepted_at, _settled.c.accepted_at),
        told_at=sa.func.coalesce(_messages.c.told_at, _settled.c.told_at),
        provider=_settled.c.provider,
        provider_answer=sa.case(
            (sa.text("messages.state IN ('failed','bounced','complained')"), _answer),
            else_=_settled.c.answer,
        ),
        unknown_since=sa.case(
            (
                _settled.c.state.in_([MessageState.SENDING.value, MessageState.UNKNOWN.value]),
                sa.func.coalesce(_messages.c.unknown_since, _messages.c.claimed_at),
            )
        ),
        attempts=_messages.c.attempts - _settled.c.uncounted,
        possible_duplicate=_messages.c.possible_duplicate | _settled.c.possible_duplicate,
        conversation=_kept.concat(_now_said),
        settled_by=sa.func.coalesce(_settled.c.settled_by, _messages.c.settled_by),
    )
    .returning(_settled.c.state)
)


@dataclass(frozen=True)
class Settlement:
    """What is written about a message that was `sending`; `token` None: nobody held it."""

    id: UUID
    token: str | None
    state: MessageState
    answer: str
    delay: float = 0.0  # seconds until the next look at it
    provider: str | None = None
    accepted_at: datetime | None = None
    told_at: datetime | None = None
    uncounted: int = 0  # attempts that were none
    possible_duplicate: bool = False
    settled_by: SettledBy | None = None  # where its outcome was unknown
    at: datetime = field(default_factory=lambda: datetime.now(UTC))  # machine time of the answer
    suppress: tuple[Channel, str] | None = None  # an address that takes no mail

    def row(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "at": self.at.isoformat(),
            "token": self.token,
            "state": self.state,
            "delay": self.delay,
            "accepted_at": self.accepted_at.isoformat() if self.accepted_at else None,
            "told_at": self.told_at.isoformat() if self.told_at else None,
            "provider": self.provider,
            "answer": clean(self.answer),  # one that can't be stored would hold up all others
            "uncounted": self.uncounted,
            "possible_duplicate": self.possible_duplicate,
            "settled_by": self.settled_by,
        }


@dataclass(frozen=True)
class Reader:
    """The customer a message goes to, as known in the transaction of its claim."""

    name: str
    reference: str
    locale: str
    tone: Tone | None
    zone: str
    clock: Clock
    stated: Mapping[str, Stated]  # "<channel>/<purpose>" -> the newest statement
    open_cases: tuple[CaseKind, ...]  # of the kinds that selling waits for
    # When he was written to, by contact ("<channel>/<purpose>"), for those that are capped. A claim
    # adds its own, so that the next message of the batch knows of it.
    sent: dict[str, list[datetime]]
    chosen_locale: str | None = None  # these three by himself
    preferred_channel: Channel | None = None
    marketing_paused_until: datetime | None = None

    @property
    def consents(self) -> dict[str, ConsentState]:
        return {contact: said.state for contact, said in self.stated.items()}


@dataclass(frozen=True)
class Facts:
    """What the decisions about a batch need, read in bulk."""

    readers: Mapping[UUID, Reader]
    addresses: Mapping[tuple[UUID, Channel], tuple[str, str | None]]  # address, its locale
    suppressed: Mapping[tuple[Channel, str, Purpose | None], str]
    policy: ContactPolicy
    # Of the processes that have a series of messages, those that are over, and those that the
    # customer has answered, which a person goes on with.
    ended: Set[str]
    answered: Set[str]
    texts: Mapping[UUID, str] = field(default_factory=dict)
    threads: Mapping[UUID, tuple[str, ...]] = field(default_factory=dict)

    def suppression(self, channel: Channel, address: str, purpose: Purpose) -> str | None:
        """Why the address must not be written to, for this purpose or for any."""
        everything = self.suppressed.get((channel, address.lower(), None))
        return everything or self.suppressed.get((channel, address.lower(), purpose))


_END_WITH_US = sa.text("SELECT set_config('idle_in_transaction_session_timeout', :limit, true)")


async def end_with_us(session: AsyncSession, lease: timedelta) -> None:
    """Let PostgreSQL end the transaction of a dispatcher that was stopped in the middle of it.

    Its locks would hold up the next dispatcher, and customers who withdraw a consent.
    """
    limit = f"{int(lease.total_seconds() * 1000)}ms"
    await session.execute(_END_WITH_US, {"limit": limit})


class Lane(NamedTuple):
    """Messages of one class on one channel, and how many of each series are asked for."""

    message_class: MessageClass
    channel: Channel
    most: int


async def find_waiting(session: AsyncSession, lanes: Collection[Lane]) -> list[Waiting]:
    """The next messages of each series in the lanes, the oldest of each; nothing is locked."""
    found = await session.execute(_WAITING, {"lanes": [lane._asdict() for lane in lanes]})
    return [
        Waiting(
            id=row.id,
            message_class=MessageClass(row.message_class),
            channel=Channel(row.channel),
            series=row.template,
            due_at=row.not_before,
            tried=row.attempts > 0,
        )
        for row in found
    ]


async def lock_due(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Any]:
    """Those that are still due; what another dispatcher looks at is left to it."""
    found = await session.execute(_DUE, {"ids": list(ids)})
    return {row.id: row for row in found}


async def read_facts(session: AsyncSession, due: Sequence[Any]) -> Facts:
    """All that the decisions about a batch need, with the customers locked first.

    Whoever withdraws a consent under a lock on the customer's row (FOR UPDATE, or an UPDATE of it)
    is either seen here, or waits until the claims of this transaction are committed.
    """
    ids = sorted({row.customer_id for row in due if row.customer_id is not None})
    customers = await _lock_customers(session, ids) if ids else []
    stated = await _statements(session, ids) if ids else {}
    addresses = await _addresses(session, ids) if ids else {}
    selling = [row.customer_id for row in due if row.message_class is MessageClass.MARKETING]
    policy = cast(ContactPolicy, await current_policy(session, PolicyKind.CONTACT))
    cases = await _open_cases(session, selling, policy) if selling else {}
    clocks = {row.id: clock_in(row) for row in customers}
    capped = {
        row.customer_id
        for row in due
        if any(policy.cap(channel, row.purpose) for channel in Channel)
    } & set(clocks)
    sent = await _sent(session, list(capped), clocks, policy) if capped else {}
    series = [row.workflow_id for row in due if row.not_after is not None]
    ended, answered = await _over(session, series) if series else (set(), set())
    wanted = [address for address, _ in addresses.values()]
    wanted += [row.context["to"] for row in due if row.customer_id is None and "to" in row.context]
    wanted += [row.address for row in due if row.address]  # what is repeated goes where it went
    text_ids = [row.text_id for row in due if row.text_id is not None]
    of_cases = [row.id for row in due if _CASE.fullmatch(row.workflow_id)]
    return Facts(
        readers={
            row.id: Reader(
                name=row.name,
                reference=row.reference,
                locale=row.locale,
                tone=row.tone,
                zone=row.zone,
                clock=clocks[row.id],
                stated=stated.get(row.id, {}),
                open_cases=tuple(cases.get(row.id, ())),
                sent=sent.setdefault(row.id, {}),
                chosen_locale=row.chosen_locale,
                preferred_channel=row.preferred_channel,
                marketing_paused_until=row.marketing_paused_until,
            )
            for row in customers
        },
        addresses=addresses,
        suppressed=await _suppressed(session, wanted) if wanted else {},
        policy=policy,
        ended=ended,
        answered=answered,
        texts=await _texts(session, text_ids) if text_ids else {},
        threads=await _threads(session, of_cases) if of_cases else {},
    )


async def write_decisions(
    session: AsyncSession, rows: list[dict[str, Any]], refused_as: MessageState
) -> set[UUID]:
    """Write them; those that PostgreSQL refuses to store are settled as told, and answered.

    Together if it can be: only when one is refused is each written by itself.
    """
    try:
        async with session.begin_nested():
            await session.execute(_DECIDE, {"rows": rows})
    except _REFUSALS:
        return {UUID(row["id"]) for row in rows if not await _is_written(session, row, refused_as)}
    return set()


async def _is_written(session: AsyncSession, row: dict[str, Any], refused_as: MessageState) -> bool:
    try:
        async with session.begin_nested():
            await session.execute(_DECIDE, {"rows": [row]})
    except _REFUSALS as problem:
        why = type(problem.orig).__name__  # what it says may quote the message
        log.error("the decision about message %s can't be stored: %s", row["id"], why)
        await session.execute(
            sa.update(_messages)
            .where(_messages.c.id == UUID(row["id"]))
            .values(state=refused_as, claimed_by=None, provider_answer=f"can't be stored: {why}")
        )
        return False
    return True


async def settle(session: AsyncSession, settlements: Collection[Settlement]) -> list[MessageState]:
    """The states that were written; a message somebody else took over meanwhile is not among them.

    Addresses that take no mail are suppressed in the same transaction.
    """
    found = await session.execute(_SETTLE, {"rows": [s.row() for s in settlements]})
    states = [MessageState(state) for state in found.scalars()]
    bad = {s.suppress: f"bounced: {clean(s.answer)}" for s in settlements if s.suppress}
    await suppress(session, bad)
    return states


async def renew_claims(session: AsyncSession, claims: Mapping[UUID, str]) -> set[UUID]:
    """We are alive and still about to send these; those that are still ours."""
    found = await session.execute(
        sa.update(_messages)
        .where(
            _messages.c.id == _any_of(list(claims), sa.Uuid),
            _messages.c.claimed_by == _any_of(list(set(claims.values())), sa.Text),
            sa.text("messages.state = 'sending'"),
        )
        .values(claimed_at=sa.func.now())
        .returning(_messages.c.id)
    )
    return set(found.scalars())


async def release_claims(session: AsyncSession, tokens: Collection[str]) -> None:
    """Claims we can't know to have been committed: nothing was sent under them.

    What was unknown before such a claim still is.
    """
    await session.execute(
        sa.update(_messages)
        .where(
            sa.text("messages.state = 'sending'"),
            _messages.c.claimed_by == _any_of(list(tokens), sa.Text),
        )
        .values(
            state=sa.case(
                (_messages.c.unknown_since.is_(None), MessageState.QUEUED.value),
                else_=MessageState.SENDING.value,
            ),
            claimed_by=None,
            attempts=_messages.c.attempts - 1,
        )
    )


async def disown_expired(
    session: AsyncSession, lease: timedelta, grace: timedelta, ours: Collection[UUID]
) -> int:
    """Take messages from dispatchers that have not renewed their claims; how many."""
    expired = (
        sa.select(_messages.c.id)
        .where(
            sa.text("messages.state = 'sending'"),
            _messages.c.claimed_by.is_not(None),
            _messages.c.claimed_at < sa.func.now() - lease,
            _messages.c.id != sa.all_(sa.cast(list(ours), sa.ARRAY(sa.Uuid))),
        )
        .with_for_update(skip_locked=True)
    )
    found = await session.execute(
        sa.update(_messages)
        .where(_messages.c.id.in_(expired))
        .values(
            claimed_by=None,
            not_before=sa.func.now() + grace,
            unknown_since=sa.func.coalesce(_messages.c.unknown_since, _messages.c.claimed_at),
        )
        .returning(_messages.c.id)
    )
    return len(found.all())


_IS_DISOWNED = sa.and_(
    sa.text("messages.state = 'sending'"),
    _messages.c.claimed_by.is_(None),
    _messages.c.not_before <= sa.func.now(),
)


async def read_doubted(session: AsyncSession) -> set[str | None]:
    """The providers whose outcomes are due to be found out."""
    found = await session.execute(sa.select(_messages.c.provider).where(_IS_DISOWNED).distinct())
    return set(found.scalars())


async def lock_disowned(session: AsyncSession, provider: str | None, most: int) -> Sequence[Any]:
    """Messages that nobody holds, of whose fate at this provider nothing is known."""
    found = await session.execute(
        sa.select(
            *_TO_DECIDE,
            *(
                getattr(_messages.c, name)
                for name in (
                    *("message_id", "provider", "asked_under", "possible_duplicate"),
                    *("locale", "subject", "text", "html"),
                )
            ),
            sa.func.coalesce(_messages.c.unknown_since, _messages.c.claimed_at).label("since"),
            sa.func.now().label("now"),
            *CLOCK_COLUMNS,
        )
        .outerjoin(Customer, Customer.id == _messages.c.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .where(_IS_DISOWNED, _IS_KNOWN, _messages.c.provider.is_not_distinct_from(provider))
        .order_by(_messages.c.message_class == MessageClass.MARKETING, _messages.c.not_before)
        .limit(most)
        .with_for_update(skip_locked=True, of=_messages)
    )
    return found.all()


async def postpone_disowned(session: AsyncSession, provider: str, by: timedelta) -> None:
    """Nothing can be found out about them now."""
    await session.execute(
        sa.update(_messages)
        .where(_IS_DISOWNED, _messages.c.provider == provider)
        .values(not_before=sa.func.now() + by)
    )


async def read_untold(session: AsyncSession, most: int) -> Sequence[Any]:
    """Messages that will not arrive, of whose fate their process has not heard."""
    found = await session.execute(
        sa.select(_messages.c.id, _messages.c.key, _messages.c.workflow_id, _messages.c.state)
        .where(
            sa.text("messages.state IN ('failed','bounced','suppressed')"),
            _messages.c.process_told_at.is_(None),
        )
        .order_by(_messages.c.id)
        .limit(most)
    )
    return found.all()


async def note_told(session: AsyncSession, ids: Collection[UUID]) -> None:
    await session.execute(
        sa.update(_messages)
        .where(_messages.c.id == _any_of(list(ids), sa.Uuid))
        .values(process_told_at=sa.func.now())
    )


def _if_known(column: InstrumentedAttribute[Any]) -> sa.ColumnElement[Any]:
    """Null where it is of a newer version: one customer's must not stop the whole batch."""
    return sa.case((is_known(column), column)).label(column.key)


_ids = sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid)))
_LOCK_CUSTOMERS = (
    sa.select(
        Customer.id,
        Customer.name,
        Customer.reference,
        Customer.locale,
        _if_known(Customer.tone),
        Customer.zone,
        Customer.chosen_locale,
        _if_known(Customer.preferred_channel),
        Customer.marketing_paused_until,
        *CLOCK_COLUMNS,
    )
    .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
    .where(Customer.id == _ids)
    .order_by(Customer.id)
    .with_for_update(read=True, of=Customer)
)
_newest_consents = (
    sa.select(
        *(Consent.customer_id, Consent.channel, Consent.purpose),
        *(Consent.state, Consent.occurred_at, Consent.source),
    )
    .ext(distinct_on(Consent.customer_id, Consent.channel, Consent.purpose))
    .where(Consent.customer_id == _ids, is_known(Consent.channel, Consent.purpose))
    .order_by(
        Consent.customer_id,
        Consent.channel,
        Consent.purpose,
        *NEWEST_STATEMENT,
    )
    .subquery()
)
# What a newer version calls the newest statement is no grant, and an older grant holds no more.
_CONSENTS = sa.select(_newest_consents).where(is_known(_newest_consents.c.state))
_ADDRESSES = (
    sa.select(
        ContactPoint.customer_id,
        ContactPoint.channel,
        ContactPoint.address,
        ContactPoint.locale,
    )
    .ext(distinct_on(ContactPoint.customer_id, ContactPoint.channel))
    .where(
        ContactPoint.customer_id == _ids,
        ContactPoint.retired_at.is_(None),
        is_known(ContactPoint.channel),
    )
    .order_by(
        ContactPoint.customer_id,
        ContactPoint.channel,
        ContactPoint.recorded_at.desc(),
        ContactPoint.id.desc(),
    )
)
_SUPPRESSIONS = sa.select(
    Suppression.channel, Suppression.address, Suppression.purpose, Suppression.reason
).where(
    Suppression.address == sa.any_(sa.bindparam("addresses", type_=sa.ARRAY(sa.Text))),
    Suppression.lifted_at.is_(None),
    is_known(Suppression.channel, Suppression.purpose),
)


_SENT = sa.select(
    *(_messages.c[name] for name in ("customer_id", "channel", "purpose", "told_at", "claimed_at"))
).where(
    _messages.c.customer_id == _ids,
    sa.func.concat(_messages.c.channel, "/", _messages.c.purpose)
    == sa.any_(sa.bindparam("contacts", type_=sa.ARRAY(sa.Text))),
    sa.or_(_messages.c.told_at.is_(None), _messages.c.told_at > sa.bindparam("after")),
    _messages.c.state.in_(
        [
            *(MessageState.SENDING, MessageState.ACCEPTED, MessageState.DELIVERED),
            *(MessageState.BOUNCED, MessageState.COMPLAINED, MessageState.UNKNOWN),
        ]
    ),
)


async def _lock_customers(session: AsyncSession, ids: list[UUID]) -> Sequence[Any]:
    return (await session.execute(_LOCK_CUSTOMERS, {"ids": ids})).all()


async def _statements(session: AsyncSession, ids: list[UUID]) -> dict[UUID, dict[str, Stated]]:
    stated: dict[UUID, dict[str, Stated]] = {}
    for row in await session.execute(_CONSENTS, {"ids": ids}):
        said = Stated(row.state, row.occurred_at, row.source)
        stated.setdefault(row.customer_id, {})[f"{row.channel}/{row.purpose}"] = said
    return stated


async def _addresses(
    session: AsyncSession, ids: list[UUID]
) -> dict[tuple[UUID, Channel], tuple[str, str | None]]:
    found = await session.execute(_ADDRESSES, {"ids": ids})
    return {(row.customer_id, row.channel): (row.address, row.locale) for row in found}


async def _suppressed(
    session: AsyncSession, addresses: Collection[str]
) -> dict[tuple[Channel, str, Purpose | None], str]:
    lowered = sorted({address.lower() for address in addresses})
    found = await session.execute(_SUPPRESSIONS, {"addresses": lowered})
    return {(row.channel, row.address, row.purpose): row.reason for row in found}


async def _open_cases(
    session: AsyncSession, ids: Collection[UUID], policy: ContactPolicy
) -> dict[UUID, list[CaseKind]]:
    """Of those kinds that selling waits for, by customer."""
    found = await session.execute(
        sa.select(Case.customer_id, sa.func.array_agg(sa.cast(Case.kind, sa.Text)))
        .where(
            Case.customer_id.in_(ids),
            Case.kind.in_(policy.selling_waits_for),
            Case.state != CaseState.CLOSED,
        )
        .group_by(Case.customer_id)
    )
    return {customer_id: [CaseKind(kind) for kind in kinds] for customer_id, kinds in found}


async def _sent(
    session: AsyncSession, ids: list[UUID], clocks: Mapping[UUID, Clock], policy: ContactPolicy
) -> dict[UUID, dict[str, list[datetime]]]:
    """When the customers were written to; what is on its way, or may have arrived, counts too."""
    sent: dict[UUID, dict[str, list[datetime]]] = {}
    now = datetime.now(UTC)
    earliest = min(clocks[one].business(now) for one in ids)
    about = {"ids": ids, "contacts": list(policy.capped), "after": earliest - policy.within}
    for row in await session.execute(_SENT, about):
        moment = row.told_at or clocks[row.customer_id].business(row.claimed_at or now)
        contacts = sent.setdefault(row.customer_id, {})
        contacts.setdefault(f"{row.channel}/{row.purpose}", []).append(moment)
    return sent


_ANSWERED = sa.exists().where(
    TimelineLine.workflow_id == ProcessRow.workflow_id,
    TimelineLine.kind == "reply_received",
    ProcessRow.kind != ProcessKind.LIFECYCLE,  # that one hears of every reply, to whatever it is
)
_OVER = sa.select(
    ProcessRow.workflow_id, ProcessRow.ended_at.is_not(None).label("ended"), _ANSWERED
).where(ProcessRow.workflow_id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.Text))))


async def _over(session: AsyncSession, workflow_ids: Collection[str]) -> tuple[set[str], set[str]]:
    """Those that have ended, and those that the customer has answered."""
    found = (await session.execute(_OVER, {"ids": list(set(workflow_ids))})).all()
    ended = {workflow_id for workflow_id, has_ended, _ in found if has_ended}
    return ended, {workflow_id for workflow_id, _, has_answer in found if has_answer}


_CASE = re.compile(r"case/[0-9a-f-]{36}")
_answered = aliased(Message)
# The newest mail of the customer about the case when we wrote: an answer that is repeated answers
# the same one. Before it what that mail continues; where it doesn't say, the mail of ours that it
# answered as we know otherwise, if it has the Message-ID that we gave it: by SMTP alone it has.
_ABOUT_CASE = (
    sa.select(ReceivedMail.message_id, ReceivedMail.thread, _answered.message_id.label("before"))
    .outerjoin(
        _answered,
        sa.and_(
            _answered.id == ReceivedMail.answers, _answered.provider == ProviderName.SMTP.value
        ),
    )
    .where(
        ReceivedMail.customer_id == Message.customer_id,
        sa.or_(ReceivedMail.case_id == Case.id, ReceivedMail.event_id == Case.event_id),
        ReceivedMail.received_at <= Message.queued_at,
        ReceivedMail.message_id != "",
    )
    .order_by(ReceivedMail.received_at.desc(), ReceivedMail.id.desc())
    .limit(1)
    .lateral()
)
_THREADS = (
    sa.select(Message.id, _ABOUT_CASE.c.message_id, _ABOUT_CASE.c.thread, _ABOUT_CASE.c.before)
    .join(Case, Case.id == sa.cast(sa.func.split_part(Message.workflow_id, "/", 2), sa.Uuid))
    .join(_ABOUT_CASE, sa.true())
    .where(Message.id == _ids)
)


async def _threads(session: AsyncSession, ids: list[UUID]) -> dict[UUID, tuple[str, ...]]:
    """What the messages of cases continue; they answer the last (RFC 5322 section 3.6.4)."""
    found = await session.execute(_THREADS, {"ids": ids})
    return {
        row.id: (*(row.thread or [one for one in (row.before,) if one]), row.message_id)
        for row in found
    }


async def _texts(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    found = await session.execute(
        sa.select(StaffText.id, StaffText.text).where(StaffText.id.in_(ids))
    )
    return {row.id: row.text for row in found}
