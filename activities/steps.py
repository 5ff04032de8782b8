"""One step of a process in one transaction: the marker, where it stands, its messages and tasks."""

from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.exceptions import ApplicationError

from database.base import insert_once, table_of
from database.customers import CLOCK_COLUMNS, Customer, Simulation, clock_in
from database.processes import ProcessRow
from database.queries.messages import insert_message
from database.queries.policies import NEWEST_POLICY
from database.queries.policies import current_policy as current_policy
from database.tasks import Task
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.contacts import Decision
from domain.errors import Refusal
from domain.messages import MessageRequest
from domain.policies import POLICIES, Policy, PolicyKind
from domain.processes import Step
from domain.tasks import TaskRequest, TaskState, task_id_of


class Begun(Enum):
    """How a step was found. True when it is taken for the first time."""

    FIRST = "first"
    OVERTAKEN = "overtaken"  # taken for the first time, and the process has gone on since
    AGAIN = "again"  # done before, and still the newest that is known of the process
    LATE = "late"  # done before, and the process has gone on since

    def __bool__(self) -> bool:
        return self in (Begun.FIRST, Begun.OVERTAKEN)

    @property
    def stands(self) -> bool:
        """Whether it says where the process, its case and the relationship stand."""
        return self in (Begun.FIRST, Begun.AGAIN)


async def begin_step(
    session: AsyncSession, step: Step, kind: str, facts: dict[str, Any] | None = None
) -> Begun:
    """Write the step's timeline line and where its process stands now.

    False when the step was done before: the line is unique, so the caller must change nothing but
    what shows where the process stands, and that only when the step `stands`.

    Temporal throws a task away whose worker died or was too slow, or which a signal or an update
    overtook. The next attempt may take another step before it comes to this one: then this one,
    though written before, says where the process stands. And the worker that was too slow may
    still be writing: what was decided later counts.
    """
    standing = step.standing
    ended = standing.state.ended
    values = {
        "customer_id": step.customer_id,
        "workflow_id": step.workflow_id,
        "step_key": step.key,
        "line_kind": kind,
        "phase": step.phase,
        "at": step.at,
        "facts": facts or {},
        "process_kind": step.kind,
        "state": standing.state,
        "step": standing.step,
        "waiting_for": standing.waiting_for,
        "next_timer_at": None if ended else standing.next_timer_at,
        "next_timer_machine_at": None if ended else standing.next_timer_machine_at,
        "outcome": standing.outcome,
        "allowed": list(standing.allowed),
        "ended_at": step.at if ended else None,
        "decided_at": step.decided_at,
    }
    done = await session.execute(
        _BEGIN_LAST_STEP if ended else _BEGIN_STEP,
        {f"new_{name}": value for name, value in values.items()},
    )
    if (written := done.one_or_none()) is not None:
        return Begun.FIRST if written.stands else Begun.OVERTAKEN
    found = await session.execute(_stand_again(step), {name: values[name] for name in _STANDING})
    if found.scalar() is None:
        return Begun.LATE
    if ended:
        await withdraw_tasks(session, step)
    return Begun.AGAIN


# Of the clocks of two Temporal servers. Another worker is given the task after 10 s at the soonest.
_SKEW = timedelta(seconds=5)
_STANDING = (
    *("state", "step", "waiting_for", "next_timer_at", "next_timer_machine_at"),
    *("outcome", "allowed", "ended_at", "decided_at"),
)


def _stand_again(step: Step) -> sa.Executable:
    """Given what is _STANDING, writes it, unless the process has gone on since."""
    processes = table_of(ProcessRow)
    decided_at = processes.c.decided_at
    not_later: sa.ColumnElement[bool]
    if step.decided_at is not None:
        not_later = _decided_by(decided_at, sa.literal(step.decided_at, decided_at.type))
    elif step.standing.state.ended:  # of an older version: of these only an end is sure to be last
        not_later = processes.c.ended_at.is_(None)
    else:
        not_later = sa.false()
    return (
        sa.update(processes)
        .where(processes.c.workflow_id == step.workflow_id, not_later)
        .values(updated_at=sa.func.now())
        .returning(processes.c.workflow_id)
    )


