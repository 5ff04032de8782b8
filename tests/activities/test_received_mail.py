"""One mail has one effect, and only the one it can prove to be entitled to."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import undefer
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from activities.delivery_reports import take_in_reports
from activities.received_mail import take_in_mail
from activities.support import acknowledge_case
from database.base import Sessions
from database.customers import Consent, ContactPoint, Suppression
from database.delivery_reports import DeliveryReportRow
from database.events import Event
from database.messages import Message
from database.received_mails import ReceivedAttachment, ReceivedMail, keep_mail
from database.support import Case
from domain.contacts import ConsentState
from domain.delivery_reports import ReportKind
from domain.messages import Channel, MessageRequest, MessageState, Purpose, Template
from domain.policies import CaseKind, Priority
from domain.processes import (
    ProcessKind,
    Standing,
    lifecycle_workflow_id,
    support_workflow_id,
)
from domain.received_mails import MAIL_EVENT, MailKind, MailOutcome
from domain.support import CaseInput, CaseOpenedStep, CaseState
from domain.tasks import Role
from messaging.links import Links
from tests.activities.dispatching import dispatcher, queue, running, until_settled
from tests.activities.refusing import refusing_client
from tests.messaging.post_office import PostOffice
from tests.messaging.received import answer, bounce, complaint, qmail_bounce
from tests.messaging.test_mail_reading import MADE_UP, with_files

KEY = b"k" * 32
LINKS = Links("https://crm.example.com", KEY, "perennial.example", "mail.example")
T = TypeVar("T")
ADA = "Ada Lovelace <ada@example.com>"
EVE = "eve@example.net"


class Desk:
    """Mail that arrives, the customer Ada, and the intake."""

    def __init__(self, sessions: Sessions, client: Client) -> None:
        self.sessions = sessions
        self.client = client

    async def sent(
        self, workflow_id: str = "delivery/{}", address: str = "Ada@example.com"
    ) -> Message:
        """A message that went to a new customer of that address."""
        [customer] = await queue(self.sessions, address=address, workflow_id=workflow_id)
        async with self.sessions.begin() as session:
            message = await session.scalar(
                sa.select(Message).where(Message.customer_id == customer)
            )
            assert message is not None
            message.message_id = LINKS.message_id(message.key)
            message.state, message.address = MessageState.ACCEPTED, address
            message.accepted_at = datetime.now(UTC)
            return message

    async def case(self, customer_id: UUID) -> UUID:
        case_id = uuid4()
        async with self.sessions.begin() as session:
            session.add(
                Case(
                    id=case_id,
                    reference="CASE-2026-0A1B2C3D",
                    customer_id=customer_id,
                    kind=CaseKind.REQUEST,
                    state=CaseState.OPEN,
                    priority=Priority.NORMAL,
                    queue=Role.SUPPORT_AGENT,
                    opened_at=datetime.now(UTC),
                )
            )
        return case_id

    async def comes(
        self, raw: bytes, to: str = "hello@mail.example", mail_from: str | None = "ada@example.com"
    ) -> ReceivedMail:
        """The mail as it stands once it was taken in."""
        async with self.sessions.begin() as session:
            mail_id, _ = await keep_mail(session, "smtp", mail_from, [to], raw)
        await self.take_in()
        return await self.mail(mail_id)

    async def take_in(self) -> list[MailOutcome]:
        return await take_in_mail(self.sessions, self.client, KEY)

    async def mail(self, mail_id: UUID) -> ReceivedMail:
        async with self.sessions() as session:
            return await session.get_one(ReceivedMail, mail_id)

    async def all(self, table: type[T]) -> Sequence[T]:
        async with self.sessions() as session:
            return (await session.scalars(sa.select(table))).all()

    async def attachments(self) -> Sequence[ReceivedAttachment]:
        async with self.sessions() as session:
            found = sa.select(ReceivedAttachment).options(undefer(ReceivedAttachment.content))
            return (await session.scalars(found)).all()

    async def signals(self, customer_id: UUID) -> list[str]:
        """What the customer's lifecycle was told."""
        handle = self.client.get_workflow_handle(lifecycle_workflow_id(customer_id))
        try:
            history = await handle.fetch_history()
        except RPCError:
            return []
        told = (event.workflow_execution_signaled_event_attributes for event in history.events)
        return [signal.signal_name for signal in told if signal.signal_name]


