"""Messages are delivered once, to whom they may go, whatever fails on the way."""

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.service import RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.message_claims import DispatchRules
from activities.messages import MessageActivities
from database.base import Sessions
from database.customers import Consent, Customer, Suppression
from database.messages import Message
from database.queries.operations import Doubts, message_doubts
from database.received_mails import ReceivedMail
from database.support import Case, StaffText
from domain.contacts import ConsentState, DecidedOn
from domain.messages import Channel, MessageClass, MessageState, Purpose, SettledBy, Template
from domain.policies import CaseKind, ContactPolicy, Priority
from domain.processes import MessageSettled
from domain.support import CaseState
from domain.tasks import Role
from messaging.provider import Answer, OutgoingMessage
from messaging.render import Rendered, Renderer
from messaging.smtp import SmtpAccount, SmtpProvider
from tests.activities.dispatching import (
    IMPATIENT,
    RULES,
    consent_of,
    dispatcher,
    messages,
    publish,
    queue,
    run_until_stopped,
    running,
    simulate,
    until,
    until_settled,
)
from tests.activities.refusing import refusing_client
from tests.messaging.post_office import Fault, PostOffice, Stage
from tests.patience import becomes


async def each_arrived_once(office: PostOffice, sessions: Sessions) -> None:
    """Nothing lost, nothing twice, and every row says so."""
    rows = await messages(sessions)
    assert {row.state for row in rows} == {MessageState.ACCEPTED}
    mails = await office.inbox.mails(limit=10_000)
    assert Counter(mail.effect for mail in mails) == Counter(str(row.id) for row in rows)
    assert not any(row.possible_duplicate for row in rows)


