"""How processes of a kind stand and ran, and the story of one, for people."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import Customer
from database.events import Event
from database.messages import Message
from database.tasks import Task
from database.timeline import TimelineLine
from domain.processes import ProcessKind

RUNS = 2_000  # of a kind, the latest: what its flow and its outcomes are told of
_MOST_LINES = 500


class KindFigures(NamedTuple):
    """Dwell in seconds of business time, of those that are open, since they last did something."""

    kind: ProcessKind
    running: int
    paused: int
    ended: int
    overdue: int
    median: float | None
    longest: float | None


class StepFigures(NamedTuple):
    """Who stands at a step now; dwell as above."""

    step: str
    number: int
    paused: int
    overdue: int
    median: float
    longest: float


class Passage(NamedTuple):
    """A kind of line that runs have left; the dwell is the time until their next one."""

    kind: str
    runs: int
    median: float | None
    longest: float | None


class Flow(NamedTuple):
    """Of a kind. `steps`: where the open ones stand, the most crowded first. `passed`: what the
    latest runs went through, in the order in which they usually do. `ended`: how those ended, an
    empty word for the open ones.
    """

    steps: list[StepFigures]
    passed: list[Passage]
    ended: list[tuple[str, int]]


# Few customers, or none, live by a clock of their own: the others are not looked at.
_CLOCKS = """
    clocks AS MATERIALIZED (
        SELECT c.id, s.speed FROM simulations s JOIN customers c ON c.simulation_id = s.id)
"""
_OPEN = """
    SELECT p.kind, p.step, p.state,
           p.state = 'running' AND p.updated_at < now() - interval '1 minute' AND coalesce(
               p.next_timer_machine_at < now() - interval '1 minute', false) AS overdue,
           extract(epoch FROM now() - p.updated_at)::double precision
               * coalesce(clocks.speed, 1) AS dwell
    FROM processes p LEFT JOIN clocks ON clocks.id = p.customer_id
    WHERE p.state IN ('running','paused')
"""
_DWELL = "percentile_cont(0.5) WITHIN GROUP (ORDER BY dwell), max(dwell)"
_BY_KIND = sa.text(f"""
    WITH {_CLOCKS}, open AS ({_OPEN}), now AS (
        SELECT kind, count(*) FILTER (WHERE state = 'running') AS running,
               count(*) FILTER (WHERE state = 'paused') AS paused,
               count(*) FILTER (WHERE overdue) AS overdue,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY dwell) AS median, max(dwell) AS longest
        FROM open GROUP BY kind),
    ended AS (SELECT kind, count(*) AS n FROM processes
              WHERE state IN ('completed','stopped') GROUP BY kind)
    SELECT kind, coalesce(running, 0), coalesce(paused, 0), coalesce(n, 0), coalesce(overdue, 0),
           median, longest
    FROM now FULL JOIN ended USING (kind)
""")
_BY_STEP = sa.text(f"""
    WITH {_CLOCKS}
    SELECT step, count(*), count(*) FILTER (WHERE state = 'paused'),
           count(*) FILTER (WHERE overdue), {_DWELL}
    FROM ({_OPEN} AND p.kind = :kind) open GROUP BY step ORDER BY 2 DESC, 1 LIMIT 40
""")
_LATEST = """
    SELECT workflow_id, state, outcome FROM processes WHERE kind = :kind
    ORDER BY recorded_at DESC, workflow_id DESC LIMIT :most
"""
_PASSAGES = sa.text(f"""
    WITH runs AS ({_LATEST}), lines AS (
        SELECT t.workflow_id, t.kind, row_number() OVER run AS n,
               extract(epoch FROM greatest(
                   lead(t.happened_at) OVER run - t.happened_at, interval '0')
               )::double precision AS dwell
        FROM runs JOIN timeline t USING (workflow_id)
        WINDOW run AS (PARTITION BY t.workflow_id ORDER BY t.id))
    SELECT kind, count(DISTINCT workflow_id), {_DWELL}
    FROM lines GROUP BY kind ORDER BY avg(n), kind LIMIT 30
""")
_OUTCOMES = sa.text(f"""
    WITH runs AS ({_LATEST})
    SELECT CASE WHEN state IN ('completed','stopped') THEN outcome ELSE '' END, count(*)
    FROM runs GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20
""")


async def figures_of_kinds(session: AsyncSession) -> dict[ProcessKind, KindFigures]:
    """Every kind, also those of which there are none."""
    rows = {ProcessKind(row[0]): row for row in await session.execute(_BY_KIND)}
    nothing = (0, 0, 0, 0, None, None)
    return {
        kind: KindFigures(kind, *(rows[kind][1:] if kind in rows else nothing))
        for kind in ProcessKind
    }


async def flow_of(session: AsyncSession, kind: ProcessKind) -> Flow:
    latest = {"kind": kind, "most": RUNS}
    steps = await session.execute(_BY_STEP, {"kind": kind})
    passed = await session.execute(_PASSAGES, latest)
    ended = await session.execute(_OUTCOMES, latest)
    return Flow(
        [StepFigures(*row) for row in steps],
        [Passage(*row) for row in passed],
        [(row[0], row[1]) for row in ended],
    )


async def names_of(session: AsyncSession, customer_ids: Iterable[UUID]) -> dict[UUID, str]:
    found = await session.execute(
        sa.select(Customer.id, Customer.name).where(Customer.id.in_(set(customer_ids)))
    )
    return {row[0]: row[1] for row in found}


async def lines_of(session: AsyncSession, workflow_id: str) -> Sequence[TimelineLine]:
    """In the order in which they were written; of very many, the latest."""
    found = await session.scalars(
        sa.select(TimelineLine)
        .where(TimelineLine.workflow_id == workflow_id)
        .order_by(TimelineLine.id.desc())
        .limit(_MOST_LINES)
    )
    return found.all()[::-1]


async def messages_of(session: AsyncSession, workflow_id: str) -> Sequence[Message]:
    """The oldest first."""
    found = await session.scalars(
        sa.select(Message)
        .where(Message.workflow_id == workflow_id)
        .order_by(Message.asked_at, Message.id)
        .limit(_MOST_LINES)
    )
    return found.all()


async def tasks_of(session: AsyncSession, workflow_id: str) -> Sequence[Task]:
    found = await session.scalars(
        sa.select(Task)
        .where(Task.workflow_id == workflow_id)
        .order_by(Task.opened_at, Task.id)
        .limit(_MOST_LINES)
    )
    return found.all()


class Told(NamedTuple):
    """A fact that a process was told. `noted`: it has had its effect."""

    event_id: str
    kind: str
    source: str | None
    occurred_at: datetime
    accepted_at: datetime
    noted: bool


async def facts_told(session: AsyncSession, workflow_id: str, noted: frozenset[str]) -> list[Told]:
    """The facts, by when they came. `noted`: the step keys that the process has left."""
    opens = {"order_placed": "order_placed", "case_opened": "opened"}
    found = await session.execute(
        sa.select(
            *(Event.event_id, Event.kind, Event.body["source"].astext),
            *(Event.occurred_at, Event.accepted_at),
        )
        .where(Event.workflow_id == workflow_id)
        .order_by(Event.accepted_at)
        .limit(_MOST_LINES)
    )
    return [
        Told(
            event_id,
            kind,
            source,
            occurred_at,
            accepted_at,
            noted=bool(noted & {event_id, f"heard/{event_id}", opens.get(kind, "")}),
        )
        for event_id, kind, source, occurred_at, accepted_at in found
    ]
