"""Composition root of the worker: settings → sessions, providers, activities, workers.

Start it with `python worker.py`; `crm.py up` does.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pydantic import SecretStr
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

import temporal_runtime
from activities.delivery import DeliveryActivities
from activities.follow_up import FollowUpActivities
from activities.lifecycle import LifecycleActivities
from activities.marketing import MarketingActivities
from activities.messages import MessageActivities
from activities.processes import ProcessActivities
from activities.received import ReceivedActivities
from activities.retention import RetentionActivities
from activities.support import SupportActivities
from activities.sweeps import SweepActivities
from database.base import Sessions, connect
from database.inbox import Inbox
from domain.messages import (
    DISPATCH_WORKFLOW_ID,
    INTAKE_WORKFLOW_ID,
    DispatchInput,
    IntakeInput,
)
from domain.processes import BULK_QUEUE, LIFECYCLE_QUEUE, MESSAGING_QUEUE
from domain.schedules import RECURRENCES, schedule_id
from domain.sending import ProviderName
from messaging.links import Links
from messaging.provider import Evidence, Provider
from messaging.render import Renderer
from messaging.resend import ResendProvider
from messaging.sms import LocalSms
from messaging.smtp import SmtpAccount, SmtpProvider
from messaging.twilio import TwilioProvider
from settings import Settings
from temporal_sandbox import workflow_runner
from workflows.delivery import OrderDelivery
from workflows.follow_up import FollowUp
from workflows.lifecycle import CustomerLifecycle
from workflows.marketing import MarketingContact
from workflows.messages import MessageDispatch, MessageIntake
from workflows.retention import RetentionOutreach
from workflows.schedules import (
    FollowUpSweep,
    KpiSnapshot,
    MarketingSweep,
    NightlyVerification,
    RetentionSweep,
    StaffDigest,
    StorageSweep,
)
from workflows.support import SupportCase

LIFECYCLE_WORKFLOWS: Sequence[type] = [
    CustomerLifecycle,
    MarketingContact,
    OrderDelivery,
    SupportCase,
    FollowUp,
    RetentionOutreach,
]

MESSAGING_WORKFLOWS: Sequence[type] = [MessageDispatch, MessageIntake]
BULK_WORKFLOWS: Sequence[type] = [
    MarketingSweep,
    RetentionSweep,
    FollowUpSweep,
    KpiSnapshot,
    StaffDigest,
    NightlyVerification,
    StorageSweep,
]
_STEPS_AT_ONCE = 20
_GRACE = timedelta(seconds=5)


def lifecycle_activities(sessions: Sessions, client: Client) -> list[Callable[..., Any]]:
    return [
        *activities_of(ProcessActivities(sessions, client)),
        *activities_of(LifecycleActivities(sessions, client)),
        *activities_of(MarketingActivities(sessions, client)),
        *activities_of(DeliveryActivities(sessions, client)),
        *activities_of(SupportActivities(sessions, client)),
        *activities_of(FollowUpActivities(sessions, client)),
        *activities_of(RetentionActivities(sessions, client)),
    ]


def activities_of(activities: object) -> list[Callable[..., Any]]:
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
        **lifecycle_options(),
    )


def lifecycle_options() -> dict[str, Any]:
    """How processes are worked on; the benchmark's twin is worked on alike."""
    return dict(
        workflow_runner=workflow_runner(),
        max_cached_workflows=1000,
        # Few at once, each with a connection to PostgreSQL at hand: under overload tasks then wait
        # in the server's queue, where waiting costs nothing, instead of timing out half done.
        max_concurrent_workflow_tasks=_STEPS_AT_ONCE,
        max_concurrent_local_activities=_STEPS_AT_ONCE,
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(maximum=20),
        graceful_shutdown_timeout=_GRACE,
    )


def messaging_worker(
    client: Client, messages: MessageActivities, received: ReceivedActivities
) -> Worker:
    """The dispatcher of messages, and the intake of what comes back, on the queue `messaging`."""
    return Worker(
        client,
        task_queue=MESSAGING_QUEUE,
        workflows=MESSAGING_WORKFLOWS,
        activities=[*activities_of(messages), *activities_of(received)],
        workflow_runner=workflow_runner(),
        graceful_shutdown_timeout=_GRACE,
    )


def bulk_worker(client: Client, activities: SweepActivities) -> Worker:
    """The recurring work over everybody, on the queue `bulk`."""
    return Worker(
        client,
        task_queue=BULK_QUEUE,
        workflows=BULK_WORKFLOWS,
        activities=activities_of(activities),
        workflow_runner=workflow_runner(),
        max_concurrent_activities=2,
        graceful_shutdown_timeout=_GRACE,
    )


async def ensure_schedules(client: Client) -> None:
    """Create the schedules, or bring what they do up to date; a pause of staff stays a pause."""
    for name, recurrence in RECURRENCES.items():
        schedule = Schedule(
            action=ScheduleActionStartWorkflow(
                recurrence.workflow,
                id=schedule_id(name),
                task_queue=BULK_QUEUE,
                static_summary=recurrence.words,
            ),
            spec=ScheduleSpec(cron_expressions=[recurrence.cron], jitter=timedelta(seconds=30)),
            policy=SchedulePolicy(
                overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(days=2)
            ),
        )
        try:
            await client.create_schedule(
                schedule_id(name), schedule, memo={"does": recurrence.words}
            )
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(schedule_id(name)).update(
                functools.partial(_renewed, schedule)
            )


