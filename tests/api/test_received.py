"""Mails and texts that came are handed in once, shown with what came of them, and given away."""

from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from temporalio.testing import WorkflowEnvironment

from activities.received_mail import take_in_mail
from activities.received_texts import take_in_texts
from activities.storage import delete_past
from api.twilio_events import twilio_signature
from database.base import Sessions
from database.customers import ContactPoint, Suppression
from database.received_texts import ReceivedText
from domain.messages import Channel
from domain.tokens import TokenPurpose, sign_for_mail
from settings import Settings
from tests.api.conftest import (
    SIGNING_KEY,
    Json,
    MakeCustomer,
    assert_problem,
    calling,
    eventually,
    running_app,
)
from tests.messaging.received import answer, bounce
from tests.messaging.test_mail_reading import with_files

MAILS, TEXTS = "/api/v1/received-mails", "/api/v1/received-texts"
TWILIO = "/api/v1/provider-events/twilio/texts"
TOKEN, PUBLIC = "twilio-token-of-the-tests", "https://crm.example.com"
KEY = SIGNING_KEY.encode()


class Desk:
    def __init__(
        self, api: httpx2.AsyncClient, sessions: Sessions, temporal: WorkflowEnvironment
    ) -> None:
        self.api, self.sessions, self.client = api, sessions, temporal.client

    async def comes(self, raw: bytes, *to: str, mail_from: str | None = "a@example.com") -> Json:
        """The mail as it is shown once it was taken in."""
        body = {"raw": b64encode(raw).decode(), "rcpt_to": list(to), "mail_from": mail_from}
        taken = await self.api.post(MAILS, json=body)
        assert taken.status_code == 202, taken.text
        assert taken.headers["location"] == f"{MAILS}/{taken.json()['id']}"
        while await take_in_mail(self.sessions, self.client, KEY):
            pass
        return await self.get(taken.headers["location"])

    async def get(self, path: str, **query: str) -> Json:
        found = await self.api.get(path, params=query)
        assert found.status_code == 200, found.text
        shown: Json = found.json()
        return shown

    async def address_of(self, customer: UUID) -> str:
        async with self.sessions() as session:
            found = sa.select(ContactPoint.address).where(
                ContactPoint.customer_id == customer, ContactPoint.channel == Channel.EMAIL
            )
            return (await session.execute(found)).scalar_one()


@pytest.fixture
def desk(api: httpx2.AsyncClient, sessions: Sessions, temporal: WorkflowEnvironment) -> Desk:
    return Desk(api, sessions, temporal)


async def test_a_mail_is_handed_in_once_and_shown_with_its_attachments(
    desk: Desk, customer: UUID
) -> None:
    address = await desk.address_of(customer)
    raw = with_files(("photo.jpg", b"\xff\xd8")).replace(b"ada@example.com", address.encode())
    mail = await desk.comes(raw, "hello@mail.example")
    assert (mail["kind"], mail["outcome"], mail["customer_id"]) == (
        *("reply", "reply_received"),
        str(customer),
    )
    assert mail["text"] == "See the photos."
    [file] = mail["attachments"]
    shown = await desk.get(f"{MAILS}/{mail['id']}/attachments/{file['id']}")
    assert (shown["name"], b64decode(shown["content"])) == ("photo.jpg", b"\xff\xd8")
    assert b64decode((await desk.get(f"{MAILS}/{mail['id']}/raw"))["raw"]) == raw
    body = {
        "raw": b64encode(raw).decode(),
        "rcpt_to": ["hello@mail.example"],
        "mail_from": "a@example.com",
    }
    again = (await desk.api.post(MAILS, json=body)).json()
    assert again == {"id": mail["id"], "duplicate": True}
    [listed] = (await desk.get(MAILS, customer_id=str(customer)))["items"]
    assert listed["id"] == mail["id"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("raw", "not base64!"),
        ("raw", 7),
        ("raw", None),
        ("rcpt_to", ["a@b.example"] * 51),
        ("rcpt_to", ["x" * 400]),
        ("mail_from", "a\0b"),
        ("unknown", 1),
    ],
)
async def test_what_is_no_mail_is_refused(desk: Desk, field: str, value: object) -> None:
    refused = await desk.api.post(MAILS, json={"raw": "eA==", field: value})
    assert_problem(refused, 422, "invalid_request")


async def test_a_mail_may_have_ten_megabytes_and_nothing_else_may(desk: Desk) -> None:
    raw = answer() + b"x" * 5_000_000
    taken = await desk.api.post(MAILS, json={"raw": b64encode(raw).decode()})
    assert taken.status_code == 202
    assert_problem(await desk.api.post(MAILS, json={"raw": "A" * 4 * 3_700_000}), 413, "too_large")
    assert_problem(await desk.api.post(TEXTS, json={"text": "A" * 2_000_000}), 413, "too_large")


