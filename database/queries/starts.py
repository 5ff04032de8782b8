"""What must be known of customers before a process of theirs is started by hand."""

from collections.abc import Collection, Mapping
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from domain.messages import Channel
from domain.processes import ProcessKind
from domain.starts import StartFacts

_FACTS = sa.text(
    """
    SELECT c.id,
           ARRAY(SELECT n.channel FROM (
                     SELECT DISTINCT ON (s.channel) s.channel, s.state FROM consents s
                     WHERE s.customer_id = c.id AND s.purpose = 'marketing'
                     ORDER BY s.channel, s.occurred_at DESC, s.recorded_at DESC) n
                 WHERE n.state = 'granted') AS agrees,
           ARRAY(SELECT DISTINCT p.channel FROM contact_points p
                 WHERE p.customer_id = c.id AND p.retired_at IS NULL) AS reachable,
           ARRAY(SELECT DISTINCT r.kind FROM processes r
                 WHERE r.customer_id = c.id AND r.state IN ('running', 'paused')) AS running,
           EXISTS (SELECT FROM cases k WHERE k.customer_id = c.id AND k.kind = 'recovery'
                     AND k.state NOT IN ('resolved', 'closed')) AS recovering,
           EXISTS (SELECT FROM processes l WHERE l.workflow_id = 'customer/' || c.id
                     AND l.state = 'paused') AS paused
    FROM customers c WHERE c.id = ANY(:ids)
    """
)


async def facts_to_start(
    session: AsyncSession, customers: Collection[UUID]
) -> Mapping[UUID, StartFacts]:
    """By customer; who isn't there is not in it."""
    found = await session.execute(_FACTS, {"ids": list(customers)})
    return {
        row.id: StartFacts(
            agrees=frozenset(map(Channel, row.agrees)),
            reachable=frozenset(map(Channel, row.reachable)),
            running=frozenset(map(ProcessKind, row.running)),
            recovering=row.recovering,
            paused=row.paused,
        )
        for row in found
    }
