"""The recurring work, by name: what each Temporal Schedule does and when."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from domain.payload import Payload

SCHEDULE_PREFIX = "schedule/"


class ScheduleName(StrEnum):
    MARKETING_SWEEP = "marketing-sweep"
    RETENTION_SWEEP = "retention-sweep"
    FOLLOW_UP_SWEEP = "follow-up-sweep"
    KPI_SNAPSHOT = "kpi-snapshot"
    STAFF_DIGEST = "staff-digest"
    VERIFY = "verify"
    STORAGE_SWEEP = "storage-sweep"


class Recurrence(NamedTuple):
    workflow: str
    cron: str  # UTC
    words: str


RECURRENCES: dict[ScheduleName, Recurrence] = {
    ScheduleName.MARKETING_SWEEP: Recurrence(
        "MarketingSweep",
        "10 9 * * *",
        "Contacts customers who agreed and were never contacted, as many as the policy says",
    ),
    ScheduleName.RETENTION_SWEEP: Recurrence(
        "RetentionSweep", "15 3 * * *", "Finds silent customers whom no clock has noticed"
    ),
    ScheduleName.FOLLOW_UP_SWEEP: Recurrence(
        "FollowUpSweep", "20 * * * *", "Finds deliveries and cases that nobody followed up"
    ),
    ScheduleName.KPI_SNAPSHOT: Recurrence(
        "KpiSnapshot", "5 0 * * *", "Keeps the figures of the day"
    ),
    ScheduleName.STAFF_DIGEST: Recurrence(
        "StaffDigest", "0 7 * * *", "Tells staff by mail what needs attention"
    ),
    ScheduleName.VERIFY: Recurrence(
        "NightlyVerification", "30 4 * * *", "Checks that nothing was lost, doubled or stuck"
    ),
    ScheduleName.STORAGE_SWEEP: Recurrence(
        "StorageSweep", "30 2 * * *", "Deletes the texts and mails whose time is over"
    ),
}


def schedule_id(name: ScheduleName) -> str:
    return f"{SCHEDULE_PREFIX}{name}"


class Occasion(Payload):
    """One run of a schedule. `at` is the moment it was due, so that a repeat changes nothing."""

    at: datetime


class SweepResult(Payload):
    """What a run found, in figures."""

    found: int = 0
    clean: bool = True
