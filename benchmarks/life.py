"""`life.*`: whole lives per second and what one costs, beside the bare twin, round by round."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import sqlalchemy as sa
from temporalio.client import Client

import temporal_runtime
from benchmarks.bare_parts import write_script
from benchmarks.cpu import cpu_seconds
from benchmarks.installation import Installation
from benchmarks.lives import LifeDriver, Mark, make_customers, publish_policies
from benchmarks.reports import Progress, Report, listening
from benchmarks.twin import TwinDriver, event_counts, histories_of, script_of
from database.base import Sessions, connect
from database.messages import Message
from domain.messages import MessageState

_SAMPLED = 20  # lives of a round whose histories are counted
_WARM_UP = 10
_TOLERANCE = 0.10  # of the twin's events, each type; tasks of workflows join under load
_BY_TIMING = "WORKFLOW_TASK"


@dataclass(frozen=True)
class Scale:
    lives: int
    rounds: int
    concurrency: int = 50


@dataclass(frozen=True)
class Round:
    per_s: float
    cpu_ms: dict[str, float]  # of server, worker and PostgreSQL, per life
    events: dict[str, float]  # by type, per life
    messages: float = 0.0  # accepted by the mail server, per life

    @property
    def all_cpu_ms(self) -> float:
        return sum(self.cpu_ms.values())


@dataclass(frozen=True)
class LifeFigures:
    ours: Sequence[Round]
    bare: Sequence[Round]
    round_trips: dict[str, list[int]]  # by activity, of each call
    activities_a_step: int  # at most

    def as_json(self) -> dict[str, Any]:
        trips = [count for counts in self.round_trips.values() for count in counts]
        pairs = list(zip(self.ours, self.bare, strict=True))
        return {
            "per_s": round(median(one.per_s for one in self.ours), 2),
            "bare_per_s": round(median(one.per_s for one in self.bare), 2),
            "ratio": round(median(ours.per_s / bare.per_s for ours, bare in pairs), 3),
            # Steadier than the ratio of the rates where other programs run.
            "cpu_ratio": round(
                median(bare.all_cpu_ms / ours.all_cpu_ms for ours, bare in pairs), 3
            ),
            "cpu_ms": round(median(one.all_cpu_ms for one in self.ours), 1),
            "bare_cpu_ms": round(median(one.all_cpu_ms for one in self.bare), 1),
            "cpu_ms_by": _parts(self.ours),
            "bare_cpu_ms_by": _parts(self.bare),
            "events": round(median(sum(one.events.values()) for one in self.ours), 1),
            "bare_events": round(median(sum(one.events.values()) for one in self.bare), 1),
            "messages": round(median(one.messages for one in self.ours), 2),
            "round_trips": round(mean(trips), 2) if trips else None,
            "activities_a_step": self.activities_a_step,
            "steps": sum(len(counts) for counts in self.round_trips.values()),
            "round_trips_by": {
                name: round(mean(counts), 2) for name, counts in sorted(self.round_trips.items())
            },
            "rounds": [round(one.per_s, 2) for one in self.ours],
            "bare_rounds": [round(one.per_s, 2) for one in self.bare],
        }


def _parts(rounds: Sequence[Round]) -> dict[str, float]:
    return {name: round(median(one.cpu_ms[name] for one in rounds), 1) for name in rounds[0].cpu_ms}


class LifeBench:
    """On one installation; `measure` or `profile`."""

    def __init__(self, installation: Installation, say: Callable[[str], None]) -> None:
        self._installation = installation
        self._say = say
        self._client: Client
        self._sessions: Sessions
        self._progress: Progress
        self._marks: list[Mark] = []

    async def measure(self, scale: Scale) -> LifeFigures:
        async with listening(self._installation.reports) as self._progress:
            await self._prepare()
            trips = await self._record_one()
            activities = self._progress.activities_a_step
            ours, bare = [], []
            for number in range(1, scale.rounds + 1):
                ours.append(await self._round("ours", scale))
                bare.append(await self._round("bare", scale))
                self._say(
                    f"round {number}: ours {ours[-1].per_s:.2f}/s, {ours[-1].all_cpu_ms:.0f} ms;"
                    f" bare {bare[-1].per_s:.2f}/s, {bare[-1].all_cpu_ms:.0f} ms"
                )
            await self._sessions.kw["bind"].dispose()
        figures = LifeFigures(ours, bare, trips, activities)
        self._compare_events(figures)
        return figures

    async def profile(self, scale: Scale, path: Path) -> int:
        """One round of ours with the worker profiled into `path`; how many lives it lived."""
        async with listening(self._installation.reports) as self._progress:
            await self._prepare()
            await self._round("ours", scale, "--profile", str(path))
            await self._sessions.kw["bind"].dispose()
        return scale.lives + _WARM_UP

    async def _prepare(self) -> None:
        self._client = await temporal_runtime.connect(self._installation.temporal_address)
        self._sessions = connect(self._installation.database_url)
        await publish_policies(self._sessions)

    async def _record_one(self) -> dict[str, list[int]]:
        """Live some lives one after another: the last is what the twin is made of."""
        with self._installation.worker("ours", "--count"):
            customers, clock = await make_customers(self._sessions, _WARM_UP)
            driver = LifeDriver(self._client, self._sessions, self._progress, clock)
            for customer in customers:
                self._marks = await driver.live(customer)
            trips: dict[str, list[int]] = defaultdict(list)
            for customer in customers[1:]:
                for report in self._progress.of(str(customer)):
                    trips[report.activity].append(report.round_trips)
            reports = self._progress.of(str(customers[-1]))
            script = script_of(await histories_of(self._client, reports), reports)
            write_script(self._installation.script, script)
        return trips

    async def _round(self, side: str, scale: Scale, *options: str) -> Round:
        self._progress.forget()
        with self._installation.worker(side, *options) as worker:
            live, ids = await self._cast(side, scale.lives + _WARM_UP)
            warm, measured = ids[:_WARM_UP], ids[_WARM_UP:]
            await live_all(live, warm, 5)
            await until_delivered(self._sessions)
            accepted = await self._accepted()
            before = self._cpu(worker)
            begun = time.perf_counter()
            await live_all(live, measured, scale.concurrency)
            await until_delivered(self._sessions)
            lasted = time.perf_counter() - begun
            after = self._cpu(worker)
            sampled = [self._progress.of(str(id_)) for id_ in measured[-_SAMPLED:]]
            counts = await self._events(sampled)
            messages = await self._accepted() - accepted
        return Round(
            per_s=len(measured) / lasted,
            cpu_ms={name: 1000 * (after[name] - before[name]) / len(measured) for name in before},
            events={name: count / len(sampled) for name, count in counts.items()},
            messages=messages / len(measured),
        )

    async def _cast(self, side: str, count: int) -> tuple[Callable[[Any], Awaitable[Any]], Any]:
        customers, clock = await make_customers(self._sessions, count)
        if side == "bare":
            return TwinDriver(self._client, self._progress, self._marks).live, customers
        driver = LifeDriver(self._client, self._sessions, self._progress, clock)
        return driver.live, customers

    def _cpu(self, worker: int) -> dict[str, float]:
        return {
            "server": cpu_seconds(self._installation.temporal_pid),
            "worker": cpu_seconds(worker),
            "postgres": cpu_seconds(self._installation.postgres_pid, with_children=True),
        }

    async def _events(self, sampled: Sequence[Sequence[Report]]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for reports in sampled:
            counts.update(event_counts(await histories_of(self._client, reports)))
        return counts

    async def _accepted(self) -> int:
        """How many messages were handed over so far; raises when one was not.

        A welcome that is overtaken by its customer's order is cancelled, and rightly so.
        """
        async with self._sessions() as session:
            found = await session.execute(
                sa.select(Message.state, sa.func.count()).group_by(Message.state)
            )
            counts = {state: count for state, count in found}
        lost = set(counts) - {MessageState.ACCEPTED, MessageState.CANCELLED}
        if lost:
            raise RuntimeError(f"messages that were not accepted: {counts}")
        return counts.get(MessageState.ACCEPTED, 0)

    def _compare_events(self, figures: LifeFigures) -> None:
        """Print both sides' events; raises when the twin is no twin."""
        ours, bare = _average(figures.ours), _average(figures.bare)
        self._say(f"\n{'events per life':<44} {'ours':>7} {'bare':>7}")
        for name in sorted(ours | bare):
            self._say(f"{name.lower():<44} {ours.get(name, 0):7.2f} {bare.get(name, 0):7.2f}")
        total, twin = sum(ours.values()), sum(bare.values())
        self._say(f"{'all':<44} {total:7.2f} {twin:7.2f}\n")
        exact = {name for name in ours | bare if not name.startswith(_BY_TIMING)}
        apart = {
            name: (ours.get(name, 0.0), bare.get(name, 0.0))
            for name in exact
            if abs(ours.get(name, 0.0) - bare.get(name, 0.0)) > _TOLERANCE * ours.get(name, 0.0)
        }
        if apart or abs(total - twin) > _TOLERANCE * total:
            raise RuntimeError(f"the twin lives another life: {apart or (total, twin)}")


def _average(rounds: Sequence[Round]) -> dict[str, float]:
    names = {name for one in rounds for name in one.events}
    return {name: mean(one.events.get(name, 0.0) for one in rounds) for name in names}


async def until_delivered(sessions: Sessions) -> None:
    """Until the mail server has every message that a step asked for."""
    waiting = sa.select(sa.func.count()).where(
        Message.state.in_([state for state in MessageState if not state.settled])
    )
    async with asyncio.timeout(120):
        while True:
            async with sessions() as session:
                if not await session.scalar(waiting):
                    return
            await asyncio.sleep(0.05)


async def live_all(
    live: Callable[[Any], Awaitable[Any]], ids: Sequence[Any], concurrency: int
) -> None:
    """Live all of them, so many at a time."""
    slots = asyncio.Semaphore(concurrency)

    async def one(id_: Any) -> None:
        async with slots:
            await live(id_)

    async with asyncio.TaskGroup() as group:
        for id_ in ids:
            group.create_task(one(id_))
