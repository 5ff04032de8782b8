"""The recurring work on the whole database: what fell through, figures, digest, verification.

A run that is repeated for one occasion changes nothing: facts carry ids that follow from what was
found, rows are unique by the moment the run was due.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client

from activities.steps import current_policy
from activities.storage import delete_past
from activities.verify import LIVED, PATIENCE, Conservation, record_verdict
from database.base import Sessions
from database.events import ANSWERS_KEPT_FOR, IdempotentAnswer, KpiSnapshot
from database.inbox import Inbox
from database.messages import Message
from database.queries.staff import forget_past
from database.queries.starts import contacts_begun, customers_to_contact
from domain.lifecycle import LeadReceived, OrderNews
from domain.messages import MESSAGES, Channel, Template, message_key
from domain.policies import CaseKind, FollowUpPolicy, MarketingPolicy, PolicyKind
from domain.processes import Fact
from domain.retention import RiskNoticed
from domain.schedules import Occasion, ScheduleName, SweepResult, schedule_id
from domain.support import CaseResolved
from temporal_runtime import tell_lifecycle

_LATE = timedelta(hours=1)  # of machine time: after it, a clock that should have acted has not

# The machine's time at a business time `{at}` of the customer with the simulation `s`.
_MACHINE = "coalesce(s.machine_origin + ({at} - s.business_origin) / s.speed, {at})"

_SILENT = f"""
    SELECT l.customer_id, l.silence_due_at AS at FROM lifecycles l
    JOIN customers c ON c.id = l.customer_id LEFT JOIN simulations s ON s.id = c.simulation_id
    JOIN processes p ON p.workflow_id = 'customer/' || l.customer_id
    WHERE p.state = 'running' AND s.filled IS NOT TRUE
      AND {_MACHINE.format(at="l.silence_due_at")} < :now
      AND NOT EXISTS (SELECT FROM processes r WHERE r.customer_id = l.customer_id
                        AND r.kind = 'retention' AND r.state IN ('running','paused'))
      AND NOT EXISTS (SELECT FROM timeline t WHERE t.customer_id = l.customer_id
                        AND t.kind IN ('silence_noticed','risk_noticed')
                        AND t.happened_at >= l.silence_due_at)
"""
_UNFOLLOWED_ORDERS = f"""
    SELECT o.id, o.customer_id, o.delivered_at AS at FROM orders o
    JOIN customers c ON c.id = o.customer_id LEFT JOIN simulations s ON s.id = c.simulation_id
    WHERE o.state = 'delivered' AND s.filled IS NOT TRUE
      AND {_MACHINE.format(at="(o.delivered_at + :wait)")} < :now
      AND NOT EXISTS (SELECT FROM processes f WHERE f.workflow_id = 'follow-up/' || o.id)
      AND NOT EXISTS (SELECT FROM processes p WHERE p.workflow_id = 'customer/' || o.customer_id
                        AND p.state IN ('paused','stopped'))
"""
_UNFOLLOWED_CASES = f"""
    SELECT k.id, k.customer_id, k.kind, k.resolved_at AS at FROM cases k
    JOIN customers c ON c.id = k.customer_id LEFT JOIN simulations s ON s.id = c.simulation_id
    WHERE k.state IN ('resolved','closed') AND k.kind IN ('request','question','incident')
      AND k.outcome = 'resolved' AND s.filled IS NOT TRUE
      AND {_MACHINE.format(at="(k.resolved_at + :wait)")} < :now
      AND NOT EXISTS (SELECT FROM processes f WHERE f.workflow_id = 'follow-up/' || k.id)
      AND NOT EXISTS (SELECT FROM processes p WHERE p.workflow_id = 'customer/' || k.customer_id
                        AND p.state IN ('paused','stopped'))
