"""Telling a process what to do: an update that it may refuse, with what it would accept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from fastapi import Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from api.deps import Resources
from api.errors import Code, Problem
from api.routing import note_change
from database.processes import ProcessRow
from domain.errors import Refusal
from domain.processes import derived_id

_SOON = 0.1  # seconds until an update is sent again


class CommandAccepted(BaseModel):
    """The process has accepted the command and carries it out now."""

    workflow_id: str
    command: str
    accepted: bool = True


async def command_process(
    request: Request,
    session: AsyncSession,
    held: Resources,
    workflow_id: str,
    update: Any,
    payload: BaseModel,
) -> CommandAccepted:
    """Send an update and wait until the process has judged it.

    Repeated with the same Idempotency-Key it is the same update, also when the first answer was
    lost. Raises 409 with `allowed_actions` when refused, 404 for a process nobody knows.
    """
    update_id = _update_id(request)
    await _note_state_before(request, session, workflow_id)
    try:
        async with held.engine.reached(command=True) as client:
            handle = client.get_workflow_handle(workflow_id)
            await _until_kept(lambda: handle.execute_update(update, payload, id=update_id))
    except WorkflowUpdateFailedError as error:
        raise _refused(error.cause) from None
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        await _refuse_ended(session, workflow_id)
    name = update if isinstance(update, str) else update.__name__
    return CommandAccepted(workflow_id=workflow_id, command=name)


async def _note_state_before(request: Request, session: AsyncSession, workflow_id: str) -> None:
    if not request.state.principal.is_staff:
        return
    row = await session.get(ProcessRow, workflow_id)
    if row is not None:
        before = {"state": row.state, "step": row.step, "waiting_for": row.waiting_for}
        note_change(request, before=before)


async def _until_kept(send: Callable[[], Awaitable[object]]) -> None:
    """Send an update, again while the server lets go of it.

    It does when the update meets a workflow task that has to be repeated because of something else
    that happened meanwhile. Its id makes it one update however often it is sent.
    """
    while True:
        try:
            await send()
        except RPCError as error:
            if error.status is not RPCStatusCode.FAILED_PRECONDITION:
                raise
            await asyncio.sleep(_SOON)
        else:
            return


def _update_id(request: Request) -> str:
    key = getattr(request.state, "idempotency_key", None)
    return str(uuid4() if key is None else derived_id("update", request.url.path, key))


def _refused(cause: BaseException) -> Problem:
    """The process said no; with what it would accept now."""
    if isinstance(cause, ApplicationError) and cause.type == Refusal.NOT_ALLOWED_NOW:
        allowed = cause.details[0] if cause.details else []
        return Problem(Code.NOT_ALLOWED_NOW, cause.message, allowed_actions=list(allowed))
    return Problem(Code.NOT_ALLOWED_NOW, "the process has just ended", allowed_actions=[])


async def _refuse_ended(session: AsyncSession, workflow_id: str) -> None:
    outcome = await session.scalar(
        sa.select(ProcessRow.outcome).where(ProcessRow.workflow_id == workflow_id)
    )
    if outcome is None:
        raise Problem(Code.NOT_FOUND, f"there is no process {workflow_id}")
    raise Problem(
        Code.NOT_ALLOWED_NOW, f"the process has ended: {outcome or 'completed'}", allowed_actions=[]
    )
