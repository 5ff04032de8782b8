"""Whom a new version of a policy concerns."""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.messages import Message
from database.processes import ProcessRow
from domain.messages import MessageState
from domain.policies import PolicyKind
from domain.processes import ProcessKind, ProcessState


class Reach(NamedTuple):
    running: int  # processes of the kind, which keep the version that they began with
    held: int  # messages, which are asked again by a new policy of kind contact


async def reach_of(session: AsyncSession, kind: PolicyKind) -> Reach:
    running = held = 0
    if kind.value in list(ProcessKind):
        alive = [state for state in ProcessState if not state.ended]
        counted = sa.select(sa.func.count()).where(
            ProcessRow.kind == ProcessKind(kind.value), ProcessRow.state.in_(alive)
        )
        running = await session.scalar(counted) or 0
    if kind is PolicyKind.CONTACT:
        waits = sa.select(sa.func.count()).where(Message.state == MessageState.HELD)
        # By the index of what is due: nothing else is looked at.
        due = Message.state.in_((MessageState.QUEUED, MessageState.HELD))
        held = await session.scalar(waits.where(due)) or 0
    return Reach(running, held)