"""

# Real customers only; where there are none (a demo, a replay) all of them, and it says so.
_FIGURES = """
    WITH scope AS (
        SELECT id FROM customers WHERE simulation_id IS NULL
            OR NOT EXISTS (SELECT FROM customers WHERE simulation_id IS NULL)),
    d AS (
        SELECT o.id, o.delivered_late,
               NOT EXISTS (SELECT FROM promises p WHERE p.order_id = o.id
                             AND p.state IN ('broken','partly_kept')) AS perfect
        FROM orders o JOIN scope ON scope.id = o.customer_id WHERE o.delivered_at IS NOT NULL),
    k AS (SELECT c.* FROM cases c JOIN scope ON scope.id = c.customer_id),
    f AS (SELECT f.* FROM feedback f JOIN scope ON scope.id = f.customer_id),
    v AS (SELECT v.* FROM surveys v JOIN scope ON scope.id = v.customer_id),
    m AS (SELECT m.* FROM messages m JOIN scope ON scope.id = m.customer_id)
    SELECT jsonb_build_object(
        'simulated', NOT EXISTS (SELECT FROM customers WHERE simulation_id IS NULL),
        'perfect_deliveries', (SELECT jsonb_build_object('share', avg(perfect::int), 'n', count(*))
                                 FROM d),
        'on_time', (SELECT jsonb_build_object('share', avg((NOT delivered_late)::int),
                                              'n', count(delivered_late)) FROM d),
        'first_response_met', (SELECT jsonb_build_object(
            'share', avg((first_response_missed_at IS NULL)::int), 'n', count(*)) FROM k
            WHERE coalesce(first_response_at, first_response_missed_at, resolved_at) IS NOT NULL),
        'resolution_met', (SELECT jsonb_build_object(
            'share', avg((resolution_missed_at IS NULL)::int), 'n', count(*)) FROM k
            WHERE resolved_at IS NOT NULL),
        'satisfaction', (SELECT jsonb_build_object('mean_stars', avg(score), 'n', count(*),
            'response_rate', (SELECT avg((answered_at IS NOT NULL)::int) FROM v),
            'asked', (SELECT count(*) FROM v))
            FROM f WHERE scale = 'stars'),
        'recovery_open', (SELECT jsonb_build_object(
            'n', count(*) FILTER (WHERE resolved_at IS NULL), 'of', count(*)) FROM k
            WHERE kind = 'recovery'),
        'messages_explained', (SELECT jsonb_build_object('share', avg((
            state IN ('accepted','delivered','cancelled') OR decision IS NOT NULL
            OR provider_answer IS NOT NULL)::int), 'n', count(*)) FROM m
            WHERE state NOT IN ('queued','sending')))
"""

_ATTENTION = f"""
    SELECT 'tasks overdue: ' || role AS what, count(*) AS n FROM tasks t
        JOIN customers c ON c.id = t.customer_id LEFT JOIN simulations s ON s.id = c.simulation_id
        WHERE t.ended_at IS NULL AND s.filled IS NOT TRUE
          AND coalesce(s.machine_origin + (t.due_at - s.business_origin) / s.speed, t.due_at) < :now
        GROUP BY role
    UNION ALL SELECT 'cases open: ' || queue, count(*) FROM cases x
        WHERE state NOT IN ('resolved','closed') AND {LIVED} GROUP BY queue
    UNION ALL SELECT 'orders late', count(*) FROM orders x
        WHERE late_noticed_at IS NOT NULL AND delivered_at IS NULL AND ended_at IS NULL
          AND {LIVED}
        HAVING count(*) > 0
    UNION ALL SELECT 'messages waiting for more than an hour', count(*) FROM messages
        WHERE state IN ('queued','sending') AND queued_at < :now - interval '1 hour'
        HAVING count(*) > 0
    UNION ALL SELECT 'messages that will not arrive', count(*) FROM messages x
        WHERE state IN ('failed','bounced','unknown') AND queued_at > :now - interval '1 day'
          AND {LIVED}
        HAVING count(*) > 0
    UNION ALL SELECT 'findings of the last check', sum((found->>'count')::int) FROM (
        SELECT findings FROM verifications WHERE taken_at <= :now ORDER BY taken_at DESC LIMIT 1) v,
        jsonb_array_elements(v.findings->'findings') found
        HAVING count(*) > 0
    ORDER BY 1