@pytest.fixture
def desk(sessions: Sessions, temporal: WorkflowEnvironment, their_lifecycles: None) -> Desk:
    return Desk(sessions, temporal.client)


# --- bounces and complaints ----------------------------------------------------------------------


async def test_what_we_send_comes_back_to_us(desk: Desk, post_office: PostOffice) -> None:
    """The whole way: out with a signed return path, back to it, and the process hears of it."""
    [customer] = await queue(desk.sessions, address="ada@example.com")
    activities = dispatcher(desk.sessions, desk.client, post_office.port, post_office.path)
    async with running(replace(activities, links=LINKS)):
        [message] = await until_settled(desk.sessions)
    [sent] = await post_office.inbox.mails()
    opened = await post_office.inbox.open(sent.id)
    assert opened is not None
    assert dict(opened.headers)["Reply-To"] == LINKS.reply_to(message.id)
    reply = await desk.comes(answer(), dict(opened.headers)["Reply-To"])
    assert (reply.customer_id, reply.answers) == (customer, message.id)
    assert (await desk.comes(bounce(sent.mail_from), sent.mail_from, "")).answers == message.id
    await take_in_reports(desk.sessions, desk.client)
    [message] = await desk.all(Message)
    assert message.state is MessageState.BOUNCED


@pytest.mark.parametrize("write", [bounce, qmail_bounce])
async def test_a_bounce_with_our_token_is_a_report_of_its_message(
    desk: Desk, write: Callable[[str], bytes]
) -> None:
    message = await desk.sent()
    to = LINKS.return_path(message.id)
    mail = await desk.comes(write(to), to, "")
    assert (mail.kind, mail.outcome, mail.answers) == (
        *(MailKind.BOUNCE, MailOutcome.COUNTED),
        message.id,
    )
    await take_in_reports(desk.sessions, desk.client)
    [report] = await desk.all(DeliveryReportRow)
    assert (report.kind, report.message_id) == (ReportKind.BOUNCED, message.id)
    [row] = await desk.all(Message)
    assert row.state is MessageState.BOUNCED
    [suppression] = await desk.all(Suppression)
    assert (suppression.address, suppression.purpose) == ("ada@example.com", None)


async def test_a_bounce_by_somebody_without_our_token_changes_nothing(desk: Desk) -> None:
    message = await desk.sent()
    forged = Links("", b"another key", "", "mail.example").return_path(message.id)
    other_use = LINKS.reply_to(message.id).replace("reply+", "bounce+")
    for to in ("hello@mail.example", "bounce+@mail.example", forged, other_use):
        mail = await desk.comes(bounce(to, enclosed={"Message-ID": "<x@y>"}), to, "")
        assert mail.outcome is MailOutcome.UNPROVEN
    assert await desk.all(DeliveryReportRow) == []


async def test_a_bounce_of_a_message_that_is_not_known_is_kept_and_harms_nothing(
    desk: Desk,
) -> None:
    to = LINKS.return_path(uuid4())
    assert (await desk.comes(bounce(to), to, "")).outcome is MailOutcome.COUNTED
    await take_in_reports(desk.sessions, desk.client)
    [report] = await desk.all(DeliveryReportRow)
    assert (report.message_id, report.outcome) == (None, "about no message of ours")


async def test_a_complaint_ends_the_selling_and_not_the_receipts(desk: Desk) -> None:
    message = await desk.sent()
    mail = await desk.comes(
        complaint(LINKS.return_path(message.id)), "fbl@mail.example", "x@isp.example"
    )
    assert (mail.kind, mail.outcome) == (MailKind.COMPLAINT, MailOutcome.COUNTED)
    await take_in_reports(desk.sessions, desk.client)
    [suppression] = await desk.all(Suppression)
    assert suppression.purpose is Purpose.MARKETING


# --- whose it is, and what it is about -----------------------------------------------------------


