"""What a customer writes by mail reaches his relationship, and two machines fall silent."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from activities.received_mail import take_in_mail
from database.customers import ContactPoint
from database.messages import Message
from database.received_mails import ReceivedMail, keep_mail
from database.support import Case
from domain.lifecycle import LeadReceived
from domain.messages import Channel, MessageState
from domain.processes import ProcessKind, marketing_workflow_id
from domain.received_mails import MailOutcome
from domain.support import CaseState, WaitForCustomer
from domain.tasks import TaskKind, TaskState
from messaging.links import Links
from tests.activities.dispatching import dispatcher, running
from tests.driving import MINUTE, Drive, Handle
from tests.messaging.post_office import PostOffice
from tests.messaging.received import answer
from tests.patience import becomes
from tests.workflows.test_lifecycle import STAFF, processes, started
from workflows.support import SupportCase

KEY = b"k" * 32
LINKS = Links("https://crm.example.com", KEY, "perennial.example", "mail.example")


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    return await drive.customer()


@pytest.fixture
async def address(drive: Drive, customer: UUID) -> str:
    address = f"ada-{uuid4().hex[:8]}@example.com"
    async with drive.sessions.begin() as session:
        session.add(ContactPoint(customer_id=customer, channel=Channel.EMAIL, address=address))
    return address


async def comes(
    drive: Drive, text: str, sender: str, to: str = "hello@mail.example", **headers: str
) -> ReceivedMail:
    raw = answer(text, sender=sender, message_id=f"<{uuid4()}@x>", **headers)
    async with drive.sessions.begin() as session:
        mail_id, _ = await keep_mail(session, "smtp", sender, [to], raw)
    await take_in_mail(drive.sessions, drive.client, KEY)
    return await drive.row(ReceivedMail, mail_id)


async def last_message(drive: Drive, of: Handle) -> Message:
    return (await drive.messages(of))[-1]


async def test_an_answer_ends_the_waiting_of_its_case(
    drive: Drive, customer: UUID, address: str
) -> None:
    case_id, case = await drive.open_case(customer)
    await drive.command(case, SupportCase.wait_for_customer, WaitForCustomer(by="staff-7"))
    asked = await last_message(drive, case)
    mail = await comes(drive, "It is the blue one.", address, LINKS.reply_to(asked.id))
    assert (mail.outcome, mail.case_id, mail.answers) == (
        *(MailOutcome.REPLY_RECEIVED, case_id),
        asked.id,
    )

    async def state() -> CaseState:
        return (await drive.row(Case, case_id)).state

    await becomes(state, CaseState.IN_PROGRESS)
    assert "case_updated" in await drive.story(case)


async def test_an_answer_stops_the_touches_it_answers_also_beside_an_open_case(
    drive: Drive, customer: UUID, address: str
) -> None:
    lead = LeadReceived(event_id=str(uuid4()), occurred_at=datetime.now(UTC))
    await drive.tell(customer, "lead_received", lead)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    await drive.open_case(customer)
    await becomes(lambda: drive.stage(customer), "support")
    touch = await last_message(drive, contact)
    await comes(drive, "Tell me more.", address, LINKS.reply_to(touch.id))

    async def last() -> str:
        return (await drive.story(contact))[-1]

    await becomes(last, "reply_received")
    [task] = await drive.tasks(contact, kind=TaskKind.ANSWER_REPLY)
    assert task.state is TaskState.OPEN


@pytest.mark.parametrize("state", [MessageState.QUEUED, MessageState.HELD])
async def test_an_answer_stops_the_touch_that_has_not_gone_yet(
    drive: Drive, customer: UUID, address: str, post_office: PostOffice, state: MessageState
) -> None:
    """By mail, to no message in particular: the first contact is all that writes to him."""
    lead = LeadReceived(event_id=str(uuid4()), occurred_at=datetime.now(UTC))
    await drive.tell(customer, "lead_received", lead)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    touch = await last_message(drive, contact)
    async with drive.sessions.begin() as session:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        others = sa.update(Message).where(Message.id != touch.id)
        await session.execute(others.values(not_before=tomorrow))
        if state is MessageState.HELD:
            night = {"outcome": "hold", "decided_by": "quiet_hours", "because": "it is night"}
            held = sa.update(Message).where(Message.id == touch.id)
            await session.execute(held.values(state=state, decision=night, not_before=tomorrow))
    await comes(drive, "Tell me more.", address)

    async def last() -> str:
        return (await drive.story(contact))[-1]

    await becomes(last, "reply_received")

    async def fate() -> tuple[MessageState, str]:
        now = await drive.row(Message, touch.id)
        return now.state, (now.decision or {}).get("decided_by", "")

    async with running(
        dispatcher(drive.sessions, drive.client, post_office.port, post_office.path)
    ):
        await becomes(fate, (MessageState.CANCELLED, "reply"), within=10)
    assert await post_office.inbox.count() == 0


@pytest.mark.history
async def test_a_person_is_asked_whose_a_strangers_mail_is(
    drive: Drive, customer: UUID, address: str
) -> None:
    _, case = await drive.open_case(customer)
    message = await last_message(drive, case)
    mail = await comes(drive, "Where is it?", "eve@example.net", LINKS.reply_to(message.id))
    assert mail.outcome is MailOutcome.ASKED
    lifecycle = drive.lifecycle(customer)
    await drive.quiet(lifecycle)
    line = await drive.line(lifecycle, "mail_unclear")
    assert line.facts == {"mail": str(mail.id)}
    await drive.complete(lifecycle, TaskKind.ATTRIBUTE_MAIL, "not_theirs")
    assert "case_updated" not in await drive.story(case)


async def test_a_case_by_mail_is_acknowledged_once_a_day(
    drive: Drive, customer: UUID, address: str
) -> None:
    """Both clocks of the second case run; only the machine keeps silent, and says why."""
    await comes(drive, "My lamp is broken.", address)
    [first] = await cases(drive, customer, 1)
    await drive.accept_messages(first)
    await drive.command(first, SupportCase.stop, STAFF)
    await becomes(lambda: drive.stage(customer), "quiet")
    await comes(drive, "And so is the cable.", address)
    second = next(case for case in await cases(drive, customer, 2) if case.id != first.id)
    [held] = await drive.messages(second)
    assert held.state is MessageState.CANCELLED
    assert held.decision is not None
    assert held.decision["decided_by"] == "one_automatic_answer"
    await drive.skip_to_next_timer(second)
    await drive.skip(second, MINUTE)
    assert "case_escalated" not in await drive.story(second)


async def cases(drive: Drive, customer: UUID, count: int) -> list[Handle]:
    async def found() -> int:
        return len(await processes(drive, customer, ProcessKind.SUPPORT))

    await becomes(found, count)
    ids = await processes(drive, customer, ProcessKind.SUPPORT)
    handles = [drive.process(workflow_id) for workflow_id in ids]
    for handle in handles:
        await drive.quiet(handle)
    return handles