async def test_what_came_stands_in_the_explanation_and_in_the_timeline(
    desk: Desk, customer: UUID, order_id: str, worker: None
) -> None:
    messages = await eventually(
        lambda: desk.api.get("/api/v1/messages", params={"customer_id": str(customer)}),
        lambda found: bool(found["items"]),
    )
    message_id = messages["items"][0]["id"]
    token = sign_for_mail(KEY, TokenPurpose.BOUNCE, UUID(message_id))
    to = f"bounce+{token}@mail.example"
    came = await desk.comes(bounce(to), to, mail_from="<>")
    assert (came["kind"], came["outcome"], came["answers"]) == ("bounce", "counted", message_id)
    explained = await desk.get(f"/api/v1/messages/{message_id}/explanation")
    [back] = explained["replies"]
    assert (back["received_mail_id"], back["kind"]) == (came["id"], "bounce")
    [entry] = (await desk.get(f"/api/v1/customers/{customer}/timeline", what="mail"))["items"]
    assert entry["words"] == "A mail came back undelivered (counted)"
    assert entry["facts"]["id"] == came["id"]
    everything = await desk.get(f"/api/v1/customers/{customer}/timeline", limit="3")
    assert everything["has_more"]


async def open_case(desk: Desk, customer: UUID) -> Json:
    """The case as it is shown once its process has opened it."""
    case = {"customer_id": str(customer), "text": "The handle came loose."}
    case_id = (await desk.api.post("/api/v1/cases", json=case)).json()["case_id"]
    shown: Json = await eventually(
        lambda: desk.api.get(f"/api/v1/cases/{case_id}"), lambda found: "reference" in found
    )
    return shown


async def replies_to(desk: Desk, case: Json, count: int = 1) -> list[Json]:
    shown = await eventually(
        lambda: desk.api.get(f"/api/v1/cases/{case['id']}"),
        lambda found: len(found["replies"]) == count,
    )
    replies: list[Json] = shown["replies"]
    return replies


async def test_a_reply_is_shown_in_its_case(desk: Desk, customer: UUID, worker: None) -> None:
    case = await open_case(desk, customer)
    address = await desk.address_of(customer)
    mail = await desk.comes(answer("It is blue.", sender=address, subject=case["reference"]))
    assert mail["case_id"] == case["id"]
    [reply] = await replies_to(desk, case)
    assert (reply["text"], reply["received_mail_id"]) == ("It is blue.", mail["id"])


async def test_a_text_goes_on_with_the_open_case_of_its_customer_the_newest_of_two(
    desk: Desk, make_customer: MakeCustomer, worker: None
) -> None:
    number = "+5511961237766"
    customer = await make_customer(phone=number)

    async def texts(text: str) -> None:
        sent = {"source": "gateway", "event_id": str(uuid4()), "sender": number, "text": text}
        assert (await desk.api.post(TEXTS, json=sent)).status_code == 202
        while await take_in_texts(desk.sessions, desk.client):
            pass

    first = await open_case(desk, customer)
    await texts("It is blue.")
    [reply] = await replies_to(desk, first)
    assert (reply["text"], reply["received_mail_id"]) == ("It is blue.", None)
    second = await open_case(desk, customer)
    await texts("And round.")
    [reply] = await replies_to(desk, second)
    assert reply["text"] == "And round."
    assert len(await replies_to(desk, first)) == 1


async def test_a_person_gives_a_strangers_mail_to_a_customer_once(
    desk: Desk, customer: UUID, make_customer: MakeCustomer
) -> None:
    mail = await desk.comes(answer(sender=f"{uuid4().hex}@example.net"))
    assert mail["outcome"] == "unknown_sender"
    path = f"{MAILS}/{mail['id']}/attribution"
    body = {"customer_id": str(customer), "by": "agent-7"}
    assert_problem(
        await desk.api.post(path, json={"customer_id": str(uuid4())}), 404, "unknown_customer"
    )
    assert_problem(
        await desk.api.post(path, json={**body, "case_id": str(uuid4())}), 404, "unknown_case"
    )
    given = await desk.api.post(path, json=body)
    assert given.status_code == 202, given.text
    assert (await desk.api.post(path, json=body)).json()["duplicate"]
    shown = await desk.get(f"{MAILS}/{mail['id']}")
    assert (shown["outcome"], shown["customer_id"]) == ("attributed", str(customer))
    event = await desk.get(f"/api/v1/events/{shown['event_id']}")
    assert event["body"]["text"] == "Yes, on Saturday please."
    other = {"customer_id": str(await make_customer())}
    assert_problem(await desk.api.post(path, json=other), 422, "event_conflict")