async def told(desk: Desk, mail: ReceivedMail) -> Event:
    """The one reply that a mail became."""
    assert mail.outcome is MailOutcome.REPLY_RECEIVED
    [event] = await desk.all(Event)
    assert (event.event_id, event.kind, event.customer_id) == (
        *(mail.event_id, "reply_received"),
        mail.customer_id,
    )
    assert mail.customer_id is not None
    assert await desk.signals(mail.customer_id) == ["reply_received"]
    return event


async def test_a_reply_is_threaded_by_the_chain_of_its_headers(desk: Desk) -> None:
    await desk.sent()
    case_id = uuid4()
    message = await desk.sent(support_workflow_id(case_id), "ada@example.com")
    thread = f"<other@x> <{message.message_id}> <unknown@x>"
    mail = await desk.comes(answer(references=thread, in_reply_to="<unknown@x>"))
    assert mail.thread == ["other@x", message.message_id, "unknown@x"]
    assert (mail.answers, mail.customer_id, mail.case_id) == (
        *(message.id, message.customer_id),
        case_id,
    )
    event = await told(desk, mail)
    assert event.body["text"] == "Yes, on Saturday please."
    assert event.body["case_id"] == str(case_id)


async def test_else_by_the_signed_address(desk: Desk) -> None:
    message = await desk.sent()
    await desk.sent(address="ada@example.com")  # another customer of the same mailbox
    mail = await desk.comes(answer(), LINKS.reply_to(message.id).upper())
    assert mail.answers == message.id
    await told(desk, mail)


async def test_else_by_the_case_in_the_subject_of_a_known_sender(desk: Desk) -> None:
    message = await desk.sent()
    assert message.customer_id is not None
    case_id = await desk.case(message.customer_id)
    mail = await desk.comes(answer(subject="Re: [case-2026-0a1b2c3d] torn"))
    assert (mail.case_id, mail.answers) == (case_id, None)
    await told(desk, mail)


async def test_the_chain_goes_before_the_address_and_the_address_before_the_subject(
    desk: Desk,
) -> None:
    """Of three people who share a mailbox, each has a case, and one mail names all of them."""
    cases = [uuid4(), uuid4()]
    chain, token = [await desk.sent(support_workflow_id(one), "ada@example.com") for one in cases]
    third = await desk.sent(address="ada@example.com")
    assert third.customer_id is not None
    cases.append(await desk.case(third.customer_id))
    subject, to = "Re: CASE-2026-0A1B2C3D", LINKS.reply_to(token.id)
    answered = {"in_reply_to": f"<{chain.message_id}>"}
    by_chain = await desk.comes(answer(subject=subject, message_id="<1@x>", **answered), to)
    by_address = await desk.comes(answer(subject=subject, message_id="<2@x>"), to)
    by_subject = await desk.comes(answer(subject=subject, message_id="<3@x>"))
    assert [one.case_id for one in (by_chain, by_address, by_subject)] == cases
    assert [one.customer_id for one in (by_chain, by_address, by_subject)] == [
        *(chain.customer_id, token.customer_id),
        third.customer_id,
    ]


async def test_else_it_is_of_the_one_customer_who_has_the_address(desk: Desk) -> None:
    message = await desk.sent()
    mail = await desk.comes(answer(in_reply_to="<>", references=""))
    assert (mail.customer_id, mail.answers) == (message.customer_id, None)
    await told(desk, mail)


async def test_of_an_address_of_two_or_of_nobody_nothing_is_told(desk: Desk) -> None:
    for _ in range(2):
        await desk.sent()
    for sender in (ADA, EVE, "", "ada@example.com, eve@example.net"):
        mail = await desk.comes(answer(sender=sender, message_id=f"<{uuid4()}@x>"))
        assert (mail.outcome, mail.customer_id) == (MailOutcome.UNKNOWN_SENDER, None)
        assert mail.text == "Yes, on Saturday please."
    assert await desk.all(Event) == []


@pytest.mark.parametrize("by", ["chain", "token", "subject"])
async def test_a_stranger_who_knows_a_reference_is_not_attached_but_asked_about(
    desk: Desk, by: str
) -> None:
    message = await desk.sent()
    assert message.customer_id is not None
    await desk.case(message.customer_id)
    headers = {
        "chain": {"in_reply_to": f"<{message.message_id}>"},
        "token": {},
        "subject": {"subject": "CASE-2026-0A1B2C3D"},
    }[by]
    to = LINKS.reply_to(message.id) if by == "token" else "hello@mail.example"
    mail = await desk.comes(answer(sender=EVE, **headers), to, EVE)
    assert (mail.outcome, mail.customer_id) == (MailOutcome.ASKED, message.customer_id)
    assert await desk.all(Event) == []
    assert await desk.signals(message.customer_id) == ["mail_unclear"]