def _renewed(schedule: Schedule, found: ScheduleUpdateInput) -> ScheduleUpdate:
    renewed = dataclasses.replace(schedule, state=found.description.schedule.state)
    return ScheduleUpdate(schedule=renewed)


async def start_messaging(client: Client) -> None:
    """There is one dispatcher and one intake; starting them again changes nothing."""
    await client.start_workflow(
        MessageDispatch.run,
        DispatchInput(),
        id=DISPATCH_WORKFLOW_ID,
        task_queue=MESSAGING_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary="Delivers the messages that processes queue",
    )
    await client.start_workflow(
        MessageIntake.run,
        IntakeInput(),
        id=INTAKE_WORKFLOW_ID,
        task_queue=MESSAGING_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary="Takes in what comes back: reports about messages, mails, texts",
    )


def message_activities(settings: Settings, client: Client, sessions: Sessions) -> MessageActivities:
    """With every provider that settings configure; a policy of kind sending says who is asked."""
    inbox = Inbox(settings.inbox)
    providers = configured_providers(settings)
    # Only the local inbox can be asked what it has really taken.
    evidence: dict[str, Evidence] = {ProviderName.LOCAL_SMS: inbox}
    if not settings.smtp_host:
        evidence[ProviderName.SMTP] = inbox
    return MessageActivities(
        sessions=sessions,
        client=client,
        providers={provider.name: provider for provider in providers},
        renderer=Renderer(settings.company),
        links=Links(
            settings.links_base,
            signing_key(settings),
            settings.mail_domain,
            settings.inbound_domain,
        ),
        evidence=evidence,
    )


def signing_key(settings: Settings) -> bytes:
    return settings.signing_key_path.read_text().strip().encode()


def configured_providers(settings: Settings) -> list[Provider]:
    """SMTP and the local inbox always; the others where settings have their keys."""
    providers: list[Provider] = [
        SmtpProvider(
            SmtpAccount(
                host=settings.smtp_host or "127.0.0.1",
                port=settings.smtp_port,
                mail_from=settings.mail_from,
                username=settings.smtp_username,
                password=_secret(settings.smtp_password),
                starttls=settings.smtp_starttls,
                tls=settings.smtp_tls,
                ca_file=settings.smtp_tls_ca_file,
            )
        ),
        LocalSms(settings.inbox),
    ]
    if resend_key := _secret(settings.resend_api_key):
        providers.append(ResendProvider(settings.resend_url, resend_key, settings.mail_from))
    if settings.twilio_account_sid:
        # Twilio refuses a message whose reports it can't deliver: none without a public address.
        reports = f"{settings.links_base}/api/v1/provider-events/twilio"
        providers.append(
            TwilioProvider(
                settings.twilio_url,
                settings.twilio_account_sid,
                _secret(settings.twilio_auth_token),
                settings.twilio_from,
                reports if settings.public_url else "",
            )
        )
    return providers


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


async def run(settings: Settings) -> None:
    """Work until told to stop (SIGTERM, SIGINT); then finish what is under way."""
    client = await _reach_temporal(settings)
    if settings.database_url is None:
        raise SystemExit("set CRM_DATABASE_URL, or start everything with `make up`")
    url = settings.database_url.get_secret_value()
    sessions = connect(url, settings.database_pool_size, ping=False)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    inbox = None if settings.smtp_host else Inbox(settings.inbox)
    sweeps = SweepActivities(sessions, client, settings.staff_digest_to, inbox)
    messages = message_activities(settings, client, sessions)
    workers = [
        lifecycle_worker(client, sessions),
        messaging_worker(
            client, messages, ReceivedActivities(sessions, client, signing_key(settings))
        ),
        bulk_worker(client, sweeps),
    ]
    async with contextlib.AsyncExitStack() as running:
        for worker in workers:
            await running.enter_async_context(worker)
        await start_messaging(client)
        await ensure_schedules(client)
        if settings.ready_file is not None:
            settings.ready_file.touch()
        logging.getLogger(__name__).info("polling")
        await stopping.wait()
    await messages.staff.close()
    await sessions.kw["bind"].dispose()


async def _reach_temporal(settings: Settings) -> Client:
    """Connect; while the server is away try again, since it may start after us."""
    address = settings.temporal_address or f"127.0.0.1:{settings.temporal_port}"
    while True:
        try:
            return await temporal_runtime.connect(
                address,
                settings.temporal_namespace,
                **settings.temporal_options,
                metrics_port=settings.metrics_port,
            )
        except RuntimeError as problem:
            logging.getLogger(__name__).warning("Temporal at %s: %s", address, problem)
            await asyncio.sleep(1)


class _Rarely(logging.Filter):
    """Lets a kind of line through ten times a minute: an outage must not fill the disk."""

    def __init__(self, most: int = 10) -> None:
        super().__init__()
        self._most = most
        self._minute = 0
        self._seen: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        minute = int(record.created // 60)
        if minute != self._minute:
            self._minute, self._seen = minute, {}
        kind = f"{record.name}:{record.lineno}"
        self._seen[kind] = self._seen.get(kind, 0) + 1
        return self._seen[kind] <= self._most


def main() -> None:
    settings = Settings.from_environment()
    handler = logging.StreamHandler()
    handler.addFilter(_Rarely())
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        handlers=[handler],
    )
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
