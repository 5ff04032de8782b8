"""Writes of the customer's lifecycle: facts, stages, and what other processes must hear."""

from dataclasses import dataclass
from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client

from activities.steps import begin_step, current_policy, open_task, surroundings_of
from database.base import Sessions, table_of
from database.customers import NEWEST_STATEMENT, Consent, ContactPoint, Customer, Suppression
from database.processes import Lifecycle, ProcessRow
from domain.contacts import ConsentState
from domain.lifecycle import (
    FactRecorded,
    LifecycleStep,
    LifecycleTerms,
    MailUnclear,
    unclear_mail_key,
)
from domain.messages import Channel, Purpose
from domain.policies import (
    FollowUpPolicy,
    PolicyKind,
    Priority,
    RetentionPolicy,
    SupportPolicy,
)
from domain.processes import SELLING, ProcessKind, Stage
from domain.retention import silence_after
from domain.starts import NO_CONSENT
from domain.tasks import Role, TaskKind, TaskRequest
from temporal_runtime import tell_process

_RULES = 1  # see FactRecorded
# The newest word on each channel.
_CONSENTS = (
    sa.select(Consent.channel, Consent.state)
    .where(Consent.customer_id == sa.bindparam("customer_id"), Consent.purpose == Purpose.MARKETING)
    .ext(distinct_on(Consent.channel))
    .order_by(Consent.channel, *NEWEST_STATEMENT)
)
# The address of each channel that is used, unless it is suppressed.
_addresses = (
    sa.select(ContactPoint.channel, sa.func.lower(ContactPoint.address).label("address"))
    .ext(distinct_on(ContactPoint.channel))
    .where(
        ContactPoint.customer_id == sa.bindparam("customer_id"), ContactPoint.retired_at.is_(None)
    )
    .order_by(ContactPoint.channel, ContactPoint.recorded_at.desc(), ContactPoint.id.desc())
    .subquery()
)
_WAYS = sa.select(_addresses.c.channel).where(
    ~sa.exists().where(
        Suppression.channel == _addresses.c.channel,
        Suppression.address == _addresses.c.address,
        sa.or_(Suppression.purpose.is_(None), Suppression.purpose == Purpose.MARKETING),
        Suppression.lifted_at.is_(None),
    )
)
# Whoever withdraws a consent tells of it before he commits: this waits for him.
_AWAIT_WITHDRAWALS = (
    sa.select(Customer.id)
    .where(Customer.id == sa.bindparam("customer_id"))
    .with_for_update(read=True)
)
_CONTACTS = sa.select(sa.func.count()).where(
    ProcessRow.customer_id == sa.bindparam("customer_id"), ProcessRow.kind == ProcessKind.MARKETING
)


def _move_statement() -> sa.Executable:
    """Why and since when is of the stage: news that leave it where it is change neither."""
    lifecycles = table_of(Lifecycle)
    row = insert(lifecycles)
    old, new = lifecycles.c, row.excluded
    moved = old.stage != new.stage
    return row.on_conflict_do_update(
        index_elements=["customer_id"],
        set_={
            "stage": new.stage,
            "stage_reason": sa.case((moved, new.stage_reason), else_=old.stage_reason),
            "stage_since": sa.case((moved, new.stage_since), else_=old.stage_since),
            "last_heard_at": new.last_heard_at,
            "silence_due_at": new.silence_due_at,
            "updated_at": sa.func.now(),
        },
    )


_MOVE = _move_statement()


