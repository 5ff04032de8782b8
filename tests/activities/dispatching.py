"""Customers with queued messages, a dispatcher with short times, and one that is stopped."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import sqlalchemy as sa
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.message_claims import DispatchRules
from activities.messages import MessageActivities
from database.base import Sessions, connect
from database.customers import Consent, ContactPoint, Customer, Simulation
from database.inbox import Inbox
from database.messages import Message
from database.policies import PolicyVersion
from domain.contacts import ConsentState
from domain.messages import (
    MESSAGES,
    Channel,
    DispatchRound,
    MessageState,
    Purpose,
    Template,
    message_key,
)
from domain.policies import POLICIES, Policy
from messaging.links import Links
from messaging.provider import Answer, Evidence, OutgoingMessage, Provider
from messaging.render import Rendered, Renderer, sample_context
from messaging.sms import LocalSms
from messaging.smtp import SmtpAccount, SmtpProvider
from tests.patience import seen

RULES = DispatchRules(
    lease=timedelta(seconds=4),
    grace=timedelta(seconds=0.3),
    resend_after=timedelta(seconds=1),
    first_retry=timedelta(seconds=0.1),
    longest_retry=timedelta(seconds=0.4),
    hold=timedelta(seconds=0.1),
    longest_pause=timedelta(seconds=0.5),
)
IMPATIENT = replace(RULES, lease=timedelta(seconds=1), grace=timedelta(seconds=0.2))
LINKS = Links("https://crm.example.com", b"k" * 32, "perennial.example")
SETTLED = [state for state in MessageState if state.settled]
_RENDERER = Renderer("Perennial")  # keeps the templates it has compiled


def dispatcher(
    sessions: Sessions,
    client: Client,
    port: int,
    inbox: Path,
    *,
    evidence: bool = True,
    rules: DispatchRules = RULES,
    answer_timeout: float = 1.0,
    starttls: bool = False,
) -> MessageActivities:
    account = SmtpAccount(
        *("127.0.0.1", port, "Perennial <hello@perennial.example>"),
        starttls=starttls,
        answer_timeout=answer_timeout,
    )
    providers: dict[str, Provider] = {
        "smtp": SmtpProvider(account),
        "local_sms": LocalSms(inbox),
    }
    known: dict[str, Evidence] = dict.fromkeys(providers, Inbox(inbox)) if evidence else {}
    return MessageActivities(
        sessions,
        client,
        providers,
        _RENDERER,
        LINKS,
        evidence=known,
        rules=rules,
    )


@asynccontextmanager
async def running(activities: MessageActivities) -> AsyncGenerator[asyncio.Task[object]]:
    environment = ActivityEnvironment()
    request = DispatchRound(lasts=timedelta(minutes=5))
    task = asyncio.create_task(environment.run(activities.deliver_queued, request))
    try:
        yield task
    except BaseException as failure:
        if task.done():
            failure.add_note(f"the dispatcher had ended before: {task!r}")
        raise
    finally:
        environment.cancel()
        await asyncio.wait([task])
        for provider in activities.providers.values():
            await provider.close()
        await activities.staff.close()


async def simulate(sessions: Sessions, begins_at: datetime, speed: float = 1.0) -> Simulation:
    """A clock that shows `begins_at` now."""
    simulation = Simulation(
        id=uuid4(),
        name="test",
        machine_origin=datetime.now(UTC),
        business_origin=begins_at,
        speed=speed,
    )
    async with sessions.begin() as session:
        session.add(simulation)
    return simulation


async def publish(sessions: Sessions, policy: Policy) -> None:
    """The next version of its kind."""
    [kind] = [kind for kind, of in POLICIES.items() if isinstance(policy, of)]
    async with sessions.begin() as session:
        versions = sa.select(sa.func.count()).where(PolicyVersion.kind == kind)
        session.add(
            PolicyVersion(
                kind=kind,
                version=(await session.scalar(versions) or 0) + 1,
                document=policy.model_dump(mode="json"),
                published_by="test",
            )
        )


async def queue(
    sessions: Sessions,
    template: Template = Template.ORDER_CONFIRMED,
    *,
    customers: int = 1,
    address: str = "customer{}@example.com",
    workflow_id: str = "delivery/{}",
    consent: ConsentState | None = None,
    locale: str = "en",
    channel: Channel = Channel.EMAIL,
    simulation_id: UUID | None = None,
) -> list[UUID]:
    """One message for each of some new customers; the customers' ids, in order."""
    kind = MESSAGES[template]
    people = [
        Customer(
            id=uuid4(),
            reference=str(uuid4()),
            name=f"Ada {number}",
            locale=locale,
            zone="America/Sao_Paulo",
            simulation_id=simulation_id,
        )
        for number in range(customers)
    ]
    async with sessions.begin() as session:
        session.add_all(people)
        await session.flush()
        for number, person in enumerate(people):
            process = workflow_id.format(person.id)
            if address:
                session.add(
                    ContactPoint(
                        customer_id=person.id, channel=channel, address=address.format(number)
                    )
                )
            if consent:
                session.add(consent_of(person.id, consent, kind.purpose))
            session.add(
                Message(
                    key=message_key(process, template, str(person.id)),
                    customer_id=person.id,
                    workflow_id=process,
                    step="step",
                    template=template,
                    message_class=kind.message_class,
                    purpose=kind.purpose,
                    channel=channel,
                    context={
                        name: value
                        for name, value in sample_context(template).items()
                        if name in kind.variables
                    },
                    asked_at=datetime.now(UTC),
                )
            )
    return [person.id for person in people]


