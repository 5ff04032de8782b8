"""The figures: pictures of the last weeks, each with the numbers behind it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from api.deps import Resources
from api.errors import not_found
from console.charts import Bars, Columns, Value, bars, columns
from console.counted import counted
from console.desk import AtDesk
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

router = APIRouter(route_class=ConsoleRoute)

_FATES = {
    **{"waiting": "quiet", "cancelled": "quiet", "failed": "bad"},
    **{"held": "warn", "suppressed": "warn", "unknown": "warn"},
}
_TONES = {Verdict.PROMOTER: "good", Verdict.PASSIVE: "quiet", Verdict.DETRACTOR: "bad"}


@router.get("/figures")
async def show_figures(desk: AtDesk, simulation_id: UUID | None = None) -> Response:
    async with desk.database() as session:
        has_real, simulations = await known_worlds(session)
    if simulation_id is None and not has_real and simulations:
        simulation_id = simulations[0].id
    found = await counted(
        desk.request.app,
        ("figures", simulation_id),
        lambda: _count(desk.held, simulation_id),
    )
    figures = found.value
    return desk.page(
        "figures/page.html",
        figures=figures,
        weeks=WEEKS,
        age=found.age,
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


async def _count(held: Resources, simulation_id: UUID | None) -> Figures:
    async with held.sessions.begin() as session:
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
