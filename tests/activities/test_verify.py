"""The conservation check sees each way in which something can be lost, doubled or stuck."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.verify import CHECKS, Conservation, Verdict, record_verdict
from database.base import Base, Sessions
from database.customers import Customer, Simulation
from database.delivery_reports import DeliveryReportRow
from database.events import Event, Verification
from database.feedback import Feedback
from database.inbox import Inbox
from database.messages import Message
from database.orders import Order, OrderMilestone
from database.processes import ProcessRow
from database.received_mails import ReceivedMail
from database.received_texts import ReceivedText
from database.tasks import Task
from database.timeline import TimelineLine
from domain.delivery import DeliveryState, Effect
from domain.delivery_reports import ReportKind
from domain.follow_up import Verdict as Said
from domain.messages import (
    DISPATCH_WORKFLOW_ID,
    INTAKE_WORKFLOW_ID,
    MESSAGES,
    Channel,
    MessageClass,
    MessageState,
    Template,
)
from domain.policies import SurveyScale
from domain.processes import (
    Phase,
    ProcessKind,
    ProcessState,
    delivery_workflow_id,
    follow_up_workflow_id,
    lifecycle_workflow_id,
)
from domain.received_mails import MailOutcome
from domain.schedules import RECURRENCES, ScheduleName
from domain.tasks import Role, TaskKind, TaskState
from messaging.inbox import open_inbox
from tests.patience import becomes
from workflows.visibility import search_attributes

NOW = datetime.now(UTC)
LATER = timedelta(hours=1)
# As the dispatcher leaves what it has heard about; a decision was written with the claim.
SETTLED = {
    "accepted_at": NOW,
    "provider_answer": "250 kept",
    "conversation": [{"answer": "250 kept"}],
}


class World:
    """A simulation with one customer, whose rows are made as a test wants them."""

    def __init__(self, temporal: WorkflowEnvironment, sessions: Sessions, inbox: Path) -> None:
        self.sessions = sessions
        self.inbox = inbox
        self._client = temporal.client
        self.simulation, self.customer = uuid4(), uuid4()

    async def begin(self) -> None:
        await self.add(
            Simulation(
                id=self.simulation, name="test", machine_origin=NOW, business_origin=NOW, speed=1.0
            )
        )
        await self.add(
            Customer(
                id=self.customer,
                reference=str(self.customer),
                name="Ada Lovelace",
                simulation_id=self.simulation,
            )
        )

    async def add(self, *rows: Base) -> None:
        async with self.sessions.begin() as session:
            session.add_all(rows)

    async def check(self, patience: float = 0) -> Verdict:
        return await Conservation(
            self.sessions,
            self._client,
            Inbox(self.inbox),
            simulation=self.simulation,
            patience=timedelta(seconds=patience),
        ).run()

    async def found(self) -> list[str]:
        return [finding.check for finding in (await self.check()).findings]

    # --- rows ----------------------------------------------------------------------------------

    def process(
        self, workflow_id: str, kind: ProcessKind, state: ProcessState, **fields: Any
    ) -> ProcessRow:
        return ProcessRow(
            workflow_id=workflow_id,
            kind=kind,
            customer_id=self.customer,
            state=state,
            step="step",
            waiting_for="",
            outcome="",
            allowed=[],
            started_at=NOW,
            ended_at=NOW if state.ended else None,
            **fields,
        )

    def event(self, workflow_id: str, kind: str = "order_approved") -> Event:
        return Event(
            event_id=f"e-{uuid4()}",
            kind=kind,
            customer_id=self.customer,
            workflow_id=workflow_id,
            occurred_at=NOW,
            body={},
            fingerprint="",
            accepted_by="test",
        )

    def line(self, workflow_id: str, key: str, kind: str, **facts: Any) -> TimelineLine:
        return TimelineLine(
            customer_id=self.customer,
            workflow_id=workflow_id,
            step_key=key,
            kind=kind,
            phase=Phase.DURING,
            happened_at=NOW,
            facts=facts,
        )

    def order(self, state: DeliveryState = DeliveryState.PLACED) -> Order:
        return Order(
            id=uuid4(),
            customer_id=self.customer,
            reference="O-1",
            state=state,
            currency="EUR",
            total_minor=1,
            lines=[],
            placed_at=NOW,
            delivered_at=NOW if state is DeliveryState.DELIVERED else None,
        )

    def message(self, state: MessageState, **fields: Any) -> Message:
        template = fields.get("template", Template.ORDER_CONFIRMED)
        kind = MESSAGES[template]
        key = f"m-{uuid4()}"
        values: dict[str, Any] = {
            "key": key,
            "customer_id": self.customer,
            "workflow_id": "delivery/1",
            "step": "step",
            "template": template,
            "message_class": kind.message_class,
            "purpose": kind.purpose,
            "channel": Channel.EMAIL,
            "context": {"key": key},
            "state": state,
            "asked_at": NOW,
            "not_before": datetime.now(UTC) - timedelta(minutes=1),
            **fields,
        }
        return Message(**values)

    def accepted(self, message_id: str) -> Message:
        return self.message(MessageState.ACCEPTED, message_id=message_id, accepted_at=NOW)

    async def runs(self, workflow_id: str) -> None:
        """A process that Temporal knows and no worker takes up."""
        await self._client.start_workflow(
            "FollowUp",
            id=workflow_id,
            task_queue=f"nobody-{uuid4()}",
            search_attributes=search_attributes(self.customer, ProcessKind.FOLLOW_UP),
        )
        await self._seen(f"WorkflowId = '{workflow_id}' AND ExecutionStatus = 'Running'")

    async def terminated(self, workflow_id: str) -> None:
        await self._client.get_workflow_handle(workflow_id).terminate()
        await self._seen(f"WorkflowId = '{workflow_id}' AND ExecutionStatus = 'Terminated'")

    async def _seen(self, query: str) -> None:
        async def count() -> int:
            return (await self._client.count_workflows(query)).count

        await becomes(count, 1)


@pytest.fixture
async def world(
    temporal: WorkflowEnvironment,
    sessions: Sessions,
    only_my_processes: None,
    tmp_path: Path,
) -> World:
    inbox = tmp_path / "inbox.sqlite"
    open_inbox(inbox).close()
    world = World(temporal, sessions, inbox)
    await world.begin()
    return world


async def test_a_world_in_order_is_clean(world: World) -> None:
    lifecycle = lifecycle_workflow_id(world.customer)
    event = world.event(lifecycle, "lead_received")
    await world.add(
        event,
        world.process(lifecycle, ProcessKind.LIFECYCLE, ProcessState.RUNNING),
        world.line(lifecycle, event.event_id, "lead_received"),
        world.message(MessageState.QUEUED, provider_answer="421 try again later"),
        world.message(MessageState.SUPPRESSED, decision={"because": "no consent"}),
    )
    await world.runs(lifecycle)
    verdict = await world.check()
    assert verdict.findings == []
    assert verdict.clean
    assert verdict.counts == {
        "customers": 1,
        "events": 1,
        "processes": 1,
        "messages": 2,
        "tasks": 0,
    }


async def test_a_report_that_nobody_looks_at(world: World) -> None:
    message = world.message(
        MessageState.BOUNCED, id=uuid4(), provider_answer="5.1.1", process_told_at=NOW
    )
    complained = world.message(MessageState.COMPLAINED)
    await world.add(message, complained)

    def report(**fields: Any) -> DeliveryReportRow:
        return DeliveryReportRow(
            source="resend",
            event_id=str(uuid4()),
            kind=ReportKind.BOUNCED,
            message_id=message.id,
            provider="resend",
            said="",
            reported_at=NOW,
            **fields,
        )

    long_ago = NOW - timedelta(minutes=2)
    forgotten = report(received_at=long_ago)
    await world.add(
        forgotten, report(), report(received_at=long_ago, processed_at=NOW, outcome="nothing new")
    )
    found = {finding.check: finding.examples for finding in (await world.check()).findings}
    assert found == {
        "messages_unexplained": [complained.key],
        "reports_unprocessed": [f"resend/{forgotten.event_id}"],
    }


async def test_mails_and_texts_that_nobody_looks_at_or_that_we_stumbled_over(world: World) -> None:
    def mail(**fields: Any) -> ReceivedMail:
        return ReceivedMail(
            id=uuid4(),
            digest=str(uuid4()),
            source="smtp",
            rcpt_to=[],
            raw=b"",
            customer_id=world.customer,
            **fields,
        )

    long_ago = NOW - timedelta(minutes=2)
    forgotten = mail(received_at=long_ago)
    stumbled = mail(processed_at=NOW, outcome=MailOutcome.FAILED)
    text = ReceivedText(
        id=uuid4(),
        source="x",
        event_id="1",
        sender="+1",
        text="",
        received_at=long_ago,
        customer_id=world.customer,
    )
    done = mail(received_at=long_ago, processed_at=NOW, outcome=MailOutcome.KEPT)
    await world.add(forgotten, stumbled, text, mail(), done)
    found = {finding.check: finding.examples for finding in (await world.check()).findings}
    assert found == {
        "received_unprocessed": sorted([f"mail {forgotten.id}", f"text {text.id}"]),
        "received_failed": [f"mail {stumbled.id}"],
    }


async def test_an_event_without_effect_and_without_process(world: World) -> None:
    await world.add(world.event(f"delivery/{uuid4()}"))
    assert await world.found() == ["customers_without_lifecycle", "events_without_effect"]


async def test_what_staff_paused_may_wait(world: World) -> None:
    lifecycle = lifecycle_workflow_id(world.customer)
    await world.add(
        world.event(lifecycle, "risk_noticed"),
        world.process(
            lifecycle,
            ProcessKind.LIFECYCLE,
            ProcessState.PAUSED,
            next_timer_machine_at=NOW - LATER,
        ),
    )
    await world.runs(lifecycle)
    assert await world.found() == []


async def test_an_order_that_nobody_follows_up(world: World) -> None:
    order = world.order(DeliveryState.DELIVERED)
    await world.add(order)
    assert await world.found() == ["orders_without_process", "deliveries_without_follow_up"]


async def test_a_disappointed_customer_without_a_case(world: World) -> None:
    await world.add(
        Feedback(
            id=uuid4(),
            customer_id=world.customer,
            event_id="e",
            scale=SurveyScale.STARS,
            score=1,
            verdict=Said.DETRACTOR,
            answered_at=NOW,
            recovery_case_id=uuid4(),
        )
    )
    assert await world.found() == ["disappointments_without_case"]


async def test_an_end_of_which_the_lifecycle_has_not_heard(world: World) -> None:
    follow_up = follow_up_workflow_id(uuid4())
    await world.add(world.process(follow_up, ProcessKind.FOLLOW_UP, ProcessState.COMPLETED))
    assert await world.found() == ["ends_unheard"]
    lifecycle = lifecycle_workflow_id(world.customer)
    await world.add(world.line(lifecycle, "ended", "process_ended", process=follow_up))
    assert await world.found() == []


async def test_a_process_that_slept_through_its_moment(world: World) -> None:
    lifecycle = lifecycle_workflow_id(world.customer)
    missed = {"next_timer_at": NOW, "next_timer_machine_at": NOW - LATER}
    await world.add(world.process(lifecycle, ProcessKind.LIFECYCLE, ProcessState.RUNNING, **missed))
    await world.runs(lifecycle)
    assert await world.found() == ["timers_missed"]


@pytest.mark.parametrize(
    ("state", "fields", "check"),
    [
        (MessageState.QUEUED, {}, "messages_unsettled"),
        (MessageState.SENDING, {}, "messages_unsettled"),
        (MessageState.BOUNCED, {}, "messages_unexplained"),
        (MessageState.FAILED, {"provider_answer": "554 no"}, "messages_failed"),
        (
            MessageState.HELD,
            {"decision": {"because": "a recovery"}, "not_before": NOW - LATER},
            "messages_unexplained",
        ),
        *(
            (state, SETTLED, "messages_unexplained")
            for state in (MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.UNKNOWN)
        ),
    ],
)
async def test_a_message_whose_state_nothing_explains(
    world: World, state: MessageState, fields: dict[str, Any], check: str
) -> None:
    await world.add(world.message(state, **fields))
    assert await world.found() == [check]


async def test_what_was_sent_is_explained_by_its_decision_or_was_sent_by_an_older_version(
    world: World,
) -> None:
    decided = {**SETTLED, "decision": {"because": "every rule agrees"}}
    await world.add(
        world.message(MessageState.ACCEPTED, **decided),
        world.message(MessageState.ACCEPTED, accepted_at=NOW),
        world.message(MessageState.QUEUED, **SETTLED),
    )
    assert await world.found() == []


@pytest.mark.parametrize(
    ("by", "ago", "found"),
    [
        ("dispatcher-1", timedelta(seconds=20), []),
        ("dispatcher-1", timedelta(minutes=2), ["messages_unsettled"]),
        (None, timedelta(seconds=20), ["messages_unsettled"]),
    ],
    ids=["answers slowly", "is gone", "nobody's"],
)
async def test_a_message_that_is_being_handed_over_is_not_stuck(
    world: World, by: str | None, ago: timedelta, found: list[str]
) -> None:
    claimed_at = datetime.now(UTC) - ago
    await world.add(world.message(MessageState.SENDING, claimed_by=by, claimed_at=claimed_at))
    assert await world.found() == found


@pytest.mark.parametrize(
    ("message_class", "last", "found"),
    [
        (MessageClass.TRANSACTIONAL, timedelta(seconds=30), []),
        (MessageClass.TRANSACTIONAL, timedelta(minutes=2), ["messages_unsettled"]),
        (MessageClass.MARKETING, timedelta(minutes=30), []),
        (MessageClass.MARKETING, timedelta(hours=2), ["messages_unsettled"]),
    ],
)
async def test_a_message_that_waits_while_others_of_its_kind_go_has_its_turn_later(
    world: World, message_class: MessageClass, last: timedelta, found: list[str]
) -> None:
    gone = world.message(
        MessageState.FAILED,
        message_class=message_class,
        provider_answer="554 no",
        claimed_at=datetime.now(UTC) - last,
    )
    await world.add(world.message(MessageState.QUEUED, message_class=message_class), gone)
    assert await world.found() == [*found, "messages_failed"]


async def test_what_was_held_back_has_its_turn_later_too(world: World) -> None:
    """The hold of a campaign ends for all of it at once, and the rate lets them go by and by."""
    last = datetime.now(UTC) - timedelta(minutes=30)
    selling = {"message_class": MessageClass.MARKETING}
    gone = world.message(MessageState.FAILED, **selling, provider_answer="554 no", claimed_at=last)
    held = {"decision": {"because": "quiet hours"}, "not_before": NOW - LATER}
    await world.add(world.message(MessageState.HELD, **selling, **held), gone)
    assert await world.found() == ["messages_failed"]


async def test_a_task_of_a_process_that_has_ended(world: World) -> None:
    delivery = delivery_workflow_id(uuid4())
    await world.add(
        world.process(delivery, ProcessKind.DELIVERY, ProcessState.STOPPED),
        Task(
            id=uuid4(),
            customer_id=world.customer,
            workflow_id=delivery,
            kind=TaskKind.CHASE_ORDER,
            role=Role.OPS,
            state=TaskState.OPEN,
            opened_at=NOW,
            due_at=NOW,
        ),
    )
    assert await world.found() == ["tasks_of_ended_processes"]


async def test_what_was_done_or_said_twice(world: World) -> None:
    order = world.order()
    suppressed = {"decision": {"because": "no address"}, "context": {"order": "O-1"}}
    await world.add(
        order,
        world.process(delivery_workflow_id(order.id), ProcessKind.DELIVERY, ProcessState.COMPLETED),
        world.message(MessageState.HELD, **suppressed),
        world.message(MessageState.HELD, **suppressed),
    )
    await world.add(
        *(
            OrderMilestone(
                order_id=order.id,
                event_id=f"e{number}",
                milestone="order_approved",
                effect=Effect.ADVANCES,
                occurred_at=NOW,
            )
            for number in range(2)
        )
    )
    verdict = await world.check()
    assert [(one.check, one.count) for one in verdict.findings] == [("effects_twice", 2)]


@pytest.mark.parametrize(
    ("days", "found"), [(("B", "A", "B"), []), (("B", "B", "A"), ["effects_twice"])]
)
async def test_a_day_that_is_promised_again_is_said_twice_only_in_a_row(
    world: World, days: Sequence[str], found: list[str]
) -> None:
    held = {"decision": {"because": "a test"}, "template": Template.ORDER_RESCHEDULED}
    for number, day in enumerate(days):
        asked_at = NOW + timedelta(seconds=number)
        said = {"context": {"promised_on": day}, "asked_at": asked_at}
        await world.add(world.message(MessageState.HELD, **held, **said))
    assert await world.found() == found


async def test_the_inbox_is_evidence(world: World) -> None:
    await world.add(*(world.accepted(name) for name in ("once", "twice", "never")))
    inbox = open_inbox(world.inbox)
    for message_id in ("once", "twice", "twice", "somebody-elses", "somebody-elses"):
        inbox.execute(
            "INSERT INTO mails (message_id, mail_from, rcpt_to, subject, effect, received_at, raw)"
            " VALUES (?, '', '', '', '', ?, '')",
            (message_id, NOW.isoformat()),
        )
    inbox.close()
    verdict = await world.check()
    assert {one.check: one.count for one in verdict.findings} == {
        "mails_twice": 1,
        "mails_missing": 1,
    }


async def test_temporal_and_the_rows_must_agree(world: World) -> None:
    here_only, there_only, over, failed = (follow_up_workflow_id(uuid4()) for _ in range(4))
    lifecycle = lifecycle_workflow_id(world.customer)
    await world.add(
        world.process(here_only, ProcessKind.FOLLOW_UP, ProcessState.RUNNING),
        world.process(over, ProcessKind.FOLLOW_UP, ProcessState.COMPLETED),
        world.line(lifecycle, "ended", "process_ended", process=over),
        world.process(failed, ProcessKind.FOLLOW_UP, ProcessState.STOPPED),
    )
    for workflow_id in (there_only, over, failed):
        await world.runs(workflow_id)
    await world.terminated(failed)
    verdict = await world.check()
    assert {one.check: one.examples for one in verdict.findings} == {
        "not_running": [here_only],
        "unknown_here": [there_only],
        "still_running": [over],
        "workflows_failed": [failed],
    }


async def test_a_failed_process_that_was_taken_up_again_is_no_finding(world: World) -> None:
    follow_up = follow_up_workflow_id(uuid4())
    await world.add(world.process(follow_up, ProcessKind.FOLLOW_UP, ProcessState.RUNNING))
    await world.runs(follow_up)
    await world.terminated(follow_up)
    assert await world.found() == ["workflows_failed", "not_running"]
    checking = asyncio.create_task(world.check(patience=10))
    await asyncio.sleep(0.3)
    await world.runs(follow_up)
    assert (await checking).clean, "it was taken up while we looked"
    assert await world.found() == []


async def test_dispatcher_intake_and_sweeps_are_looked_at_too(
    temporal: WorkflowEnvironment, sessions: Sessions
) -> None:
    """Of everybody: with a namespace in which nobody else has ended anything by force."""
    client = await _of_its_own(temporal)
    check = Conservation(sessions, client, patience=timedelta(0))

    async def end_by_force(workflow: str, workflow_id: str) -> None:
        await client.start_workflow(workflow, id=workflow_id, task_queue="nobody")
        await client.get_workflow_handle(workflow_id).terminate()

    async def failed() -> list[str]:
        return [one for found in (await check.run()).findings for one in found.examples]

    sweep = RECURRENCES[ScheduleName.KPI_SNAPSHOT].workflow
    await end_by_force(sweep, "schedule/kpi-snapshot-1")
    await becomes(failed, ["schedule/kpi-snapshot-1"])
    await end_by_force(sweep, "schedule/kpi-snapshot-2")
    await end_by_force("MessageDispatch", DISPATCH_WORKFLOW_ID)
    await end_by_force("MessageIntake", INTAKE_WORKFLOW_ID)
    steady = [DISPATCH_WORKFLOW_ID, INTAKE_WORKFLOW_ID]
    await becomes(failed, [*steady, "schedule/kpi-snapshot-2"])


async def _of_its_own(temporal: WorkflowEnvironment) -> Client:
    name = f"test-{uuid4()}"
    await temporal.client.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=name, workflow_execution_retention_period=Duration(seconds=86_400)
        )
    )
    client = await Client.connect(temporal.client.service_client.config.target_host, namespace=name)

    async def is_known() -> bool:
        try:
            await client.count_workflows("ExecutionStatus = 'Running'")
        except RPCError:
            return False
        return True

    await becomes(is_known, True)
    return client


async def test_what_clears_up_within_the_patience_is_no_finding(world: World) -> None:
    await world.add(message := world.message(MessageState.QUEUED))
    checking = asyncio.create_task(world.check(patience=10))
    await asyncio.sleep(0.3)
    async with world.sessions.begin() as session:
        await session.execute(
            sa.update(Message)
            .where(Message.id == message.id)
            .values(state=MessageState.SUPPRESSED, decision={"because": "opted out"})
        )
    assert (await checking).clean


async def test_the_outcome_is_kept(world: World) -> None:
    await world.add(world.message(MessageState.QUEUED))
    await record_verdict(world.sessions, await world.check())
    async with world.sessions() as session:
        kept = (await session.scalars(sa.select(Verification))).one()
    assert not kept.clean
    assert kept.findings["findings"][0]["check"] == "messages_unsettled"


async def test_other_worlds_do_not_count(world: World) -> None:
    await world.add(world.event(f"delivery/{uuid4()}"))
    world.simulation = uuid4()
    assert await world.found() == []


def test_each_check_has_a_test() -> None:
    """Every check of PostgreSQL is proven red above."""
    source = Path(__file__).read_text()
    untested: Sequence[str] = [check.name for check in CHECKS if f'"{check.name}"' not in source]
    assert untested == []
