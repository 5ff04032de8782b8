"""What an operator looks after: what stands still, what was told in vain, messages in trouble."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import Customer, Simulation
from database.events import Verification
from database.processes import ProcessRow
from domain.processes import ProcessKind, ProcessState

# Machine time that a process has before it is suspected; less happens whenever much is going on.
_GRACE = sa.text("interval '1 minute'")
# Of a process: its timer should have rung. That it has not ended lets an index find it.
OVERDUE = sa.and_(
    ProcessRow.ended_at.is_(None),
    ProcessRow.state == ProcessState.RUNNING,
    ProcessRow.next_timer_machine_at < sa.func.now() - _GRACE,
    # A process that catches up on what happened long ago stands before past moments.
    ProcessRow.updated_at < sa.func.now() - _GRACE,
)


class Suspect(NamedTuple):
    """A process that should have acted. `since`: machine time."""

    workflow_id: str
    since: datetime


class MessageFigure(NamedTuple):
    """Messages in one state; `oldest`: machine time since which the oldest waits or is settled."""

    state: str
    number: int
    oldest: datetime | None


class Doubts(NamedTuple):
    """Messages whose outcome was unknown: what is, and what came of those that are settled."""

    unknown: int
    possible_duplicates: int
    by_evidence: int
    by_class: int


class Standing(NamedTuple):
    kind: ProcessKind
    customer_id: UUID
    step: str
    state: ProcessState
    allowed: list[str]
    updated_at: datetime  # machine time


async def overdue_processes(
    session: AsyncSession, limit: int, workflow_id: str | None = None
) -> list[Suspect]:
    """Those whose timer should have rung, the longest overdue first; all, or one of them.

    Behind what `crm.py fill` wrote there is no process.
    """
    rang = ProcessRow.next_timer_machine_at
    statement = (
        sa.select(ProcessRow.workflow_id, rang)
        .join(Customer, Customer.id == ProcessRow.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .where(OVERDUE, Simulation.filled.is_not(True))
    )
    if workflow_id is not None:
        statement = statement.where(ProcessRow.workflow_id == workflow_id)
    found = await session.execute(statement.order_by(rang).limit(limit))
    return [Suspect(workflow_id, since) for workflow_id, since in found if since is not None]


# The step that a fact causes leaves the fact's id as its key; see `UNPROCESSED` of the nightly
# check, which looks further back than a page can.
_TOLD_IN_VAIN = sa.text("""
    SELECT e.workflow_id, min(e.accepted_at) FROM events e
    WHERE e.accepted_at BETWEEN now() - interval '1 day' AND now() - interval '1 minute'
      AND NOT EXISTS (
        SELECT FROM timeline t WHERE t.workflow_id = e.workflow_id AND t.step_key = ANY (
            ARRAY[e.event_id, 'heard/' || e.event_id]
            || CASE e.kind WHEN 'order_placed' THEN ARRAY['order_placed']
                           WHEN 'case_opened' THEN ARRAY['opened'] ELSE ARRAY[]::text[] END))
      AND NOT EXISTS (
        SELECT FROM processes p WHERE p.workflow_id = e.workflow_id
                                  AND p.state IN ('paused','stopped'))
    GROUP BY e.workflow_id ORDER BY 2 LIMIT :most
""")


async def told_in_vain(session: AsyncSession, limit: int) -> list[Suspect]:
    """Those that were told a fact within a day and have not taken note of it within a minute."""
    return [Suspect(*row) for row in await session.execute(_TOLD_IN_VAIN, {"most": limit})]


async def standings_of(session: AsyncSession, workflow_ids: list[str]) -> dict[str, Standing]:
    found = await session.execute(
        sa.select(
            ProcessRow.workflow_id,
            *(ProcessRow.kind, ProcessRow.customer_id, ProcessRow.step),
            *(ProcessRow.state, ProcessRow.allowed, ProcessRow.updated_at),
        ).where(ProcessRow.workflow_id.in_(workflow_ids))
    )
    return {row[0]: Standing(*row[1:]) for row in found}


# Each part has an index of its own; what was sent well is not looked at.
_MESSAGES = sa.text("""
    SELECT state, count(*), min(due_since) FROM messages
    WHERE state IN ('queued','held') GROUP BY state
    UNION ALL
    SELECT state, count(*), min(claimed_at) FROM messages WHERE state = 'sending' GROUP BY state
    UNION ALL
    SELECT state, count(*), min(queued_at) FROM messages
    WHERE state IN ('unknown','failed') GROUP BY state
    ORDER BY 1
""")


async def message_figures(session: AsyncSession) -> list[MessageFigure]:
    """What is not sent, is perhaps sent, or could not be."""
    return [MessageFigure(*row) for row in await session.execute(_MESSAGES)]


# Each is rare, and has an index of its own.
_DOUBTS = sa.text("""
    SELECT (SELECT count(*) FROM messages WHERE state = 'unknown'),
           (SELECT count(*) FROM messages WHERE possible_duplicate),
           (SELECT count(*) FROM messages WHERE settled_by = 'evidence'),
           (SELECT count(*) FROM messages WHERE settled_by = 'class')
""")


async def message_doubts(session: AsyncSession) -> Doubts:
    """How many, ever: those settled since revision 0017, which began to note by what."""
    return Doubts(*(await session.execute(_DOUBTS)).one())


_REFUSING = sa.text("""
    SELECT provider, count(*), max(attempts) FROM messages
    WHERE state = 'queued' AND provider_answer IS NOT NULL AND provider IS NOT NULL
    GROUP BY provider ORDER BY 1
""")


async def refusing_providers(session: AsyncSession) -> list[tuple[str, int, int]]:
    """(provider, messages it has put off, the most tries of one)."""
    return [(row[0], row[1], row[2]) for row in await session.execute(_REFUSING)]


async def last_verification(session: AsyncSession) -> Verification | None:
    return await session.scalar(
        sa.select(Verification).order_by(Verification.taken_at.desc()).limit(1)
    )
