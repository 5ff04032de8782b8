"""Timeouts and retries, named by what the activity talks to."""

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy


class StepOptions(TypedDict):
    start_to_close_timeout: timedelta
    local_retry_threshold: timedelta
    retry_policy: RetryPolicy


class ActivityOptions(TypedDict):
    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy


# A step of a process: one short transaction in PostgreSQL, idempotent. As a local activity it costs
# the Temporal server nothing (docs/decisions/0002). It is retried for ever: while PostgreSQL is
# away, processes wait.
STEP = StepOptions(
    start_to_close_timeout=timedelta(seconds=20),
    local_retry_threshold=timedelta(seconds=10),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=250),
        maximum_interval=timedelta(seconds=30),
    ),
)

# The dispatcher of the message queue, and the intake: run for minutes, heartbeat every second.
DISPATCH = ActivityOptions(
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=1.5,
        maximum_interval=timedelta(seconds=15),
    ),
)

# A scheduled sweep over the whole database.
SWEEP = ActivityOptions(
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(minutes=1),
    retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=1)),
)

# One that may have years of rows to go through, the first time it runs.
LONG_SWEEP: ActivityOptions = {**SWEEP, "start_to_close_timeout": timedelta(hours=12)}
