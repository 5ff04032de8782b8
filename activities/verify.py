"""The conservation check: nothing lost, nothing done twice, nothing stuck.

PostgreSQL, Temporal and, where there is one, the local inbox are compared. `crm.py verify` and the
nightly schedule run it; a replay runs it for its own customers.

A running system is always a little ahead in one of the three, so each look only suspects. What is
still there, unchanged, at the end of the patience is a finding.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from database.base import Sessions
from database.events import Verification
from database.inbox import Inbox
from domain.messages import DISPATCH_WORKFLOW_ID, INTAKE_WORKFLOW_ID
from domain.schedules import RECURRENCES

_LOOK_AGAIN = 1.0  # seconds
_PAGE = 1000
_EXAMPLES = 5
_INBOX_BATCH = 5_000
_FAILED = "('Failed','TimedOut','Terminated','Canceled')"
_HAS_FAILED = (
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT,
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.CANCELED,
)
_STAGE_PROCESSES = (
    "('CustomerLifecycle','MarketingContact','OrderDelivery','SupportCase','FollowUp',"
    "'RetentionOutreach')"
)


class Check(NamedTuple):
    """What is looked for. `sql` answers with the key of each offender."""

    name: str
    finding: str  # one sentence about {count} of them
    sql: str = ""


class Finding(BaseModel):
    """Something that is not as it must be."""

    check: str
    finding: str
    count: int
    examples: list[str]


class Verdict(BaseModel):
    """The outcome of a conservation check."""

    taken_at: datetime
    clean: bool
    seconds: float
    counts: dict[str, int]  # how much was looked at
    findings: list[Finding]

    def count(self, *checks: str) -> int:
        """How many offenders the named checks have found."""
        return sum(found.count for found in self.findings if found.check in checks)


# Of one customer's row `x`: not written by `crm.py fill`, behind whose rows no process is.
LIVED = """NOT EXISTS (
    SELECT FROM customers c JOIN simulations s ON s.id = c.simulation_id
    WHERE c.id = x.customer_id AND s.filled)"""

# What concerns one customer's row `x` is limited to the customers of a simulation, when asked.
_WITHIN = f"""CASE WHEN CAST(:simulation AS uuid) IS NULL THEN {LIVED} ELSE EXISTS (
    SELECT FROM customers c WHERE c.id = x.customer_id AND c.simulation_id = :simulation) END"""

# Of an event `x` the markers `t` that its process may have left: the steps it caused.
EFFECTS = """timeline t WHERE t.workflow_id = x.workflow_id AND t.step_key = ANY (
    ARRAY[x.event_id, 'heard/' || x.event_id]
    || CASE x.kind WHEN 'order_placed' THEN ARRAY['order_placed']
                   WHEN 'case_opened' THEN ARRAY['opened'] ELSE ARRAY[]::text[] END)"""

# An event has had its effect when the step it causes has left its marker; a process that staff
# paused or stopped may keep it waiting.
UNPROCESSED = f"""
    SELECT x.event_id FROM events x
    WHERE {_WITHIN}
      AND NOT EXISTS (SELECT FROM {EFFECTS})
      AND NOT EXISTS (
        SELECT FROM processes p
        WHERE p.workflow_id = x.workflow_id AND p.state IN ('paused','stopped'))
"""

# No provider has said why it waits, and none of its kind goes at the rate of its account (selling
# may do so in a warm-up).
_NONE_GOES = """
    x.channel NOT IN (
        SELECT channel FROM messages WHERE state = 'queued' AND provider_answer IS NOT NULL)
    AND (x.channel, x.message_class) NOT IN (
        SELECT channel, message_class FROM messages
        WHERE claimed_at > now() - CASE message_class WHEN 'marketing'
                                        THEN interval '1 hour' ELSE interval '1 minute' END)
"""

# Due and not taken; or taken and not settled, as it is for a moment with each.
UNSETTLED = f"""
    SELECT x.key FROM messages x
    WHERE {_WITHIN} AND x.not_before < now() AND (
        x.state = 'sending'
        OR (x.state = 'queued' AND x.provider_answer IS NULL AND {_NONE_GOES}))