def _decided_by(known: sa.ColumnElement[Any], new: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.or_(known.is_(None), new.is_(None), known <= new + _SKEW)


def _begin_step(*, last: bool) -> sa.Executable:
    """Both rows in one statement: a step is a round trip cheaper, and every process takes many.

    The last step also withdraws every open task of the process: one may have been opened by a step
    whose workflow task Temporal threw away, so that the process itself does not know of it.
    """
    lines, processes = table_of(TimelineLine), table_of(ProcessRow)

    def bind(name: str, column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
        # Not the column's own name: an UPDATE would set the column to it.
        return sa.bindparam(f"new_{name}", type_=column.type)

    line = (
        insert(lines)
        .values(
            customer_id=bind("customer_id", lines.c.customer_id),
            workflow_id=bind("workflow_id", lines.c.workflow_id),
            step_key=bind("step_key", lines.c.step_key),
            kind=bind("line_kind", lines.c.kind),
            phase=bind("phase", lines.c.phase),
            happened_at=bind("at", lines.c.happened_at),
            facts=bind("facts", lines.c.facts),
        )
        .on_conflict_do_nothing()
        .returning(lines.c.id)
        .cte("line")
    )
    standing = {name: bind(name, processes.c[name]) for name in _STANDING}
    fixed = {
        "workflow_id": bind("workflow_id", processes.c.workflow_id),
        "kind": bind("process_kind", processes.c.kind),
        "customer_id": bind("customer_id", processes.c.customer_id),
        "started_at": bind("at", processes.c.started_at),
    }
    values: dict[str, sa.ColumnElement[Any]] = {
        **fixed,
        **standing,
        "updated_at": sa.func.now(),
    }
    row = insert(processes).from_select(list(values), sa.select(*values.values()).select_from(line))
    changed = {name: row.excluded[name] for name in (*standing, "updated_at")}
    row = row.on_conflict_do_update(
        index_elements=["workflow_id"],
        set_=changed,
        where=_decided_by(processes.c.decided_at, row.excluded.decided_at),
    )
    written = row.returning(processes.c.workflow_id).cte("written")
    stands = sa.exists().select_from(written)
    taken = sa.select(line.c.id, stands.label("stands")).add_cte(written)
    if last:
        tasks = table_of(Task)
        withdrawn = (
            sa.update(tasks)
            .where(
                tasks.c.workflow_id == bind("workflow_id", tasks.c.workflow_id),
                tasks.c.ended_at.is_(None),
                stands,
            )
            .values(
                state=sa.literal(TaskState.CANCELLED, tasks.c.state.type),
                ended_at=bind("at", tasks.c.ended_at),
                version=tasks.c.version + 1,
            )
            .cte("withdrawn")
        )
        taken = taken.add_cte(withdrawn)
    return taken


_BEGIN_STEP, _BEGIN_LAST_STEP = _begin_step(last=False), _begin_step(last=True)


async def queue_message(
    session: AsyncSession,
    step: Step,
    request: MessageRequest,
    *,
    cancelled: Decision | None = None,
) -> None:
    """Ask for a message in the step's transaction; asking again for the same changes nothing."""
    await insert_message(
        session,
        request,
        customer_id=step.customer_id,
        workflow_id=step.workflow_id,
        step=step.key,
        asked_at=step.at,
        cancelled=cancelled,
    )


async def open_task(
    session: AsyncSession,
    step: Step,
    request: TaskRequest,
    *,
    order_id: UUID | None = None,
    case_id: UUID | None = None,
) -> None:
    await insert_once(
        session,
        Task,
        id=task_id_of(step.workflow_id, request.key),
        customer_id=step.customer_id,
        workflow_id=step.workflow_id,
        kind=request.kind,
        role=request.role,
        state=TaskState.OPEN,
        order_id=order_id,
        case_id=case_id,
        opened_at=step.at,
        due_at=request.due_at,
    )


async def withdraw_tasks(session: AsyncSession, step: Step, *keys: str) -> None:
    """Cancel tasks nobody needs any more: those named, or all of the process."""
    statement = (
        sa.update(Task)
        .where(Task.workflow_id == step.workflow_id, Task.ended_at.is_(None))
        .values(state=TaskState.CANCELLED, ended_at=step.at, version=Task.version + 1)
    )
    if keys:
        ids = [task_id_of(step.workflow_id, key) for key in keys]
        statement = statement.where(Task.id.in_(ids))
    await session.execute(statement)


_newest = NEWEST_POLICY.subquery()
_SURROUNDINGS = (
    sa.select(
        Customer.zone,
        *CLOCK_COLUMNS,
        _newest.c.document,
        _newest.c.version,
    )
    .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
    .outerjoin(_newest, sa.true())
    .where(Customer.id == sa.bindparam("customer_id"))
)


class Surroundings(NamedTuple):
    """What a process must know of its customer and the policy in force when it starts."""

    clock: Clock
    zone: str
    policy: Policy
    policy_version: int


async def surroundings_of(
    session: AsyncSession, customer_id: UUID, kind: PolicyKind
) -> Surroundings:
    """The customer's clock and zone, and the published policy (the defaults are version 0)."""
    surroundings = await session.execute(_SURROUNDINGS, {"customer_id": customer_id, "kind": kind})
    found = surroundings.one_or_none()
    if found is None:
        raise ApplicationError(
            f"no customer {customer_id}", type=Refusal.UNKNOWN_CUSTOMER, non_retryable=True
        )
    policy = POLICIES[kind].model_validate(found.document or {})
    return Surroundings(clock_in(found), found.zone, policy, found.version or 0)