@dataclass(frozen=True)
class LifecycleActivities:
    sessions: Sessions
    client: Client

    @activity.defn
    async def record_fact(self, step: LifecycleStep) -> FactRecorded:
        """Note a fact and the stage that follows; tell the stage processes after the commit.

        Marketing and retention start only with consent: the answer says so, or why not. While one
        channel is still open to selling, an opt-out of another ends none of them.
        """
        async with self.sessions.begin() as session:
            terms = await _terms(session, step) if step.opens else None
            if terms is not None:
                step = _by_its_own_terms(step, terms)
            allowed, because = await _may_start(session, step)
            facts = {**step.facts, **({"not_started": because} if not allowed else {})}
            still_open = await _still_open(session, step) if step.closes else set[Channel]()
            if still_open:
                facts["selling_goes_on_by"] = ", ".join(sorted(still_open))
            begun = await begin_step(session, step, step.fact, facts)
            if begun.stands:
                await _move(session, step, step.stage if allowed else step.stage_otherwise)
            if begun:
                if step.need is not None:
                    await _ask_for_opportunity(session, step)
                if step.unclear is not None:
                    await _ask_whose_mail(session, step, step.unclear)
        unheard = [
            workflow_id
            for workflow_id in (() if still_open else step.tell)
            if not await tell_process(self.client, workflow_id, step.tell_signal, step.tell_fact)
        ]
        return FactRecorded(
            allowed=allowed,
            because=because,
            unheard=tuple(unheard),
            terms=terms,
            rules=_RULES,
        )


def _by_its_own_terms(step: LifecycleStep, terms: LifecycleTerms) -> LifecycleStep:
    """The first step was thought out before the clock and the policy were known."""
    if step.silence_due_at is None or step.last_heard_at is None:
        return step.with_timer(step.standing.next_timer_at, terms.clock)
    silence_at = step.last_heard_at + silence_after(terms.policy, ())  # no rhythm yet
    mended = step.model_copy(update={"silence_due_at": silence_at})
    return mended.with_timer(silence_at, terms.clock)


async def _may_start(session: AsyncSession, step: LifecycleStep) -> tuple[bool, str]:
    if step.starts not in SELLING:
        return True, ""
    if await _agreed(session, step):
        return True, ""
    return False, NO_CONSENT


async def _agreed(session: AsyncSession, step: LifecycleStep) -> set[Channel]:
    """The channels with a consent to marketing."""
    found = await session.execute(_CONSENTS, {"customer_id": step.customer_id})
    return {row.channel for row in found if row.state is ConsentState.GRANTED}


async def _still_open(session: AsyncSession, step: LifecycleStep) -> set[Channel]:
    """The channels on which the customer may still be sold to, after those that a fact closes."""
    about = {"customer_id": step.customer_id}
    await session.execute(_AWAIT_WITHDRAWALS, about)
    ways = (await session.scalars(_WAYS, about)).all()
    return (await _agreed(session, step)).intersection(ways) - set(step.closes)


async def _move(session: AsyncSession, step: LifecycleStep, stage: Stage) -> None:
    row = {
        "customer_id": step.customer_id,
        "stage": stage,
        "stage_reason": step.stage_reason,
        "stage_since": step.at,
        "last_heard_at": step.last_heard_at,
        "silence_due_at": step.silence_due_at,
    }
    await session.execute(_MOVE, row)


async def _ask_for_opportunity(session: AsyncSession, step: LifecycleStep) -> None:
    assert step.need is not None
    policy = await current_policy(session, PolicyKind.FOLLOW_UP)
    due_at = step.at + cast(FollowUpPolicy, policy).opportunity_due
    task = TaskRequest(
        key=f"need/{step.need.need_id}",
        kind=TaskKind.OPPORTUNITY,
        role=Role.ACCOUNT_MANAGER,
        due_at=due_at,
    )
    await open_task(session, step, task)


async def _ask_whose_mail(session: AsyncSession, step: LifecycleStep, mail: MailUnclear) -> None:
    policy = cast(SupportPolicy, await current_policy(session, PolicyKind.SUPPORT))
    task = TaskRequest(
        key=unclear_mail_key(mail.mail_id),
        kind=TaskKind.ATTRIBUTE_MAIL,
        role=Role.SUPPORT_AGENT,
        due_at=step.at + policy.first_response[Priority.NORMAL],
    )
    await open_task(session, step, task)


async def _terms(session: AsyncSession, step: LifecycleStep) -> LifecycleTerms:
    around = await surroundings_of(session, step.customer_id, PolicyKind.RETENTION)
    clock, _, policy, version = around
    contacts = await session.scalar(_CONTACTS, {"customer_id": step.customer_id})
    return LifecycleTerms(
        clock=clock,
        policy=cast(RetentionPolicy, policy),
        policy_version=version,
        marketing_sequence=contacts or 0,
    )
