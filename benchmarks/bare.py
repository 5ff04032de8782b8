"""The bare twin of a life: the same starts, children, signals, timers and steps, with nothing done.

Its steps are empty local activities; where a step of the product signals another process, so does
the twin's. Everything else that costs (PostgreSQL, rendering, SMTP, the rules) is left out.
"""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.workflow import ParentClosePolicy

from benchmarks.bare_parts import PARTS, Beat, Move, Nudge, Part, Verb, bare_id
from workflows.options import STEP
from workflows.visibility import STAGE, search_attributes

BARE_QUEUE = "bare"


@dataclass(frozen=True)
class BareActivities:
    client: Client

    @activity.defn
    async def beat(self, beat: Beat) -> None:
        for role in beat.tells:
            handle = self.client.get_workflow_handle(bare_id(role, beat.life))
            try:
                await handle.signal("hear", Nudge(number=beat.number))
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:  # it has ended, as it may
                    raise


@workflow.defn
class BareProcess:
    """Plays the moves of its role."""

    def __init__(self) -> None:
        self._heard = 0
        self._awaited = 0
        self._beats = 0
        self._timers: dict[int, asyncio.Task[None]] = {}

    @workflow.run
    async def run(self, part: Part) -> str:
        for move in PARTS[part.role]:
            await self._play(part, move)
            if move.verb is Verb.END:
                return "done"
        await workflow.wait_condition(lambda: False)  # like a lifecycle, it waits for more
        return ""

    @workflow.signal
    def hear(self, nudge: Nudge) -> None:
        self._heard += 1

    async def _play(self, part: Part, move: Move) -> None:
        match move.verb:
            case Verb.HEARD:
                self._awaited += 1
                await workflow.wait_condition(lambda: self._heard >= self._awaited)
            case Verb.STEP:
                self._beats += 1
                beat = Beat(life=part.life, role=part.role, number=self._beats, tells=move.tells)
                await workflow.execute_local_activity_method(BareActivities.beat, beat, **STEP)
            case Verb.START_TIMER:
                self._timers[move.timer] = asyncio.create_task(workflow.sleep(move.lasts))
            case Verb.CANCEL_TIMER:
                self._timers[move.timer].cancel()
            case Verb.FIRED:
                await self._timers[move.timer]
            case Verb.START_CHILD:
                await _start_child(part, move.child)
            case Verb.SHOW:
                workflow.upsert_search_attributes([STAGE.value_set("elsewhere")])
            case Verb.END:
                return


async def _start_child(part: Part, role: str) -> None:
    await workflow.start_child_workflow(
        BareProcess.run,
        Part(life=part.life, role=role),
        id=bare_id(role, part.life),
        task_queue=BARE_QUEUE,
        parent_close_policy=ParentClosePolicy.ABANDON,
        search_attributes=search_attributes(UUID(part.life), role),
        static_summary="The bare twin of a process",
    )