async def test_a_retired_address_is_a_strangers(desk: Desk) -> None:
    message = await desk.sent()
    async with desk.sessions.begin() as session:
        await session.execute(sa.update(ContactPoint).values(retired_at=sa.func.now()))
    mail = await desk.comes(answer(in_reply_to=f"<{message.message_id}>"))
    assert mail.outcome is MailOutcome.ASKED


# --- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [ADA, EVE])
async def test_stop_is_an_opt_out_of_who_has_the_message_as_its_link_would_be(
    desk: Desk, sender: str
) -> None:
    message = await desk.sent()
    assert message.customer_id is not None
    mail = await desk.comes(answer("STOP please", sender=sender), LINKS.reply_to(message.id))
    assert mail.outcome is MailOutcome.OPTED_OUT
    [consent] = await desk.all(Consent)
    assert (consent.customer_id, consent.channel, consent.purpose, consent.state) == (
        *(message.customer_id, Channel.EMAIL, Purpose.MARKETING),
        ConsentState.WITHDRAWN,
    )
    assert await desk.signals(message.customer_id) == ["opted_out"]


async def test_a_stranger_can_not_opt_out_whom_he_only_names(desk: Desk) -> None:
    message = await desk.sent()
    assert message.customer_id is not None
    await desk.case(message.customer_id)
    mail = await desk.comes(answer("STOP", sender=EVE, subject="CASE-2026-0A1B2C3D"), mail_from=EVE)
    assert mail.outcome is MailOutcome.ASKED
    assert await desk.all(Consent) == []


async def test_people_who_share_an_address_leave_together(desk: Desk) -> None:
    for _ in range(2):
        await desk.sent()
    assert (await desk.comes(answer("unsubscribe"))).outcome is MailOutcome.OPTED_OUT
    [suppression] = await desk.all(Suppression)
    assert (suppression.address, suppression.purpose) == ("ada@example.com", Purpose.MARKETING)


# --- machines ------------------------------------------------------------------------------------


async def test_an_auto_reply_is_kept_shown_and_does_nothing(desk: Desk) -> None:
    message = await desk.sent()
    assert message.customer_id is not None
    raw = answer("I am away.", auto_submitted="auto-replied", in_reply_to=f"<{message.message_id}>")
    mail = await desk.comes(raw)
    assert (mail.kind, mail.outcome, mail.answers, mail.customer_id) == (
        *(MailKind.AUTO_REPLY, MailOutcome.KEPT),
        message.id,
        message.customer_id,
    )
    assert await desk.all(Event) == []
    assert await desk.signals(message.customer_id) == []


async def test_two_machines_that_answer_each_other_get_one_answer_in_a_thousand_rounds(
    desk: Desk,
) -> None:
    """Nothing shows the other one to be a machine, and at worst each of its mails opens a case."""
    message = await desk.sent()
    assert message.customer_id is not None
    async with desk.sessions.begin() as session:
        for number in range(40):  # what follows of the others is the same
            raw = answer("Thank you for your mail!", message_id=f"<{number}@x>")
            await keep_mail(session, "smtp", "ada@example.com", ["hello@mail.example"], raw)
    while await desk.take_in():
        pass
    async with desk.sessions.begin() as session:
        heard = (await session.scalars(sa.select(Event.event_id))).all()
        assert len(heard) == 40
        for event_id in (*heard, *(f"{MAIL_EVENT}{number}" for number in range(960))):
            step = case_opened_by(event_id, message.customer_id)
            request = MessageRequest(template=Template.CASE_ACKNOWLEDGED, context={"case": "x"})
            await acknowledge_case(session, step, request)
    states = Counter(
        one.state for one in await desk.all(Message) if one.template is Template.CASE_ACKNOWLEDGED
    )
    assert states == {MessageState.QUEUED: 1, MessageState.CANCELLED: 999}


