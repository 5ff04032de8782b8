"""Staff changes a wording: drafts, looks, tries, publishes, and takes it back."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.messages import Message
from database.templates import MarketingClaim, TemplateVersion
from domain.messages import Channel, MessageClass, Purpose, Template
from tests.api.conftest import Json, MakeCustomer, assert_problem

CASE = "/api/v1/templates/case_reply"
SOLD = "/api/v1/templates/win_back"
SOUND = {
    "subject": "News about {{ case }}",
    "body_text": "It is about {{ case }}: {{ text }}",
    "body_mjml": "<mj-text>It is about {{ case }}: {{ text }}</mj-text>",
}
SELLING = {
    "subject": "Good news",
    "body_text": "Hello {{ name }}",
    "body_mjml": "<mj-text>Hello {{ name }}</mj-text>",
}


@pytest.fixture(autouse=True)
async def only_files(sessions: Sessions) -> AsyncGenerator[None]:
    """The wordings are everybody's: the next test begins with the files."""
    yield
    async with sessions.begin() as session:
        await session.execute(sa.delete(TemplateVersion))
        await session.execute(sa.delete(MarketingClaim))


async def drafted(api: httpx2.AsyncClient, path: str = CASE, **fields: Any) -> httpx2.Response:
    sound = SOUND if path == CASE else SELLING
    body = {"locale": "en", "by": "agent-7", **sound, **fields}
    answer = await api.post(f"{path}/versions", json=body)
    assert answer.status_code == 201, answer.text
    return answer


async def publish(
    api: httpx2.AsyncClient, draft: httpx2.Response, by: str = "agent-8"
) -> httpx2.Response:
    path = f"/api/v1/templates/{draft.json()['template']}/publications"
    body = {"number": draft.json()["number"], "by": by}
    return await api.post(path, json=body, headers={"If-Match": draft.headers["etag"]})


async def in_force(api: httpx2.AsyncClient, path: str = CASE) -> dict[str, str]:
    """Locale and tone -> version."""
    shown = (await api.get(path)).json()
    return {f"{one['locale']}/{one['tone']}": one["version"] for one in shown["wordings"]}


async def test_the_files_are_there_to_begin_with(api: httpx2.AsyncClient) -> None:
    listed = {one["template"]: one for one in (await api.get("/api/v1/templates")).json()["items"]}
    assert "staff_digest" not in listed
    late = listed["order_late"]
    assert [(one["locale"], one["version"]) for one in late["wordings"]] == [
        *(("en", "file"), ("pt-BR", "file"))
    ]
    assert late["variables"] == ["company", "name", "order", "promised_on", "reference"]
    shown = (await api.get("/api/v1/templates/order_late")).json()
    sources = shown["wordings"][0]["sources"]
    assert "{{ order }}" in sources["sms"]
    assert "extends" not in sources["body_mjml"]
    copy = await api.post("/api/v1/templates/order_late/versions", json={"locale": "en", **sources})
    assert copy.json()["faults"] == []


async def test_from_draft_to_publishing_and_back(api: httpx2.AsyncClient) -> None:
    draft = await drafted(api)
    number = draft.json()["number"]
    assert draft.headers["location"] == f"{CASE}/versions/{number}"
    assert (draft.json()["state"], draft.json()["faults"]) == ("draft", [])
    assert await in_force(api) == {"en/neutral": "file", "pt-BR/neutral": "file"}
    first = await publish(api, draft)
    assert first.status_code == 201, first.text
    assert first.json()["replaced"] is None
    assert first.json()["published_by"] == "agent-8"
    second = await publish(api, await drafted(api, subject="Second"))
    assert second.json()["replaced"] == number
    assert await in_force(api) == {"en/neutral": str(number + 1), "pt-BR/neutral": "file"}

    wording = {"locale": "en", "tone": "neutral"}
    back = await api.post(f"{CASE}/rollbacks", json={**wording, "to": number, "by": "agent-9"})
    assert back.status_code == 201, back.text
    assert back.json()["version"] == str(number + 2)
    assert back.json()["replaced"] == str(number + 1)
    again = (await api.get(f"{CASE}/versions/{number + 2}")).json()
    assert (again["restores"], again["published_by"]) == (number, "agent-9")
    assert again["sources"]["subject"] == SOUND["subject"]
    to_file = await api.post(f"{CASE}/rollbacks", json={**wording, "to": None})
    assert to_file.json()["version"] == "file"
    assert await in_force(api) == {"en/neutral": "file", "pt-BR/neutral": "file"}
    assert_problem(
        await api.post(f"{CASE}/rollbacks", json={**wording, "to": None}), 409, "conflict"
    )

    history = (await api.get(f"{CASE}/versions", params={"locale": "en"})).json()["items"]
    assert [(one["number"], one["state"]) for one in history] == [
        *((number + 2, "retired"), (number + 1, "retired"), (number, "retired"))
    ]


