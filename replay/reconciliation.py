"""Compares what a history says with what the product made of it, and with what customers got."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.verify import CONSEQUENCES, EFFECTS, UNSETTLED, Conservation, Verdict
from domain.delivery import DeliveryState
from domain.promises import PromiseState, end_of_day
from replay.history import HistoricOrder, History
from replay.instance import Instance
from replay.player import DAY, Tally, World

SETTLE_LIMIT = 120.0
_LOOK_EVERY = 1.0
_NAMED = 3  # orders in a sentence

_LOST = (
    "events_without_effect",
    "customers_without_lifecycle",
    "orders_without_process",
    "deliveries_without_follow_up",
    "disappointments_without_case",
    "messages_unsettled",
    "messages_failed",
    "mails_missing",
)
_DUPLICATES = ("effects_twice", "mails_twice")

_OF = "JOIN customers c ON c.id = x.customer_id WHERE c.simulation_id = :simulation"
_ORDERS = f"""
    SELECT x.reference, x.state, x.delivered_late, x.endangered_at, x.late_noticed_at,
           told.at AS told_at, alarm.key IS NOT NULL AS told_late
    FROM orders x
    LEFT JOIN LATERAL (
        SELECT min(m.told_at) AS at FROM messages m
        WHERE m.workflow_id = 'delivery/' || x.id AND m.state IN ('accepted','delivered')
          AND (m.template IN ('order_at_risk','order_late')
               OR (m.template = 'order_delivered' AND m.context->>'late' <> ''))
    ) told ON true
    LEFT JOIN LATERAL (
        SELECT m.key FROM messages m
        WHERE m.workflow_id = 'delivery/' || x.id AND m.template = 'order_late'
          AND m.state IN ('accepted','delivered') LIMIT 1
    ) alarm ON true
    {_OF}
"""
_PROMISES = f"""
    SELECT x.state, count(*) FROM promises x {_OF} AND x.kind = 'date' AND x.source = 'order'
    GROUP BY x.state
"""
_MESSAGES = (
    f"SELECT x.template, x.state, count(*) FROM messages x {_OF} GROUP BY 1, 2 ORDER BY 1, 2"
)
_PROCESSES = f"SELECT x.kind, x.state, count(*) FROM processes x {_OF} GROUP BY 1, 2 ORDER BY 1, 2"
_SURVEYS = f"""
    SELECT count(*) AS asked, count(x.reminded_at) AS reminded,
           count(x.answered_at) AS by_link,
           count(*) FILTER (WHERE x.answered_at IS NULL AND EXISTS (
                SELECT FROM feedback f WHERE f.order_id = x.order_id AND f.survey_id IS NULL
                                         AND f.answered_at >= x.asked_at)) AS by_review
    FROM surveys x {_OF}
"""
_REVIEWS = f"""
    SELECT x.event_id, x.score FROM feedback x {_OF} AND x.survey_id IS NULL
"""
_RECOVERIES = f"""
    SELECT count(*) AS cases, count(*) FILTER (WHERE x.contact_by IS NULL) AS without_deadline,
           coalesce(max(extract(epoch FROM x.recorded_at - e.accepted_at)), 0) AS slowest
    FROM cases x LEFT JOIN events e ON e.event_id = x.event_id {_OF} AND x.kind = 'recovery'
"""
# Machine seconds from an accepted event to the step of its process.
_LAGS = f"""
    SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
        ORDER BY extract(epoch FROM effect.at - x.accepted_at))
    FROM events x
    CROSS JOIN LATERAL (SELECT min(t.recorded_at) AS at FROM {EFFECTS}) effect {_OF}
