"""Deletes what people wrote, were written, and did here, once its time is over.

The policy of kind storage says when, in the customer's business time. The facts stay: that it was
sent, when, where to, from which wording, and what came of it. What is still in use waits: a message
under way, what belongs to a process that runs, and the mails of a customer with an open case.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.base import Sessions
from database.customers import Simulation
from database.events import HAS_WORDS
from database.queries.policies import current_policy
from domain.clock import REAL_TIME, Clock
from domain.policies import PolicyKind, StoragePolicy

_FIRST = datetime.min.replace(tzinfo=UTC)
_BATCH = 500  # rows a transaction
_BATCH_OF_MAILS = 50  # of up to 10 MB

# A relationship runs for ever, so nothing can wait for its end.
_OVER = """NOT EXISTS (
    SELECT FROM processes p
    WHERE p.workflow_id = m.workflow_id AND p.ended_at IS NULL AND p.kind <> 'lifecycle')"""
_NO_OPEN_CASE = """NOT EXISTS (
    SELECT FROM cases k WHERE k.customer_id = {}.customer_id AND k.state <> 'closed')"""

# Each deletes the next few between :since and :until, of the customers that {whose} names, and
# answers how many and how far it got: whoever began at the oldest again would read through all that
# is deleted by now. Rows that somebody writes just now are left for another night.
_TEXTS = f"""
    WITH old AS (
        SELECT m.id, m.queued_at AS at FROM messages m LEFT JOIN customers c ON c.id = m.customer_id
        WHERE {{whose}} AND m.queued_at >= :since AND m.queued_at < :until
          AND m.text IS NOT NULL AND m.state NOT IN ('queued','held','sending')
          AND {_OVER} AND {_NO_OPEN_CASE.format("m")}
        ORDER BY m.queued_at, m.id LIMIT :most FOR UPDATE OF m SKIP LOCKED),
    gone AS (
        UPDATE messages m SET subject = NULL, text = NULL, html = NULL, text_deleted_at = now()
        FROM old WHERE m.id = old.id)
    SELECT count(*) AS deleted, max(at) AS reached FROM old
"""
_REPORTS = f"""
    WITH old AS (
        SELECT r.id, r.received_at AS at FROM delivery_reports r
        LEFT JOIN messages m ON m.id = r.message_id LEFT JOIN customers c ON c.id = m.customer_id
        WHERE {{whose}} AND r.received_at >= :since AND r.received_at < :until
          AND r.said IS NOT NULL AND r.processed_at IS NOT NULL
          AND coalesce(m.state, '') NOT IN ('queued','held','sending') AND {_OVER}
        ORDER BY r.received_at, r.id LIMIT :most FOR UPDATE OF r SKIP LOCKED),
    gone AS (
        UPDATE delivery_reports r SET said = NULL, said_deleted_at = now()
        FROM old WHERE r.id = old.id)
    SELECT count(*) AS deleted, max(at) AS reached FROM old
"""
_REACTIONS = f"""
    WITH old AS (
        SELECT r.message_id, r.kind, r.link, r.day, r.first_at AS at FROM message_reactions r
        JOIN messages m ON m.id = r.message_id LEFT JOIN customers c ON c.id = m.customer_id
        WHERE {{whose}} AND r.first_at >= :since AND r.first_at < :until AND {_OVER}
        ORDER BY r.first_at LIMIT :most FOR UPDATE OF r, m SKIP LOCKED),
    gone AS (
        DELETE FROM message_reactions r USING old
        WHERE (r.message_id, r.kind, r.link, r.day)
            = (old.message_id, old.kind, old.link, old.day)
        RETURNING r.message_id),
    noted AS (
        UPDATE messages SET reactions_deleted_at = now()
        WHERE id IN (SELECT message_id FROM gone))
    SELECT count(*) AS deleted, max(at) AS reached FROM old
"""
_MAILS = f"""
    WITH old AS (
        SELECT r.id, r.received_at AS at FROM received_mails r
        LEFT JOIN customers c ON c.id = r.customer_id LEFT JOIN messages m ON m.id = r.answers
        WHERE {{whose}} AND r.received_at >= :since AND r.received_at < :until
          AND r.raw IS NOT NULL AND r.processed_at IS NOT NULL AND r.outcome <> 'failed'
          AND {_OVER} AND {_NO_OPEN_CASE.format("r")}
          AND NOT EXISTS (
            SELECT FROM tasks t WHERE t.customer_id = r.customer_id
              AND t.kind = 'attribute_mail' AND t.ended_at IS NULL)
        ORDER BY r.received_at, r.id LIMIT :most FOR UPDATE OF r SKIP LOCKED),
    files AS (
        UPDATE received_attachments a SET content = NULL FROM old WHERE a.mail_id = old.id),
    gone AS (
        UPDATE received_mails r SET raw = NULL, whole_text = NULL, raw_deleted_at = now()
        FROM old WHERE r.id = old.id)
    SELECT count(*) AS deleted, max(at) AS reached FROM old
