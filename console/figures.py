"""The figures: pictures of the last weeks, each with the numbers behind it."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.deps import Resources
from api.errors import not_found
from console.charts import Bars, Columns, Value, bars, columns
from console.desk import AtDesk, Desk
from console.rendering import words
from console.routes import ConsoleRoute
from database.queries.figures import (
    WEEKS,
    Figures,
    Funnel,
    Scores,
    Stay,
    Week,
    known_worlds,
    read_figures,
    world_of,
)
from domain.figures import Share, share_of
from domain.follow_up import SCORES, Verdict, verdict

_log = logging.getLogger(__name__)
router = APIRouter(route_class=ConsoleRoute)

_GOOD_FOR = 60.0  # seconds that counted figures are shown without counting again
_TOO_OLD = 600.0  # seconds
_KEPT_AT_MOST = 8  # worlds
_FATES = {
    **{"waiting": "quiet", "cancelled": "quiet", "failed": "bad"},
    **{"held": "warn", "suppressed": "warn", "unknown": "warn"},
}
_TONES = {Verdict.PROMOTER: "good", Verdict.PASSIVE: "quiet", Verdict.DETRACTOR: "bad"}


@dataclass
class _Counted:
    """Figures by world, with the moment (of the monotonic clock) at which they were counted."""

    by_world: dict[UUID | None, tuple[float, Figures]] = field(default_factory=dict)
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    anew: asyncio.Task[object] | None = None


@router.get("/figures")
async def show_figures(desk: AtDesk, simulation_id: UUID | None = None) -> Response:
    async with desk.database() as session:
        has_real, simulations = await known_worlds(session)
    if simulation_id is None and not has_real and simulations:
        simulation_id = simulations[0].id
    counted_at, figures = await _figures(desk, simulation_id)
    return desk.page(
        "figures/page.html",
        figures=figures,
        weeks=WEEKS,
        age=round(time.monotonic() - counted_at),
        has_real=has_real,
        simulations=simulations,
        chosen=simulation_id,
        stages=stage_bars(figures.stays),
        passages=passage_bars(figures.stays),
        promises=promise_columns(figures.weeks),
        messages=message_bars(figures.funnel),
        scores=[(one, score_bars(one), shares_of(one)) for one in figures.scores],
        response=share_of(figures.surveys_answered, figures.surveys_asked),
    )


async def _figures(desk: Desk, simulation_id: UUID | None) -> tuple[float, Figures]:
    """The figures and when they were counted. What is older than a minute is counted anew, and
    shown once more meanwhile; what is older than ten is waited for.
    """
    counted = _counted(desk.request)
    known = counted.by_world.get(simulation_id)
    age = time.monotonic() - known[0] if known else float("inf")
    if known is None or age >= _TOO_OLD:
        return await _count_once(desk.held, counted, simulation_id)
    if age >= _GOOD_FOR and (counted.anew is None or counted.anew.done()):
        counted.anew = asyncio.create_task(_count_anew(desk.held, counted, simulation_id))
    return known


async def _count_anew(held: Resources, counted: _Counted, simulation_id: UUID | None) -> None:
    """Nobody waits for it: what goes wrong is in the log, and the next request tries again."""
    try:
        await _count_once(held, counted, simulation_id)
    except (DBAPIError, PoolTimeout) as error:
        _log.warning("the figures were not counted: %s", type(error).__name__)


async def _count_once(
    held: Resources, counted: _Counted, simulation_id: UUID | None
) -> tuple[float, Figures]:
    """Count, unless somebody has done it while this waited for its turn."""
    async with counted.counting:
        known = counted.by_world.get(simulation_id)
        if known is not None and time.monotonic() - known[0] < _GOOD_FOR:
            return known
        known = (time.monotonic(), await _count(held, simulation_id))
        counted.by_world.pop(simulation_id, None)
        counted.by_world[simulation_id] = known
        while len(counted.by_world) > _KEPT_AT_MOST:
            counted.by_world.pop(next(iter(counted.by_world)))
        return known


def _counted(request: Request) -> _Counted:
    state = request.app.state
    if not hasattr(state, "counted_figures"):
        state.counted_figures = _Counted()
    counted: _Counted = state.counted_figures
    return counted


async def _count(held: Resources, simulation_id: UUID | None) -> Figures:
    async with held.sessions() as session:
        world = await world_of(session, simulation_id, datetime.now(UTC))
        if world is None:
            raise not_found("simulation", simulation_id)
        return await read_figures(session, world)


def stage_bars(stays: Sequence[Stay]) -> Bars:
    """Who stands where, and how long the median of them has."""
    return bars(
        [
            Value(
                words(one.stage),
                one.here,
                str(one.here) if one.days_here is None else f"{one.here}, {_days(one.days_here)}",
            )
            for one in stays
        ]
    )


def passage_bars(stays: Sequence[Stay]) -> Bars:
    """How long the processes of a stage took that ended in these weeks."""
    return bars(
        [
            Value(words(one.stage), one.days, f"{_days(one.days)} ({one.ended})", "quiet")
            for one in stays
            if one.days is not None
        ]
    )


def promise_columns(weeks: Sequence[Week]) -> Columns:
    return columns(
        [
            (
                f"{week.monday.day} {week.monday:%b}",
                [
                    ("good", week.kept, f"week of {week.monday}: {week.kept} kept"),
                    ("bad", week.late, f"week of {week.monday}: {week.late} late"),
                    ("quiet", week.open, f"week of {week.monday}: {week.open} still open"),
                ],
            )
            for week in weeks
        ]
    )


def message_bars(funnel: Funnel) -> Bars:
    return bars(
        [
            Value(words(name), count, _with_part(count, funnel.asked), _FATES.get(name, "busy"))
            for name, count in funnel._asdict().items()
        ]
    )


def score_bars(scores: Scores) -> Bars:
    """Each score of the scale with how often it was given."""
    total = sum(scores.counts.values())
    return bars(
        [
            Value(
                str(score),
                scores.counts.get(score, 0),
                _with_part(scores.counts.get(score, 0), total),
                _TONES[verdict(scores.scale, score)],
            )
            for score in reversed(SCORES[scores.scale])
        ]
    )


def shares_of(scores: Scores) -> tuple[list[tuple[Verdict, Share]], Bars]:
    """What part promotes, is passive, is disappointed; each with its 95 % interval."""
    total = sum(scores.counts.values())
    found = []
    for judged in Verdict:
        count = sum(
            n for score, n in scores.counts.items() if verdict(scores.scale, score) is judged
        )
        share = share_of(count, total)
        if share is not None:
            found.append((judged, share))
    drawn = bars(
        [
            Value(
                words(judged),
                share.share,
                f"{share.share:.0%} ({share.low:.0%} to {share.high:.0%})",
                _TONES[judged],
                (share.low, share.high),
            )
            for judged, share in found
        ],
        full=1.0,
    )
    return found, drawn


def _days(days: float) -> str:
    return f"{days:.1f} days" if days < 10 else f"{days:.0f} days"


def _with_part(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})" if total else str(count)