async def test_giving_a_mail_to_a_customer_completes_the_task_that_asked(
    desk: Desk, customer: UUID, order_id: str, worker: None
) -> None:
    messages = await eventually(
        lambda: desk.api.get("/api/v1/messages", params={"customer_id": str(customer)}),
        lambda found: bool(found["items"]),
    )
    token = sign_for_mail(KEY, TokenPurpose.REPLY, UUID(messages["items"][0]["id"]))
    to = f"reply+{token}@mail.example"
    mail = await desk.comes(answer(sender=f"{uuid4().hex}@example.net", to=to), to)
    assert mail["outcome"] == "asked"
    task = f"/api/v1/tasks/{mail['task_id']}"
    await eventually(lambda: desk.api.get(task), lambda found: found["state"] == "open")
    path, body = (
        f"{MAILS}/{mail['id']}/attribution",
        {"customer_id": str(customer), "by": "agent-7"},
    )
    given = await desk.api.post(path, json=body)
    assert given.status_code == 202, given.text
    done = await eventually(lambda: desk.api.get(task), lambda found: found["state"] == "done")
    assert done["outcome"] == "attributed"
    assert (await desk.api.post(path, json=body)).json()["duplicate"]


async def test_a_person_says_that_nothing_follows_from_a_mail(
    desk: Desk, customer: UUID, order_id: str, worker: None
) -> None:
    messages = await eventually(
        lambda: desk.api.get("/api/v1/messages", params={"customer_id": str(customer)}),
        lambda found: bool(found["items"]),
    )
    token = sign_for_mail(KEY, TokenPurpose.REPLY, UUID(messages["items"][0]["id"]))
    to = f"reply+{token}@mail.example"
    mail = await desk.comes(answer(sender=f"{uuid4().hex}@example.net", to=to), to)
    task = f"/api/v1/tasks/{mail['task_id']}"
    await eventually(lambda: desk.api.get(task), lambda found: found["state"] == "open")
    path, body = f"{MAILS}/{mail['id']}/dismissal", {"reason": "advertising", "by": "agent-7"}
    for _ in range(2):
        dismissed = await desk.api.post(path, json=body)
        assert dismissed.status_code == 200, dismissed.text
        assert dismissed.json()["outcome"] == "dismissed"
    done = await eventually(lambda: desk.api.get(task), lambda found: found["state"] == "done")
    assert done["outcome"] == "not_theirs"
    listed = (await desk.get(MAILS, outcome="dismissed"))["items"]
    assert mail["id"] in [one["id"] for one in listed]
    # It was theirs after all.
    given = {"customer_id": str(customer)}
    assert (await desk.api.post(f"{MAILS}/{mail['id']}/attribution", json=given)).status_code == 202
    assert_problem(await desk.api.post(path, json=body), 409, "not_allowed_now")
    missing = await desk.api.post(f"{MAILS}/{uuid4()}/dismissal", json=body)
    assert_problem(missing, 404, "not_found")


async def test_a_mail_that_was_acted_upon_is_not_given_away(desk: Desk, customer: UUID) -> None:
    address = await desk.address_of(customer)
    mail = await desk.comes(answer("One more thing.", sender=address))
    refused = await desk.api.post(
        f"{MAILS}/{mail['id']}/attribution", json={"customer_id": str(customer)}
    )
    assert_problem(refused, 409, "not_allowed_now")
    for path in ("", "/raw", "/attachments/" + str(uuid4())):
        assert_problem(await desk.api.get(f"{MAILS}/{uuid4()}{path}"), 404, "not_found")


async def test_what_was_deleted_of_a_mail_is_gone_and_the_rest_is_told(
    desk: Desk, sessions: Sessions
) -> None:
    """A stranger's: that of a customer may open a case, and waits for its end."""
    stranger = f"{uuid4().hex}@example.com".encode()
    raw = with_files(("photo.jpg", uuid4().bytes)).replace(b"ada@example.com", stranger)
    mail = await desk.comes(raw)
    path = f"{MAILS}/{mail['id']}"
    [file] = (await desk.get(path))["attachments"]
    assert await delete_past(sessions, datetime.now(UTC) + timedelta(days=181), lambda: None)
    shown = await desk.get(path)
    day = shown["raw_deleted_at"][:10]
    assert (shown["attachments"], shown["text"]) == ([file], mail["text"])
    for what, below in (("mail", "raw"), ("attachment", f"attachments/{file['id']}")):
        gone = assert_problem(await desk.api.get(f"{path}/{below}"), 410, "deleted")
        assert gone["detail"] == f"the {what} was deleted on {day}"
    body = {"raw": b64encode(raw).decode(), "mail_from": "a@example.com"}
    again = await desk.api.post(MAILS, json=body)
    assert again.json() == {"id": mail["id"], "duplicate": True}


# --- text messages -------------------------------------------------------------------------------


