"""The bare twin lives the life of the product, and what is counted is what happened."""

import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from benchmarks.bare_parts import write_script
from benchmarks.lives import LifeDriver, make_customers, publish_policies
from benchmarks.reports import Progress, ReportingInterceptor, listening
from benchmarks.statements import StatementCounter
from benchmarks.twin import TwinDriver, event_counts, histories_of, script_of
from benchmarks.workers import bare_worker
from database.base import Sessions
from worker import lifecycle_worker

pytestmark = pytest.mark.usefixtures("only_my_processes")


@pytest.fixture
def directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="bench-"))  # short: a socket's path is limited


@pytest.fixture
async def progress(directory: Path) -> AsyncGenerator[Progress]:
    async with listening(directory / "s") as progress:
        yield progress


async def test_the_twin_of_a_life_has_the_same_history(
    temporal: WorkflowEnvironment, sessions: Sessions, progress: Progress, directory: Path
) -> None:
    options = temporal.client.config()
    options["interceptors"] = [ReportingInterceptor(str(directory / "s"), StatementCounter())]
    client = Client(**options)
    await publish_policies(sessions)
    customers, clock = await make_customers(sessions, 1)
    async with lifecycle_worker(client, sessions):
        marks = await LifeDriver(client, sessions, progress, clock).live(customers[0])
        reports = progress.of(str(customers[0]))
        ours = await histories_of(client, reports)
    write_script(directory / "script.json", script_of(ours, reports))
    twin = uuid4()
    async with bare_worker(client, directory / "script.json"):
        await TwinDriver(client, progress, marks).live(twin)
        bare = await histories_of(client, progress.of(str(twin)))

    counted, twins = event_counts(ours), event_counts(bare)
    by_timing = {name for name in counted | twins if name.startswith("WORKFLOW_TASK")}
    assert {name: n for name, n in counted.items() if name not in by_timing} == {
        name: n for name, n in twins.items() if name not in by_timing
    }
    assert counted["START_CHILD_WORKFLOW_EXECUTION_INITIATED"] == 2
    assert {report.role for report in reports} == {
        "lifecycle",
        "marketing",
        "delivery",
        "follow_up",
    }


async def test_round_trips_are_counted_with_those_of_the_transaction(sessions: Sessions) -> None:
    engine = sessions.kw["bind"]
    async with sessions() as session:  # the first connection asks more than later ones
        await session.execute(sa.text("SELECT 1"))
    counter = StatementCounter()
    counter.attach(engine)
    with counter.counted() as counted:
        async with sessions.begin() as session:
            await session.execute(sa.text("SELECT 1"))
            await session.execute(sa.text("SELECT 2"))
    question_of_the_pool = 1 if engine.pool._pre_ping else 0
    assert counted.round_trips == 2 + 2 + question_of_the_pool
