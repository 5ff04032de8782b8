"""Workflows that do what none may, in a file of their own: the sandbox imports it."""

import random
from datetime import datetime

from temporalio import workflow


@workflow.defn
class LooksAtTheClock:
    @workflow.run
    async def run(self) -> str:
        return datetime.now().isoformat()  # noqa: DTZ005 forbidden is what it is to be


@workflow.defn
class ThrowsDice:
    @workflow.run
    async def run(self) -> float:
        return random.random()


@workflow.defn
class ReadsAFile:
    @workflow.run
    async def run(self) -> str:
        with open(__file__) as file:  # noqa: ASYNC230 forbidden, too
            return file.read()


@workflow.defn
class Sums:
    """Allowed: it shows that the worker works."""

    @workflow.run
    async def run(self) -> int:
        return 1 + 1