async def test_of_two_editors_neither_overwrites_the_other(api: httpx2.AsyncClient) -> None:
    draft = await drafted(api)
    path = draft.headers["location"]
    mine, theirs = await asyncio.gather(
        *(
            api.put(
                path, json={**SOUND, "subject": who}, headers={"If-Match": draft.headers["etag"]}
            )
            for who in ("mine", "theirs")
        )
    )
    won, lost = sorted([mine, theirs], key=lambda answer: answer.status_code)
    assert won.status_code == 200, won.text
    problem = assert_problem(lost, 412, "precondition_failed")
    assert problem["current"]["sources"]["subject"] == won.json()["sources"]["subject"]
    assert lost.headers["etag"] == won.headers["etag"] == f'"v{problem["current"]["revision"]}"'
    assert_problem(await publish(api, draft), 412, "precondition_failed")
    assert_problem(await api.put(path, json=SOUND), 428, "precondition_required")
    second = await api.post(f"{CASE}/versions", json={"locale": "en", **SOUND})
    assert_problem(second, 409, "conflict")
    number = draft.json()["number"]
    unseen = await api.post(f"{CASE}/publications", json={"number": number})
    assert_problem(unseen, 428, "precondition_required")


async def test_two_drafts_begun_at_once_are_one(api: httpx2.AsyncClient) -> None:
    body = {"locale": "en", **SOUND}
    answers = await asyncio.gather(*(api.post(f"{CASE}/versions", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_what_was_published_stays_as_it_is(api: httpx2.AsyncClient) -> None:
    draft = await drafted(api)
    published = await publish(api, draft)
    path = published.headers["location"]
    anything = {"If-Match": "*"}
    assert_problem(await api.put(path, json=SOUND, headers=anything), 409, "conflict")
    assert_problem(await publish(api, draft), 409, "conflict")
    assert (await api.get(path)).json()["state"] == "published"


async def test_what_waited_for_a_mended_wording_goes_at_once(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    message_id = uuid4()
    async with sessions.begin() as session:
        session.add(
            Message(
                id=message_id,
                key=str(message_id),
                customer_id=customer,
                workflow_id="case/1",
                step="reply",
                template=Template.CASE_REPLY,
                message_class=MessageClass.SERVICE,
                purpose=Purpose.SUPPORT,
                channel=Channel.EMAIL,
                context={},
                asked_at=datetime.now(UTC),
                not_before=datetime.now(UTC) + timedelta(minutes=15),
                provider_answer="not rendered: its wording takes too long",
            )
        )
    assert (await publish(api, await drafted(api))).status_code == 201
    shown = (await api.get(f"/api/v1/messages/{message_id}")).json()
    assert datetime.fromisoformat(shown["not_before"]) <= datetime.now(UTC)


async def test_each_fault_is_told_with_its_part_and_line(api: httpx2.AsyncClient) -> None:
    draft = await drafted(
        api,
        subject="",
        body_text="Hello\n{{ nmae }}",
        body_mjml="<mj-text>a</mj-text>\n<mj-text>\n<b>{{ name.upper() }}</mj-text>",
    )
    told = {(one["part"], one["line"]) for one in draft.json()["faults"]}
    expected = {("subject", None), ("body_text", 2), ("body_mjml", 3)}
    assert told >= expected
    problem = assert_problem(await publish(api, draft), 422, "invalid_request")
    assert {(one["part"], one["line"]) for one in problem["faults"]} >= expected
    assert {one["pointer"] for one in problem["errors"]} == {"/subject", "/body_text", "/body_mjml"}
    details = [one["detail"] for one in problem["errors"]]
    assert any(one.startswith("line 2: there is no variable 'nmae'") for one in details)
    assert await in_force(api) == {"en/neutral": "file", "pt-BR/neutral": "file"}
    mended = await api.put(
        draft.headers["location"], json=SOUND, headers={"If-Match": draft.headers["etag"]}
    )
    assert mended.json()["faults"] == []
    assert (await publish(api, mended)).status_code == 201


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"locale": "xx-not"}, "/locale"),
        ({"tone": "rude"}, "/tone"),
        ({"subject": "a\x00b"}, "/subject"),
        ({"body_text": "a\u202eb"}, "/body_text"),
        ({"body_mjml": "x" * 200_001}, "/body_mjml"),
        ({"body_html": "x"}, "/body_html"),
        ({"sms": 5}, "/sms"),
        ({"by": "Ada Lovelace"}, "/by"),
    ],
)
async def test_a_draft_of_bad_fields_is_refused(
    api: httpx2.AsyncClient, fields: Json, pointer: str
) -> None:
    answer = await api.post(f"{CASE}/versions", json={"locale": "en", **SOUND, **fields})
    problem = assert_problem(answer, 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == pointer


async def test_what_is_not_there_is_not_found(api: httpx2.AsyncClient) -> None:
    for path in (f"{CASE}/versions/999", "/api/v1/templates/staff_digest"):
        assert_problem(await api.get(path), 404, "not_found")
    assert_problem(await api.get("/api/v1/templates/no_such"), 422, "invalid_request")
    assert_problem(await api.get(f"{CASE}/versions/0"), 422, "invalid_request")
    staff = await api.post(
        "/api/v1/templates/staff_digest/versions", json={"locale": "en", **SOUND}
    )
    assert_problem(staff, 404, "not_found")
    back = {"locale": "en", "to": 999}
    assert_problem(await api.post(f"{CASE}/rollbacks", json=back), 404, "not_found")
    draft = (await drafted(api)).json()["number"]
    assert_problem(await api.post(f"{CASE}/rollbacks", json={**back, "to": draft}), 409, "conflict")
    other = {"locale": "pt", "to": draft}
    assert_problem(await api.post(f"{CASE}/rollbacks", json=other), 422, "invalid_request")


async def test_a_preview_is_what_the_customer_would_get(
    api: httpx2.AsyncClient, make_customer: MakeCustomer, sessions: Sessions
) -> None:
    late = "/api/v1/templates/order_late"
    customer = await make_customer(name="Zoë <b>", locale="pt-PT", zone="Europe/Lisbon")
    wanted = {"customer_id": str(customer)}
    before = (await api.post(f"{late}/previews", json=wanted)).json()
    assert (before["version"], before["locale"], before["tone"]) == ("file", "pt-BR", "neutral")
    assert "Zoë <b>" in before["text"]
    assert "Zoë &lt;b&gt;" in before["html"]
    assert "12 de junho de 2026" in before["text"]

    parts = {**SELLING, "sms": "[{{ order }}] é tarde, {{ name }} " + "." * 40}
    formal = await drafted(api, late, locale="pt", tone="formal", **parts)
    assert (await api.post(f"{late}/previews", json=wanted)).json() == before
    number = formal.json()["number"]
    draft = (await api.post(f"{late}/previews", json={**wanted, "number": number})).json()
    looked = {**wanted, "number": number}
    assert (await api.get(f"{late}/preview", params=looked)).json() == draft
    assert (draft["version"], draft["subject"]) == (str(number), "Good news")
    assert draft["sms"]["text"].startswith("[A-1001] é tarde, Zoë <b>")
    assert (draft["sms"]["encoding"], draft["sms"]["segments"]) == ("ucs-2", 1)

    assert (await publish(api, formal)).status_code == 201
    assert (await api.post(f"{late}/previews", json=wanted)).json()["version"] == "file"
    path = f"/api/v1/customers/{customer}"
    liked = await api.patch(path, json={"tone": "formal"}, headers={"If-Match": '"v1"'})
    assert liked.json()["tone"] == "formal"
    assert (await api.post(f"{late}/previews", json=wanted)).json()["version"] == str(number)
    cleared = await api.patch(path, json={"tone": None}, headers={"If-Match": '"v2"'})
    assert cleared.json()["tone"] is None
    async with sessions() as session:
        sent = sa.select(sa.func.count()).select_from(Message).filter_by(customer_id=customer)
        assert await session.scalar(sent) == 0


async def test_a_preview_that_fails_says_why(api: httpx2.AsyncClient, customer: UUID) -> None:
    nobody = {"customer_id": str(uuid4())}
    assert_problem(await api.post(f"{CASE}/previews", json=nobody), 404, "not_found")
    assert_problem(await api.get(f"{CASE}/preview", params=nobody), 404, "not_found")
    assert_problem(await api.get(f"{CASE}/preview"), 422, "invalid_request")
    number = (await drafted(api, body_text="{{ nmae }}")).json()["number"]
    wanted = {"customer_id": str(customer), "number": number}
    problem = assert_problem(
        await api.post(f"{CASE}/previews", json=wanted), 422, "invalid_request"
    )
    assert "nmae" in problem["detail"]


async def test_a_test_is_queued_once_as_a_message_of_staff(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    number = (await drafted(api)).json()["number"]
    body = {"number": number, "email": "qa@example.com", "by": "agent-7"}
    key = {"Idempotency-Key": uuid4().hex}
    first = await api.post(f"{CASE}/tests", json=body, headers=key)
    assert first.status_code == 202, first.text
    assert (await api.post(f"{CASE}/tests", json=body, headers=key)).json() == first.json()
    shown = (await api.get(first.headers["location"])).json()
    assert shown["template_version"] == str(number)
    assert shown["step"] == "test send by agent-7"
    assert shown["message_class"] == MessageClass.STAFF
    async with sessions() as session:
        message = await session.get(Message, UUID(first.json()["message_id"]))
        assert message is not None
        assert (message.context["to"], message.context["test"]) == ("qa@example.com", "yes")
        assert message.customer_id is None


async def test_a_test_needs_somebody_to_go_to(api: httpx2.AsyncClient) -> None:
    path = f"{CASE}/tests"
    key = {"Idempotency-Key": uuid4().hex}
    assert_problem(await api.post(path, json={}), 400, "idempotency_key_required")
    assert_problem(await api.post(path, json={}, headers=key), 409, "conflict")  # no digest is set
    sms = await api.post(path, json={"channel": "sms"}, headers=key)
    assert_problem(sms, 422, "invalid_request")
    gone = {"number": 999, "email": "qa@example.com"}
    assert_problem(await api.post(path, json=gone, headers=key), 404, "not_found")


async def test_a_text_is_tested_only_where_there_is_one(api: httpx2.AsyncClient) -> None:
    number = (await drafted(api)).json()["number"]
    for tested in ({"number": number}, {"locale": "pt"}):
        body = {**tested, "channel": "sms", "phone": "+5511961234567"}
        key = {"Idempotency-Key": uuid4().hex}
        answer = await api.post(f"{CASE}/tests", json=body, headers=key)
        problem = assert_problem(answer, 422, "invalid_request")
        assert problem["errors"][0]["pointer"] == "/channel"


# --- claims ---------------------------------------------------------------------------------------


async def approved(api: httpx2.AsyncClient, days: int, **fields: Any) -> httpx2.Response:
    body = {
        "id": "free_delivery",
        "wordings": {"en": "Delivery is free"},
        "evidence": "price list 2026, page 3",
        "approved_by": "agent-7",
        "expires_on": (datetime.now(UTC) + timedelta(days=days)).date().isoformat(),
        **fields,
    }
    return await api.post("/api/v1/marketing-claims", json=body)


async def test_only_what_is_approved_is_claimed(api: httpx2.AsyncClient, customer: UUID) -> None:
    claiming = {"body_text": "Hello\n{{ claims.free_delivery }}"}
    draft = await drafted(api, SOLD, **claiming)
    assert draft.json()["claims"] == ["free_delivery"]
    unknown = assert_problem(await publish(api, draft), 422, "invalid_request")
    assert unknown["detail"] == "body_text: line 2: the claim free_delivery is not approved"

    wanted = {"customer_id": str(customer), "number": draft.json()["number"]}
    unseen = assert_problem(await api.post(f"{SOLD}/previews", json=wanted), 409, "conflict")
    assert unseen["detail"] == "approve these marketing claims in en first: free_delivery"

    made = await approved(api, days=2)
    assert made.status_code == 201, made.text
    path = made.headers["location"]
    over = {"expires_on": "2020-01-01", "approved_by": "agent-7"}
    withdrawn = await api.patch(path, json=over, headers={"If-Match": made.headers["etag"]})
    expired = assert_problem(await publish(api, draft), 422, "invalid_request")
    assert "expired on" in expired["detail"]

    renewal = {
        "expires_on": (datetime.now(UTC) + timedelta(days=1)).date().isoformat(),
        "approved_by": "agent-8",
    }
    assert_problem(await api.patch(path, json=renewal), 428, "precondition_required")
    stale = await api.patch(path, json=renewal, headers={"If-Match": '"v7"'})
    assert_problem(stale, 412, "precondition_failed")
    renewed = await api.patch(path, json=renewal, headers={"If-Match": withdrawn.headers["etag"]})
    assert renewed.json()["approved_by"] == "agent-8"
    assert renewed.json()["evidence"] == "price list 2026, page 3"
    assert (await publish(api, draft)).status_code == 201
    preview = await api.post(f"{SOLD}/previews", json={"customer_id": str(customer)})
    assert "Delivery is free" in preview.json()["text"]

    foreign = await drafted(api, SOLD, locale="pt", **claiming)
    other = assert_problem(await publish(api, foreign), 422, "invalid_request")
    assert "has no wording in pt" in other["detail"]


async def test_a_version_whose_claim_has_expired_does_not_come_back(
    api: httpx2.AsyncClient,
) -> None:
    claim = await approved(api, days=3)
    first = await publish(api, await drafted(api, SOLD, subject="{{ claims.free_delivery }}"))
    assert (await publish(api, await drafted(api, SOLD))).status_code == 201
    over = {"expires_on": "2020-01-01", "approved_by": "agent-8", "evidence": "no longer true"}
    path = claim.headers["location"]
    assert (await api.patch(path, json=over, headers={"If-Match": "*"})).status_code == 200
    back = {"locale": "en", "to": first.json()["number"]}
    problem = assert_problem(await api.post(f"{SOLD}/rollbacks", json=back), 422, "invalid_request")
    assert problem["faults"][0]["part"] == "subject"


async def test_marketing_is_published_by_a_second_person(api: httpx2.AsyncClient) -> None:
    draft = await drafted(api, SOLD)
    assert_problem(await publish(api, draft, by="agent-7"), 409, "conflict")
    comma = {**SELLING, "subject": "Good news,", "by": "agent-8"}
    path, match = draft.headers["location"], {"If-Match": draft.headers["etag"]}
    edited = await api.put(path, json=comma, headers=match)
    assert (edited.json()["author"], edited.json()["editors"]) == (
        "agent-8",
        ["agent-7", "agent-8"],
    )
    for writer in ("agent-7", "agent-8"):  # also the one whose words a second one has touched
        assert_problem(await publish(api, edited, by=writer), 409, "conflict")
    match = {"If-Match": edited.headers["etag"]}
    saved = await api.put(path, json={**comma, "by": "agent-9"}, headers=match)
    assert saved.json()["editors"] == ["agent-7", "agent-8"]  # who saves it as it is wrote nothing
    published = await publish(api, saved, by="agent-9")
    assert published.status_code == 201, published.text
    number = published.json()["number"]
    assert (await publish(api, await drafted(api, SOLD), by="agent-9")).status_code == 201
    back = {"locale": "en", "to": number, "by": "agent-9"}
    restored = (await api.post(f"{SOLD}/rollbacks", json=back)).json()["version"]
    again = (await api.get(f"{SOLD}/versions/{restored}")).json()
    assert again["editors"] == ["agent-7", "agent-8"]
    case = await drafted(api)
    assert (await publish(api, case, by="agent-7")).status_code == 201


async def test_a_draft_that_an_older_version_wrote_is_published_by_a_second_person(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    draft = await drafted(api, SOLD)
    async with sessions.begin() as session:  # it keeps nobody but the author
        version = sa.update(TemplateVersion).where(TemplateVersion.number == draft.json()["number"])
        await session.execute(version.values(editors=[]))
    assert_problem(await publish(api, draft, by="agent-7"), 409, "conflict")


async def test_claims_are_listed_and_approved_once(api: httpx2.AsyncClient) -> None:
    made = await approved(api, days=3)
    assert_problem(await approved(api, days=4), 409, "conflict")
    listed = (await api.get("/api/v1/marketing-claims")).json()["items"]
    assert listed == [made.json()]
    assert (await api.get(made.headers["location"])).headers["etag"] == made.headers["etag"]
    assert_problem(await api.get("/api/v1/marketing-claims/none"), 404, "not_found")
    await approved(api, days=1, id="same_day")
    soonest = await api.get("/api/v1/marketing-claims", params={"sort": "expires_on"})
    assert [one["id"] for one in soonest.json()["items"]] == ["same_day", "free_delivery"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"id": "__class__"}, "/id"),
        ({"id": "Free delivery"}, "/id"),
        ({"wordings": {}}, "/wordings"),
        ({"wordings": {"en": "a\nb"}}, "/wordings/en"),
        ({"wordings": {"xx-not": "a"}}, "/wordings/xx-not/[key]"),
        ({"expires_on": "2026-02-30"}, "/expires_on"),
        ({"expires_on": "2020-01-01"}, "/expires_on"),
        ({"evidence": " "}, "/evidence"),
    ],
)
async def test_a_claim_of_bad_fields_is_refused(
    api: httpx2.AsyncClient, fields: Json, pointer: str
) -> None:
    problem = assert_problem(await approved(api, days=3, **fields), 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == pointer