"""

# A claim is renewed every few seconds for as long as its provider takes to answer.
_CLAIM_HOLDS = "x.state = 'sending' AND x.claimed_at > now() - interval '1 minute'"

CHECKS = (
    Check(
        "customers_without_lifecycle",
        "{count} customers with events have no lifecycle process",
        f"""
        SELECT DISTINCT x.customer_id::text FROM events x
        WHERE {_WITHIN} AND x.customer_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM processes p WHERE p.workflow_id = 'customer/' || x.customer_id)
        """,
    ),
    Check(
        "events_without_effect",
        "{count} accepted events have had no effect on their process",
        UNPROCESSED,
    ),
    Check(
        "orders_without_process",
        "{count} orders have no delivery process",
        f"""
        SELECT x.id::text FROM orders x
        WHERE {_WITHIN} AND NOT EXISTS (
            SELECT FROM processes p WHERE p.workflow_id = 'delivery/' || x.id)
        """,
    ),
    Check(
        "deliveries_without_follow_up",
        "{count} delivered orders are not followed up",
        f"""
        SELECT x.id::text FROM orders x
        WHERE {_WITHIN} AND x.delivered_at IS NOT NULL
          AND NOT EXISTS (SELECT FROM processes p WHERE p.workflow_id = 'follow-up/' || x.id)
          AND NOT EXISTS (
            SELECT FROM processes p WHERE p.workflow_id = 'customer/' || x.customer_id
                                      AND p.state IN ('paused','stopped'))
        """,
    ),
    Check(
        "disappointments_without_case",
        "{count} disappointed customers have no recovery case",
        f"""
        SELECT x.id::text FROM feedback x
        WHERE {_WITHIN} AND x.recovery_case_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM cases k WHERE k.id = x.recovery_case_id)
        """,
    ),
    Check(
        "ends_unheard",
        "{count} stage processes have ended and the customer's lifecycle has not heard of it",
        f"""
        SELECT x.workflow_id FROM processes x
        WHERE {_WITHIN} AND x.state = 'completed'
          AND x.kind IN ('marketing','support','follow_up','retention')
          AND NOT EXISTS (
            SELECT FROM timeline t
            WHERE t.workflow_id = 'customer/' || x.customer_id AND t.kind = 'process_ended'
              AND t.facts->>'process' = x.workflow_id)
          AND NOT EXISTS (
            SELECT FROM processes p WHERE p.workflow_id = 'customer/' || x.customer_id
                                      AND p.state IN ('paused','stopped'))
        """,
    ),
    Check(
        "timers_missed",
        "{count} processes have not acted at the moment they waited for",
        f"""
        SELECT x.workflow_id || ' at ' || x.next_timer_machine_at FROM processes x
        WHERE {_WITHIN} AND x.state = 'running' AND x.next_timer_machine_at < now()
        """,
    ),
    Check(
        "messages_unsettled",
        "{count} messages are due and neither sent nor given up",
        f"{UNSETTLED} AND ({_CLAIM_HOLDS} AND x.claimed_by IS NOT NULL) IS NOT TRUE",
    ),
    Check(
        "messages_unexplained",
        "{count} messages were sent, or were not, and nothing says why",
        f"""
        SELECT x.key FROM messages x
        WHERE {_WITHIN} AND (
            -- A silence has one by a constraint. What was sent before conversations were kept is
            -- left: nobody can explain it any more.
            (x.state IN ('accepted','delivered','bounced','complained','unknown')
                AND x.decision IS NULL AND x.conversation IS NOT NULL)
            OR (x.state = 'held' AND x.not_before < now() - interval '5 minutes'
                AND {_NONE_GOES})
            OR (x.state IN ('failed','bounced','complained','unknown')
                AND x.provider_answer IS NULL))
        """,
    ),
    Check(
        "reports_unprocessed",
        "{count} delivery reports have waited for more than a minute",
        f"""
        SELECT r.source || '/' || r.event_id FROM delivery_reports r
        LEFT JOIN messages x ON x.id = r.message_id
        WHERE r.processed_at IS NULL AND r.received_at < now() - interval '1 minute' AND {_WITHIN}
        """,
    ),
    Check(
        "received_unprocessed",
        "{count} mails or texts that came have waited for more than a minute",
        f"""
        SELECT 'mail ' || x.id FROM received_mails x
        WHERE {_WITHIN} AND x.processed_at IS NULL AND x.received_at < now() - interval '1 minute'
        UNION ALL
        SELECT 'text ' || x.id FROM received_texts x
        WHERE {_WITHIN} AND x.processed_at IS NULL AND x.received_at < now() - interval '1 minute'
        """,
    ),
    Check(
        "received_failed",
        "{count} mails or texts that came could not be acted upon",
        f"""
        SELECT 'mail ' || x.id FROM received_mails x WHERE {_WITHIN} AND x.outcome = 'failed'
        UNION ALL
        SELECT 'text ' || x.id FROM received_texts x WHERE {_WITHIN} AND x.outcome = 'failed'
        """,
    ),
    Check(
        "messages_failed",
        "{count} messages could not be handed over",
        f"SELECT x.key FROM messages x WHERE {_WITHIN} AND x.state = 'failed'",
    ),
    Check(
        "tasks_of_ended_processes",
        "{count} tasks are open although their process has ended",
        f"""
        SELECT x.id::text FROM tasks x
        JOIN processes p ON p.workflow_id = x.workflow_id
        WHERE {_WITHIN} AND x.ended_at IS NULL AND p.state IN ('completed','stopped')
        """,
    ),
    Check(
        "effects_twice",
        "{count} things were done or said twice",
        f"""
        SELECT x.workflow_id || ' ' || x.template FROM messages x
        WHERE {_WITHIN} AND x.state <> 'suppressed' AND x.template IN (
            'order_confirmed','order_dispatched','order_at_risk','order_late',
            'order_delivered','order_returned','order_unavailable','order_cancelled',
            'survey_request','survey_reminder','recovery_started','case_acknowledged')
        GROUP BY x.workflow_id, x.template, x.channel, x.context HAVING count(*) > 1
        UNION ALL  -- a day may be promised again after another one
        SELECT x.workflow_id || ' ' || x.template FROM (
            SELECT m.*, lag(m.context) OVER (
                PARTITION BY m.workflow_id, m.channel ORDER BY m.asked_at, m.id) AS said_before
            FROM messages m WHERE m.template = 'order_rescheduled') x
        WHERE {_WITHIN} AND x.state <> 'suppressed' AND x.context = x.said_before
        UNION ALL
        SELECT x.order_id || ' ' || x.milestone FROM (
            SELECT m.*, o.customer_id FROM order_milestones m JOIN orders o ON o.id = m.order_id) x
        WHERE {_WITHIN} AND x.effect = 'advances'
          AND x.milestone IN ('order_approved','order_delivered','order_returned',
                              'order_unavailable','order_cancelled')
        GROUP BY x.order_id, x.milestone HAVING count(*) > 1
        UNION ALL
        SELECT 'case for ' || x.feedback_id FROM cases x
        WHERE {_WITHIN} AND x.feedback_id IS NOT NULL
        GROUP BY x.feedback_id HAVING count(*) > 1
        UNION ALL
        SELECT 'order ' || x.reference FROM (
            SELECT o.*, e.body->>'source' AS source FROM orders o
            JOIN events e ON e.order_id = o.id AND e.kind = 'order_placed') x
        WHERE {_WITHIN}
        GROUP BY x.source, x.reference HAVING count(DISTINCT x.id) > 1
        """,
    ),
)
# What follows from facts that are known already, apart from messages and timers.
CONSEQUENCES = tuple(
    check
    for check in CHECKS
    if check.name
    in (
        "customers_without_lifecycle",
        "events_without_effect",
        "orders_without_process",
        "deliveries_without_follow_up",
        "disappointments_without_case",
        "ends_unheard",
    )
)

FAILED = Check("workflows_failed", "{count} workflows have failed or were ended by force")
NOT_RUNNING = Check("not_running", "{count} processes are open here and do not run in Temporal")
STILL_RUNNING = Check("still_running", "{count} processes have ended here and run in Temporal")
UNKNOWN_HERE = Check("unknown_here", "{count} processes run in Temporal and are not known here")
INBOX_TWICE = Check("mails_twice", "{count} messages are in the inbox more than once")
INBOX_LACKS = Check("mails_missing", "{count} accepted messages are not in the inbox")

_COUNTS = f"""
    SELECT (SELECT count(*) FROM (SELECT c.id AS customer_id FROM customers c) x
            WHERE {_WITHIN}) AS customers,
           (SELECT count(*) FROM events x WHERE {_WITHIN}) AS events,
           (SELECT count(*) FROM processes x WHERE {_WITHIN}) AS processes,
           (SELECT count(*) FROM messages x WHERE {_WITHIN}) AS messages,
           (SELECT count(*) FROM tasks x WHERE {_WITHIN}) AS tasks