async def test_a_bounce_of_a_bounce_and_so_on_is_answered_with_nothing(desk: Desk) -> None:
    """Each tells of the one before it, as between two servers that both mean well."""
    message = await desk.sent()
    to = LINKS.return_path(message.id)
    for turn in range(50):
        raw = bounce(to, enclosed={"Message-ID": f"<{turn}@x>", "Auto-Submitted": "auto-replied"})
        assert (await desk.comes(raw, to, "")).outcome is MailOutcome.COUNTED
    await take_in_reports(desk.sessions, desk.client)
    [row] = await desk.all(Message)
    assert row.state is MessageState.BOUNCED
    assert len(await desk.all(Suppression)) == 1
    assert await desk.all(Event) == []


def case_opened_by(event_id: str, customer_id: UUID) -> CaseOpenedStep:
    now, case_id = datetime.now(UTC), uuid4()
    opened = CaseInput(case_id=case_id, customer_id=customer_id, opened_at=now, event_id=event_id)
    return CaseOpenedStep(
        workflow_id=support_workflow_id(case_id),
        kind=ProcessKind.SUPPORT,
        customer_id=customer_id,
        key="opened",
        at=now,
        standing=Standing(step="opened"),
        case_id=case_id,
        case_kind=opened.kind,
        case_state=CaseState.OPEN,
        priority=opened.priority,
        opened=opened,
        began_at=now,
    )


async def test_a_case_by_another_way_is_acknowledged_all_the_same(desk: Desk) -> None:
    message = await desk.sent()
    assert message.customer_id is not None
    async with desk.sessions.begin() as session:
        for event_id in ("mail/1", "web/2", "web/3"):
            step = case_opened_by(event_id, message.customer_id)
            request = MessageRequest(template=Template.CASE_ACKNOWLEDGED, context={"case": "x"})
            await acknowledge_case(session, step, request)
    states = [m.state for m in await desk.all(Message) if m.template is Template.CASE_ACKNOWLEDGED]
    assert states == [MessageState.QUEUED] * 3


# --- once ----------------------------------------------------------------------------------------


async def test_the_same_mail_is_stored_once_and_its_copies_say_nothing_new(desk: Desk) -> None:
    message = await desk.sent()
    first = await desk.comes(answer(), LINKS.reply_to(message.id))
    again = await desk.comes(answer(), LINKS.reply_to(message.id))
    assert again.id == first.id
    copy = await desk.comes(b"Received: by another way\n" + answer(), "hello@mail.example")
    assert (copy.outcome, copy.event_id) == (MailOutcome.COPY, first.event_id)
    assert len(await desk.all(Event)) == 1
    assert message.customer_id is not None
    assert await desk.signals(message.customer_id) == ["reply_received"]


_DIES_AT_ITS_COMMIT = """
CREATE FUNCTION die() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'killed' USING ERRCODE = 'admin_shutdown'; END $$ LANGUAGE plpgsql;
CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION die()
"""
_STUMBLES_OVER_THE_FIRST = """
CREATE FUNCTION stumble() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'stumbled' USING ERRCODE = 'data_exception'; END $$ LANGUAGE plpgsql;
CREATE TRIGGER stumbles BEFORE INSERT ON events FOR EACH ROW
WHEN (NEW.body->>'text' = 'the first') EXECUTE FUNCTION stumble()
"""


def refusing(desk: Desk, status: RPCStatusCode) -> Desk:
    return Desk(desk.sessions, refusing_client(desk.client, status))


@pytest.mark.own_database
async def test_an_intake_that_dies_before_its_commit_leaves_nothing_behind(desk: Desk) -> None:
    """The relationship may have been told: it knows the event id when it is told again."""
    message = await desk.sent()
    assert message.customer_id is not None
    async with desk.sessions.begin() as session:
        await session.execute(sa.text(_DIES_AT_ITS_COMMIT))
    with pytest.raises(OperationalError, match="killed"):
        await desk.comes(answer())
    [mail] = await desk.all(ReceivedMail)
    assert (mail.processed_at, mail.kind, mail.outcome) == (None, None, None)
    assert await desk.all(Event) == []
    async with desk.sessions.begin() as session:
        await session.execute(sa.text("DROP TRIGGER dies ON events"))
    assert await desk.take_in() == [MailOutcome.REPLY_RECEIVED]
    assert len(await desk.all(Event)) == 1


