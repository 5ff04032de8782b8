"""Writes of the support process. One activity is one transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client

from activities.processes import report_end
from activities.steps import (
    Begun,
    begin_step,
    open_task,
    queue_message,
    surroundings_of,
    withdraw_tasks,
)
from database.base import Sessions
from database.messages import Message
from database.queries.customers import hold_messages
from database.staff import Staff
from database.support import Case
from domain.contacts import Decision, Outcome
from domain.messages import MessageRequest, MessageState, Template
from domain.policies import CaseKind, PolicyKind, SupportPolicy
from domain.processes import Fact
from domain.received_mails import MAIL_EVENT, ONE_ANSWER_IN
from domain.support import (
    CaseAnsweredStep,
    CaseAssignedStep,
    CaseClosed,
    CaseEscalatedStep,
    CaseInput,
    CaseOpened,
    CaseOpenedStep,
    CaseResolved,
    CaseResolvedStep,
    CaseState,
    CaseStep,
    CaseTerms,
    acknowledge_by,
    first_task,
)
from temporal_runtime import tell_lifecycle

_MISSED = {"first_response": "first_response_missed_at", "resolution": "resolution_missed_at"}


@dataclass(frozen=True)
class SupportActivities:
    sessions: Sessions
    client: Client

    @activity.defn
    async def open_case(self, step: CaseOpenedStep) -> CaseTerms:
        """The case with its clocks, its first task, and the acknowledgement to the customer.

        Answers with the customer's clock, the policy in force, and whose it is.
        """
        opened = step.opened
        async with self.sessions.begin() as session:
            around = await surroundings_of(session, step.customer_id, PolicyKind.SUPPORT)
            clock, _, policy, version = around
            recovers = opened.kind is CaseKind.RECOVERY
            owner = await _first_owner(session, opened) if recovers else None
            terms = CaseTerms(
                clock=clock,
                policy=cast(SupportPolicy, policy),
                policy_version=version,
                owner=owner or (opened.queue if recovers else ""),
            )
            task = first_task(terms.policy, opened)
            facts = {"kind": opened.kind, "case": case_reference(opened)}
            first = min(task.due_at, acknowledge_by(terms.policy, clock, step.began_at))
            if await begin_step(session, step.with_timer(first, clock), "case_opened", facts):
                await session.execute(
                    insert(Case)
                    .values(
                        id=opened.case_id,
                        reference=case_reference(opened),
                        customer_id=opened.customer_id,
                        kind=opened.kind,
                        state=step.case_state,
                        priority=step.priority,
                        queue=opened.queue,
                        owner=owner,
                        order_id=opened.order_id,
                        feedback_id=opened.feedback_id,
                        event_id=opened.event_id,
                        opened_at=opened.opened_at,
                        contact_by=opened.contact_by,
                        first_response_due=task.due_at,
                        resolution_due=opened.opened_at + terms.policy.resolution[opened.priority],
                    )
                    .on_conflict_do_nothing()
                )
                await open_task(session, step, task, case_id=opened.case_id)
                await acknowledge_case(session, step, _acknowledgement(opened, task.due_at))
        fact = CaseOpened(
            event_id=f"{step.workflow_id}/opened",
            occurred_at=step.at,
            case_id=opened.case_id,
            kind=opened.kind,
        )
        await tell_lifecycle(self.client, step.customer_id, "case_opened", fact)
        return terms

    @activity.defn
    async def check_acknowledged(self, step: CaseStep) -> bool:
        """Whether the customer was told in time that we know of his case."""
        async with self.sessions.begin() as session:
            state = await session.scalar(
                sa.select(Message.state).where(
                    Message.workflow_id == step.workflow_id,
                    Message.template.in_((Template.CASE_ACKNOWLEDGED, Template.RECOVERY_STARTED)),
                )
            )
            accepted = state in (
                *(MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.COMPLAINED),
                MessageState.CANCELLED,  # he has had one today
            )
            facts = {"accepted": accepted, "message": state}
            await begin_step(session, step, "acknowledgement_checked", facts)
        return accepted

    @activity.defn
    async def record_case_answered(self, step: CaseAnsweredStep) -> None:
        """Staff wrote to the customer, or asked him and now wait."""
        async with self.sessions.begin() as session:
            kind = (
                "case_waiting"
                if step.case_state is CaseState.WAITING_FOR_CUSTOMER
                else "case_answered"
            )
            if await _take(session, step, kind, {"by": step.by}, **_first_response(step)):
                await _write(session, step, step.template, step.text_id)

    @activity.defn
    async def record_case_noted(self, step: CaseStep) -> None:
        """The customer answered, or a person took the case up: state and clocks change."""
        async with self.sessions.begin() as session:
            facts = {"event": step.event_id}
            await _take(session, step, "case_updated", facts, **_first_response(step))

    @activity.defn
    async def record_case_assigned(self, step: CaseAssignedStep) -> None:
        kind = "case_assigned" if step.owner else "case_released"
        async with self.sessions.begin() as session:
            facts = {"owner": step.owner, "by": step.by}
            await _take(session, step, kind, facts, owner=step.owner or None)

    @activity.defn
    async def record_case_escalated(self, step: CaseEscalatedStep) -> None:
        """A clock was missed, or a person asked for help: priority rises, a manager is asked."""
        async with self.sessions.begin() as session:
            facts = {"clock": step.clock, "reason": step.reason, "by": step.by}
            missed: dict[str, Any] = {_MISSED[step.clock]: step.at} if step.clock in _MISSED else {}
            await _take(session, step, "case_escalated", facts, counts="escalations", **missed)

    @activity.defn
    async def record_case_resolved(self, step: CaseResolvedStep) -> None:
        """The customer is told the outcome; the case can be reopened for a while."""
        async with self.sessions.begin() as session:
            facts = {"outcome": step.case_outcome, "by": step.by}
            begun = await _take(
                session,
                step,
                "case_resolved",
                facts,
                resolved_at=step.at,
                cause=step.cause,
                outcome=step.case_outcome,
            )
            if begun:
                await _write(session, step, step.template, step.text_id)
        fact = CaseResolved(
            event_id=f"{step.workflow_id}/{step.key}",
            occurred_at=step.at,
            case_id=step.case_id,
            kind=step.case_kind,
        )
        await self._tell_lifecycle(begun, step, "case_resolved", fact)

    @activity.defn
    async def record_case_reopened(self, step: CaseStep) -> None:
        async with self.sessions.begin() as session:
            facts = {"by": step.by, "event": step.event_id}
            undone = {"resolved_at": None, "closed_at": None, "outcome": None}
            begun = await _take(session, step, "case_reopened", facts, counts="reopened", **undone)
        fact = CaseOpened(
            event_id=f"{step.workflow_id}/{step.key}",
            occurred_at=step.at,
            case_id=step.case_id,
            kind=step.case_kind,
            reopened=True,
        )
        await self._tell_lifecycle(begun, step, "case_opened", fact)

    @activity.defn
    async def record_case_closed(self, step: CaseStep) -> None:
        async with self.sessions.begin() as session:
            begun = await _take(
                session,
                step,
                "case_closed",
                closed_at=step.at,
                # A case that staff stopped was never resolved.
                resolved_at=sa.func.coalesce(Case.resolved_at, step.at),
                outcome=sa.func.coalesce(Case.outcome, step.standing.outcome),
            )
        fact = CaseClosed(
            event_id=f"{step.workflow_id}/{step.key}",
            occurred_at=step.at,
            case_id=step.case_id,
            kind=step.case_kind,
        )
        await self._tell_lifecycle(begun, step, "case_closed", fact)
        await report_end(self.client, step, begun)

    async def _tell_lifecycle(self, begun: Begun, step: CaseStep, name: str, fact: Fact) -> None:
        if begun is not Begun.OVERTAKEN:  # by the worker that has gone on, something else is told
            await tell_lifecycle(self.client, step.customer_id, name, fact)


# Of those who work its queue, whoever has the fewest open cases.
_LEAST_BUSY = (
    sa.select(Staff.id)
    .where(Staff.role == sa.bindparam("queue"), Staff.disabled_at.is_(None))
    .order_by(
        sa.select(sa.func.count())
        .where(Case.owner == Staff.id, Case.state.not_in((CaseState.RESOLVED, CaseState.CLOSED)))
        .scalar_subquery(),
        Staff.id,
    )
    .limit(1)
)


async def _first_owner(session: AsyncSession, opened: CaseInput) -> str | None:
    """Whose a case is from the start; None: its queue's, which nobody works.

    A case that is there has its owner: a repeat answers as the first time did.
    """
    there = await session.get(Case, opened.case_id)
    if there is not None:
        return there.owner
    owner: str | None = await session.scalar(_LEAST_BUSY, {"queue": opened.queue})
    return owner


def case_reference(opened: CaseInput) -> str:
    """Short enough to read out on the phone; from the id, so that a retry finds the same."""
    return f"CASE-{opened.opened_at:%Y}-{opened.case_id.hex[:8].upper()}"


async def _take(
    session: AsyncSession,
    step: CaseStep,
    kind: str,
    facts: dict[str, Any] | None = None,
    *,
    counts: str = "",
    **values: Any,
) -> Begun:
    """Begin the step and show in the case where it stands, unless the process has gone on since.

    `values` are what they are however often they are written; the column that `counts` grows once.
    """
    begun = await begin_step(session, step, kind, facts)
    changed: dict[str, Any] = {counts: getattr(Case, counts) + 1} if begun and counts else {}
    if begun.stands:
        changed |= {
            "state": step.case_state,
            "priority": step.priority,
            "first_response_due": step.first_response_due,
            "resolution_due": step.resolution_due,
            **values,
        }
    if changed:
        await session.execute(sa.update(Case).where(Case.id == step.case_id).values(changed))
    if begun.stands:
        await _open_tasks(session, step)
        if step.withdrawn:
            await withdraw_tasks(session, step, *step.withdrawn)
    return begun


def _first_response(step: CaseStep) -> dict[str, Any]:
    return {"first_response_at": step.at} if step.first else {}


async def _open_tasks(session: AsyncSession, step: CaseStep) -> None:
    for task in step.tasks:
        await open_task(session, step, task, case_id=step.case_id)


async def _write(session: AsyncSession, step: CaseStep, template: Template, text_id: Any) -> None:
    reference = await session.scalar(sa.select(Case.reference).where(Case.id == step.case_id))
    context = {} if template is Template.RECOVERY_OUTCOME else {"case": str(reference)}
    request = MessageRequest(
        template=template, occurrence=step.key, context=context, text_id=text_id
    )
    await queue_message(session, step, request)


async def acknowledge_case(
    session: AsyncSession, step: CaseOpenedStep, request: MessageRequest
) -> None:
    """Queue the acknowledgement. To a mail that comes soon after another it is cancelled at once:
    the other side may be a machine, too, that no header shows to be one.
    """
    by_mail = step.opened.event_id.startswith(MAIL_EVENT)
    if by_mail:
        await hold_messages(session, step.customer_id)  # a second case at the same moment waits
    lately = sa.select(Message.id).where(
        Message.customer_id == step.customer_id,
        Message.template == request.template,
        Message.state != MessageState.CANCELLED,
        Message.queued_at > sa.func.now() - ONE_ANSWER_IN,
    )
    second = by_mail and await session.scalar(lately.limit(1)) is not None
    await queue_message(session, step, request, cancelled=_ONE_ANSWER if second else None)


_ONE_ANSWER = Decision(
    outcome=Outcome.CANCEL,
    decided_by="one_automatic_answer",
    because="an automatic answer went to the same customer less than 24 hours ago",
)


def _acknowledgement(opened: CaseInput, respond_by: datetime) -> MessageRequest:
    if opened.kind is CaseKind.RECOVERY:
        context = {"contact_by": respond_by.isoformat()}
        return MessageRequest(template=Template.RECOVERY_STARTED, context=context)
    context = {"case": case_reference(opened), "respond_by": respond_by.isoformat()}
    return MessageRequest(template=Template.CASE_ACKNOWLEDGED, context=context)
