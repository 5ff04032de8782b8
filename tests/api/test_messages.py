"""Every message, and every silence, is explained."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.messages import Message
from domain.contacts import ConsentState, ContactFacts, Stated, may_send
from domain.messages import Channel, MessageClass, MessageState, Purpose, SettledBy, Template
from domain.quiet_hours import ContactCap, QuietHours
from tests.api.conftest import Json, assert_problem

AT = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
GRANTED = {"email/marketing": ConsentState.GRANTED}


def facts(**known: Any) -> ContactFacts:
    return ContactFacts(
        at=AT,
        message_class=MessageClass.MARKETING,
        purpose=Purpose.MARKETING,
        channel=Channel.EMAIL,
        address="ada@example.com",
        **known,
    )


async def explained(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID, state: MessageState, **row: Any
) -> Json:
    """What is said about a message in this state."""
    message_id = uuid4()
    async with sessions.begin() as session:
        session.add(
            Message(
                id=message_id,
                key=str(message_id),
                customer_id=customer,
                workflow_id=f"marketing/{customer}/1",
                step="touch/1",
                template=Template.MARKETING_WELCOME,
                message_class=MessageClass.MARKETING,
                purpose=Purpose.MARKETING,
                channel=Channel.EMAIL,
                context={},
                asked_at=AT,
                state=state,
                **row,
            )
        )
    answer = await api.get(f"/api/v1/messages/{message_id}/explanation")
    assert answer.status_code == 200, answer.text
    explanation: Json = answer.json()
    assert explanation["state"] == state
    assert explanation["asked"]["workflow_id"] == f"marketing/{customer}/1"
    assert explanation["asked"]["step"] == "touch/1"
    return explanation


@pytest.mark.parametrize(
    ("state", "known", "decided_by", "words"),
    [
        (MessageState.SUPPRESSED, {}, "consent", "Not sent: no consent to marketing by email."),
        (
            MessageState.HELD,
            {"consents": GRANTED, "quiet_hours": QuietHours(begins=AT.time(), ends=AT.time())},
            "quiet_hours",
            "Held back for now: quiet hours in UTC; it goes at 2026-03-03 02:30 UTC.",
        ),
        (
            MessageState.HELD,
            {
                "consents": GRANTED,
                "cap": ContactCap.model_validate({"at_most": 1, "within": "P1D"}),
                "sent": (AT,),
            },
            "cap",
            "Held back for now: the limit of 1 of marketing by email in 24 hours is reached;"
            " it goes at 2026-03-03 02:30 UTC.",
        ),
        (
            MessageState.CANCELLED,
            {"consents": GRANTED, "not_after": datetime(2026, 3, 1, tzinfo=UTC)},
            "deadline",
            "Not sent: it made sense until 2026-03-01 00:00 UTC, and that has passed.",
        ),
        (
            MessageState.CANCELLED,
            {"consents": GRANTED, "claims": {"five_years": date(2026, 3, 1)}},
            "claims",
            "Not sent: the claim five_years expired on 2026-03-01.",
        ),
    ],
)
async def test_a_silence_names_the_rule_that_decided(
    api: httpx2.AsyncClient,
    sessions: Sessions,
    customer: UUID,
    state: MessageState,
    known: dict[str, Any],
    decided_by: str,
    words: str,
) -> None:
    decision = may_send(facts(**known))
    said = await explained(
        api,
        sessions,
        customer,
        state,
        decision=decision.model_dump(mode="json"),
        not_after=known.get("not_after"),
    )
    assert (said["words"], said["decided_by"]) == (words, decided_by)
    assert [rule["name"] for rule in said["rules"] if not rule["passed"]] == [decided_by]
    assert (said["held_until"] is not None) is (state is MessageState.HELD)
    assert (said["asked"]["not_after"] is not None) is (decided_by == "deadline")
    assert said["provider"] == {
        "name": None,
        "attempts": 0,
        "answer": None,
        "conversation": [],
        "accepted_at": None,
        "possible_duplicate": False,
        "settled_by": None,
    }


async def test_a_message_that_was_sent_says_what_the_provider_answered(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    said = await explained(
        api,
        sessions,
        customer,
        MessageState.ACCEPTED,
        decision=may_send(facts(consents=GRANTED)).model_dump(mode="json"),
        provider="smtp",
        provider_answer="250 2.0.0 kept",
        accepted_at=AT,
        attempts=2,
    )
    assert said["words"] == "Sent: the provider took it at 2026-03-02 02:30 UTC."
    assert said["decided_by"] == "all"
    assert all(rule["passed"] for rule in said["rules"])
    assert said["provider"]["name"] == "smtp"
    assert (said["provider"]["answer"], said["provider"]["attempts"]) == ("250 2.0.0 kept", 2)


async def test_a_message_tells_all_that_was_said_and_what_was_known(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    greylisted = {
        "at": "2026-03-02T02:29:00+00:00",
        "provider": "smtp",
        "attempt": 1,
        "answer": "450 4.2.0 greylisted",
        "then": "queued",
    }
    taken = {**greylisted, "attempt": 2, "answer": "250 2.0.0 kept", "then": "accepted"}
    stated = Stated(ConsentState.GRANTED, AT - timedelta(days=9), "form")
    cap = ContactCap(at_most=4, within=timedelta(days=7))
    long_ago = AT - timedelta(days=8)
    decision = may_send(
        facts(consents=GRANTED, stated=stated, cap=cap, sent=(long_ago, AT - timedelta(days=1)))
    )
    said = await explained(
        api,
        sessions,
        customer,
        MessageState.ACCEPTED,
        decision=decision.model_dump(mode="json"),
        provider="smtp",
        conversation=[greylisted, taken],
        accepted_at=AT,
        attempts=2,
    )
    answers = [(one["attempt"], one["answer"]) for one in said["provider"]["conversation"]]
    assert answers == [(1, "450 4.2.0 greylisted"), (2, "250 2.0.0 kept")]
    known = said["facts"]
    assert (known["consent"], known["consent_source"]) == ("granted", "form")
    assert known["consent_at"] == "2026-02-21T02:30:00Z"
    assert (known["sent"], known["cap"]) == (1, {"at_most": 4, "within": "P7D"})
    assert "ada@example.com" not in str(known)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (MessageState.ACCEPTED, " It may have arrived twice: the answer to an earlier attempt"),
        (MessageState.DELIVERED, " It may have arrived twice: the answer to an earlier attempt"),
        (MessageState.BOUNCED, " It may have arrived twice: the answer to an earlier attempt"),
        (MessageState.COMPLAINED, " It may have arrived twice: the answer to an earlier attempt"),
        (MessageState.FAILED, " An earlier attempt may have arrived: its answer"),
        (MessageState.SUPPRESSED, " An earlier attempt may have arrived: its answer"),
        (MessageState.CANCELLED, " An earlier attempt may have arrived: its answer"),
        (MessageState.HELD, " An earlier attempt may have arrived: its answer"),
    ],
)
async def test_what_may_have_arrived_twice_says_so_in_words(
    api: httpx2.AsyncClient,
    sessions: Sessions,
    customer: UUID,
    state: MessageState,
    words: str,
) -> None:
    row = {"decision": may_send(facts()).model_dump(mode="json"), "accepted_at": AT}
    sure = await explained(api, sessions, customer, state, **row)
    doubted = await explained(api, sessions, customer, state, **row, possible_duplicate=True)
    assert doubted["words"] == f"{sure['words']}{words} was lost."


async def test_messages_are_found_by_how_their_doubt_ended_and_operators_see_how_many(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    before = await _doubts(stranger)
    sent: dict[str, Any] = {"accepted_at": AT}
    await explained(api, sessions, customer, MessageState.ACCEPTED, **sent)
    found = await explained(
        *(api, sessions, customer, MessageState.ACCEPTED), **sent, settled_by=SettledBy.EVIDENCE
    )
    twice = await explained(
        *(api, sessions, customer, MessageState.ACCEPTED),
        **sent,
        settled_by=SettledBy.CLASS,
        possible_duplicate=True,
    )
    unknown = await explained(
        api, sessions, customer, MessageState.UNKNOWN, settled_by=SettledBy.CLASS
    )
    assert found["provider"]["settled_by"] == "evidence"
    for query, wanted in (
        ("settled_by=evidence", [found]),
        ("settled_by=class", [unknown, twice]),
        ("possible_duplicate=true", [twice]),
        ("possible_duplicate=false&settled_by=class", [unknown]),
    ):
        answer = await api.get(f"/api/v1/messages?customer_id={customer}&{query}")
        ids = [one["id"] for one in answer.json()["items"]]
        assert ids == sorted((one["message_id"] for one in wanted), reverse=True), query
    assert_problem(await api.get("/api/v1/messages?settled_by=luck"), 422, "invalid_request")
    more = {name: number - before[name] for name, number in (await _doubts(stranger)).items()}
    assert more == {"unknown": 1, "possible_duplicates": 1, "by_evidence": 1, "by_class": 2}


async def _doubts(stranger: httpx2.AsyncClient) -> dict[str, float]:
    shown = (await stranger.get("/metrics")).text
    found = re.findall(r'^perennial_message_doubts{doubt="(\w+)"} ([\d.]+)$', shown, re.M)
    return {name: float(number) for name, number in found}


async def test_a_decision_of_before_there_were_limits_is_still_read(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    old = {
        "outcome": "suppress",
        "decided_by": "consent",
        "because": "no consent to marketing by email",
        "rules": [{"name": "consent", "passed": False, "because": "no consent"}],
    }
    said = await explained(api, sessions, customer, MessageState.SUPPRESSED, decision=old)
    assert (said["decided_by"], said["held_until"]) == ("consent", None)


async def test_a_message_that_is_not_decided_yet_waits(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    said = await explained(api, sessions, customer, MessageState.QUEUED)
    assert said["words"].startswith("Not sent yet")
    assert (said["decided_by"], said["rules"]) == (None, [])


@pytest.mark.parametrize(
    ("state", "row", "words"),
    [
        (MessageState.QUEUED, {}, "Not sent yet: it waits for its turn."),
        (
            MessageState.QUEUED,
            {"possible_duplicate": True, "provider_answer": "its answer was lost"},
            "Perhaps sent: the outcome of an earlier attempt is unknown, and it is sent again: "
            "its answer was lost.",
        ),
        (
            MessageState.QUEUED,
            {"unknown_since": AT},
            "Perhaps sent: the outcome of an earlier attempt is unknown, and it is sent again.",
        ),
        (
            MessageState.SENDING,
            {"unknown_since": AT, "provider_answer": "its answer was lost; waiting for evidence"},
            "Perhaps sent: the outcome of an earlier attempt is unknown: its answer was lost; "
            "waiting for evidence.",
        ),
        (
            MessageState.QUEUED,
            {"attempts": 1, "provider_answer": "not rendered: it has no wording for sms"},
            "Not sent yet, it will be tried again: not rendered: it has no wording for sms",
        ),
        (
            MessageState.SENDING,
            {"claimed_by": "dispatcher-1", "claimed_at": AT},
            "Being handed over: the provider's answer is not here yet.",
        ),
    ],
    ids=["waits", "doubled", "unknown", "unknown under way", "tried", "under way"],
)
async def test_what_a_message_waits_for_is_told(
    api: httpx2.AsyncClient,
    sessions: Sessions,
    customer: UUID,
    state: MessageState,
    row: dict[str, Any],
    words: str,
) -> None:
    said = await explained(api, sessions, customer, state, **row)
    assert said["words"] == words


async def test_a_message_whose_text_was_deleted_says_so_and_still_what_came_of_it(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    said = await explained(
        api,
        sessions,
        customer,
        MessageState.ACCEPTED,
        accepted_at=AT,
        address="ada@example.com",
        text_deleted_at=AT + timedelta(days=730),
        reactions_deleted_at=AT + timedelta(days=365),
    )
    assert said["words"] == (
        "Sent: the provider took it at 2026-03-02 02:30 UTC."
        " Its text was deleted on 2028-03-01 under the storage policy."
    )
    assert said["reactions_deleted_at"] == "2027-03-02T02:30:00Z"
    shown = (await api.get(f"/api/v1/messages/{said['message_id']}")).json()
    assert (shown["subject"], shown["text"], shown["html"]) == (None, None, None)
    assert shown["text_deleted_at"] == said["text_deleted_at"] == "2028-03-01T02:30:00Z"
    assert (shown["address"], shown["state"]) == ("ada@example.com", "accepted")


async def test_of_a_message_that_does_not_exist_nothing_is_explained(
    api: httpx2.AsyncClient,
) -> None:
    answer = await api.get(f"/api/v1/messages/{uuid4()}/explanation")
    assert_problem(answer, 404, "not_found")
    answer = await api.get("/api/v1/messages/nothing/explanation")
    assert_problem(answer, 422, "invalid_request")


@pytest.mark.parametrize("version", ["file", "7"])
async def test_a_message_says_what_it_was_rendered_from(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID, version: str
) -> None:
    said = await explained(
        *(api, sessions, customer, MessageState.ACCEPTED),
        accepted_at=AT,
        locale="pt-BR",
        template_version=version,
    )
    wording = {"template": "marketing_welcome", "version": version, "locale": "pt-BR"}
    assert said["wording"] == wording
    shown = (await api.get(f"/api/v1/messages/{said['message_id']}")).json()
    assert shown["template_version"] == version


async def test_what_is_held_by_the_old_limits_is_asked_again_by_the_new_ones(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    decision = may_send(facts()).model_dump(mode="json")
    await explained(
        api, sessions, customer, MessageState.HELD, decision=decision, not_before=tomorrow
    )
    document = (await api.get("/api/v1/policies/contact")).json()["current"]["document"]
    published = await api.post("/api/v1/policies/contact", json={"document": document})
    assert published.status_code == 201, published.text
    async with sessions() as session:
        moments = await session.scalars(
            sa.select(Message.not_before).where(
                Message.customer_id == customer, Message.state == MessageState.HELD
            )
        )
        assert all(moment <= datetime.now(UTC) for moment in moments)
