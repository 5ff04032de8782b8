"""Composition root of the worker: settings → sessions, providers, activities, workers.

Start it with `python worker.py`; `crm.py up` does.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

import temporal_runtime
from activities.delivery import DeliveryActivities
from activities.follow_up import FollowUpActivities
from activities.lifecycle import LifecycleActivities
from activities.marketing import MarketingActivities
from activities.processes import ProcessActivities
from activities.retention import RetentionActivities
from activities.support import SupportActivities
from database.base import Sessions
from domain.processes import LIFECYCLE_QUEUE
from workflows.delivery import OrderDelivery
from workflows.follow_up import FollowUp
from workflows.lifecycle import CustomerLifecycle
from workflows.marketing import MarketingContact
from workflows.retention import RetentionOutreach
from workflows.support import SupportCase

LIFECYCLE_WORKFLOWS: Sequence[type] = [
    CustomerLifecycle,
    MarketingContact,
    OrderDelivery,
    SupportCase,
    FollowUp,
    RetentionOutreach,
]


def lifecycle_activities(sessions: Sessions, client: Client) -> list[Callable[..., Any]]:
    return [
        *_methods(ProcessActivities(sessions, client)),
        *_methods(LifecycleActivities(sessions, client)),
        *_methods(MarketingActivities(sessions, client)),
        *_methods(DeliveryActivities(sessions, client)),
        *_methods(SupportActivities(sessions, client)),
        *_methods(FollowUpActivities(sessions, client)),
        *_methods(RetentionActivities(sessions, client)),
    ]


def _methods(activities: object) -> list[Callable[..., Any]]:
    """Every activity of a class, so that none is forgotten."""
    found = (getattr(activities, name) for name in vars(type(activities)))
    return [one for one in found if hasattr(one, "__temporal_activity_definition")]


def lifecycle_worker(client: Client, sessions: Sessions) -> Worker:
    """Processes and their steps, on the queue `lifecycle`."""
    return Worker(
        client,
        task_queue=LIFECYCLE_QUEUE,
        workflows=LIFECYCLE_WORKFLOWS,
        activities=lifecycle_activities(sessions, client),
        workflow_runner=temporal_runtime.workflow_runner(),
        max_cached_workflows=1000,
        max_concurrent_workflow_tasks=100,
        max_concurrent_local_activities=30,
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(maximum=20),
        graceful_shutdown_timeout=timedelta(seconds=5),
    )
