"""One step of a process in one transaction: the marker, where it stands, its messages and tasks."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import Customer, Simulation
from database.messages import Message
from database.policies import PolicyVersion
from database.processes import ProcessRow
from database.tasks import Task
from database.timeline import TimelineLine
from domain.clock import REAL_TIME, Clock
from domain.messages import MESSAGES, MessageRequest, message_key
from domain.policies import POLICIES, Policy, PolicyKind
from domain.processes import Step
from domain.tasks import TaskRequest, TaskState, task_id_of


async def begin_step(
    session: AsyncSession, step: Step, kind: str, facts: dict[str, Any] | None = None
) -> bool:
    """Write the step's timeline line and where its process stands now.

    False when the step was done before: the line is unique, so the caller must change nothing.
    """
    line = (
        insert(TimelineLine)
        .values(
            customer_id=step.customer_id,
            workflow_id=step.workflow_id,
            step_key=step.key,
            kind=kind,
            phase=step.phase,
            happened_at=step.at,
            facts=facts or {},
        )
        .on_conflict_do_nothing()
        .returning(TimelineLine.id)
    )
    if (await session.execute(line)).scalar() is None:
        return False
    await _note_standing(session, step)
    return True


async def _note_standing(session: AsyncSession, step: Step) -> None:
    standing = step.standing
    ended = standing.state.ended
    values: dict[str, Any] = {
        "state": standing.state,
        "step": standing.step,
        "waiting_for": standing.waiting_for,
        "next_timer_at": None if ended else standing.next_timer_at,
        "next_timer_machine_at": None if ended else standing.next_timer_machine_at,
        "outcome": standing.outcome,
        "allowed": list(standing.allowed),
        "ended_at": step.at if ended else None,
        "updated_at": sa.func.now(),
    }
    row = insert(ProcessRow).values(
        workflow_id=step.workflow_id,
        kind=step.kind,
        customer_id=step.customer_id,
        started_at=step.at,
        **values,
    )
    await session.execute(row.on_conflict_do_update(index_elements=["workflow_id"], set_=values))
    if ended:
        await withdraw_tasks(session, step)


async def queue_message(session: AsyncSession, step: Step, request: MessageRequest) -> None:
    """Ask for a message in the step's transaction; asking again for the same changes nothing."""
    kind = MESSAGES[request.template]
    await session.execute(
        insert(Message)
        .values(
            key=message_key(step.workflow_id, request.template, request.occurrence),
            customer_id=step.customer_id,
            workflow_id=step.workflow_id,
            step=step.key,
            template=request.template,
            message_class=kind.message_class,
            purpose=kind.purpose,
            channel=request.channel,
            context=dict(request.context),
            text_id=request.text_id,
            asked_at=step.at,
        )
        .on_conflict_do_nothing()
    )


async def open_task(
    session: AsyncSession,
    step: Step,
    request: TaskRequest,
    *,
    order_id: UUID | None = None,
    case_id: UUID | None = None,
) -> None:
    await session.execute(
        insert(Task)
        .values(
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
        .on_conflict_do_nothing()
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


async def clock_of(session: AsyncSession, customer_id: UUID) -> tuple[Clock, str]:
    """The clock a customer lives by, and his time zone."""
    found = (
        await session.execute(
            sa.select(
                Customer.zone,
                Simulation.machine_origin,
                Simulation.business_origin,
                Simulation.speed,
            )
            .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
            .where(Customer.id == customer_id)
        )
    ).one()
    if found.speed is None:
        return REAL_TIME, found.zone
    clock = Clock(
        machine_origin=found.machine_origin,
        business_origin=found.business_origin,
        speed=found.speed,
    )
    return clock, found.zone


async def current_policy(session: AsyncSession, kind: PolicyKind) -> tuple[Policy, int]:
    """The published policy in force and its version; the defaults are version 0."""
    found = (
        await session.execute(
            sa.select(PolicyVersion.document, PolicyVersion.version)
            .where(PolicyVersion.kind == kind)
            .order_by(PolicyVersion.version.desc())
            .limit(1)
        )
    ).one_or_none()
    if found is None:
        return POLICIES[kind](), 0
    return POLICIES[kind].model_validate(found.document), found.version
