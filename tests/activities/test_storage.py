"""What people wrote is deleted when its time is over, not sooner; the facts stay."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.orm import undefer
from temporalio.testing import WorkflowEnvironment

from activities.storage import delete_past
from activities.verify import CHECKS, Conservation
from database.base import Sessions, table_of
from database.customers import Customer
from database.delivery_reports import DeliveryReportRow
from database.events import Event, keep_event
from database.messages import Message
from database.processes import ProcessRow
from database.reactions import MessageReaction, ReactionKind
from database.received_mails import ReceivedAttachment, ReceivedMail
from database.received_texts import ReceivedText
from database.staff import StaffAction
from database.support import Case, StaffText
from database.tasks import Task
from domain.delivery_reports import ReportKind
from domain.messages import Channel, MessageClass, MessageState, Purpose, Template
from domain.policies import CaseKind, Priority, StoragePolicy
from domain.processes import ProcessKind, ProcessState
from domain.received_mails import MailKind, MailOutcome
from domain.received_texts import TextOutcome
from domain.support import CaseState
from domain.tasks import Role, TaskKind, TaskState
from tests.activities.dispatching import publish, simulate

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
A_THOUSAND_DAYS = 1000 * DAY
YEAR, FOUR_YEARS = 365 * DAY, 1461 * DAY


async def swept(sessions: Sessions) -> int:
    return await delete_past(sessions, NOW, lambda: None)


async def added(sessions: Sessions, *rows: Any) -> None:
    async with sessions.begin() as session:
        for row in rows:
            session.add(row)
            await session.flush()


def customer(simulation: UUID | None = None) -> Customer:
    return Customer(id=uuid4(), reference=str(uuid4()), name="Ada", simulation_id=simulation)


def message(of: Customer | None, ago: timedelta = A_THOUSAND_DAYS, **fields: Any) -> Message:
    message_id = uuid4()
    return Message(
        **{
            "id": message_id,
            "key": str(message_id),
            "customer_id": of.id if of is not None else None,
            "workflow_id": f"delivery/{message_id}",
            "step": "late",
            "template": Template.ORDER_LATE,
            "template_version": "file",
            "message_class": MessageClass.TRANSACTIONAL,
            "purpose": Purpose.ORDERS,
            "channel": Channel.EMAIL,
            "context": {"order": "A-1"},
            "asked_at": NOW - ago,
            "queued_at": NOW - ago,
            "not_before": NOW - ago,
            "accepted_at": NOW - ago,
            "state": MessageState.DELIVERED,
            "address": "ada@example.com",
            "subject": "Late",
            "text": "It is late.",
            "html": "<p>It is late.</p>",
            "message_id": f"<{message_id}@x>",
            "provider": "smtp",
            "provider_answer": "250 ok",
            **fields,
        }
    )


def mail(of: Customer | None, ago: timedelta = A_THOUSAND_DAYS, **fields: Any) -> ReceivedMail:
    return ReceivedMail(
        **{
            "id": uuid4(),
            "digest": str(uuid4()),
            "source": "smtp",
            "rcpt_to": [],
            "raw": b"From: ada@example.com\r\n\r\nYes.",
            "received_at": NOW - ago,
            "kind": MailKind.REPLY,
            "sender": "ada@example.com",
            "text": "Yes.",
            "whole_text": "Yes.\n> And?",
            "processed_at": NOW - ago,
            "outcome": MailOutcome.REPLY_RECEIVED,
            "customer_id": of.id if of is not None else None,
            **fields,
        }
    )


def attachment(of: ReceivedMail) -> ReceivedAttachment:
    return ReceivedAttachment(
        id=uuid4(),
        mail_id=of.id,
        number=1,
        name="photo.jpg",
        media_type="image/jpeg",
        size=3,
        sha256="0" * 64,
        content=b"abc",
    )


def report(
    of: Message | None, ago: timedelta = A_THOUSAND_DAYS, **fields: Any
) -> DeliveryReportRow:
    return DeliveryReportRow(
        **{
            "id": uuid4(),
            "source": "resend",
            "event_id": str(uuid4()),
            "kind": ReportKind.DELIVERED,
            "message_id": of.id if of is not None else None,
            "provider": "resend",
            "said": "250 queued as 1A2B",
            "reported_at": NOW - ago,
            "received_at": NOW - ago,
            "processed_at": NOW - ago,
            "outcome": "it was accepted and is delivered",
            **fields,
        }
    )


def process(workflow_id: str, of: Customer, **fields: Any) -> ProcessRow:
    return ProcessRow(
        **{
            "workflow_id": workflow_id,
            "kind": ProcessKind.DELIVERY,
            "customer_id": of.id,
            "state": ProcessState.RUNNING,
            "step": "late",
            "waiting_for": "",
            "outcome": "",
            "allowed": [],
            "started_at": NOW - A_THOUSAND_DAYS,
            **fields,
        }
    )


def case(of: Customer, state: CaseState) -> Case:
    over = state is CaseState.CLOSED
    return Case(
        id=uuid4(),
        reference=f"CASE-{uuid4()}",
        customer_id=of.id,
        kind=CaseKind.REQUEST,
        state=state,
        priority=Priority.NORMAL,
        queue=Role.SUPPORT_AGENT,
        opened_at=NOW - A_THOUSAND_DAYS,
        resolved_at=NOW if over or state is CaseState.RESOLVED else None,
        closed_at=NOW if over else None,
    )


def task(of: Customer, ended_at: datetime | None) -> Task:
    return Task(
        id=uuid4(),
        customer_id=of.id,
        workflow_id=f"customer/{of.id}",
        kind=TaskKind.ATTRIBUTE_MAIL,
        role=Role.SUPPORT_AGENT,
        state=TaskState.DONE if ended_at else TaskState.OPEN,
        opened_at=NOW - A_THOUSAND_DAYS,
        due_at=NOW,
        ended_at=ended_at,
        outcome="attributed" if ended_at else None,
    )


async def as_it_is(sessions: Sessions, row: Any) -> Any:
    deferred = {ReceivedMail: ReceivedMail.raw, ReceivedAttachment: ReceivedAttachment.content}
    options = [undefer(deferred[type(row)])] if type(row) in deferred else []
    async with sessions() as session:
        return await session.get_one(type(row), sa.inspect(row).identity, options=options)


def facts_of(row: Any, *gone: str) -> Mapping[str, Any]:
    columns = sa.inspect(type(row)).columns.keys()
    return {name: getattr(row, name) for name in columns if name not in gone}


# --- messages ------------------------------------------------------------------------------------


async def test_the_text_of_a_message_goes_after_two_years_and_the_facts_stay(
    sessions: Sessions,
) -> None:
    ada = customer()
    old, young, of_staff = message(ada, 731 * DAY), message(ada, 729 * DAY), message(None)
    await added(sessions, ada, old, young, of_staff)
    before = await as_it_is(sessions, old)
    assert await swept(sessions) == 2
    words = ("subject", "text", "html", "text_deleted_at")
    after = await as_it_is(sessions, old)
    assert (after.subject, after.text, after.html) == (None, None, None)
    assert after.text_deleted_at >= NOW
    assert facts_of(after, *words) == facts_of(before, *words)
    assert (await as_it_is(sessions, of_staff)).text is None
    kept = await as_it_is(sessions, young)
    assert (kept.text, kept.text_deleted_at) == ("It is late.", None)
    assert await swept(sessions) == 0
    assert (await as_it_is(sessions, old)).text_deleted_at == after.text_deleted_at


@pytest.mark.parametrize("state", [one for one in MessageState if not one.settled])
async def test_a_message_under_way_keeps_its_text(sessions: Sessions, state: MessageState) -> None:
    ada = customer()
    waiting = message(ada, state=state, decision={"because": "later"})
    await added(sessions, ada, waiting, report(waiting))
    assert await swept(sessions) == 0
    assert (await as_it_is(sessions, waiting)).text == "It is late."


@pytest.mark.parametrize("state", ProcessState)
async def test_what_a_process_has_sent_is_kept_until_it_is_over(
    sessions: Sessions, state: ProcessState
) -> None:
    ada = customer()
    sent = message(ada)
    opened = MessageReaction(
        message_id=sent.id, kind=ReactionKind.OPENED, link="", first_at=NOW - A_THOUSAND_DAYS
    )
    running = process(sent.workflow_id, ada, state=state, ended_at=NOW if state.ended else None)
    answer = mail(ada, answers=sent.id)
    await added(sessions, ada, sent, opened, report(sent), answer, running)
    assert await swept(sessions) == (4 if state.ended else 0)


async def test_a_relationship_never_ends_so_nothing_waits_for_it(sessions: Sessions) -> None:
    ada = customer()
    sent = message(ada, workflow_id=f"customer/{ada.id}")
    await added(sessions, ada, sent, process(sent.workflow_id, ada, kind=ProcessKind.LIFECYCLE))
    assert await swept(sessions) == 1


@pytest.mark.parametrize("state", CaseState)
async def test_while_a_case_may_be_answered_its_customers_texts_and_mails_are_there(
    sessions: Sessions, state: CaseState
) -> None:
    ada, grace = customer(), customer()
    hers = message(grace), mail(grace)
    await added(sessions, ada, grace, message(ada), mail(ada), case(ada, state), *hers)
    assert await swept(sessions) == (4 if state is CaseState.CLOSED else 2)


async def test_a_customers_years_are_those_of_his_clock(sessions: Sessions) -> None:
    fast = await simulate(sessions, NOW - 5 * A_THOUSAND_DAYS, speed=1000.0)
    slow = await simulate(sessions, NOW, speed=1e-9)
    ada, lives_fast, lives_slowly = customer(), customer(fast.id), customer(slow.id)
    yesterday = [message(one, DAY) for one in (ada, lives_fast, lives_slowly)]
    ages = message(lives_slowly)
    await added(sessions, ada, lives_fast, lives_slowly, *yesterday, ages)
    assert await swept(sessions) == 1
    assert (await as_it_is(sessions, yesterday[1])).text is None
    assert (await as_it_is(sessions, ages)).text == "It is late."


async def test_the_policy_says_how_long(sessions: Sessions) -> None:
    ada = customer()
    await added(sessions, ada, message(ada, 10 * DAY), message(ada, 20 * DAY))
    await publish(sessions, StoragePolicy(message_texts=15 * DAY))
    assert await swept(sessions) == 1


async def test_a_sweep_that_dies_goes_on_where_it_was(sessions: Sessions) -> None:
    """1100 texts: each transaction deletes 500 at most."""
    first = message(None)
    await added(sessions, first)
    copied = [
        one.name for one in table_of(Message).c if one.name not in ("id", "key", "message_id")
    ]
    named = ", ".join(copied)
    async with sessions.begin() as session:
        await session.execute(
            sa.text(
                f"INSERT INTO messages (key, {named}) SELECT 'copy ' || n, {named}"
                " FROM messages, generate_series(2, 1100) n"
            )
        )
    beats = 0

    def dies() -> None:
        nonlocal beats
        beats += 1
        if beats == 4:  # the three other kinds, then the first batch of texts
            raise ConnectionError("the worker dies")

    with pytest.raises(ConnectionError):
        await delete_past(sessions, NOW, dies)
    left = sa.select(sa.func.count()).select_from(Message).where(Message.text.is_not(None))
    async with sessions() as session:
        assert await session.scalar(left) == 600
    assert await swept(sessions) == 600
    assert await swept(sessions) == 0


async def test_what_somebody_writes_just_now_is_left_for_another_night(sessions: Sessions) -> None:
    ada = customer()
    busy, idle = message(ada), message(ada)
    await added(sessions, ada, busy, idle)
    async with sessions.begin() as session:
        await session.get_one(Message, busy.id, with_for_update=True)
        assert await swept(sessions) == 1
    assert (await as_it_is(sessions, idle)).text is None
    assert await swept(sessions) == 1


# --- what came back ------------------------------------------------------------------------------


async def test_a_raw_mail_goes_after_half_a_year_with_its_attachments(sessions: Sessions) -> None:
    ada = customer()
    old, young, strange = mail(ada, 181 * DAY), mail(ada, 179 * DAY), mail(None)
    file = attachment(old)
    await added(sessions, ada, old, young, strange, file)
    before = await as_it_is(sessions, old)
    assert await swept(sessions) == 2
    words = ("raw", "whole_text", "raw_deleted_at")
    after = await as_it_is(sessions, old)
    assert (after.raw, after.whole_text) == (None, None)
    assert after.raw_deleted_at >= NOW
    assert facts_of(after, *words) == facts_of(before, *words)
    kept = await as_it_is(sessions, file)
    assert (kept.content, kept.name, kept.size) == (None, "photo.jpg", 3)
    assert (await as_it_is(sessions, young)).raw is not None


@pytest.mark.parametrize("ended_at", [None, NOW])
async def test_a_mail_that_a_person_is_asked_about_waits_for_the_answer(
    sessions: Sessions, ended_at: datetime | None
) -> None:
    ada = customer()
    await added(sessions, ada, mail(ada, outcome=MailOutcome.ASKED), task(ada, ended_at))
    assert await swept(sessions) == (1 if ended_at else 0)


@pytest.mark.parametrize(
    "standing",
    [{"outcome": MailOutcome.FAILED}, {"outcome": None, "processed_at": None}],
    ids=["failed", "not looked at"],
)
async def test_a_mail_that_nobody_could_act_upon_is_kept(
    sessions: Sessions, standing: dict[str, Any]
) -> None:
    await added(sessions, mail(None, **standing))
    assert await swept(sessions) == 0


def said(of: Customer, ago: timedelta = FOUR_YEARS, **fields: Any) -> Event:
    return Event(
        **{
            "event_id": str(uuid4()),
            "kind": "reply_received",
            "customer_id": of.id,
            "workflow_id": f"customer/{of.id}",
            "occurred_at": NOW - ago,
            "accepted_at": NOW - ago,
            "body": {"kind": "reply_received", "source": "mail", "text": "My knee hurts."},
            "fingerprint": "0" * 64,
            "accepted_by": "mail",
            **fields,
        }
    )


def written(of: Customer, ago: timedelta = FOUR_YEARS) -> StaffText:
    return StaffText(
        id=uuid4(), customer_id=of.id, by="rep", text="Rest it.", recorded_at=NOW - ago
    )


def texted(of: Customer, ago: timedelta = FOUR_YEARS, **fields: Any) -> ReceivedText:
    settled = {"processed_at": NOW - ago, "outcome": TextOutcome.REPLY_RECEIVED}
    return ReceivedText(
        id=uuid4(),
        source="twilio",
        event_id=str(uuid4()),
        sender="+4930901820",
        text="My knee hurts.",
        customer_id=of.id,
        received_at=NOW - ago,
        **{**settled, **fields},
    )


async def test_what_people_wrote_to_each_other_goes_after_three_years_and_the_rows_stay(
    sessions: Sessions,
) -> None:
    ada = customer()
    old = [said(ada), mail(ada, FOUR_YEARS), texted(ada), written(ada)]
    young = [said(ada, 2 * YEAR), texted(ada, 2 * YEAR), written(ada, 2 * YEAR)]
    comment = said(ada, body={"kind": "feedback_given", "comment": "Fine.", "title": "F"})
    wordless = said(ada, body={"kind": "lead_received", "source": "form"})
    failed = texted(ada, outcome=TextOutcome.FAILED)
    await added(sessions, ada, *old, *young, comment, wordless, failed)
    assert await swept(sessions) == len(old) + 2, "the mail twice, first as it came"
    event, letter, text, answer = [await as_it_is(sessions, one) for one in old]
    assert event.body == {"kind": "reply_received", "source": "mail"}
    assert (event.fingerprint, event.accepted_by) == ("0" * 64, "mail")
    assert (letter.subject, letter.text, letter.sender) == (None, None, "ada@example.com")
    assert (text.text, answer.text, answer.by) == ("", "", "rep")
    assert min(one.words_deleted_at for one in (event, letter, text, answer)) >= NOW
    assert (await as_it_is(sessions, comment)).body == {"kind": "feedback_given"}
    for one in (*young, wordless, failed):
        kept = await as_it_is(sessions, one)
        assert facts_of(kept) == facts_of(one)
    assert await swept(sessions) == 0


async def test_an_event_that_comes_again_is_known_without_its_words(sessions: Sessions) -> None:
    ada = customer()
    event = said(ada)
    await added(sessions, ada, event)
    assert await swept(sessions) == 1
    async with sessions.begin() as session:
        assert not await keep_event(
            session,
            event.body | {"event_id": event.event_id},
            fingerprint=event.fingerprint,
            customer_id=ada.id,
            workflow_id=event.workflow_id,
            occurred_at=NOW,
            accepted_by="mail",
        )


async def test_words_wait_while_a_case_is_open_a_process_runs_or_an_answer_is_under_way(
    sessions: Sessions,
) -> None:
    ada, grace, jean = customer(), customer(), customer()
    follow_up, answer = f"follow-up/{uuid4()}", written(jean)
    waiting = message(
        jean, text_id=answer.id, state=MessageState.QUEUED, text=None, html=None, accepted_at=None
    )
    await added(
        sessions,
        *(ada, grace, jean, case(ada, CaseState.WAITING_FOR_CUSTOMER)),
        *(said(ada), texted(ada), written(ada)),
        process(follow_up, grace, kind=ProcessKind.FOLLOW_UP),
        said(grace, workflow_id=follow_up),
        *(answer, waiting),
    )
    assert await swept(sessions) == 0


async def test_what_a_provider_said_and_a_reader_clicked_goes_after_a_year(
    sessions: Sessions,
) -> None:
    ada = customer()
    sent = message(ada, 400 * DAY)
    old, young, strange = report(sent, 366 * DAY), report(sent, 364 * DAY), report(None)
    unread = report(sent, processed_at=None, outcome=None)
    clicked = [
        MessageReaction(
            message_id=sent.id,
            kind=ReactionKind.CLICKED,
            link=f"https://example.com/{ago.days}",
            first_at=NOW - ago,
        )
        for ago in (366 * DAY, 364 * DAY)
    ]
    await added(sessions, ada, sent, old, young, strange, unread, *clicked)
    assert await swept(sessions) == 3
    after = await as_it_is(sessions, old)
    assert (after.said, after.outcome) == (None, "it was accepted and is delivered")
    assert after.said_deleted_at >= NOW
    for kept in (young, unread):
        assert (await as_it_is(sessions, kept)).said == "250 queued as 1A2B"
    async with sessions() as session:
        links = (await session.scalars(sa.select(MessageReaction.link))).all()
    assert links == ["https://example.com/364"]
    noted = await as_it_is(sessions, sent)
    assert (noted.reactions_deleted_at is not None, noted.text) == (True, "It is late.")


async def test_what_staff_did_goes_after_three_years(sessions: Sessions) -> None:
    def done(ago: timedelta) -> StaffAction:
        told = {"name": "Ada"}
        return StaffAction(
            staff_id="agent-7",
            operation="change_customer",
            target="/customers/1",
            before=told,
            after=told,
            request_id="r",
            recorded_at=NOW - ago,
        )

    slow = await simulate(sessions, NOW, speed=1e-9)  # staff lives by the machine's time
    await added(sessions, customer(slow.id), done(1094 * DAY), done(1096 * DAY), done(1097 * DAY))
    assert await swept(sessions) == 2
    async with sessions() as session:
        kept = (await session.scalars(sa.select(StaffAction.recorded_at))).all()
    assert kept == [NOW - 1094 * DAY]
    await publish(sessions, StoragePolicy(staff_actions=366 * DAY))
    assert await swept(sessions) == 1
    with pytest.raises(ValidationError, match="staff_actions"):  # nobody wipes his traces away
        StoragePolicy(staff_actions=DAY)


async def test_the_check_misses_nothing_that_was_deleted(
    sessions: Sessions, temporal: WorkflowEnvironment
) -> None:
    ada = customer()
    sent = [message(ada, state=state) for state in MessageState if state.settled]
    for one in sent:
        if one.state in (MessageState.SUPPRESSED, MessageState.CANCELLED):
            one.decision = {"because": "no consent"}
        one.process_told_at = NOW
    await added(sessions, ada, *sent, *map(report, sent), mail(ada))
    check = Conservation(sessions, temporal.client, patience=timedelta(0))
    names = [one.name for one in CHECKS]

    async def findings() -> dict[str, int]:
        verdict = await check.run()
        return {one.check: one.count for one in verdict.findings if one.check in names}

    before = await findings()
    assert await swept(sessions) == 2 * len(sent) + 1
    assert await findings() == before == {"messages_failed": 1}
