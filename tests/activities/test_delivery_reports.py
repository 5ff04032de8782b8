"""What comes back about a message is true of it, whenever it comes and however often."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from activities.delivery_reports import take_in_reports
from activities.message_queue import Settlement, settle
from activities.messages import MessageActivities
from database.base import Sessions
from database.customers import Consent, Suppression
from database.delivery_reports import DeliveryReportRow, keep_report
from database.messages import Message
from database.timeline import TimelineLine
from domain.contacts import ConsentState
from domain.delivery_reports import DeliveryReport, ReportKind
from domain.messages import Channel, MessageState, Purpose, SettledBy, Template
from tests.activities.dispatching import (
    IMPATIENT,
    messages,
    queue,
    running,
    simulate,
    until,
    until_settled,
)
from tests.activities.refusing import refusing_client
from tests.messaging.post_office import Fault, PostOffice

AT = datetime.now(UTC) - timedelta(minutes=3)
TOKEN = "dispatcher/1"


class Desk:
    """Reports that arrive, and the intake."""

    def __init__(self, sessions: Sessions, temporal: WorkflowEnvironment) -> None:
        self.sessions = sessions
        self.client = temporal.client

    async def report(
        self, effect: UUID | None, *kinds: ReportKind, said: str = "says who knows"
    ) -> None:
        for kind in kinds:
            report = DeliveryReport(kind=kind, effect=effect, said=said, at=AT, provider="resend")
            async with self.sessions.begin() as session:
                assert await keep_report(session, "resend", str(uuid4()), report)

    async def take_in(self) -> list[ReportKind]:
        return await take_in_reports(self.sessions, self.client)

    async def outcomes(self) -> list[str | None]:
        async with self.sessions() as session:
            rows = sa.select(DeliveryReportRow.outcome).order_by(DeliveryReportRow.id)
            return list(await session.scalars(rows))

    async def suppressed(self) -> list[tuple[str, Purpose | None, str]]:
        async with self.sessions() as session:
            rows = await session.scalars(sa.select(Suppression).order_by(Suppression.id))
            return [(row.address, row.purpose, row.reason) for row in rows]

    async def put(self, state: MessageState, **values: object) -> Message:
        """The one message, as it stands when the reports come."""
        values = {"address": "Customer0@example.com", "message_id": "<1@x>", **values}
        if state in (MessageState.ACCEPTED, MessageState.DELIVERED):
            values |= {"accepted_at": AT, "told_at": AT, "provider": "smtp"}
        await self.put_all(state, **values)
        return await self.message()

    async def put_all(self, state: MessageState, **values: object) -> None:
        async with self.sessions.begin() as session:
            await session.execute(sa.update(Message).values(state=state, **values))

    async def message(self) -> Message:
        [message] = await messages(self.sessions)
        return message


@pytest.fixture
def desk(sessions: Sessions, temporal: WorkflowEnvironment) -> Desk:
    return Desk(sessions, temporal)


async def test_a_report_is_kept_once(desk: Desk) -> None:
    report = DeliveryReport(
        kind=ReportKind.DELIVERED, effect=None, said="", at=AT, provider="resend"
    )

    async def keep(source: str) -> bool:
        async with desk.sessions.begin() as session:
            return await keep_report(session, source, "e-1", report)

    assert sorted(await asyncio.gather(*(keep("resend") for _ in range(5)))) == [*[False] * 4, True]
    assert await keep("twilio"), "another source has ids of its own"


async def test_a_delivery_is_recorded_and_leaves_the_providers_answer(desk: Desk) -> None:
    await queue(desk.sessions)
    before = await desk.put(MessageState.ACCEPTED, provider_answer="250 kept")
    await desk.report(before.id, ReportKind.DELIVERED, ReportKind.ACCEPTED, ReportKind.OTHER)
    assert len(await desk.take_in()) == 3
    message = await desk.message()
    assert message.state is MessageState.DELIVERED
    assert (message.provider, message.provider_answer) == ("smtp", "250 kept")
    assert (message.accepted_at, message.told_at) == (AT, AT)
    assert await desk.outcomes() == [
        "it was accepted and is delivered",
        "nothing new: it is delivered",
        "says nothing about the delivery",
    ]
    assert await desk.take_in() == [], "each is taken once"


@pytest.mark.parametrize(
    ("kind", "doubted"),
    [("delivered", False), ("bounced", False), ("other", True)],
)
async def test_what_is_known_again_was_not_unknown_since(
    desk: Desk, kind: str, doubted: bool
) -> None:
    await queue(desk.sessions)
    unknown = await desk.put(MessageState.UNKNOWN, unknown_since=AT, provider_answer="lost")
    await desk.report(unknown.id, ReportKind(kind))
    await desk.take_in()
    message = await desk.message()
    assert (message.unknown_since is not None) is doubted
    assert message.settled_by is (None if doubted else SettledBy.EVIDENCE)


@pytest.mark.parametrize("kind", ["accepted", "delayed", "delivered", "bounced", "complained"])
async def test_a_report_may_come_before_our_own_yes_which_then_adds_what_it_knows(
    desk: Desk, kind: str
) -> None:
    simulation = await simulate(desk.sessions, datetime(2017, 6, 1, tzinfo=UTC), speed=3600)
    await queue(desk.sessions, simulation_id=simulation.id)
    claimed = await desk.put(MessageState.SENDING, claimed_by=TOKEN, claimed_at=AT)
    await desk.report(claimed.id, ReportKind(kind))
    await desk.take_in()
    early = await desk.message()
    assert early.accepted_at == AT
    assert early.told_at == simulation.clock.business(AT)
    assert early.provider == "resend"

    now = datetime.now(UTC)
    yes = Settlement(
        id=claimed.id,
        token=TOKEN,
        state=MessageState.ACCEPTED,
        answer="250 kept",
        provider="smtp",
        accepted_at=now,
        told_at=now,
    )
    async with desk.sessions.begin() as session:
        assert await settle(session, [yes]) == [MessageState.ACCEPTED], "counted as what it is"
        assert await settle(session, [yes]) == [], "the claim is over"
    late = await desk.message()
    assert late.state == ("accepted" if kind == "delayed" else kind)
    assert (late.accepted_at, late.told_at) == (early.accepted_at, early.told_at)
    assert (late.provider, late.claimed_by) == ("smtp", None)
    bad = kind in ("bounced", "complained")
    assert late.provider_answer == ("says who knows" if bad else "250 kept")


@pytest.mark.parametrize(
    "state", [MessageState.QUEUED, MessageState.SENDING, MessageState.FAILED], ids=str
)
async def test_nothing_else_the_dispatcher_could_say_undoes_a_report(
    desk: Desk, state: MessageState
) -> None:
    await queue(desk.sessions)
    claimed = await desk.put(MessageState.SENDING, claimed_by=TOKEN, claimed_at=AT)
    await desk.report(claimed.id, ReportKind.ACCEPTED)
    await desk.take_in()
    other = Settlement(id=claimed.id, token=TOKEN, state=state, answer="lost", provider="smtp")
    async with desk.sessions.begin() as session:
        assert await settle(session, [other]) == []
    assert (await desk.message()).state is MessageState.ACCEPTED


async def test_an_answer_is_written_whatever_the_provider_says(desk: Desk) -> None:
    """Refused by PostgreSQL it would be lost, and with it all that are written together."""
    await queue(desk.sessions)
    claimed = await desk.put(MessageState.SENDING, claimed_by=TOKEN, claimed_at=AT)
    odd = Settlement(
        claimed.id,
        TOKEN,
        MessageState.FAILED,
        "550 no\x00 such\ud800 user",
        provider="smtp",
        suppress=(Channel.EMAIL, "gone@example.com"),
    )
    async with desk.sessions.begin() as session:
        assert await settle(session, [odd]) == [MessageState.FAILED]
    assert (await desk.message()).provider_answer == "550 no such user"
    assert await desk.suppressed() == [("gone@example.com", None, "bounced: 550 no such user")]


async def test_evidence_stops_the_second_sending(
    desk: Desk, activities: MessageActivities, post_office: PostOffice
) -> None:
    await queue(desk.sessions)
    later = datetime.now(UTC) + timedelta(seconds=0.5)
    again = await desk.put(
        MessageState.QUEUED, possible_duplicate=True, attempts=1, not_before=later
    )
    await desk.report(again.id, ReportKind.DELIVERED)
    await desk.take_in()
    async with running(activities):
        await asyncio.sleep(0.8)
    message = await desk.message()
    assert (message.state, message.attempts) == (MessageState.DELIVERED, 1)
    assert message.provider_answer == "says who knows"
    assert await post_office.inbox.count() == 0


async def test_evidence_within_the_wait_leaves_nothing_to_send_again(
    desk: Desk, activities: MessageActivities, post_office: PostOffice
) -> None:
    post_office.faults["customer0@example.com"] = Fault("TEXT", keep=True)
    await queue(desk.sessions)
    rules = replace(IMPATIENT, resend_after=timedelta(seconds=2))
    async with running(replace(activities, evidence={}, rules=rules)):
        [doubted] = await until(
            desk.sessions, lambda found: "waiting for" in (found[0].provider_answer or "")
        )
        await desk.report(doubted.id, ReportKind.DELIVERED)
        await desk.take_in()
        await asyncio.sleep(rules.resend_after.total_seconds() + 0.5)
    message = await desk.message()
    assert (message.state, message.attempts) == (MessageState.DELIVERED, 1)
    assert not message.possible_duplicate
    assert len(post_office.tries["customer0@example.com"]) == 1


async def test_evidence_settles_what_was_unknown_for_good(desk: Desk) -> None:
    await queue(desk.sessions, Template.WIN_BACK)
    unknown = await desk.put(MessageState.UNKNOWN, provider_answer="its answer was lost")
    await desk.report(unknown.id, ReportKind.ACCEPTED)
    await desk.take_in()
    message = await desk.message()
    assert (message.state, message.provider_answer) == (MessageState.ACCEPTED, "says who knows")


async def test_a_hard_bounce_suppresses_the_address_and_the_history_tells_of_it(
    desk: Desk, activities: MessageActivities
) -> None:
    [customer] = await queue(desk.sessions, address="Gone@example.com")
    async with running(activities):
        [sent] = await until_settled(desk.sessions)
        await desk.report(sent.id, ReportKind.BOUNCED, ReportKind.BOUNCED, said="5.1.1 unknown")
        assert await desk.take_in() == [ReportKind.BOUNCED] * 2
        await queue(desk.sessions, address="gone@example.com")
        bounced, later = await until(
            desk.sessions, lambda found: found[0].process_told_at is not None
        )
    assert (bounced.state, bounced.provider_answer) == (MessageState.BOUNCED, "5.1.1 unknown")
    assert later.state is MessageState.SUPPRESSED
    assert await desk.suppressed() == [("gone@example.com", None, "hard bounce: 5.1.1 unknown")]
    async with desk.sessions() as session:
        [line] = await session.scalars(sa.select(TimelineLine))
    assert (line.kind, line.customer_id) == ("message_bounced", customer)
    assert line.facts == {"message": str(sent.id), "template": "order_confirmed"}


async def test_a_complaint_ends_the_selling_and_not_the_receipts(
    desk: Desk, activities: MessageActivities
) -> None:
    address = "angry@example.com"
    await queue(desk.sessions, address=address)
    async with running(activities):
        [sent] = await until_settled(desk.sessions)
        await desk.report(sent.id, ReportKind.COMPLAINED, said="abuse")
        await desk.take_in()
        for template in (Template.WIN_BACK, Template.ORDER_LATE):
            await queue(desk.sessions, template, address=address, consent=ConsentState.GRANTED)
        complained, selling, receipt = await until_settled(desk.sessions)
    assert complained.state is MessageState.COMPLAINED
    assert selling.state is MessageState.SUPPRESSED
    assert selling.decision is not None
    assert selling.decision["because"] == "complaint: abuse"
    assert receipt.state is MessageState.ACCEPTED
    assert await desk.suppressed() == [(address, Purpose.MARKETING, "complaint: abuse")]
    async with desk.sessions() as session:
        withdrawn = sa.select(Consent.channel, Consent.purpose, Consent.state).where(
            Consent.customer_id == sent.customer_id
        )
        stated = {tuple(row) for row in await session.execute(withdrawn)}
    lost = ConsentState.WITHDRAWN
    assert stated == {(channel, Purpose.MARKETING, lost) for channel in Channel}


async def test_each_complaint_is_taken_in_by_itself(desk: Desk) -> None:
    """Its customer is locked while his process is told: the dispatcher would wait for them all."""
    await queue(desk.sessions, customers=3)
    for message in await messages(desk.sessions):
        await desk.report(message.id, ReportKind.COMPLAINED)
    await desk.report((await messages(desk.sessions))[0].id, ReportKind.DELIVERED)
    first = await take_in_reports(desk.sessions, desk.client)
    assert sorted(first) == [ReportKind.COMPLAINED, ReportKind.DELIVERED]
    assert await take_in_reports(desk.sessions, desk.client) == [ReportKind.COMPLAINED]
    assert await take_in_reports(desk.sessions, desk.client) == [ReportKind.COMPLAINED]
    assert await take_in_reports(desk.sessions, desk.client) == []


async def test_a_relationship_that_takes_no_more_facts_holds_up_no_report(desk: Desk) -> None:
    await queue(desk.sessions, customers=2)
    first, second = await messages(desk.sessions)
    await desk.report(first.id, ReportKind.COMPLAINED)
    await desk.report(second.id, ReportKind.DELIVERED)
    away = refusing_client(desk.client, RPCStatusCode.UNAVAILABLE)
    with pytest.raises(RPCError):
        await take_in_reports(desk.sessions, away)
    full = refusing_client(desk.client, RPCStatusCode.INVALID_ARGUMENT)
    assert len(await take_in_reports(desk.sessions, full)) == 2
    states = [one.state for one in await messages(desk.sessions)]
    assert states == [MessageState.COMPLAINED, MessageState.DELIVERED]


async def test_the_fifth_message_that_bounces_softly_suppresses_the_address(desk: Desk) -> None:
    await queue(desk.sessions, customers=7, address="full@example.com")
    await queue(desk.sessions, address="other@example.com")
    await desk.put_all(MessageState.ACCEPTED, accepted_at=AT, address="Full@example.com")
    given_up = [message.id for message in await messages(desk.sessions)]
    for message in given_up[:4]:
        await desk.report(message, ReportKind.DELAYED, ReportKind.EXPIRED, ReportKind.EXPIRED)
    await desk.report(given_up[4], ReportKind.EXPIRED, ReportKind.DELIVERED)
    await desk.report(given_up[5], ReportKind.EXPIRED)
    async with desk.sessions.begin() as session:
        long_ago = datetime.now(UTC) - timedelta(days=15)
        await session.execute(
            sa.update(DeliveryReportRow)
            .where(DeliveryReportRow.message_id == given_up[5])
            .values(reported_at=long_ago)
        )
    await desk.take_in()
    assert await desk.suppressed() == [], "four; one came through, one is long ago"
    assert (await messages(desk.sessions))[0].state is MessageState.FAILED
    await desk.report(given_up[6], ReportKind.EXPIRED)
    await desk.take_in()
    assert await desk.suppressed() == [
        ("full@example.com", None, "5 soft bounces in 14 days"),
    ]


async def test_mails_that_are_merely_late_close_no_address(desk: Desk) -> None:
    """By plain SMTP nobody says that they arrived after all."""
    await queue(desk.sessions, customers=6, address="slow@example.com")
    await desk.put_all(MessageState.ACCEPTED, accepted_at=AT, address="slow@example.com")
    for message in await messages(desk.sessions):
        await desk.report(message.id, ReportKind.DELAYED, ReportKind.DELAYED)
    await desk.take_in()
    assert await desk.suppressed() == []
    assert {one.state for one in await messages(desk.sessions)} == {MessageState.ACCEPTED}


async def test_what_is_about_no_message_of_ours_is_kept_and_said_so(desk: Desk) -> None:
    await desk.report(uuid4(), ReportKind.BOUNCED)
    await desk.report(None, ReportKind.OTHER)
    await desk.take_in()
    assert await desk.outcomes() == ["about no message of ours"] * 2
    assert await desk.suppressed() == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE delivery_reports SET kind = 'of-tomorrow' WHERE message_id = :id",
        "UPDATE messages SET template = 'of-tomorrow' WHERE id = :id",
    ],
)
async def test_what_only_a_newer_version_knows_is_left_to_it(desk: Desk, change: str) -> None:
    await queue(desk.sessions, customers=2)
    first, second = await messages(desk.sessions)
    for message in (first, second):
        await desk.report(message.id, ReportKind.DELIVERED)
    async with desk.sessions.begin() as session:
        await session.execute(sa.text(change), {"id": first.id})
    assert await desk.take_in() == [ReportKind.DELIVERED]
    assert await desk.outcomes() == [None, "it was queued and is delivered"]
    assert await desk.take_in() == []


async def test_a_message_somebody_is_writing_about_holds_up_no_other(desk: Desk) -> None:
    await queue(desk.sessions, customers=2)
    first, second = await messages(desk.sessions)
    for message in (first, second):
        await desk.report(message.id, ReportKind.ACCEPTED)
    async with desk.sessions.begin() as session:
        await session.execute(sa.select(Message.id).where(Message.id == first.id).with_for_update())
        assert len(await desk.take_in()) == 1
        assert await desk.outcomes() == [None, "it was queued and is accepted"]
    assert len(await desk.take_in()) == 1
    assert [one.state for one in await messages(desk.sessions)] == [MessageState.ACCEPTED] * 2


async def test_two_intakes_take_each_report_once(desk: Desk) -> None:
    await queue(desk.sessions, customers=20)
    for message in await messages(desk.sessions):
        await desk.report(message.id, ReportKind.DELIVERED)
    taken = await asyncio.gather(*(desk.take_in() for _ in range(4)))
    taken.append(await desk.take_in())
    assert sum(len(kinds) for kinds in taken) == 20
    assert {one.state for one in await messages(desk.sessions)} == {MessageState.DELIVERED}