"""


@dataclass(frozen=True)
class SweepActivities:
    """`digest_to`: the address of the digest, empty for none; `inbox`: the local one, if any.

    `patience`: how long the nightly check looks at something suspect again.
    """

    sessions: Sessions
    client: Client
    digest_to: str = ""
    inbox: Inbox | None = None
    patience: timedelta = PATIENCE

    @activity.defn
    async def find_uncontacted_customers(self, occasion: Occasion) -> SweepResult:
        """Customers who agreed to marketing, have not ordered and were never contacted: so many a
        day as the policy says.
        """
        event_id = f"sweep/contact/{occasion.at:%Y%m%d}"
        async with self.sessions() as session:
            policy = await current_policy(session, PolicyKind.MARKETING)
            assert isinstance(policy, MarketingPolicy)
            begun = await contacts_begun(session, event_id, since=occasion.at - timedelta(days=1))
            chosen = await customers_to_contact(session, policy.scheduled_contacts - begun)
        for customer_id, clock in chosen:
            lead = LeadReceived(
                event_id=event_id,
                occurred_at=clock.business(occasion.at),
                source="schedule",
                by_schedule=True,
            )
            await self._tell(customer_id, "lead_received", lead)
        return SweepResult(found=len(chosen))

    @activity.defn
    async def find_silent_customers(self, occasion: Occasion) -> SweepResult:
        """Customers silent beyond their rhythm, of whom no lifecycle has taken notice."""
        async with self.sessions() as session:
            silent = await self._rows(session, _SILENT, now=occasion.at - _LATE)
        for row in silent:
            activity.heartbeat(str(row.customer_id))
            risk = RiskNoticed(
                event_id=f"sweep/silence/{row.at:%Y%m%dT%H%M%S}",
                occurred_at=row.at,
                cause=f"silence-{row.at:%Y%m%d}",
            )
            await tell_lifecycle(self.client, row.customer_id, "risk_noticed", risk)
        return SweepResult(found=len(silent))

    @activity.defn
    async def find_missing_follow_ups(self, occasion: Occasion) -> SweepResult:
        """Deliveries and resolved cases past the policy's moment without a follow-up."""
        async with self.sessions() as session:
            policy = await current_policy(session, PolicyKind.FOLLOW_UP)
            assert isinstance(policy, FollowUpPolicy)
            now = occasion.at - _LATE
            orders = await self._rows(
                session, _UNFOLLOWED_ORDERS, now=now, wait=policy.after_delivery
            )
            cases = await self._rows(session, _UNFOLLOWED_CASES, now=now, wait=policy.after_case)
        for row in orders:
            event_id = f"sweep/delivered/{row.id}"
            news = OrderNews(
                event_id=event_id, occurred_at=row.at, order_id=row.id, kind="delivered"
            )
            await self._tell(row.customer_id, "order_news", news)
        for row in cases:
            resolved = CaseResolved(
                event_id=f"sweep/resolved/{row.id}/{row.at:%Y%m%dT%H%M%S}",
                occurred_at=row.at,
                case_id=row.id,
                kind=CaseKind(row.kind),
            )
            await self._tell(row.customer_id, "case_resolved", resolved)
        return SweepResult(found=len(orders) + len(cases))

    @activity.defn
    async def take_kpi_snapshot(self, occasion: Occasion) -> SweepResult:
        """At most seven figures, each with the number it rests on (features.md C9, F1)."""
        async with self.sessions.begin() as session:
            figures = await session.scalar(sa.text(_FIGURES))
            row = insert(KpiSnapshot).values(taken_at=occasion.at, figures=figures)
            await session.execute(row.on_conflict_do_nothing())
        return SweepResult(found=1)

    @activity.defn
    async def write_staff_digest(self, occasion: Occasion) -> SweepResult:
        """One mail a day to staff; none where no address is set."""
        async with self.sessions.begin() as session:
            rows = await self._rows(session, _ATTENTION, now=occasion.at)
            if self.digest_to:
                lines = "\n".join(f"{row.what}: {row.n}" for row in rows)
                await self._queue_digest(session, occasion.at, lines)
        return SweepResult(found=len(rows))

    async def _queue_digest(self, session: AsyncSession, at: datetime, lines: str) -> None:
        kind = MESSAGES[Template.STAFF_DIGEST]
        day = at.date().isoformat()
        schedule = schedule_id(ScheduleName.STAFF_DIGEST)
        values: dict[str, Any] = {
            "key": message_key(schedule, Template.STAFF_DIGEST, day),
            "workflow_id": schedule,
            "step": day,
            "template": Template.STAFF_DIGEST,
            "message_class": kind.message_class,
            "purpose": kind.purpose,
            "channel": Channel.EMAIL,
            "context": {"day": day, "lines": lines, "to": self.digest_to},
            "asked_at": at,
        }
        await session.execute(insert(Message).values(values).on_conflict_do_nothing())

    @activity.defn
    async def forget_answers(self, occasion: Occasion) -> SweepResult:
        """Answers to repeatable requests hold names and addresses: they don't outlive their use.

        Nor do sign-ins: sessions that are over, and failures that don't count any more.
        """
        old = IdempotentAnswer.recorded_at < occasion.at - ANSWERS_KEPT_FOR
        async with self.sessions.begin() as session:
            forgotten = await session.scalars(
                sa.delete(IdempotentAnswer).where(old).returning(IdempotentAnswer.id)
            )
            signed_in = await forget_past(session, occasion.at)
            return SweepResult(found=len(forgotten.all()) + signed_in)

    @activity.defn
    async def check_conservation(self, occasion: Occasion) -> SweepResult:
        """What `crm.py verify` checks; the verdict is kept, and findings are in the log."""
        check = Conservation(
            self.sessions,
            self.client,
            self.inbox,
            patience=self.patience,
            beat=activity.heartbeat,
        )
        verdict = await check.run()
        await record_verdict(self.sessions, verdict)
        for finding in verdict.findings:
            activity.logger.error("%s", finding.finding)
        found = sum(finding.count for finding in verdict.findings)
        return SweepResult(found=found, clean=verdict.clean)

    @activity.defn
    async def delete_what_is_past_its_time(self, occasion: Occasion) -> SweepResult:
        """Under the policy of kind storage; batch by batch, so a repeat goes on from there."""
        deleted = await delete_past(self.sessions, occasion.at, activity.heartbeat)
        return SweepResult(found=deleted)

    async def _tell(self, customer_id: UUID, signal: str, fact: Fact) -> None:
        activity.heartbeat(str(customer_id))
        await tell_lifecycle(self.client, customer_id, signal, fact)

    async def _rows(self, session: AsyncSession, sql: str, **values: Any) -> list[Any]:
        return list((await session.execute(sa.text(sql), values)).all())