async def test_a_message_is_sent_and_recorded_with_all_that_explains_it(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    simulation = await simulate(sessions, datetime(2017, 6, 1, tzinfo=UTC), speed=86_400)
    await queue(sessions, locale="pt-BR", simulation_id=simulation.id)
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.state is MessageState.ACCEPTED
    assert message.accepted_at is not None
    assert message.told_at == simulation.clock.business(message.accepted_at)
    assert message.told_at.year == 2017
    assert (message.provider, message.attempts) == ("smtp", 1)
    assert message.subject == "Recebemos o seu pedido A-1001"
    assert message.html is not None
    assert message.decision is not None
    assert [rule["name"] for rule in message.decision["rules"]] == [
        *("address", "suppression", "consent", "process", "reply", "deadline", "claims"),
        *("open_cases", "pause", "quiet_hours", "cap"),
    ]
    known = DecidedOn.model_validate(message.decision["facts"])
    assert (known.at.year, known.zone, known.consent) == (2017, "America/Sao_Paulo", None)
    assert (known.address_known, known.suppressed, known.cap) == (True, False, None)
    [mail] = await post_office.inbox.mails()
    assert (mail.effect, mail.message_id) == (str(message.id), message.message_id)
    assert mail.rcpt_to == "customer0@example.com"
    assert message.conversation is not None
    [said] = message.conversation
    assert said == {
        "at": said["at"],
        "provider": "smtp",
        "attempt": 1,
        "answer": message.provider_answer,
        "then": "accepted",
    }
    assert abs(datetime.fromisoformat(said["at"]) - message.accepted_at) < timedelta(seconds=5)


async def test_a_decision_keeps_what_it_was_made_upon(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    """Which statement, and how many were counted; of the address only that there is one."""
    [customer] = await queue(sessions, Template.WIN_BACK, consent=ConsentState.GRANTED)
    async with sessions.begin() as session:
        stated = sa.select(Consent.occurred_at).where(Consent.customer_id == customer)
        occurred_at = await session.scalar(stated)
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.decision is not None
    known = DecidedOn.model_validate(message.decision["facts"])
    consent = (known.consent, known.consent_at, known.consent_source)
    assert consent == (ConsentState.GRANTED, occurred_at, "test")
    assert known.cap is not None
    assert (known.sent, known.cap.at_most) == (0, 4)
    assert message.address is not None
    assert message.address not in str(message.decision)


async def test_surveys_and_marketing_carry_signed_links(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await queue(sessions, Template.SURVEY_REQUEST, address="survey@example.com")
    [customer] = await queue(sessions, Template.MARKETING_WELCOME, consent=ConsentState.GRANTED)
    async with running(activities):
        await until_settled(sessions)
    marketing, survey = sorted(await post_office.inbox.mails(), key=lambda mail: mail.rcpt_to)
    opened = await post_office.inbox.open(survey.id)
    assert opened is not None
    survey_id = "0b6f5c3e-0000-5000-8000-000000000001"
    assert f"{activities.links.survey(survey_id)}?score=5" in opened.html
    opened = await post_office.inbox.open(marketing.id)
    assert opened is not None
    link = activities.links.unsubscribe(customer, Channel.EMAIL, Purpose.MARKETING)
    assert message_from_bytes(opened.raw)["List-Unsubscribe"] == f"<{link}>"


async def test_the_digest_of_staff_and_the_words_of_staff_are_sent(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    [customer] = await queue(sessions, Template.CASE_REPLY)
    words = StaffText(id=uuid4(), customer_id=customer, by="staff-1", text="We found <it>.")
    async with sessions.begin() as session:
        session.add(words)
        await session.flush()
        await session.execute(sa.update(Message).values(text_id=words.id, context={"case": "C-1"}))
        session.add(
            Message(
                key="digest",
                workflow_id="schedule/digest",
                step="digest",
                template=Template.STAFF_DIGEST,
                message_class=MessageClass.STAFF,
                purpose=Purpose.SUPPORT,
                channel=Channel.EMAIL,
                context={"to": "team@example.com", "day": "2026-06-12", "lines": "3 open tasks"},
                asked_at=datetime.now(UTC),
            )
        )
    async with running(activities):
        await until_settled(sessions)
    await each_arrived_once(post_office, sessions)
    texts = {mail.rcpt_to: mail.id for mail in await post_office.inbox.mails()}
    digest = await post_office.inbox.open(texts["team@example.com"])
    reply = await post_office.inbox.open(texts["customer0@example.com"])
    assert digest is not None
    written_by = [message_from_bytes(one.raw)["Auto-Submitted"] for one in (digest, reply) if one]
    assert written_by == ["auto-generated", None], "RFC 3834: a person wrote the reply"
    assert "Hello team," in digest.text
    assert "- 3 open tasks" in digest.text
    assert reply is not None
    assert "We found <it>." in reply.text
    assert "We found &lt;it&gt;." in reply.html


@pytest.mark.parametrize(
    ("thread", "provider"),
    [(["1@mail.example", "ours@perennial.example"], "smtp"), ([], "smtp"), ([], "resend")],
)
async def test_an_answer_in_a_case_continues_the_thread_of_the_customers_newest_mail(
    activities: MessageActivities,
    sessions: Sessions,
    post_office: PostOffice,
    thread: list[str],
    provider: str,
) -> None:
    """RFC 5322 section 3.6.4: its References and its Message-ID. One that names none is known to
    answer ours by the address that it came to; Resend gave ours an id that we don't know.
    """
    [asked] = await queue(sessions, address="ada@example.com")
    async with running(activities):
        [confirmed] = await until_settled(sessions)
    async with sessions.begin() as session:
        await session.execute(sa.update(Message).values(provider=provider))

    def mail(number: int, **more: Any) -> ReceivedMail:
        return ReceivedMail(
            digest=f"mail {number}",
            source="smtp",
            rcpt_to=[],
            raw=b"",
            message_id=f"{number}@mail.example",
            customer_id=asked,
            **more,
        )

    now = datetime.now(UTC)
    case = a_case(asked, CaseKind.QUESTION, event_id="mail/1")
    async with sessions.begin() as session:
        session.add(case)
        session.add(mail(1, event_id="mail/1", received_at=now - timedelta(hours=2)))
        session.add(
            mail(
                2,
                case_id=case.id,
                answers=confirmed.id,
                thread=thread,
                received_at=now - timedelta(hours=1),
            )
        )
        session.add(mail(3, case_id=case.id, received_at=now + timedelta(hours=1)))
    await queue(sessions, Template.CASE_ACKNOWLEDGED, address="other@example.com")
    async with sessions.begin() as session:
        mine = sa.update(Message).where(Message.template == Template.CASE_ACKNOWLEDGED)
        of_case = {"workflow_id": f"case/{case.id}", "customer_id": asked}
        await session.execute(mine.values(**of_case))
    async with running(activities):
        *_, acknowledged = await until_settled(sessions)
    assert acknowledged.state is MessageState.ACCEPTED
    [first, last] = sorted(await post_office.inbox.mails(), key=lambda one: one.id)
    opened = [await post_office.inbox.open(one.id) for one in (first, last)]
    headers = [message_from_bytes(one.raw) for one in opened if one is not None]
    assert [one["In-Reply-To"] for one in headers] == [None, "<2@mail.example>"]
    known = thread or [str(confirmed.message_id)] * (provider == "smtp")
    assert [one["Auto-Submitted"] for one in headers] == ["auto-generated", "auto-replied"]
    assert headers[1]["References"].split() == [f"<{one}>" for one in (*known, "2@mail.example")]


async def test_a_text_message_goes_the_same_way(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    noon = await simulate(sessions, datetime(2026, 3, 2, 15, tzinfo=UTC))
    await queue(
        sessions,
        Template.ORDER_LATE,
        channel=Channel.SMS,
        address="+551198765432{}",
        simulation_id=noon.id,
    )
    async with running(activities):
        [message] = await until_settled(sessions)
    assert (message.state, message.provider) == (MessageState.ACCEPTED, "local_sms")
    [text] = await post_office.inbox.texts()
    assert text.rcpt_to == "+5511987654320"


@workflow.defn
class Listening:
    """A process that waits for the fate of its message."""

    @workflow.run
    async def run(self) -> str:
        self.heard = ""
        await workflow.wait_condition(lambda: bool(self.heard))
        return self.heard

    @workflow.signal
    def message_settled(self, settled: MessageSettled) -> None:
        self.heard = f"{settled.state} {settled.message_key}"


@pytest.fixture
async def listening(
    temporal: WorkflowEnvironment,
) -> AsyncGenerator[WorkflowHandle[Listening, str]]:
    name = f"listening/{uuid4()}"
    runner = UnsandboxedWorkflowRunner()
    async with Worker(
        temporal.client, task_queue=name, workflows=[Listening], workflow_runner=runner
    ):
        yield await temporal.client.start_workflow(Listening.run, id=name, task_queue=name)


async def heard(listening: WorkflowHandle[Listening, str]) -> str:
    async with asyncio.timeout(20):
        return await listening.result()


async def test_marketing_without_consent_is_silence_with_a_reason_and_its_process_hears_of_it(
    activities: MessageActivities,
    sessions: Sessions,
    post_office: PostOffice,
    listening: WorkflowHandle[Listening, str],
) -> None:
    await queue(sessions, Template.MARKETING_WELCOME, workflow_id=listening.id)
    await queue(sessions, Template.WIN_BACK, workflow_id="marketing/that/has/ended")
    async with running(activities):
        rows = await until(
            sessions, lambda found: all(row.process_told_at is not None for row in found)
        )
        assert await heard(listening) == f"suppressed {rows[0].key}"
    assert {row.state for row in rows} == {MessageState.SUPPRESSED}
    assert rows[0].decision is not None
    assert rows[0].decision["because"] == "no consent to marketing by email"
    assert await post_office.inbox.count() == 0


async def test_a_process_that_takes_no_more_facts_is_not_told_for_ever(
    activities: MessageActivities, sessions: Sessions
) -> None:
    await queue(sessions, Template.WIN_BACK, workflow_id="customer/{}")
    client = refusing_client(activities.client, RPCStatusCode.INVALID_ARGUMENT)
    async with running(replace(activities, client=client)):
        await until(sessions, lambda found: found[0].process_told_at is not None)


async def test_each_class_of_message_has_its_own_need_of_consent(
    activities: MessageActivities, sessions: Sessions
) -> None:
    cases = [
        (Template.MARKETING_WELCOME, ConsentState.GRANTED, MessageState.ACCEPTED),
        (Template.MARKETING_WELCOME, ConsentState.WITHDRAWN, MessageState.SUPPRESSED),
        (Template.SURVEY_REQUEST, None, MessageState.ACCEPTED),
        (Template.SURVEY_REQUEST, ConsentState.WITHDRAWN, MessageState.SUPPRESSED),
        (Template.ORDER_LATE, ConsentState.WITHDRAWN, MessageState.ACCEPTED),
    ]
    for template, consent, _ in cases:
        await queue(sessions, template, consent=consent)
    async with running(activities):
        rows = await until_settled(sessions)
    assert [row.state for row in rows] == [state for _, _, state in cases]


async def test_a_message_to_nobody_is_suppressed(
    activities: MessageActivities, sessions: Sessions
) -> None:
    await queue(sessions, address="")
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.state is MessageState.SUPPRESSED
    assert message.decision is not None
    assert message.decision["decided_by"] == "address"


def a_case(customer: UUID, kind: CaseKind, event_id: str | None = None) -> Case:
    return Case(
        id=uuid4(),
        reference=f"C-{customer.hex[-8:]}",
        customer_id=customer,
        kind=kind,
        state=CaseState.OPEN,
        priority=Priority.HIGH,
        queue=Role.SUPPORT_AGENT,
        event_id=event_id or f"opened/{customer}",
        opened_at=datetime.now(UTC),
    )


@pytest.mark.parametrize("kind", [CaseKind.RECOVERY, CaseKind.INCIDENT, CaseKind.FAILED_DELIVERY])
async def test_selling_waits_while_there_is_trouble(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice, kind: CaseKind
) -> None:
    [customer] = await queue(sessions, Template.REFERRAL_REQUEST, consent=ConsentState.GRANTED)
    now = datetime.now(UTC)
    async with sessions.begin() as session:
        session.add(a_case(customer, kind))
    async with running(activities):
        await until(sessions, lambda found: found[0].state is MessageState.HELD)
        async with sessions.begin() as session:
            await session.execute(
                sa.update(Case).values(state=CaseState.CLOSED, resolved_at=now, closed_at=now)
            )
            await session.execute(sa.update(Message).values(not_before=sa.func.now()))
        [message] = await until_settled(sessions)
    assert message.state is MessageState.ACCEPTED


async def test_staff_says_which_cases_selling_waits_for(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await publish(sessions, ContactPolicy(selling_waits_for=(CaseKind.QUESTION,)))
    asks, complains = await queue(
        sessions, Template.REFERRAL_REQUEST, customers=2, consent=ConsentState.GRANTED
    )
    async with sessions.begin() as session:
        session.add_all([a_case(asks, CaseKind.QUESTION), a_case(complains, CaseKind.RECOVERY)])
    async with running(activities):
        wanted = {complains: MessageState.ACCEPTED, asks: MessageState.HELD}
        found = await until(
            sessions, lambda found: {one.customer_id: one.state for one in found} == wanted
        )
    [decision] = [one.decision for one in found if one.customer_id == asks]
    assert decision is not None
    assert decision["because"] == "selling waits: a case is open (question)"


async def test_an_opt_out_that_was_first_always_wins(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    customers = await queue(
        sessions, Template.MARKETING_VALUE, customers=80, consent=ConsentState.GRANTED
    )
    seen: dict[UUID, MessageState] = {}

    async def opt_out(customer: UUID) -> None:
        async with sessions.begin() as session:
            await session.execute(
                sa.select(Customer.id).where(Customer.id == customer).with_for_update()
            )
            state = await session.scalar(
                sa.select(Message.state).where(Message.customer_id == customer)
            )
            assert state is not None
            seen[customer] = state
            session.add(consent_of(customer, ConsentState.WITHDRAWN, Purpose.MARKETING))

    # No lease runs out on a slow machine: what it leaves is decided anew, and rightly.
    patient = replace(activities, rules=replace(RULES, lease=timedelta(minutes=2)))
    async with running(patient):
        for start in range(0, 80, 4):
            await asyncio.gather(*(opt_out(customer) for customer in customers[start : start + 4]))
        rows = await until_settled(sessions)
    first = [row for row in rows if seen[row.customer_id or uuid4()] is MessageState.QUEUED]
    second = [row for row in rows if row not in first]
    assert {row.state for row in first} <= {MessageState.SUPPRESSED}
    assert {row.state for row in second} <= {MessageState.ACCEPTED}
    assert first
    assert second
    assert await post_office.inbox.count() == len(second)


async def test_the_urgent_classes_go_first(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await queue(
        sessions,
        Template.WIN_BACK,
        customers=30,
        consent=ConsentState.GRANTED,
        address="selling{}@example.com",
    )
    await queue(sessions, Template.ORDER_LATE, customers=5, address="order{}@example.com")
    async with running(replace(activities, rules=replace(RULES, batch=5))):
        await until_settled(sessions)
    first = (await post_office.inbox.mails(limit=100))[-5:]
    assert all(mail.rcpt_to.startswith("order") for mail in first)


FAULTS = {
    "greylisted@example.com": Fault("RCPT", "450 4.2.0 greylisted", times=3),
    "closing@example.com": Fault("RCPT", "421 4.3.2 closing"),
    "full@example.com": Fault("DATA", "452 4.3.1 no space"),
    "hanging@example.com": Fault("RCPT", hang=True),
    "lost@example.com": Fault("DATA"),
    "lost-after-dot@example.com": Fault("TEXT"),
    "kept-and-lost@example.com": Fault("TEXT", keep=True),
    "kept-and-hanging@example.com": Fault("TEXT", hang=True, keep=True),
}


async def test_whatever_passes_is_waited_for_and_nothing_is_sent_twice(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    post_office.faults |= {address: replace(fault) for address, fault in FAULTS.items()}
    for address in FAULTS:
        await queue(sessions, address=address)
    await queue(sessions, customers=20)
    async with running(activities):
        rows = await until_settled(sessions)
    await each_arrived_once(post_office, sessions)
    attempts = {row.address: row.attempts for row in rows}
    assert attempts["greylisted@example.com"] == 4
    assert attempts["kept-and-lost@example.com"] == 1
    assert attempts["lost-after-dot@example.com"] == 2
    assert attempts["customer0@example.com"] == 1
    settled_by = {row.address: row.settled_by for row in rows}
    assert settled_by["kept-and-lost@example.com"] is SettledBy.EVIDENCE
    assert settled_by["lost-after-dot@example.com"] is SettledBy.EVIDENCE
    assert settled_by["greylisted@example.com"] is None
    said = {row.address: row.conversation or [] for row in rows}
    greylisted = said["greylisted@example.com"]
    assert [one["attempt"] for one in greylisted] == [1, 2, 3, 4]
    assert [one["then"] for one in greylisted] == [*["queued"] * 3, "accepted"]
    assert [one["answer"][:3] for one in greylisted] == [*["450"] * 3, "250"]
    lost = [one["answer"] for one in said["lost-after-dot@example.com"]]
    assert "its answer was lost; the provider has not taken it" in lost


async def test_of_a_long_conversation_the_first_answer_and_the_newest_are_kept(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    post_office.faults["customer0@example.com"] = Fault("RCPT", "450 4.2.0 later", times=2)
    await queue(sessions)
    earlier = [{"answer": str(number)} for number in range(19)]
    async with sessions.begin() as session:
        await session.execute(sa.update(Message).values(conversation=earlier))
    async with running(activities):
        [message] = await until_settled(sessions)
    answers = [one["answer"] for one in message.conversation or []]
    assert answers[:2] == ["0", "3"]
    assert [answer[:3] for answer in answers[-4:]] == ["18", "450", "450", "250"]
    assert len(answers) == 20


async def test_an_address_that_does_not_exist_is_not_written_to_again(
    activities: MessageActivities,
    sessions: Sessions,
    post_office: PostOffice,
    listening: WorkflowHandle[Listening, str],
) -> None:
    address = "Nobody@example.com"
    post_office.faults[address] = Fault("RCPT", "550 5.1.1 no such user", times=99)
    post_office.faults["spam@example.com"] = Fault("TEXT", "554 5.7.1 looks like spam", times=99)
    await queue(sessions, address=address, workflow_id=listening.id)
    await queue(sessions, address="spam@example.com")
    async with running(activities):
        failed, refused = await until_settled(sessions)
        assert await heard(listening) == f"failed {failed.key}"
        await queue(sessions, address=address.lower())
        *_, later = await until_settled(sessions)
    assert (failed.state, failed.attempts) == (MessageState.FAILED, 1)
    assert (refused.state, refused.attempts) == (MessageState.FAILED, 1)
    assert later.state is MessageState.SUPPRESSED
    async with sessions() as session:
        [suppression] = await session.scalars(sa.select(Suppression))
    assert (suppression.address, suppression.channel) == ("nobody@example.com", Channel.EMAIL)
    assert "no such user" in suppression.reason


async def test_a_provider_that_is_down_is_waited_for(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await post_office.shut()
    await queue(sessions, customers=120)
    async with running(activities):
        await until(sessions, lambda found: any(row.provider_answer for row in found))
        await asyncio.sleep(0.2)
        waiting = await messages(sessions)
        assert {row.state for row in waiting} <= {MessageState.QUEUED, MessageState.SENDING}
        await post_office.open()
        rows = await until_settled(sessions)
    await each_arrived_once(post_office, sessions)
    assert {row.attempts for row in rows} == {1}, "a closed door is no attempt"


async def test_it_is_given_up_only_after_days(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    post_office.faults["customer0@example.com"] = Fault("RCPT", "450 4.2.0 later", times=99)
    await queue(sessions)
    async with running(activities):
        await until(sessions, lambda found: found[0].attempts > 3)
        async with sessions.begin() as session:
            old = datetime.now(UTC) - timedelta(days=3, minutes=1)
            await session.execute(sa.update(Message).values(due_since=old))
        [message] = await until_settled(sessions)
    assert message.state is MessageState.FAILED


async def test_without_evidence_the_class_decides(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    post_office.faults["order0@example.com"] = Fault("TEXT", keep=True)
    post_office.faults["selling0@example.com"] = Fault("TEXT")
    await queue(sessions, Template.ORDER_LATE, address="order{}@example.com")
    await queue(
        sessions, Template.WIN_BACK, consent=ConsentState.GRANTED, address="selling{}@example.com"
    )
    rules = replace(IMPATIENT, resend_after=timedelta(seconds=2))
    async with running(replace(activities, evidence={}, rules=rules)):
        order, selling = await until_settled(sessions)
    assert (order.state, order.possible_duplicate) == (MessageState.ACCEPTED, True)
    assert (selling.state, selling.possible_duplicate) == (MessageState.UNKNOWN, False)
    assert {order.settled_by, selling.settled_by} == {SettledBy.CLASS}
    async with sessions() as session:
        doubts = await message_doubts(session)
    assert doubts == Doubts(unknown=1, possible_duplicates=1, by_evidence=0, by_class=2)
    [twice] = await post_office.inbox.duplicates()
    assert (twice.effect, twice.times) == (str(order.id), 2)
    first, again = post_office.tries["order0@example.com"]
    # Counted from the claim, which is somewhat before the first try.
    assert again - first > 0.6 * rules.resend_after.total_seconds()
    assert DispatchRules().resend_after == timedelta(minutes=15)


_LINE_OF_A_LOG = "\r\n450 4.2.0 2026-11-22 INFO forged"


class _Faulty(SmtpProvider):
    """Raises what nobody has foreseen, so many times, at the mails for one address."""

    times = 99

    async def send(self, message: OutgoingMessage) -> Answer:
        if message.address == "poison@example.com" and self.times > 0:
            self.times -= 1
            raise RuntimeError(f"{_LINE_OF_A_LOG}: {message.address}")
        return await super().send(message)


@pytest.fixture
def faulty(activities: MessageActivities, post_office: PostOffice) -> MessageActivities:
    account = SmtpAccount("127.0.0.1", post_office.port, "Perennial <hello@perennial.example>")
    return replace(activities, providers={**activities.providers, "smtp": _Faulty(account)})


async def test_a_fault_of_ours_in_one_message_ends_nobody_elses_sending(
    faulty: MessageActivities,
    sessions: Sessions,
    post_office: PostOffice,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor does it, or what a server says, forge a line of the log: neither is quoted there."""
    monkeypatch.setattr(_Faulty, "times", 1)
    post_office.faults["customer0@example.com"] = Fault("RCPT", f"450-4.2.0 x{_LINE_OF_A_LOG}")
    await queue(sessions, address="poison@example.com")
    await queue(sessions, customers=5)
    with caplog.at_level(logging.INFO):
        async with running(faulty) as round_:
            rows = await until_settled(sessions)
            assert not round_.done()
    await each_arrived_once(post_office, sessions)
    assert [row.attempts for row in rows] == [2, 2, 1, 1, 1, 1]
    assert "RuntimeError" in caplog.text
    ours = [one.getMessage() for one in caplog.records if one.name != "mail.log"]
    assert not any("forged" in one or "poison@example.com" in one for one in ours)


async def test_a_fault_of_ours_that_stays_is_met_twice_and_then_left_alone(
    faulty: MessageActivities, sessions: Sessions
) -> None:
    await queue(sessions, address="poison@example.com")
    async with running(replace(faulty, evidence={})):
        [message] = await until_settled(sessions)
    assert (message.state, message.attempts) == (MessageState.UNKNOWN, 2)
    assert message.possible_duplicate
    assert "a second time" in (message.provider_answer or "")


async def test_what_is_certainly_not_taken_is_tried_ever_more_slowly_and_not_for_ever(
    faulty: MessageActivities, sessions: Sessions
) -> None:
    await queue(sessions, address="poison@example.com")
    slow = replace(RULES, first_retry=timedelta(hours=1), longest_retry=timedelta(hours=1))
    async with running(replace(faulty, rules=slow)):
        [waits] = await until(sessions, lambda found: found[0].not_before > _soon())
        assert (waits.state, waits.attempts) == (MessageState.QUEUED, 2)
        async with sessions.begin() as session:
            old = datetime.now(UTC) - timedelta(days=3, minutes=1)
            await session.execute(sa.update(Message).values(due_since=old, not_before=old))
        [message] = await until_settled(sessions)
    assert message.state is MessageState.FAILED


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=30)


async def test_a_message_that_can_not_be_rendered_waits_and_holds_up_nobody(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await queue(sessions, address="unclear@example.com")
    async with sessions.begin() as session:
        await session.execute(sa.update(Message).values(context={"order": "A-1"}))
    await queue(sessions, customers=3)
    async with running(activities):
        rows = await until(
            sessions,
            lambda found: (
                all(row.state in ("accepted", "queued") for row in found) and found[0].attempts > 1
            ),
        )
        assert (rows[0].provider_answer or "").startswith("not rendered: order_confirmed/en")
        async with sessions.begin() as session:
            whole = rows[1].context
            await session.execute(
                sa.update(Message).where(Message.id == rows[0].id).values(context=whole)
            )
        await until_settled(sessions)
    await each_arrived_once(post_office, sessions)


class _OddRenderer(Renderer):
    """Puts one of the messages in words that can't be stored."""

    def render(
        self,
        template: Template,
        channel: Channel,
        locale: str,
        context: Mapping[str, str],
        *,
        zone: str = "UTC",
    ) -> Rendered:
        rendered = super().render(template, channel, locale, context, zone=zone)
        if context["name"] != "Ada 1":
            return rendered
        return rendered._replace(text=f"{rendered.text}\x00")


async def test_a_message_that_can_not_be_stored_fails_and_holds_up_nobody(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await queue(sessions, customers=4)
    async with running(replace(activities, renderer=_OddRenderer("Perennial"))):
        rows = await until_settled(sessions)
    accepted, failed = MessageState.ACCEPTED, MessageState.FAILED
    assert [row.state for row in rows] == [accepted, failed, accepted, accepted]
    assert rows[1].provider_answer == "can't be stored: UntranslatableCharacter"
    assert (rows[1].claimed_by, rows[1].subject) == (None, None)
    assert await post_office.inbox.count() == 3


@pytest.mark.parametrize("column", ["template", "purpose", "message_class"])
async def test_what_only_a_newer_version_knows_is_left_alone_and_holds_up_nobody(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice, column: str
) -> None:
    await queue(sessions, customers=3)
    first, *_ = await messages(sessions)
    change = sa.text(f"UPDATE messages SET {column} = 'of-tomorrow' WHERE id = :id")
    async with sessions.begin() as session:
        await session.execute(change, {"id": first.id})
    states = sa.text("SELECT state FROM messages ORDER BY id")

    async def seen() -> list[str]:
        async with sessions() as session:
            return list(await session.scalars(states))

    async with running(activities):
        await becomes(seen, ["queued", "accepted", "accepted"], within=10)
    assert await post_office.inbox.count() == 2


async def test_what_a_newer_version_notes_about_a_customer_holds_up_nobody_and_grants_nothing(
    activities: MessageActivities, sessions: Sessions
) -> None:
    """While both versions run: another channel, and a consent in a state that is no grant here."""
    [customer] = await queue(sessions, Template.WIN_BACK, consent=ConsentState.GRANTED)
    await queue(sessions, Template.ORDER_LATE, address="other@example.com")
    async with sessions.begin() as session:
        for change in (
            "UPDATE customers SET preferred_channel = 'pigeon', tone = 'sung'",
            "INSERT INTO contact_points (customer_id, channel, address)"
            " SELECT id, 'pigeon', 'loft' FROM customers",
            "INSERT INTO consents (customer_id, channel, purpose, state, source, wording,"
            " occurred_at) SELECT id, 'pigeon', 'marketing', 'granted', 'form', '', now()"
            " FROM customers",
            "INSERT INTO suppressions (channel, address, purpose, reason)"
            " VALUES ('email', 'other@example.com', 'racing', 'asked')",
        ):
            await session.execute(sa.text(change))
        await session.execute(
            sa.text(
                "INSERT INTO consents (customer_id, channel, purpose, state, source, wording,"
                " occurred_at) VALUES (:customer, 'email', 'marketing', 'lapsed', 'x', '', now())"
            ),
            {"customer": customer},
        )
    async with running(activities):
        selling, order = await until_settled(sessions)
    assert order.state is MessageState.ACCEPTED
    assert selling.state is MessageState.SUPPRESSED


@pytest.mark.own_database  # no other connection to it but the dispatcher's
async def test_connections_to_the_database_may_break_at_any_moment(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await queue(sessions, customers=150)
    others = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with running(activities):
        for _ in range(4):
            await asyncio.sleep(0.15)
            engine = sa.create_engine(sessions.kw["bind"].url)
            with engine.begin() as connection:
                connection.execute(others)
            engine.dispose()
        await until_settled(sessions)
    await each_arrived_once(post_office, sessions)


@pytest.mark.own_database
async def test_an_answer_outlives_the_round_that_could_not_write_it_down(
    temporal: WorkflowEnvironment, sessions: Sessions, post_office: PostOffice
) -> None:
    """Without it the outcome would be unknown, and the receipt be sent once more."""
    activities = dispatcher(
        sessions, temporal.client, post_office.port, post_office.path, evidence=False
    )

    async def rename(old: str, new: str) -> None:
        async with sessions.begin() as session:
            await session.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

    async def break_off(stage: Stage, address: str) -> None:
        if stage is Stage.KEPT:
            await rename("messages", "away")

    post_office.hold = break_off
    await queue(sessions)
    async with running(activities) as round_:
        with pytest.raises(ProgrammingError):
            await round_
    await rename("away", "messages")
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.state is MessageState.ACCEPTED
    assert (message.provider_answer or "").startswith("250")
    assert not message.possible_duplicate
    assert await post_office.inbox.count() == 1


# Forked from a process that has done the imports, which take longer than all the rest.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.activities.dispatching"])


def start_dispatcher(sessions: Sessions, office: PostOffice, point: str) -> ForkServerProcess:
    database = sessions.kw["bind"].url.render_as_string(hide_password=False)
    arguments = (database, office.port, office.path, point)
    process = _FORKS.Process(target=run_until_stopped, args=arguments)
    process.start()
    return process


async def ended(process: ForkServerProcess) -> int | None:
    await asyncio.to_thread(process.join, 15)
    return process.exitcode


def wait_until_stopped(process: ForkServerProcess) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "it was not stopped"
        time.sleep(0.05)


@pytest.mark.parametrize("point", ["before_dot", "in_claim"])
async def test_a_dispatcher_that_was_stopped_holds_up_nobody_and_changes_nothing_later(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice, point: str
) -> None:
    customers = await queue(sessions, customers=20)
    process = start_dispatcher(sessions, post_office, point)
    try:
        await asyncio.to_thread(wait_until_stopped, process)
        async with running(replace(activities, rules=IMPATIENT)):
            rows = await until_settled(sessions)
            async with asyncio.timeout(5), sessions.begin() as session:
                who = sa.select(Customer).where(Customer.id.in_(customers)).with_for_update()
                await session.execute(who)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGCONT)
            await asyncio.sleep(1)
        await each_arrived_once(post_office, sessions)
        assert [row.accepted_at for row in await messages(sessions)] == [
            row.accepted_at for row in rows
        ]
    finally:
        process.kill()
        await ended(process)
