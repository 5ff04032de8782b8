"""Server-sent events: says that something a page shows has changed; the page fetches what."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.dialects.postgresql import aggregate_order_by

from api.deps import signed_in_by
from console.desk import AtDesk
from console.routes import ConsoleRoute
from database.base import Sessions
from database.messages import Message
from database.processes import ProcessRow
from database.support import StaffText
from database.tasks import Task
from database.timeline import TimelineLine
from domain.processes import support_workflow_id

router = APIRouter(route_class=ConsoleRoute)

# What a screen may name, and the tables it lives on.
TOPICS: dict[str, tuple[str, ...]] = {
    "tasks": ("tasks",),
    "cases": ("cases", "timeline"),
    "customers": ("customers", "lifecycles"),
    "orders": ("orders",),
    "processes": ("processes",),
    "messages": ("messages",),
    "feedback": ("feedback", "surveys"),
    "home": ("tasks", "cases", "processes"),
}
_CUSTOMER, _CASE = "customer:", "case:"
_EVERY = 1.0  # seconds between looks
_OPEN_FOR = 600  # looks; then the browser comes again, and the session is asked for anew
_PING_EVERY = 15
_RETRY = 3000  # milliseconds
# A page that nobody looks at follows nothing, so these are windows side by side.
MOST_STREAMS = 8


class Streams:
    """The open streams of each session in this process, the oldest first."""

    def __init__(self) -> None:
        self._open: dict[UUID, list[asyncio.Event]] = {}

    @contextlib.contextmanager
    def one_more(self, session_id: UUID) -> Iterator[asyncio.Event]:
        """Set when this one has to end, since another has begun that is one too many."""
        streams = self._open.setdefault(session_id, [])
        ending = asyncio.Event()
        streams.append(ending)
        if len(streams) > MOST_STREAMS:
            streams.pop(0).set()
        try:
            yield ending
        finally:
            if ending in streams:
                streams.remove(ending)
            if self._open.get(session_id) == []:
                del self._open[session_id]


@router.get("/live", response_class=EventSourceResponse)
async def follow_changes(
    request: Request, desk: AtDesk, topics: Annotated[str, Query(max_length=400)]
) -> AsyncIterator[ServerSentEvent]:
    """`changed` whenever one of the topics did, at most once a second; `crowded` when the session
    follows in too many windows: this one shall not come again until somebody looks at it.
    """
    wanted = topics.split(",")
    streams: Streams = request.app.state.streams
    with streams.one_more(desk.viewer.session_id) as ending:
        known = await _state_of(desk.held.sessions, wanted)
        yield ServerSentEvent(comment="following", retry=_RETRY)
        for look in range(1, _OPEN_FOR):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _EVERY)
            if ending.is_set():
                yield ServerSentEvent(event="crowded", data="")
                return
            if look % 60 == 0 and await signed_in_by(request) is None:
                return
            now = await _state_of(desk.held.sessions, wanted)
            if now != known:
                known = now
                yield ServerSentEvent(event="changed", data="", id=str(look))
            elif look % _PING_EVERY == 0:
                yield ServerSentEvent(comment="still here")


async def _state_of(sessions: Sessions, topics: Sequence[str]) -> tuple[object, ...]:
    """Differs when one of the topics has changed. No session is held between two looks."""
    tables = sorted({table for topic in topics for table in TOPICS.get(topic, ())})
    found: list[object] = []
    async with sessions.begin() as session:
        if tables:
            # PostgreSQL counts what is written to each table: no table is looked at.
            counted = await session.execute(_WRITTEN, {"tables": tables})
            found.extend(tuple(row) for row in counted)
        for topic in topics:
            if topic.startswith(_CUSTOMER) and (customer_id := _uuid(topic)) is not None:
                found.append(tuple((await session.execute(_of_customer(customer_id))).one()))
            if topic.startswith(_CASE) and (case_id := _uuid(topic)) is not None:
                found.append(tuple((await session.execute(_of_case(case_id))).one()))
    return tuple(found)


_WRITTEN = sa.text(
    "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"
    " WHERE relname = ANY(:tables) ORDER BY relname"
)


def _of_customer(customer_id: UUID) -> sa.Select[*tuple[object, ...]]:
    line = sa.select(sa.func.max(TimelineLine.id)).where(TimelineLine.customer_id == customer_id)
    process = sa.select(sa.func.max(ProcessRow.updated_at)).where(
        ProcessRow.customer_id == customer_id
    )
    tasks = sa.select(sa.func.sum(Task.version)).where(Task.customer_id == customer_id)
    told = sa.select(sa.func.max(Message.accepted_at)).where(Message.customer_id == customer_id)
    looks = (line, process, tasks, told)
    return sa.select(*(look.scalar_subquery() for look in looks))


def _of_case(case_id: UUID) -> sa.Select[*tuple[object, ...]]:
    """Its steps, what was written to the customer and how far that came, and colleagues' notes."""
    workflow_id = support_workflow_id(case_id)
    line = sa.select(sa.func.max(TimelineLine.id)).where(TimelineLine.workflow_id == workflow_id)
    states = aggregate_order_by(sa.cast(Message.state, sa.Text), Message.id)
    messages = sa.select(sa.func.array_agg(states)).where(Message.workflow_id == workflow_id)
    texts = sa.select(sa.func.count()).where(StaffText.case_id == case_id)
    return sa.select(line.scalar_subquery(), messages.scalar_subquery(), texts.scalar_subquery())


def _uuid(topic: str) -> UUID | None:
    try:
        return UUID(topic.partition(":")[2])
    except ValueError:
        return None
