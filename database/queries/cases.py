"""Cases as people work them: the queue with its clocks, and who works there."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import BUSINESS_NOW, CLOCK_COLUMNS, Customer, Simulation
from database.events import Event
from database.staff import Staff
from database.support import Case
from domain.staff import PERMISSIONS, Permission
from domain.support import CaseState

ACTIVE = (CaseState.OPEN, CaseState.IN_PROGRESS, CaseState.WAITING_FOR_CUSTOMER)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
# The clock that rings next; a case whose clocks rest comes last.
NEXT_CLOCK = sa.func.coalesce(
    Case.first_response_due, Case.resolution_due, sa.literal(_NEVER, Case.opened_at.type)
)
OVERDUE = Case.state.in_(ACTIVE) & (NEXT_CLOCK < BUSINESS_NOW)
SAID = sa.func.coalesce(Event.body["text"].astext, Event.body["comment"].astext, "")


def cases_with_clocks() -> sa.Select[*tuple[Any, ...]]:
    """Case, its customer's name, how what he wrote begins, and the columns of the clock."""
    return (
        sa.select(Case, Customer.name, sa.func.left(SAID, 120).label("begins"), *CLOCK_COLUMNS)
        .join(Customer, Customer.id == Case.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .outerjoin(Event, Event.event_id == Case.event_id)
    )


async def who_works_cases(session: AsyncSession) -> dict[str, str]:
    """Of those who may: id and name, by name."""
    roles = [role for role, may in PERMISSIONS.items() if Permission.WORK_CASES in may]
    found = await session.execute(
        sa.select(Staff.id, Staff.name)
        .where(Staff.role.in_(roles), Staff.disabled_at.is_(None))
        .order_by(Staff.name, Staff.id)
        .limit(500)
    )
    return {row.id: row.name for row in found}


async def names_of_staff(session: AsyncSession) -> dict[str, str]:
    """Everybody who ever worked here, by id."""
    found = await session.execute(sa.select(Staff.id, Staff.name).limit(2000))
    return {row.id: row.name for row in found}