"""
_ACTIONS = """
    WITH old AS (
        SELECT a.id, a.recorded_at AS at FROM staff_actions a
        WHERE a.recorded_at >= :since AND a.recorded_at < :until
        ORDER BY a.recorded_at, a.id LIMIT :most FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM staff_actions a USING old WHERE a.id = old.id)
    SELECT count(*) AS deleted, max(at) AS reached FROM old
"""


def _words_of(
    table: str, moment: str, *, gone: str, which: str, key: str = "id", join: str = ""
) -> str:
    """What customers and staff wrote to each other: the rows `x` stay, since by them a repeat of
    the fact is known. `gone` is what is set, `which` a condition that an index has.
    """
    return f"""
        WITH old AS (
            SELECT x.{key}, x.{moment} AS at FROM {table} x
            LEFT JOIN customers c ON c.id = x.customer_id {join}
            WHERE {{whose}} AND x.{moment} >= :since AND x.{moment} < :until
              AND {which} AND {_NO_OPEN_CASE.format("x")}
            ORDER BY x.{moment}, x.{key} LIMIT :most FOR UPDATE OF x SKIP LOCKED),
        gone AS (
            UPDATE {table} x SET {gone}, words_deleted_at = now()
            FROM old WHERE x.{key} = old.{key})
        SELECT count(*) AS deleted, max(at) AS reached FROM old
    """


_WORDS = (
    _words_of(  # its raw form has the words too, as long as that is kept
        *("received_mails", "received_at"),
        gone="subject = NULL, text = NULL",
        which=f"x.raw IS NULL AND x.words_deleted_at IS NULL AND {_OVER}",
        join="LEFT JOIN messages m ON m.id = x.answers",
    ),
    _words_of(
        *("received_texts", "received_at"),
        gone="text = ''",
        which="x.words_deleted_at IS NULL AND x.outcome <> 'failed'",
    ),
    _words_of(
        *("events", "accepted_at"),
        gone="body = x.body - ARRAY['text','comment','title']",
        which=f"{HAS_WORDS} AND {_OVER.replace('m.', 'x.')}",
        key="event_id",
    ),
    _words_of(
        *("staff_texts", "recorded_at"),
        gone="text = ''",
        which="""x.words_deleted_at IS NULL AND NOT EXISTS (
            SELECT FROM messages m WHERE m.customer_id = x.customer_id AND m.text_id = x.id
              AND m.state IN ('queued','held','sending'))""",
    ),
)


class _Kind(NamedTuple):
    sql: str
    kept_for: Callable[[StoragePolicy], timedelta]
    most: int = _BATCH


_KINDS = (
    _Kind(_MAILS, lambda policy: policy.raw_mails, _BATCH_OF_MAILS),
    _Kind(_REPORTS, lambda policy: policy.delivery_reports),
    _Kind(_REACTIONS, lambda policy: policy.reactions),
    _Kind(_TEXTS, lambda policy: policy.message_texts),
    *(_Kind(sql, lambda policy: policy.own_words) for sql in _WORDS),
)
_OF_STAFF = _Kind(_ACTIONS, lambda policy: policy.staff_actions)


async def delete_past(sessions: Sessions, now: datetime, beat: Callable[[], None]) -> int:
    """Everything whose time is over at `now`, which is the machine's; how much it was.

    A transaction a batch: what is deleted stays deleted, and a repeat goes on from there. `beat` is
    called after each.
    """
    async with sessions() as session:
        policy = cast(StoragePolicy, await current_policy(session, PolicyKind.STORAGE))
        simulations = (await session.scalars(sa.select(Simulation))).all()
    clocks: dict[UUID | None, Clock] = {one.id: one.clock for one in simulations}
    clocks[None] = REAL_TIME
    deleted = 0
    for simulation, clock in clocks.items():
        for kind in (*_KINDS, _OF_STAFF) if simulation is None else _KINDS:
            until = _moment_before(clock, now, kind.kept_for(policy))
            batch, since = kind.most, _FIRST
            while batch == kind.most:
                async with sessions.begin() as session:
                    batch, since = await _delete_batch(session, kind, simulation, since, until)
                deleted += batch
                beat()
    return deleted


def _moment_before(clock: Clock, now: datetime, kept_for: timedelta) -> datetime:
    """The machine's moment from which until now so much business time has passed."""
    try:
        return clock.machine(clock.business(now) - kept_for)
    except OverflowError:  # a clock so slow that it never passes
        return _FIRST


async def _delete_batch(
    session: AsyncSession,
    kind: _Kind,
    simulation: UUID | None,
    since: datetime,
    until: datetime,
) -> tuple[int, datetime]:
    whose = "c.simulation_id IS NULL" if simulation is None else "c.simulation_id = :simulation"
    values: dict[str, object] = {"since": since, "until": until, "most": kind.most}
    if simulation is not None:
        values["simulation"] = simulation
    statement = sa.text(kind.sql.format(whose=whose))
    row = (await session.execute(statement, values)).one()
    return row.deleted, row.reached or since
