"""What operators measure: is the schema there, how much waits, how old is the oldest."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.messages import Message
from database.processes import ProcessRow
from database.tasks import Task
from domain.messages import MessageState

_WAITING = (MessageState.QUEUED, MessageState.SENDING, MessageState.HELD)


async def schema_revision(session: AsyncSession) -> str | None:
    """The Alembic revision of the database; None where no migration has run."""
    there = await session.scalar(sa.text("SELECT to_regclass('alembic_version')"))
    if there is None:
        return None
    found: str | None = await session.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


async def processes_by_state(session: AsyncSession) -> list[tuple[str, str, int]]:
    found = await session.execute(
        sa.select(ProcessRow.kind, ProcessRow.state, sa.func.count()).group_by(
            ProcessRow.kind, ProcessRow.state
        )
    )
    return [(kind.value, state.value, count) for kind, state, count in found]


async def messages_by_state(session: AsyncSession) -> list[tuple[str, int]]:
    found = await session.execute(sa.select(Message.state, sa.func.count()).group_by(Message.state))
    return [(state.value, count) for state, count in found]


async def outbox_age(session: AsyncSession) -> float:
    """Seconds for which the oldest message could have been sent; 0 when none waits."""
    oldest = sa.func.min(Message.due_since)
    age = sa.extract("epoch", sa.func.now() - oldest)
    waiting = Message.state.in_(_WAITING) & (Message.not_before <= sa.func.now())
    return float(await session.scalar(sa.select(sa.func.coalesce(age, 0)).where(waiting)) or 0)


async def open_tasks(session: AsyncSession) -> list[tuple[str, int]]:
    found = await session.execute(
        sa.select(Task.role, sa.func.count()).where(Task.ended_at.is_(None)).group_by(Task.role)
    )
    return [(role.value, count) for role, count in found]