async def test_two_intakes_share_the_mails(desk: Desk) -> None:
    await desk.sent()
    async with desk.sessions.begin() as session:
        for number in range(20):
            raw = answer(f"question {number}", message_id=f"<{number}@x>")
            await keep_mail(session, "smtp", "ada@example.com", ["hello@mail.example"], raw)
    outcomes: list[MailOutcome] = []
    for _ in range(10):  # turns are short, and a busy machine takes in less in one
        for some in await asyncio.gather(*(desk.take_in() for _ in range(3))):
            outcomes += some
    assert len(outcomes) == 20
    assert len(await desk.all(Event)) == 20


async def test_temporal_away_leaves_the_mail_for_later(desk: Desk) -> None:
    await desk.sent()
    with pytest.raises(RPCError):
        await refusing(desk, RPCStatusCode.UNAVAILABLE).comes(answer())
    assert (await desk.take_in()) == [MailOutcome.REPLY_RECEIVED]


async def until_its_turn(desk: Desk) -> None:
    """The machine's time goes on until every mail may be tried again."""
    async with desk.sessions.begin() as session:
        await session.execute(sa.update(ReceivedMail).values(not_before=sa.func.now()))


async def test_a_mail_at_which_temporal_seems_away_for_ever_is_set_aside_and_says_so(
    desk: Desk,
) -> None:
    """What it means to say to Temporal can be what Temporal never answers."""
    await desk.sent()
    async with desk.sessions.begin() as session:
        await keep_mail(session, "smtp", "ada@example.com", ["hello@mail.example"], answer())
    away = refusing(desk, RPCStatusCode.RESOURCE_EXHAUSTED)
    for _ in range(8):
        await until_its_turn(desk)
        with pytest.raises(RPCError):
            await away.take_in()
    [mail] = await desk.all(ReceivedMail)
    assert (mail.attempts, mail.outcome) == (8, None)
    await until_its_turn(desk)
    assert await away.take_in() == [MailOutcome.FAILED]
    [mail] = await desk.all(ReceivedMail)
    assert mail.because == "set aside: 8 attempts ended without an outcome"
    assert await away.take_in() == []
    assert await desk.all(Event) == []


async def test_a_mail_that_is_tried_again_lets_others_go_before_it(desk: Desk) -> None:
    await desk.sent()
    away = refusing(desk, RPCStatusCode.UNAVAILABLE)
    async with desk.sessions.begin() as session:
        first, _ = await keep_mail(session, "smtp", "a@x", ["hello@mail.example"], answer("1"))
    for _ in range(3):  # two at once, and one that has to wait after it
        with pytest.raises(RPCError):
            await away.take_in()
    other = await desk.comes(answer("2", message_id="<2@mail.example.com>"))
    assert other.outcome is MailOutcome.REPLY_RECEIVED
    waits = await desk.mail(first)
    assert (waits.attempts, waits.outcome) == (3, None)
    assert waits.not_before > datetime.now(UTC)
    await until_its_turn(desk)
    assert await desk.take_in() == [MailOutcome.REPLY_RECEIVED]


# --- what somebody made up -----------------------------------------------------------------------


