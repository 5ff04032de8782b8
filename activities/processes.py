"""Steps that every process has: a command of staff, a task that a person completed."""

from dataclasses import dataclass

import sqlalchemy as sa
from temporalio import activity
from temporalio.client import Client

from activities.steps import Begun, begin_step
from database.base import Sessions
from database.tasks import Task
from domain.processes import CommandStep, ProcessEnded, ProcessKind, Step, TaskCompletedStep
from domain.tasks import TaskState
from temporal_runtime import tell_lifecycle


@dataclass(frozen=True)
class ProcessActivities:
    sessions: Sessions
    client: Client

    @activity.defn
    async def record_command(self, step: CommandStep) -> None:
        async with self.sessions.begin() as session:
            begun = await begin_step(
                session, step, f"process_{step.command}", {"by": step.by, "reason": step.reason}
            )
        await report_end(self.client, step, begun)

    @activity.defn
    async def record_task_completed(self, step: TaskCompletedStep) -> None:
        done = step.done
        async with self.sessions.begin() as session:
            facts = {"task": str(done.task_id), "outcome": done.outcome, "by": done.by}
            if await begin_step(session, step, "task_completed", facts):
                await session.execute(
                    sa.update(Task)
                    .where(Task.id == done.task_id)
                    .values(
                        state=TaskState.DONE,
                        outcome=done.outcome,
                        note=done.reason or None,
                        owner=sa.func.coalesce(Task.owner, done.by),
                        ended_at=step.at,
                        version=Task.version + 1,
                    )
                )


async def report_end(client: Client, step: Step, begun: Begun) -> None:
    """Tell the customer's lifecycle that a stage process is over; after the commit, repeatable.

    Not when a worker that was too slow wrote it: the process goes on.
    """
    if begun is Begun.OVERTAKEN:
        return
    if step.standing.state.ended and step.kind is not ProcessKind.LIFECYCLE:
        ended = ProcessEnded(
            event_id=f"ended/{step.workflow_id}/{step.key}",
            occurred_at=step.at,
            workflow_id=step.workflow_id,
            kind=step.kind,
            outcome=step.standing.outcome,
        )
        await tell_lifecycle(client, step.customer_id, "process_ended", ended)
