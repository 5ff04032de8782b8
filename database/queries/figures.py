"""What the figures show: the last weeks of one world, real or simulated, each a bounded range."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import CLOCK_COLUMNS, Simulation, clock_in
from domain.clock import REAL_TIME
from domain.policies import SurveyScale
from domain.processes import Stage

WEEKS = 13  # a quarter of a year


class World(NamedTuple):
    """Whose figures: real customers, or those of a simulation, which has a time of its own."""

    simulation_id: UUID | None
    name: str
    until: datetime  # business time
    machine_until: datetime  # the same moment
    speed: float

    @property
    def since(self) -> datetime:
        """The Monday, in UTC, with which the first of the weeks begins."""
        first = self.until - timedelta(weeks=WEEKS - 1, days=self.until.weekday())
        return first.replace(hour=0, minute=0, second=0, microsecond=0)

    @property
    def machine_since(self) -> datetime:
        return self.machine_until - (self.until - self.since) / self.speed


class Stay(NamedTuple):
    """A stage: who stands in it, and the processes that led through it in these weeks."""

    stage: str
    here: int
    days_here: float | None  # median, so far, of those who stand in it
    began: int | None  # None: no process belongs to the stage
    ended: int | None
    days: float | None  # median of the processes that ended


class Week(NamedTuple):
    """Orders by the week of the day first promised."""

    monday: date
    kept: int
    late: int  # delivered on a later day
    open: int  # neither here nor given up


class Funnel(NamedTuple):
    """Messages asked for in these weeks. Delivered, opened and answered: where that is known."""

    asked: int
    sent: int
    delivered: int
    opened: int
    answered: int
    waiting: int
    held: int
    suppressed: int
    cancelled: int
    failed: int
    unknown: int


class Scores(NamedTuple):
    scale: SurveyScale
    counts: dict[int, int]  # by score


class Figures(NamedTuple):
    world: World
    stays: Sequence[Stay]
    weeks: Sequence[Week]
    funnel: Funnel
    scores: Sequence[Scores]
    surveys_asked: int
    surveys_answered: int


_GOES_ON_FOR = timedelta(weeks=5)  # what began with the last order
_NEWEST = sa.text("""
    SELECT o.placed_at FROM orders o JOIN customers c ON c.id = o.customer_id
    WHERE c.simulation_id = CAST(:simulation AS uuid) ORDER BY o.placed_at DESC LIMIT 1
""")


async def world_of(
    session: AsyncSession, simulation_id: UUID | None, machine_now: datetime
) -> World | None:
    """None when there is no such simulation.

    The clock of a simulation runs on when its play is over: its weeks end with its last orders.
    """
    if simulation_id is None:
        return World(None, "real customers", REAL_TIME.business(machine_now), machine_now, 1.0)
    found = await session.execute(
        sa.select(Simulation.name, *CLOCK_COLUMNS).where(Simulation.id == simulation_id)
    )
    row = found.one_or_none()
    if row is None:
        return None
    clock = clock_in(row)
    newest = await session.scalar(_NEWEST, {"simulation": simulation_id})
    until = clock.business(machine_now)
    if newest is not None:
        until = min(until, newest + _GOES_ON_FOR)
    return World(simulation_id, row.name, until, clock.machine(until), row.speed)


async def known_worlds(session: AsyncSession) -> tuple[bool, Sequence[Any]]:
    """Whether there are real customers, and the latest simulations."""
    real = await session.scalar(
        sa.text("SELECT EXISTS (SELECT FROM customers WHERE simulation_id IS NULL)")
    )
    simulations = await session.execute(
        sa.select(Simulation.id, Simulation.name).order_by(Simulation.id.desc()).limit(5)
    )
    return bool(real), simulations.all()


_MINE = "c.simulation_id IS NOT DISTINCT FROM CAST(:simulation AS uuid)"

_STAGES = sa.text(f"""
    SELECT l.stage, count(*) AS here,
           extract(epoch FROM percentile_disc(0.5) WITHIN GROUP
               (ORDER BY greatest(:until - l.stage_since, interval '0'))) / 86400 AS days_here
    FROM lifecycles l JOIN customers c ON c.id = l.customer_id
    WHERE {_MINE} GROUP BY l.stage
""")
_PASSAGES = sa.text(f"""
    SELECT p.kind AS stage, count(*) FILTER (WHERE p.started_at >= :since) AS began,
           count(p.ended_at) AS ended,
           extract(epoch FROM percentile_disc(0.5) WITHIN GROUP
               (ORDER BY p.ended_at - p.started_at)
               FILTER (WHERE p.ended_at IS NOT NULL)) / 86400 AS days
    FROM processes p JOIN customers c ON c.id = p.customer_id
    WHERE p.recorded_at >= :machine_since AND p.kind <> 'lifecycle' AND {_MINE}
    GROUP BY p.kind
