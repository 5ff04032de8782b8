"""What a customer says on a page holds once it is committed; then his processes hear of it."""

import logging
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Resources
from api.errors import Problem
from api.event_bodies import EventBody, LeadReceivedEvent, OptedOutEvent
from api.intake import accept
from database.events import Event
from database.queries.consents import Statement, contact_policy
from database.queries.intake import Ground
from database.timeline import TimelineLine
from domain.messages import Channel

_AROUND = timedelta(days=1)  # a lead and its consent are not reported at the same moment
_log = logging.getLogger(__name__)


class UnsubscribedEvent(OptedOutEvent):
    """An opt-out by link: its statement is committed before the process is told."""

    async def record(self, session: AsyncSession, ground: Ground) -> None:
        return


async def tell_of_opt_out(
    session: AsyncSession,
    held: Resources,
    customer_id: UUID,
    channel: Channel,
    statement: Statement,
) -> None:
    """End what is under way for selling. The consent holds without it: no message would go out."""
    event = UnsubscribedEvent(
        kind="opted_out",
        event_id=f"unsubscribe/{statement.id}",
        source=statement.source,
        occurred_at=statement.occurred_at,
        customer_id=customer_id,
        channel=channel,
    )
    await _tell(session, held, event)


async def tell_of_confirmation(
    session: AsyncSession, held: Resources, customer_id: UUID, statement: Statement
) -> None:
    """Take up the interest that had to wait for the consent, if there was one and not long ago."""
    policy = await contact_policy(session)
    earliest = statement.occurred_at - policy.confirm_within - _AROUND
    waiting = (
        sa.select(Event.body)
        .join(
            TimelineLine,
            sa.and_(
                TimelineLine.workflow_id == Event.workflow_id,
                TimelineLine.step_key == Event.event_id,
            ),
        )
        .where(
            Event.customer_id == customer_id,
            Event.kind == "lead_received",
            Event.occurred_at > earliest,
            TimelineLine.facts.has_key("not_started"),
        )
        .order_by(Event.occurred_at.desc())
        .limit(1)
    )
    lead = await session.scalar(waiting)
    if lead is None:
        return
    event = LeadReceivedEvent(
        kind="lead_received",
        event_id=f"confirmed/{statement.id}",
        source=lead.get("source", "api"),
        campaign=lead.get("campaign"),
        occurred_at=statement.occurred_at,
        customer_id=customer_id,
    )
    await _tell(session, held, event)


async def _tell(session: AsyncSession, held: Resources, event: EventBody) -> None:
    try:
        async with session.begin_nested():
            await accept(session, held, "signed link", event)
    except Problem as problem:
        _log.warning("%s was stored, its process not told: %s", event.kind, problem.code)