def consent_of(customer: UUID, state: ConsentState, purpose: Purpose) -> Consent:
    return Consent(
        customer_id=customer,
        channel=Channel.EMAIL,
        purpose=purpose,
        state=state,
        source="test",
        occurred_at=datetime.now(UTC),
    )


async def messages(sessions: Sessions) -> list[Message]:
    async with sessions() as session:
        return list(await session.scalars(sa.select(Message).order_by(Message.id)))


async def until(
    sessions: Sessions, condition: Callable[[list[Message]], bool], within: float = 15.0
) -> list[Message]:
    """The messages, once the condition holds of them."""
    found = await seen(lambda: messages(sessions), condition, within)
    assert condition(found), [(message.state, message.provider_answer) for message in found]
    return found


async def until_settled(sessions: Sessions, within: float = 15.0) -> list[Message]:
    return await until(sessions, lambda found: all(m.state in SETTLED for m in found), within)


def run_until_stopped(database: str, port: int, inbox: Path, point: str) -> None:
    """The main function of a process: a dispatcher that is stopped (SIGSTOP) at a point."""
    asyncio.run(_dispatch(database, port, inbox, point))


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class _StoppingProvider(SmtpProvider):
    """Stops its whole process before the text of its seventh message leaves."""

    def __init__(self, account: SmtpAccount) -> None:
        super().__init__(account)
        self._sent = 0

    async def send(self, message: OutgoingMessage) -> Answer:
        self._sent += 1
        if self._sent == 7:
            still_ours = message.still_ours

            def interrupted() -> bool:
                _stop()
                return still_ours()

            message = message._replace(still_ours=interrupted)
        return await super().send(message)


class _StoppingRenderer(Renderer):
    """Stops its whole process in the transaction of a claim."""

    def __init__(self) -> None:
        super().__init__("Perennial")
        self._rendered = 0

    def render(
        self,
        template: Template,
        channel: Channel,
        locale: str,
        context: Mapping[str, str],
        *,
        zone: str = "UTC",
    ) -> Rendered:
        self._rendered += 1
        if self._rendered == 7:
            _stop()
        return super().render(template, channel, locale, context, zone=zone)


async def _dispatch(database: str, port: int, inbox: Path, point: str) -> None:
    # No process is told anything here, so no Temporal server is needed: a lazy client.
    client = await Client.connect("127.0.0.1:1", lazy=True)
    activities = dispatcher(connect(database), client, port, inbox, rules=IMPATIENT)
    account = SmtpAccount("127.0.0.1", port, "Perennial <hello@perennial.example>", connections=1)
    if point == "in_claim":
        activities = replace(activities, renderer=_StoppingRenderer())
    else:
        stopping = {**activities.providers, "smtp": _StoppingProvider(account)}
        activities = replace(activities, providers=stopping)
    async with running(activities) as task:
        await task