""")
_WEEKS = sa.text(f"""
    SELECT date_trunc('week', o.first_promised_on::timestamp)::date AS monday,
           count(*) FILTER (WHERE o.delivered_late IS FALSE) AS kept,
           count(*) FILTER (WHERE o.delivered_late) AS late,
           count(*) FILTER (WHERE o.delivered_at IS NULL AND o.ended_at IS NULL) AS open
    FROM orders o JOIN customers c ON c.id = o.customer_id
    WHERE o.placed_at >= :placed_since AND o.placed_at <= :until
      AND o.first_promised_on >= :first AND o.first_promised_on <= :last AND {_MINE}
    GROUP BY 1
""")
_MESSAGES = sa.text(f"""
    WITH m AS (
        SELECT m.id, m.state, m.accepted_at FROM messages m
        JOIN customers c ON c.id = m.customer_id
        WHERE m.id >= CAST(:oldest AS uuid) AND {_MINE})
    SELECT count(*) AS asked,
           count(m.accepted_at) AS sent,
           count(*) FILTER (WHERE m.state IN ('delivered','complained')) AS delivered,
           (SELECT count(DISTINCT r.message_id) FROM message_reactions r
             JOIN m ON m.id = r.message_id) AS opened,
           (SELECT count(DISTINCT a.answers) FROM received_mails a JOIN m ON m.id = a.answers
             WHERE a.kind = 'reply') AS answered,
           count(*) FILTER (WHERE m.state IN ('queued','sending')) AS waiting,
           count(*) FILTER (WHERE m.state = 'held') AS held,
           count(*) FILTER (WHERE m.state = 'suppressed') AS suppressed,
           count(*) FILTER (WHERE m.state = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE m.state IN ('failed','bounced')) AS failed,
           count(*) FILTER (WHERE m.state = 'unknown') AS unknown
    FROM m
""")
_SCORES = sa.text(f"""
    SELECT f.scale, f.score, count(*) AS n
    FROM feedback f JOIN customers c ON c.id = f.customer_id
    WHERE f.answered_at >= :since AND f.answered_at <= :until AND {_MINE}
    GROUP BY 1, 2
""")
_SURVEYS = sa.text(f"""
    SELECT count(*) AS asked, count(s.answered_at) AS answered
    FROM surveys s JOIN customers c ON c.id = s.customer_id
    WHERE s.asked_at >= :since AND s.asked_at <= :until AND {_MINE}
""")
_LONGEST_PROMISE = timedelta(weeks=26)  # an order is placed at most so long before its day


async def read_figures(session: AsyncSession, world: World) -> Figures:
    mine = {"simulation": world.simulation_id}
    weeks = {**mine, "since": world.since, "until": world.until}
    asked, answered = (await session.execute(_SURVEYS, weeks)).one()
    return Figures(
        world=world,
        stays=await _stays(session, world),
        weeks=await _weeks(session, world),
        funnel=await _funnel(session, world),
        scores=await _scores(session, weeks),
        surveys_asked=asked,
        surveys_answered=answered,
    )


async def _stays(session: AsyncSession, world: World) -> list[Stay]:
    mine = {"simulation": world.simulation_id, "until": world.until}
    here = {row.stage: row for row in await session.execute(_STAGES, mine)}
    range_ = {
        "simulation": world.simulation_id,
        "since": world.since,
        "machine_since": world.machine_since,
    }
    through = {row.stage: row for row in await session.execute(_PASSAGES, range_)}
    stays = []
    for stage in Stage:
        stands, passage = here.get(stage), through.get(stage)
        stays.append(
            Stay(
                stage,
                stands.here if stands else 0,
                _float(stands.days_here) if stands else None,
                passage.began if passage else None,
                passage.ended if passage else None,
                _float(passage.days) if passage else None,
            )
        )
    return stays


async def _weeks(session: AsyncSession, world: World) -> list[Week]:
    first = world.since.date()
    range_ = {
        "simulation": world.simulation_id,
        "placed_since": world.since - _LONGEST_PROMISE,
        "until": world.until,
        "first": first,
        "last": first + timedelta(weeks=WEEKS, days=-1),
    }
    found = {row.monday: row for row in await session.execute(_WEEKS, range_)}
    weeks = []
    for number in range(WEEKS):
        monday = first + timedelta(weeks=number)
        row = found.get(monday)
        weeks.append(Week(monday, row.kept, row.late, row.open) if row else Week(monday, 0, 0, 0))
    return weeks


async def _funnel(session: AsyncSession, world: World) -> Funnel:
    range_ = {"simulation": world.simulation_id, "oldest": _first_id(world.machine_since)}
    return Funnel(*(await session.execute(_MESSAGES, range_)).one())


async def _scores(session: AsyncSession, range_: dict[str, Any]) -> list[Scores]:
    counts: dict[SurveyScale, dict[int, int]] = {}
    for row in await session.execute(_SCORES, range_):
        counts.setdefault(SurveyScale(row.scale), {})[row.score] = row.n
    return [Scores(scale, counts[scale]) for scale in SurveyScale if scale in counts]


def _first_id(moment: datetime) -> str:
    """The smallest uuidv7 of a moment (RFC 9562 §5.7): ids are in the order of their time."""
    return str(UUID(int=max(0, int(moment.timestamp() * 1000)) << 80))


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
