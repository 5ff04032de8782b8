"""Is it alive, is it ready, what does it measure. Public: no key."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from temporalio.service import RPCError

from api.deps import Held, Resources
from api.errors import Code, FieldError, Problem
from api.observed import Figures
from database.queries import health
from database.queries.operations import message_doubts

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: str = "ok"


@router.get("/livez")
async def show_liveness() -> Alive:
    """The program runs; says nothing about the servers behind it."""
    return Alive()


@router.get("/readyz")
async def show_readiness(held: Held) -> Alive:
    """The database has the newest schema and Temporal answers; else 503 says what is missing."""
    missing = [*await _database(held), *await _engine(held)]
    if missing:
        names = ", ".join(f"{lack.pointer}: {lack.detail}" for lack in missing)
        raise Problem(Code.NOT_READY, names, errors=missing, headers={"Retry-After": "2"})
    return Alive()


async def _database(held: Resources) -> list[FieldError]:
    try:
        async with held.sessions.begin() as session:
            revision = await health.schema_revision(session)
    except DBAPIError:
        return [FieldError(pointer="postgresql", code="unreachable", detail="does not answer")]
    if revision != held.schema_head:
        detail = (
            f"at {revision or 'nothing'}, not at {held.schema_head}: run `alembic upgrade head`"
        )
        return [FieldError(pointer="migrations", code="behind", detail=detail)]
    return []


async def _engine(held: Resources) -> list[FieldError]:
    try:
        async with held.engine.reached() as client:
            await client.service_client.check_health()
    except (Problem, RPCError):
        return [FieldError(pointer="temporal", code="unreachable", detail="does not answer")]
    return []


@router.get("/metrics", response_class=Response)
async def show_metrics(request: Request, held: Held) -> Response:
    """Prometheus: requests and events of this API process, and what waits in the database."""
    figures: Figures = request.app.state.figures
    body = generate_latest(figures.registry) + generate_latest(await _stored(held))
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _stored(held: Resources) -> CollectorRegistry:
    registry = CollectorRegistry()
    up = Gauge("perennial_database_up", "1: PostgreSQL answers", registry=registry)
    processes = Gauge("perennial_processes", "Processes", ["kind", "state"], registry=registry)
    messages = Gauge("perennial_messages", "Messages", ["state"], registry=registry)
    doubts = Gauge(
        "perennial_message_doubts",
        "Messages of unknown outcome, and what came of those that were: settled by evidence or by"
        " class, perhaps sent twice",
        ["doubt"],
        registry=registry,
    )
    age = Gauge("perennial_outbox_age_seconds", "Age of the oldest message due", registry=registry)
    tasks = Gauge("perennial_open_tasks", "Tasks for people", ["role"], registry=registry)
    try:
        async with held.sessions.begin() as session:
            for kind, state, count in await health.processes_by_state(session):
                processes.labels(kind, state).set(count)
            for state, count in await health.messages_by_state(session):
                messages.labels(state).set(count)
            for doubt, count in (await message_doubts(session))._asdict().items():
                doubts.labels(doubt).set(count)
            age.set(await health.outbox_age(session))
            for role, count in await health.open_tasks(session):
                tasks.labels(role).set(count)
        up.set(1)
    except DBAPIError:
        up.set(0)
    return registry