"""
_STANDINGS = f"""
    SELECT x.workflow_id, x.state IN ('completed','stopped') AS ended, x.updated_at
    FROM processes x WHERE {_WITHIN}
"""
_HANDED_OVER = f"""
    SELECT x.message_id, x.id::text AS effect, x.key FROM messages x
    WHERE {_WITHIN} AND x.state IN ('accepted','delivered') AND x.message_id IS NOT NULL
"""

Suspects = dict[tuple[Check, str], str]  # (check, key) -> how it looked; must not change


PATIENCE = timedelta(minutes=2)  # with something suspect that doesn't change any more


@dataclass(frozen=True)
class Conservation:
    """One check. `inbox` where mail goes to the local one; `simulation` limits it to a replay's
    customers. `beat` is called often, for the activity's heartbeat."""

    sessions: Sessions
    client: Client
    inbox: Inbox | None = None
    simulation: UUID | None = None
    patience: timedelta = PATIENCE
    beat: Callable[[], None] = field(default=lambda: None)

    async def run(self) -> Verdict:
        """Look until nothing is suspect any more, or for as long as the patience lasts."""
        begun = time.monotonic()
        suspects = {
            **await self._suspects_in_postgres(),
            **await self._suspects_in_temporal(),
            **await self._suspects_in_inbox(),
        }
        moved_at = begun  # a busy system that works off what has piled up is waited for
        while suspects and time.monotonic() - moved_at < self.patience.total_seconds():
            self.beat()
            await asyncio.sleep(_LOOK_AGAIN)
            left = await self._still_suspect(suspects)
            if len(left) < len(suspects):
                moved_at = time.monotonic()
            suspects = left
        findings = _findings(suspects)
        return Verdict(
            taken_at=datetime.now(UTC),
            clean=not findings,
            seconds=round(time.monotonic() - begun, 1),
            counts=await self._counts(),
            findings=findings,
        )

    async def _still_suspect(self, suspects: Suspects) -> Suspects:
        again = await self._suspects_in_postgres()
        looked_at = {check for check, _ in suspects}
        if looked_at & {NOT_RUNNING, STILL_RUNNING, UNKNOWN_HERE}:
            again |= await self._compare_again(suspects)
        if FAILED in looked_at:
            again |= await self._failed(key for check, key in suspects if check is FAILED)
        if looked_at & {INBOX_TWICE, INBOX_LACKS}:
            again |= await self._suspects_in_inbox()
        return {key: how for key, how in suspects.items() if again.get(key) == how}

    # --- PostgreSQL --------------------------------------------------------------------------

    async def _suspects_in_postgres(self) -> Suspects:
        suspects: Suspects = {}
        async with self.sessions() as session:
            for check in CHECKS:
                for key in await self._keys(session, check.sql):
                    suspects[check, key] = ""
                self.beat()
        return suspects

    async def _keys(self, session: AsyncSession, sql: str) -> Sequence[str]:
        found = await session.execute(sa.text(sql), {"simulation": self.simulation})
        return [str(row[0]) for row in found]

    async def _counts(self) -> dict[str, int]:
        async with self.sessions() as session:
            row = (await session.execute(sa.text(_COUNTS), {"simulation": self.simulation})).one()
        return dict(row._mapping)

    async def _standings(self) -> dict[str, tuple[bool, str]]:
        """Whether each process has ended as far as we know, and since when we know it."""
        async with self.sessions() as session:
            found = await session.execute(sa.text(_STANDINGS), {"simulation": self.simulation})
            return {row.workflow_id: (row.ended, str(row.updated_at)) for row in found}

    # --- Temporal ----------------------------------------------------------------------------

    async def _suspects_in_temporal(self) -> Suspects:
        ours = await self._our_customers()
        failed = {
            workflow_id
            async for workflow_id, customer in self._list(f"ExecutionStatus IN {_FAILED}")
            if ours is None or customer in ours
        }
        if ours is None:
            failed |= {DISPATCH_WORKFLOW_ID, INTAKE_WORKFLOW_ID, *await self._last_sweeps()}
        suspects = await self._failed(failed)
        running = {
            workflow_id
            async for workflow_id, customer in self._list("ExecutionStatus = 'Running'")
            if ours is None or customer in ours
        }
        # After the list, so that a process of which we know is never missing only for being new.
        standings = await self._standings()
        suspects |= _compare(standings, running)
        return suspects

    async def _compare_again(self, suspects: Suspects) -> Suspects:
        """The suspects one by one: the list of Temporal may be a little behind."""
        asked = {key for check, key in suspects if check in (NOT_RUNNING, STILL_RUNNING)}
        asked |= {key for check, key in suspects if check is UNKNOWN_HERE}
        running = {
            workflow_id
            for workflow_id in sorted(asked)
            if await self._status(workflow_id) is WorkflowExecutionStatus.RUNNING
        }
        standings = await self._standings()
        known = {key: how for key, how in standings.items() if key in asked}
        return _compare(known, running)

    async def _failed(self, workflow_ids: Iterable[str]) -> Suspects:
        """Of those named, the ones whose newest run has failed: staff may have taken one up again,
        or let it go back, which leaves the run before it failed for ever.
        """
        return {
            (FAILED, workflow_id): ""
            for workflow_id in sorted(set(workflow_ids))
            if await self._status(workflow_id) in _HAS_FAILED
        }

    async def _last_sweeps(self) -> list[str]:
        """The last finished run of each schedule; what the one before missed, it has caught up."""
        last = []
        for recurrence in RECURRENCES.values():
            query = f"WorkflowType = '{recurrence.workflow}' AND ExecutionStatus != 'Running'"
            last += [one.id async for one in self.client.list_workflows(query, limit=1)]
        return last

    async def _status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        """Of its newest run; None: Temporal does not know it."""
        self.beat()
        try:
            found = await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        return found.status

    async def _list(self, condition: str) -> AsyncIterator[tuple[str, str]]:
        query = f"{condition} AND WorkflowType IN {_STAGE_PROCESSES}"
        async for found in self.client.list_workflows(query, page_size=_PAGE):
            customer = next(
                (
                    str(pair.value)
                    for pair in found.typed_search_attributes.search_attributes
                    if pair.key.name == "CustomerId"
                ),
                "",
            )
            yield found.id, customer
            self.beat()

    async def _our_customers(self) -> Collection[str] | None:
        if self.simulation is None:
            return None
        async with self.sessions() as session:
            sql = "SELECT id::text FROM customers WHERE simulation_id = :simulation"
            return set(await self._keys(session, sql))

    # --- the inbox ---------------------------------------------------------------------------

    async def _suspects_in_inbox(self) -> Suspects:
        if self.inbox is None:
            return {}
        async with self.sessions() as session:
            handed_over = (
                await session.execute(sa.text(_HANDED_OVER), {"simulation": self.simulation})
            ).all()
        suspects: Suspects = {}
        keys = {row.message_id: row.key for row in handed_over}
        keys |= {row.effect: row.key for row in handed_over}
        for duplicate in await self.inbox.duplicates():
            key = keys.get(duplicate.message_id) or keys.get(duplicate.effect)
            if key is not None:
                suspects[INBOX_TWICE, key] = ""
        ids = [row.message_id for row in handed_over]
        for start in range(0, len(ids), _INBOX_BATCH):
            batch = ids[start : start + _INBOX_BATCH]
            there = await self.inbox.by_message_id(batch)
            for message_id in batch:
                if message_id not in there:
                    suspects[INBOX_LACKS, keys[message_id]] = ""
            self.beat()
        return suspects


