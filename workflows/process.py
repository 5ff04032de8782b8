"""What every durable process can do: wait on its customer's clock, be steered, hand out tasks."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.processes import ProcessActivities
from domain.clock import REAL_TIME
from domain.errors import Refusal
from domain.processes import (
    Command,
    CommandStep,
    Fact,
    MessageSettled,
    ProcessKind,
    ProcessState,
    Standing,
    TaskCompleted,
    TaskCompletedStep,
)
from domain.tasks import TaskKind, TaskRequest, task_id_of
from workflows.options import STEP
from workflows.visibility import DUE_AT, STAGE

_A_MOMENT = timedelta(milliseconds=1)

A = TypeVar("A")  # the class of an activity
S = TypeVar("S", bound=BaseModel)  # what the activity takes
R = TypeVar("R")  # what it answers


class StoppedByStaff(Exception):
    """A member of staff ended the process; raised where it waits."""


class Process:
    """Base of the stage processes and the lifecycle.

    Handlers only note; `run` acts. A step is one local activity and one transaction.
    """

    kind: ClassVar[ProcessKind]

    def __init__(self) -> None:
        self._customer_id = UUID(int=0)
        self._clock = REAL_TIME
        self._commands: list[tuple[str, Command]] = []
        self._commands_obeyed = 0
        self._paused = False
        self._stopping = False
        self._to_complete: list[TaskCompleted] = []
        self._tasks: dict[UUID, str] = {}  # open ones: id -> key
        self._outcomes: dict[str, str] = {}  # of completed ones: key -> outcome
        self._undeliverable: list[MessageSettled] = []
        self._standing = Standing(step="starting")
        self._timer: asyncio.Task[None] | None = None
        self._timer_at: datetime | None = None

    # --- what people and the message dispatcher tell it -------------------------------------

    @workflow.update
    def pause(self, command: Command) -> None:
        """Stop at the next side effect; clocks whose moment passes meanwhile are acted on later."""
        self._paused = True
        self._commands.append(("pause", command))

    @pause.validator
    def _may_pause(self, command: Command) -> None:
        self._allow("pause")

    @workflow.update
    def resume(self, command: Command) -> None:
        self._paused = False
        self._commands.append(("resume", command))

    @resume.validator
    def _may_resume(self, command: Command) -> None:
        self._allow("resume")

    @workflow.update
    def stop(self, command: Command) -> None:
        """End the process here; what it has done stays done."""
        self._stopping = True
        self._commands.append(("stop", command))

    @stop.validator
    def _may_stop(self, command: Command) -> None:
        self._allow("stop")

    @workflow.update
    def complete_task(self, done: TaskCompleted) -> None:
        self._to_complete.append(done)

    @complete_task.validator
    def _may_complete(self, done: TaskCompleted) -> None:
        waiting = {task.task_id for task in self._to_complete}
        if done.task_id not in self._tasks or done.task_id in waiting:
            raise self._refused(f"task {done.task_id} is not open")

    @workflow.signal
    def message_settled(self, settled: MessageSettled) -> None:
        """A message that the process asked for will not arrive."""
        self._undeliverable.append(settled)

    def _allowed(self) -> tuple[str, ...]:
        """The commands that would be accepted now."""
        steering = ("resume", "stop") if self._paused else ("pause", "stop")
        return (*steering, *(("complete_task",) if self._tasks else ()))

    def _allow(self, command: str) -> None:
        if self._stopping:
            raise self._refused("the process is being stopped", allowed=())
        if command not in self._allowed():
            now = "it is paused" if self._paused else self._standing.step
            raise self._refused(f"{command} is not possible now: {now}")

    def _refused(self, why: str, allowed: tuple[str, ...] | None = None) -> ApplicationError:
        return ApplicationError(
            why,
            list(self._allowed() if allowed is None else allowed),
            type=Refusal.NOT_ALLOWED_NOW,
            non_retryable=True,
        )

    # --- what the processes are written with ------------------------------------------------

    @property
    def _now(self) -> datetime:
        """Business time of the customer."""
        return self._clock.business(workflow.now())

    @property
    def _waits_until(self) -> datetime | None:
        """The moment at which it does something of its own accord, if nothing happens before."""
        return self._timer_at

    async def _steered(self, life: Awaitable[str]) -> str:
        """Live `life` to its end, or to the moment staff stops it."""
        try:
            outcome = await life
        except StoppedByStaff:
            outcome = ProcessState.STOPPED
        await self._complete_the_rest()
        return outcome

    async def _complete_the_rest(self) -> None:
        while self._to_complete:  # accepted while the last step was being taken
            await self._complete(self._to_complete.pop(0))

    async def _came_at_the_end(self, facts: Sequence[Fact]) -> bool:
        """Whether the process was told something while its last step was being taken.

        Nobody else knows of it: who told it saw that the process still ran.
        """
        await self._complete_the_rest()
        return bool(facts) and workflow.patched("what comes at the end is heard")

    def _step(
        self,
        key: str,
        step: str,
        waiting_for: str = "",
        *,
        until: datetime | None = None,
        at: datetime | None = None,
        ended: str = "",
        state: ProcessState | None = None,
    ) -> dict[str, Any]:
        """The fields every step's payload has, and where the process stands after it."""
        self._standing = Standing(
            step=step,
            waiting_for=waiting_for,
            next_timer_at=until,
            next_timer_machine_at=None if until is None else self._clock.machine(until),
            state=state or (ProcessState.COMPLETED if ended else ProcessState.RUNNING),
            outcome=ended,
            allowed=() if ended else self._allowed(),
        )
        self._tell_operators()
        return {
            "workflow_id": workflow.info().workflow_id,
            "kind": self.kind,
            "customer_id": self._customer_id,
            "key": key,
            "at": at or self._now,
            "standing": self._standing,
            "decided_at": workflow.now(),
        }

    def _tell_operators(self) -> None:
        """Where the process stands, for the web UI of Temporal; costs no event."""
        standing = self._standing
        words = [f"**{standing.step}**"]
        if standing.waiting_for:
            words.append(f"waiting for: {standing.waiting_for}")
        if standing.next_timer_at:
            words.append(f"next look: {standing.next_timer_at:%Y-%m-%d %H:%M} UTC, customer's time")
        workflow.set_current_details("\n\n".join(words))

    async def _do(self, activity: Callable[[A, S], Awaitable[R]], step: S, summary: str) -> R:
        """Take one step: an idempotent local activity, told in plain words."""
        return await workflow.execute_local_activity_method(activity, step, summary=summary, **STEP)

    def _task(self, key: str, kind: TaskKind, role: str, due_at: datetime) -> TaskRequest:
        """A task for a person; from here on its completion is accepted."""
        self._tasks[task_id_of(workflow.info().workflow_id, key)] = key
        return TaskRequest.model_validate(
            {"key": key, "kind": kind, "role": role, "due_at": due_at}
        )

    def _withdraw_task(self, key: str) -> None:
        self._tasks.pop(task_id_of(workflow.info().workflow_id, key), None)

    async def _until(self, happened: Callable[[], bool], at: datetime | None, summary: str) -> bool:
        """Wait until it happened (True) or the moment `at` (business time) came (False).

        Commands of staff and completed tasks are dealt with on the way. While the process is
        paused nothing goes on. Raises StoppedByStaff.
        """
        while True:
            timer = self._arm(at, summary)
            await workflow.wait_condition(
                lambda timer=timer: bool(  # type: ignore[misc]
                    self._commands
                    or self._to_complete
                    or (not self._paused and (happened() or (timer is not None and timer.done())))
                )
            )
            if self._commands or self._to_complete:
                await self._keep_what_was_said()
            if self._commands:
                await self._obey(*self._commands.pop(0))
            elif self._to_complete:
                await self._complete(self._to_complete.pop(0))
            elif happened():
                return True
            else:
                self._timer = self._timer_at = None
                return False

    def _arm(self, at: datetime | None, summary: str) -> asyncio.Task[None] | None:
        """The one timer of the process; kept running over waits for the same moment."""
        if self._timer is not None and (at is None or at != self._timer_at):
            self._timer.cancel()
            self._timer = self._timer_at = None
        if at is not None and self._timer is None:
            left = max(self._clock.machine(at) - workflow.now(), timedelta(0))
            self._timer_at = at
            self._timer = asyncio.create_task(workflow.sleep(left, summary=summary))
        return self._timer

    async def _keep_what_was_said(self) -> None:
        """Ends the workflow task, and with it the time in which a request may be forgotten.

        Unlike a signal, an accepted update is in the history only when its task is complete. If
        the server died before, PostgreSQL would know of it and the process would not.
        """
        if workflow.patched("requests are kept first"):
            await workflow.sleep(_A_MOMENT, summary="keep what a person said, then act on it")

    async def _obey(self, name: str, command: Command) -> None:
        self._commands_obeyed += 1
        before = self._standing
        state = {"pause": ProcessState.PAUSED, "stop": ProcessState.STOPPED}.get(
            name, ProcessState.RUNNING
        )
        words = {"pause": "paused by staff", "stop": "stopped by staff"}
        # Some processes run again under their id: the run tells the commands of each apart.
        run = workflow.info().first_execution_run_id
        step = self._step(
            f"{name}/{run}/{self._commands_obeyed}",
            words.get(name, before.step),
            before.waiting_for if name != "stop" else "",
            until=self._waits_until if name != "stop" else None,
            ended="stopped" if name == "stop" else "",
            state=state,
        )
        if name == "pause":
            # What it stood at is what it goes on with; only the projection says "paused".
            self._standing = before
        await self._do(
            ProcessActivities.record_command,
            CommandStep(**step, command=name, by=command.by, reason=command.reason),
            f"staff: {name}",
        )
        if name == "stop":
            raise StoppedByStaff

    async def _complete(self, done: TaskCompleted) -> None:
        key = self._tasks.pop(done.task_id, None)
        if key is None:
            return  # withdrawn since it was accepted: what it was for has come about another way
        self._outcomes[key] = done.outcome
        ended = self._standing.state.ended  # it may have been stopped before this was dealt with
        step = self._step(
            f"task_completed/{key}",
            self._standing.step,
            self._standing.waiting_for,
            until=self._waits_until,
            ended=self._standing.outcome,
            state=self._standing.state if ended or not self._paused else ProcessState.PAUSED,
        )
        await self._do(
            ProcessActivities.record_task_completed,
            TaskCompletedStep(**step, done=done),
            f"a person completed the task: {done.outcome}",
        )

    def _show(self, stage: str, due_at: datetime | None = None) -> None:
        """Update what operators filter by in the web UI of Temporal; DueAt is machine time."""
        due = (
            DUE_AT.value_unset()
            if due_at is None
            else DUE_AT.value_set(self._clock.machine(due_at))
        )
        workflow.upsert_search_attributes([STAGE.value_set(stage), due])