async def test_a_text_is_taken_once_and_stop_holds_at_once(desk: Desk) -> None:
    number = "+5511961230001"
    body = {"event_id": f"sms/{uuid4()}", "sender": number, "text": "Please stop\u202e\x00"}
    first = await desk.api.post(TEXTS, json=body)
    assert (first.status_code, first.json()["duplicate"]) == (202, False)
    assert (await desk.api.post(TEXTS, json=body)).json()["duplicate"]
    async with desk.sessions() as session:
        found = sa.select(Suppression).where(Suppression.address == number)
        assert (await session.scalars(found)).one().lifted_at is None
    await take_in_texts(desk.sessions, desk.client)
    shown = (await desk.get(TEXTS, outcome="stopped"))["items"][0]  # the latest
    assert (shown["id"], shown["wish"], shown["text"]) == (
        *(first.json()["id"], "stop"),
        "Please stop",
    )
    assert_problem(await desk.api.post(TEXTS, json={**body, "sender": "x"}), 422, "invalid_request")
    for other in ({"text": "START"}, {"sender": "+5511961230009"}):
        answer = await desk.api.post(TEXTS, json={**body, **other})
        assert_problem(answer, 422, "event_conflict")


async def test_a_text_of_an_unknown_number_is_given_to_a_customer_or_dismissed(
    desk: Desk, customer: UUID, make_customer: MakeCustomer
) -> None:
    taken = []
    for text in ("Is it still there?", "Buy shoes", "STOP"):
        body = {"event_id": f"sms/{uuid4()}", "sender": "+5511961230077", "text": text}
        taken.append((await desk.api.post(TEXTS, json=body)).json()["id"])
    await take_in_texts(desk.sessions, desk.client)
    asked, advertising, stop = (f"{TEXTS}/{one}" for one in taken)
    assert (await desk.get(asked))["outcome"] == "unknown_sender"
    given = {"customer_id": str(customer)}
    for path, outcome in ((asked, "unknown_customer"), (f"{TEXTS}/{uuid4()}", "not_found")):
        nobody = await desk.api.post(f"{path}/attribution", json={"customer_id": str(uuid4())})
        assert_problem(nobody, 404, outcome)
    for duplicate in (False, True):
        accepted = await desk.api.post(f"{asked}/attribution", json=given)
        assert (accepted.status_code, accepted.json()["duplicate"]) == (202, duplicate)
    shown = await desk.get(asked)
    assert (shown["outcome"], shown["customer_id"]) == ("attributed", str(customer))
    event = await desk.get(f"/api/v1/events/{accepted.json()['event_id']}")
    assert event["body"]["text"] == "Is it still there?"
    other = {"customer_id": str(await make_customer())}
    assert_problem(await desk.api.post(f"{asked}/attribution", json=other), 422, "event_conflict")

    body = {"reason": "advertising"}
    for path, status in ((advertising, 200), (advertising, 200), (asked, 409), (stop, 409)):
        assert (await desk.api.post(f"{path}/dismissal", json=body)).status_code == status
    assert (await desk.get(advertising))["outcome"] == "dismissed"
    assert_problem(await desk.api.post(f"{stop}/attribution", json=given), 409, "not_allowed_now")


@pytest.fixture
async def twilio(settings: Settings) -> AsyncGenerator[httpx2.AsyncClient]:
    known = settings.model_copy(
        update={"twilio_auth_token": SecretStr(TOKEN), "public_url": PUBLIC}
    )
    async with running_app(known) as app, calling(app, key=None) as client:
        yield client


async def test_a_text_by_twilio_is_taken_when_it_is_signed(
    twilio: httpx2.AsyncClient, sessions: Sessions
) -> None:
    async def post(fields: dict[str, str], signature: str | None = None) -> httpx2.Response:
        right = twilio_signature(TOKEN, PUBLIC + TWILIO, list(fields.items()))
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": right if signature is None else signature,
        }
        return await twilio.post(TWILIO, content=urlencode(fields).encode(), headers=headers)

    sid = f"SM{uuid4().hex}"
    fields = {"MessageSid": sid, "From": "+5511961230002", "Body": "Olá\0\n"}
    assert_problem(await post(fields, "forged"), 401, "invalid_signature")
    for _ in range(2):
        assert (await post(fields)).status_code == 204
    async with sessions() as session:
        row = (
            await session.scalars(sa.select(ReceivedText).where(ReceivedText.event_id == sid))
        ).one()
    assert (row.source, row.sender, row.text) == ("twilio", "+5511961230002", "Olá\n")
    assert_problem(await post({**fields, "Body": "STOP"}), 422, "event_conflict")
    assert (await post({**fields, "MessageSid": sid + "1", "From": "12345"})).status_code == 204
    assert_problem(await post({"From": "+5511961230002"}), 422, "invalid_request")