def _compare(standings: dict[str, tuple[bool, str]], running: Collection[str]) -> Suspects:
    suspects: Suspects = {}
    for workflow_id, (ended, since) in standings.items():
        if ended and workflow_id in running:
            suspects[STILL_RUNNING, workflow_id] = since
        if not ended and workflow_id not in running:
            suspects[NOT_RUNNING, workflow_id] = since
    for workflow_id in running:
        if workflow_id not in standings:
            suspects[UNKNOWN_HERE, workflow_id] = ""
    return suspects


def _findings(suspects: Iterable[tuple[Check, str]]) -> list[Finding]:
    by_check: dict[Check, list[str]] = {}
    for check, key in suspects:
        by_check.setdefault(check, []).append(key)
    return [
        Finding(
            check=check.name,
            finding=check.finding.format(count=len(keys)),
            count=len(keys),
            examples=sorted(keys)[:_EXAMPLES],
        )
        for check, keys in by_check.items()
    ]


async def record_verdict(sessions: Sessions, verdict: Verdict) -> None:
    """Keep the outcome, so that operators see when it was last clean."""
    document: dict[str, Any] = verdict.model_dump(mode="json")
    async with sessions.begin() as session:
        session.add(Verification(taken_at=verdict.taken_at, clean=verdict.clean, findings=document))