"""
_CUSTOMERS = "SELECT count(*) FROM customers WHERE simulation_id = :simulation"
_EVENTS = f"SELECT x.event_id FROM events x {_OF}"


class Reconciliation(BaseModel):
    """What `crm.py replay --json` writes."""

    orders: dict[str, dict[str, int]]
    late: dict[str, int]
    overdue: dict[str, int]
    promises: dict[str, int]
    messages: dict[str, dict[str, int]]
    surveys: dict[str, int]
    reviews_1_2: int
    recovery_cases: int
    processes: dict[str, dict[str, int]]
    duplicates: int
    lost: int
    unexplained: int
    disagreements: list[str]
    assumptions: list[str]
    skipped_rows: list[str]
    customers: int
    events: int
    repeated_requests: int
    simulation: str
    elapsed_s: float
    lag_s: dict[str, float]
    processes_lag_s: dict[str, float]
    processes_lag_days: float
    recovery_slowest_s: float

    @property
    def agrees(self) -> bool:
        return not (self.disagreements or self.duplicates or self.lost or self.unexplained)


@dataclass(frozen=True)
class _Product:
    """What the product has, read in one snapshot."""

    orders: Mapping[str, Any]
    promises: Mapping[str, int]
    messages: dict[str, dict[str, int]]
    processes: dict[str, dict[str, int]]
    surveys: Any
    reviews: Mapping[str, int]
    recoveries: Any
    lags: Mapping[str, float]
    customers: int
    events: set[str]


async def settle(
    instance: Instance, world: World, say: Callable[[str], None], limit: float = SETTLE_LIMIT
) -> None:
    """Wait until every event has had its effect and what was queued by then is sent.

    Gives up when nothing has moved for `limit` seconds; the check that follows says what is
    missing. A busy machine that works off what has piled up is waited for.
    """

    async def until_none(queries: Sequence[str], what: str, **parameters: Any) -> None:
        least, moved_at = sys.maxsize, time.monotonic()
        while waiting := await _count(instance, queries, world, **parameters):
            if waiting < least:
                least, moved_at = waiting, time.monotonic()
            if time.monotonic() - moved_at > limit:
                return
            say(f"{waiting:,} {what}")
            await asyncio.sleep(_LOOK_EVERY)

    await until_none([check.sql for check in CONSEQUENCES], "facts are still to have their effect")
    until = datetime.now(UTC)
    queued = f"{UNSETTLED} AND x.queued_at <= :until"
    await until_none([queued], "messages are still to be sent", until=until)


async def check_conservation(instance: Instance, world: World) -> Verdict:
    return await Conservation(
        instance.sessions,
        instance.temporal,
        instance.inbox,
        simulation=world.id,
    ).run()


async def reconcile(
    instance: Instance,
    history: History,
    world: World,
    tally: Tally,
    verdict: Verdict,
    elapsed: float,
) -> Reconciliation:
    """The table of a replay that has settled."""
    product = await _read(instance, world)
    found = _Comparison(history, product)
    found.orders()
    late, overdue = found.late(), found.overdue()
    found.promises()
    found.reviews()
    found.customers()
    found.tally(world, tally)
    found.verdict(verdict)
    unheard = len(tally.accepted - product.events)
    surveys = product.surveys
    return Reconciliation(
        orders={
            "file": _words(history.states),
            "product": _words(Counter(row.state for row in product.orders.values())),
            "file_statuses": dict(sorted(history.statuses.items())),
        },
        late=late,
        overdue=overdue,
        promises=dict(product.promises),
        messages=product.messages,
        surveys={
            "asked": surveys.asked,
            "reminded": surveys.reminded,
            "answered": surveys.by_link + surveys.by_review,
            "answered_by_link": surveys.by_link,
            "answered_by_review": surveys.by_review,
        },
        reviews_1_2=history.disappointments,
        recovery_cases=product.recoveries.cases,
        processes=product.processes,
        duplicates=verdict.count(*_DUPLICATES),
        lost=verdict.count(*_LOST) + unheard,
        unexplained=sum(
            finding.count
            for finding in verdict.findings
            if finding.check not in (*_LOST, *_DUPLICATES)
        ),
        disagreements=found.disagreements,
        assumptions=history.assumptions,
        skipped_rows=[str(row) for row in history.skipped],
        customers=product.customers,
        events=len(product.events),
        repeated_requests=tally.repeated,
        simulation=str(world.id),
        elapsed_s=round(elapsed, 1),
        lag_s={"p50": tally.lag(0.5), "p99": tally.lag(0.99), "max": tally.lag(1.0)},
        processes_lag_s=dict(product.lags),
        processes_lag_days=round(product.lags["max"] * world.clock.speed / DAY, 1),
        recovery_slowest_s=round(float(product.recoveries.slowest), 1),
    )


class _Comparison:
    """Collects every way in which the product and the file differ, as sentences."""

    def __init__(self, history: History, product: _Product) -> None:
        self._history = history
        self._product = product
        self.disagreements: list[str] = []

    def orders(self) -> None:
        files, ours = self._history.orders, self._product.orders
        self._note("{} orders of the file are not known", [one for one in files if one not in ours])
        self._note("{} orders are not in the file", [one for one in ours if one not in files])
        wrong: dict[tuple[str, str], list[str]] = {}
        for reference, order in files.items():
            row = ours.get(reference)
            if row is not None and row.state != order.state:
                wrong.setdefault((order.state, row.state), []).append(reference)
        for (said, found), references in sorted(wrong.items()):
            self._note(f"{{}} orders are {found}; the file says {said}", references)

    def late(self) -> dict[str, int]:
        late = [order for order in self._history.orders.values() if order.late]
        noticed, before, after = [], 0, 0
        for order in late:
            row = self._product.orders.get(order.reference)
            if row is None or not row.delivered_late or row.told_at is None:
                continue
            noticed.append(order.reference)
            in_time = self._told_in_time(order, row.told_at)
            before, after = before + in_time, after + (not in_time)
        missed = {order.reference for order in late} - set(noticed)
        self._note("{} late orders were not noticed, or the customer was not told", sorted(missed))
        on_time = [
            order.reference
            for order in self._history.orders.values()
            if not order.late
            and (row := self._product.orders.get(order.reference))
            and row.delivered_late
        ]
        self._note("{} orders count as delivered late; by the file they were not", on_time)
        alarms = sum(
            order.delivered and not order.late and row.told_late
            for order in self._history.orders.values()
            if (row := self._product.orders.get(order.reference)) is not None
        )
        return {
            "file": len(late),
            "noticed": len(noticed),
            "told_before": before,
            "told_after": after,
            "false_alarms": alarms,
        }

    def overdue(self) -> dict[str, int]:
        overdue = [
            order for order in self._history.orders.values() if self._history.is_overdue(order)
        ]
        missed = []
        for order in overdue:
            row = self._product.orders.get(order.reference)
            noticed = row is not None and (row.endangered_at or row.late_noticed_at)
            if row is None or not noticed or row.told_at is None:
                missed.append(order.reference)
        self._note("{} overdue orders were not noticed, or the customer was not told", missed)
        return {"file": len(overdue), "noticed": len(overdue) - len(missed)}

    def promises(self) -> None:
        """The promised day of each order: kept, broken, released by the end of the order, open."""
        expected: Counter[str] = Counter(
            _fate(order) for order in self._history.orders.values() if order.promised_on is not None
        )
        for state in sorted({*expected, *self._product.promises}):
            said, found = expected[state], self._product.promises.get(state, 0)
            if said != found:
                self.disagreements.append(
                    f"{found} promised days are {state}; by the file it is {said}"
                )

    def reviews(self) -> None:
        """`scores` of the history against the feedback, review by review."""
        ours = self._product.reviews
        missing = [key for key in self._history.scores if key not in ours]
        self._note("{} reviews did not arrive", missing)
        other = [
            key for key, score in self._history.scores.items() if ours.get(key, score) != score
        ]
        self._note("{} reviews have another score than in the file", other)
        bad, cases = self._history.disappointments, self._product.recoveries.cases
        if bad != cases:
            self.disagreements.append(f"{cases} recovery cases for {bad} reviews of 1 or 2")
        if without := self._product.recoveries.without_deadline:
            self.disagreements.append(f"{without} recovery cases have no deadline")

    def customers(self) -> None:
        said, found = len(self._history.customers), self._product.customers
        if said != found:
            self.disagreements.append(f"{found} customers are known; the file has {said}")

    def tally(self, world: World, tally: Tally) -> None:
        self.disagreements += tally.refused
        unheard = tally.accepted - self._product.events
        self._note("{} accepted events are not there", sorted(unheard))
        unknown = self._product.events - {world.event_id(entry) for entry in self._history.entries}
        self._note("{} events are there that nobody sent", sorted(unknown))

    def verdict(self, verdict: Verdict) -> None:
        for finding in verdict.findings:
            self.disagreements.append(f"{finding.finding} ({', '.join(finding.examples)})")

    def _told_in_time(self, order: HistoricOrder, told_at: datetime) -> bool:
        assert order.promised_on is not None
        return told_at < end_of_day(order.promised_on, self._history.zone)

    def _note(self, sentence: str, which: Sequence[str]) -> None:
        if which:
            some = ", ".join(which[:_NAMED]) + (", …" if len(which) > _NAMED else "")
            self.disagreements.append(f"{sentence.format(len(which))} ({some})")


def _fate(order: HistoricOrder) -> PromiseState:
    """What became of the promised day."""
    if order.delivered:
        return PromiseState.BROKEN if order.late else PromiseState.KEPT
    return PromiseState.RELEASED if order.state.final else PromiseState.OPEN


async def _read(instance: Instance, world: World) -> _Product:
    """All of it as of one moment."""
    engine = instance.sessions.kw["bind"]
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        orders = await _rows(connection, _ORDERS, world)
        own = len(world.event_id_prefix)
        return _Product(
            orders={row.reference: row for row in orders},
            promises={state: count for state, count in await _rows(connection, _PROMISES, world)},
            messages=_nested(await _rows(connection, _MESSAGES, world)),
            processes=_nested(await _rows(connection, _PROCESSES, world)),
            surveys=(await _rows(connection, _SURVEYS, world))[0],
            reviews={
                row.event_id[own:]: row.score for row in await _rows(connection, _REVIEWS, world)
            },
            recoveries=(await _rows(connection, _RECOVERIES, world))[0],
            lags=_lags((await _rows(connection, _LAGS, world))[0][0]),
            customers=(await _rows(connection, _CUSTOMERS, world))[0][0],
            events={row.event_id for row in await _rows(connection, _EVENTS, world)},
        )


async def _rows(connection: AsyncConnection, sql: str, world: World) -> Sequence[Any]:
    return (await connection.execute(sa.text(sql), {"simulation": world.id})).all()


async def _count(
    instance: Instance, queries: Sequence[str], world: World, **parameters: Any
) -> int:
    """How many rows the queries find together."""
    total = 0
    async with instance.sessions() as session:
        for sql in queries:
            counting = sa.text(f"SELECT count(*) FROM ({sql}) AS found")
            total += await session.scalar(counting, {"simulation": world.id, **parameters}) or 0
    return total


def _lags(shares: Sequence[Any] | None) -> dict[str, float]:
    """None: no event has had an effect yet."""
    found = shares or (0, 0, 0)
    return {name: round(float(s), 3) for name, s in zip(("p50", "p99", "max"), found, strict=True)}


def _nested(rows: Sequence[Any]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for outer, inner, count in rows:
        nested.setdefault(outer, {})[inner] = count
    return nested


def _words(states: Mapping[DeliveryState, int]) -> dict[str, int]:
    """By state, in the order of a parcel's way."""
    return {state.value: states[state] for state in DeliveryState if states.get(state)}
