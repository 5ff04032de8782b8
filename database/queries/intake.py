"""What must be known to accept an event, in one statement."""

from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import clock_in
from domain.clock import Clock
from domain.delivery import DeliveryState


class Ground(NamedTuple):
    """What is known of the customer and the order an event is about, and of the event itself."""

    customer_id: UUID | None
    clock: Clock
    order_id: UUID | None
    order_state: DeliveryState | None  # None: its process has not written the order yet
    order_customer_id: UUID | None
    placed_by: str | None  # event id of its order_placed
    case_customer_id: UUID | None
    fingerprint: str | None  # of an event accepted before under the same id
    workflow_id: str | None
    has_lifecycle: bool = True  # False: its process has written nothing yet

    @property
    def order_is_known(self) -> bool:
        return self.order_state is not None or self.placed_by is not None


_GROUND = sa.text(
    """
    SELECT c.id AS customer_id, s.machine_origin, s.business_origin, s.speed,
           o.state AS order_state, coalesce(o.customer_id, p.customer_id) AS order_customer_id,
           p.event_id AS placed_by, k.customer_id AS case_customer_id,
           e.fingerprint, e.workflow_id, l.workflow_id IS NOT NULL AS has_lifecycle
    FROM (VALUES (1)) AS one
    LEFT JOIN events e ON e.event_id = :event_id
    LEFT JOIN orders o ON o.id = CAST(:order_id AS uuid)
    LEFT JOIN LATERAL (
        SELECT event_id, customer_id FROM events
        WHERE order_id = CAST(:order_id AS uuid) AND kind = 'order_placed'
        ORDER BY accepted_at LIMIT 1
    ) p ON true
    LEFT JOIN cases k ON k.id = CAST(:case_id AS uuid)
    LEFT JOIN customers c ON c.id =  -- one expression, so that the primary key is used
        CASE WHEN CAST(:customer_reference AS text) IS NOT NULL
             THEN (SELECT id FROM customers WHERE reference = CAST(:customer_reference AS text))
             ELSE coalesce(CAST(:customer_id AS uuid), o.customer_id, p.customer_id,
                           k.customer_id) END
    LEFT JOIN simulations s ON s.id = c.simulation_id
    LEFT JOIN processes l ON l.workflow_id = 'customer/' || c.id
    """
)


async def find_ground(
    session: AsyncSession,
    event_id: str,
    *,
    customer_id: UUID | None = None,
    customer_reference: str | None = None,
    order_id: UUID | None = None,
    case_id: UUID | None = None,
) -> Ground:
    parameters = {
        "event_id": event_id,
        "customer_id": customer_id,
        "customer_reference": customer_reference,
        "order_id": order_id,
        "case_id": case_id,
    }
    row = (await session.execute(_GROUND, parameters)).one()
    return Ground(
        customer_id=row.customer_id,
        clock=clock_in(row),
        order_id=order_id,
        order_state=DeliveryState(row.order_state) if row.order_state else None,
        order_customer_id=row.order_customer_id,
        placed_by=row.placed_by,
        case_customer_id=row.case_customer_id,
        fingerprint=row.fingerprint,
        workflow_id=row.workflow_id,
        has_lifecycle=row.has_lifecycle,
    )