@pytest.mark.parametrize("sender", [b"Eve <eve@example.net>", b"Grace <grace@example.com>"])
async def test_whatever_somebody_makes_up_holds_up_no_other_mail_and_says_what_is_in_it(
    desk: Desk, sender: bytes
) -> None:
    """What is malformed makes no case: a person is asked. A customer's readable words are told, and
    what has none is kept.
    """
    message = await desk.sent(address="grace@example.com")
    async with desk.sessions.begin() as session:
        for raw in MADE_UP.values():
            if len(raw) < 2_000_000:
                made_up = b"From: " + sender + b"\n" + re.sub(rb"(?m)^From:.*\n", b"", raw)
                await keep_mail(session, "smtp", "a@example.net", ["hello@mail.example"], made_up)
    mail = await desk.comes(answer("After all that.", sender="grace@example.com"))
    while await desk.take_in():
        pass
    assert (await desk.mail(mail.id)).outcome is MailOutcome.REPLY_RECEIVED
    mails = await desk.all(ReceivedMail)
    of_a_stranger = b"eve" in sender
    assert {one.outcome for one in mails} == {
        *(MailOutcome.KEPT, MailOutcome.REPLY_RECEIVED),
        MailOutcome.UNKNOWN_SENDER if of_a_stranger else MailOutcome.ASKED,
    }
    asked = [one for one in mails if one.outcome is MailOutcome.ASKED]
    assert (of_a_stranger and not asked) or len(asked) >= 3
    assert {one.because for one in asked} <= {"it is malformed: what is written may not be all"}
    with_files = {one.mail_id for one in await desk.attachments()}
    for one in mails:
        empty = not (one.text or one.subject or one.id in with_files)
        assert (one.outcome is MailOutcome.KEPT) == (empty or one.kind is not MailKind.REPLY)
    told = {event.event_id: event.body["text"] for event in await desk.all(Event)}
    heard = [one for one in mails if one.outcome is MailOutcome.REPLY_RECEIVED]
    assert told == {
        one.event_id: (one.text or one.subject or "(no text)")[:10_000] for one in heard
    }
    assert [one.id for one in await desk.all(Message)] == [message.id]  # nothing is answered


async def test_an_empty_mail_of_a_customer_is_shown_as_his_and_says_nothing(desk: Desk) -> None:
    message = await desk.sent()
    assert message.customer_id is not None
    to = LINKS.reply_to(message.id)
    his = await desk.comes(answer("\n", subject=""), to)
    assert (his.outcome, his.customer_id, his.answers) == (
        *(MailOutcome.KEPT, message.customer_id),
        message.id,
    )
    assert his.because == "nothing is in it"
    strangers = await desk.comes(answer(" ", subject="", sender=EVE), to, EVE)
    assert (strangers.outcome, strangers.customer_id) == (MailOutcome.KEPT, None)
    assert await desk.signals(message.customer_id) == []
    said = await desk.comes(answer("", subject="Where is my order?"))
    assert (await told(desk, said)).body["text"] == "Where is my order?"


@pytest.mark.own_database
async def test_a_fault_of_ours_marks_the_mail_and_goes_on(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """What the mail says forges no line of the log: nothing of it is there."""
    forged = "=?utf-8?q?Re=0A2026-11-22_INFO_forged?="
    await desk.sent()
    async with desk.sessions.begin() as session:
        for word in ("first", "second"):
            raw = answer(f"the {word}", message_id=f"<{word}@x>", subject="SUBJECT", to="TO@x.y")
            raw = raw.replace(b"SUBJECT", forged.encode())
            raw = raw.replace(b"From: Ada Lovelace", b"From: " + forged.encode())
            await keep_mail(session, "smtp", "ada@example.com", ["hello@mail.example"], raw)
        await session.execute(sa.text(_STUMBLES_OVER_THE_FIRST))
    with caplog.at_level(logging.INFO):
        assert await desk.take_in() == [MailOutcome.FAILED, MailOutcome.REPLY_RECEIVED]
    assert "received_mails" in caplog.text
    for theirs in ("forged", "the first", "ada@example.com"):
        assert theirs not in caplog.text


async def test_a_relationship_that_takes_no_more_facts_holds_up_no_other(desk: Desk) -> None:
    await desk.sent()
    mail = await refusing(desk, RPCStatusCode.INVALID_ARGUMENT).comes(answer())
    assert (mail.outcome, mail.because) == (MailOutcome.FAILED, "RPCError")
    assert await desk.all(Event) == []


async def test_attachments_are_kept_with_their_mail(desk: Desk) -> None:
    await desk.sent()
    mail = await desk.comes(with_files(("photo.jpg", b"\xff\xd8\x00"), ("a/b.txt", b"x")))
    kept = sorted(await desk.attachments(), key=lambda one: one.number)
    assert [(one.mail_id, one.name, one.content, one.size) for one in kept] == [
        (mail.id, "photo.jpg", b"\xff\xd8\x00", 3),
        (mail.id, "a-b.txt", b"x", 1),
    ]
