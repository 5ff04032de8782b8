"""The recurring work: what the Temporal Schedules start. Each run is one activity."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from temporalio import workflow
from temporalio.common import SearchAttributeKey

from activities.sweeps import SweepActivities
from domain.schedules import Occasion, SweepResult
from workflows.options import LONG_SWEEP, SWEEP, ActivityOptions

_DUE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")  # set by the schedule


def _due_at() -> datetime:
    """When the run was due; a run that was started by hand is due at its start."""
    due = workflow.info().typed_search_attributes.get(_DUE)
    return due or workflow.info().start_time


async def _run(
    activity: Callable[[SweepActivities, Occasion], Awaitable[SweepResult]],
    summary: str,
    options: ActivityOptions = SWEEP,
) -> SweepResult:
    return await workflow.execute_activity_method(
        activity, Occasion(at=_due_at()), summary=summary, **options
    )


@workflow.defn
class MarketingSweep:
    @workflow.run
    async def run(self) -> SweepResult:
        return await _run(
            SweepActivities.find_uncontacted_customers, "find who agreed and was never contacted"
        )


@workflow.defn
class RetentionSweep:
    @workflow.run
    async def run(self) -> SweepResult:
        return await _run(
            SweepActivities.find_silent_customers, "find silent customers no clock has noticed"
        )


@workflow.defn
class FollowUpSweep:
    @workflow.run
    async def run(self) -> SweepResult:
        return await _run(
            SweepActivities.find_missing_follow_ups, "find what nobody has followed up"
        )


@workflow.defn
class KpiSnapshot:
    @workflow.run
    async def run(self) -> SweepResult:
        return await _run(SweepActivities.take_kpi_snapshot, "keep the figures of the day")


@workflow.defn
class StaffDigest:
    @workflow.run
    async def run(self) -> SweepResult:
        return await _run(SweepActivities.write_staff_digest, "tell staff what needs attention")


@workflow.defn
class NightlyVerification:
    @workflow.run
    async def run(self) -> SweepResult:
        if workflow.patched("answers are forgotten"):
            await _run(SweepActivities.forget_answers, "forget answers kept for repeated requests")
        return await _run(
            SweepActivities.check_conservation, "check that nothing is lost, doubled or stuck"
        )


@workflow.defn
class StorageSweep:
    @workflow.run
    async def run(self) -> SweepResult:
        return await _run(
            SweepActivities.delete_what_is_past_its_time,
            "delete texts and mails whose time is over",
            LONG_SWEEP,
        )
