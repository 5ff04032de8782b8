"""What providers report is believed when it is signed, stored before the answer, and once."""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from temporalio.testing import WorkflowEnvironment

from activities.delivery_reports import take_in_reports
from api.twilio_events import twilio_signature
from database.base import Sessions
from database.delivery_reports import DeliveryReportRow
from domain.delivery_reports import ReportKind
from settings import Settings
from tests.api.conftest import Json, assert_problem, calling, running_app
from tests.api.webhook_storm import RESEND, resend_event, signed, storm

SECRET = b"a secret of the tests, 32 bytes!"
TOKEN = "twilio-token-of-the-tests"
PUBLIC = "https://crm.example.com/shop"
TWILIO = "/api/v1/provider-events/twilio"


@pytest.fixture(scope="module")
async def provider(settings: Settings) -> AsyncGenerator[httpx2.AsyncClient]:
    """A caller without a key, of an application that knows the secrets of providers."""
    known = settings.model_copy(
        update={
            "resend_webhook_secret": SecretStr("whsec_" + b64encode(SECRET).decode()),
            "twilio_auth_token": SecretStr(TOKEN),
            "public_url": PUBLIC,
        }
    )
    async with running_app(known) as app, calling(app, key=None) as client:
        yield client


async def kept(sessions: Sessions, event_id: str) -> list[DeliveryReportRow]:
    async with sessions() as session:
        found = sa.select(DeliveryReportRow).where(DeliveryReportRow.event_id == event_id)
        return list(await session.scalars(found))


async def send(
    provider: httpx2.AsyncClient, body: bytes, event_id: str = "", **headers: str
) -> httpx2.Response:
    """An event of Resend, rightly signed but for what is said otherwise."""
    right = signed(SECRET, event_id or f"msg_{uuid4()}", body)
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return await provider.post(RESEND, content=body, headers=right | changed)


# --- Resend --------------------------------------------------------------------------------------

KINDS: list[tuple[str, Json, ReportKind, str]] = [
    ("email.sent", {}, ReportKind.ACCEPTED, "email.sent"),
    ("email.delivered", {}, ReportKind.DELIVERED, "email.delivered"),
    ("email.delivery_delayed", {}, ReportKind.DELAYED, "email.delivery_delayed"),
    (
        "email.bounced",
        {"bounce": {"type": "Permanent", "subType": "General", "message": "no <a@b.example>"}},
        ReportKind.BOUNCED,
        "email.bounced: Permanent: no <address>",
    ),
    (
        "email.bounced",
        {"bounce": {"type": "Transient", "subType": "MailboxFull", "message": "full"}},
        ReportKind.EXPIRED,
        "email.bounced: Transient: full",
    ),
    ("email.complained", {}, ReportKind.COMPLAINED, "email.complained"),
    (
        "email.failed",
        {"failed": {"reason": "reached_daily_quota"}},
        ReportKind.FAILED,
        "email.failed: reached_daily_quota",
    ),
    ("email.opened", {"tags": 7}, ReportKind.OTHER, "email.opened"),
    ("domain.created", {"name": ["x"]}, ReportKind.OTHER, "domain.created"),
]


@pytest.mark.parametrize(("type_", "data", "kind", "said"), KINDS, ids=[one[0] for one in KINDS])
async def test_each_event_of_resend_is_kept_as_what_it_says(
    provider: httpx2.AsyncClient,
    sessions: Sessions,
    type_: str,
    data: Json,
    kind: ReportKind,
    said: str,
) -> None:
    effect, event_id = uuid4(), f"msg_{uuid4()}"
    answer = await send(provider, resend_event(type_, effect, **data), event_id)
    assert (answer.status_code, answer.json()) == (200, {"duplicate": False})
    [row] = await kept(sessions, event_id)
    assert (row.source, row.kind, row.said, row.processed_at) == ("resend", kind, said, None)
    assert row.effect == (None if kind is ReportKind.OTHER else effect)
    assert row.message_id is None, "there is no such message"


@pytest.mark.parametrize(
    "data",
    [
        {"tags": [{"name": "x", "value": "y"}, {"name": "effect", "value": "{}"}]},
        {"tags": {}, "headers": [{"name": "x-crm-effect", "value": "{}"}]},
    ],
    ids=["a list of tags", "the header"],
)
async def test_our_message_is_found_however_the_provider_gives_its_id_back(
    provider: httpx2.AsyncClient, sessions: Sessions, data: Json
) -> None:
    effect, event_id = uuid4(), f"msg_{uuid4()}"
    data = json.loads(json.dumps(data).replace("{}", str(effect)).replace(f": {effect}", ": {}"))
    await send(provider, resend_event("email.delivered", "", **data), event_id)
    [row] = await kept(sessions, event_id)
    assert row.effect == effect


async def test_an_event_is_stored_once_and_each_repeat_is_taken(
    provider: httpx2.AsyncClient, sessions: Sessions
) -> None:
    event_id = f"msg_{uuid4()}"
    body = resend_event("email.delivered", uuid4())
    answers = [await send(provider, body, event_id) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.json()["duplicate"] for answer in answers] == [False, True, True]
    assert len(await kept(sessions, event_id)) == 1


def test_our_signatures_are_those_of_svix() -> None:
    """The example of https://docs.svix.com: what is signed like that is taken in these tests."""
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330)
    assert headers["svix-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


WRONG = {
    "of another secret": lambda body: signed(b"another", "msg_1", body),
    "of another body": lambda body: signed(SECRET, "msg_1", body + b" "),
    "of another id": lambda body: signed(SECRET, "msg_2", body) | {"svix-id": "msg_1"},
    "missing": lambda body: signed(SECRET, "msg_1", body) | {"svix-signature": ""},
    "of another version": lambda body: (
        signed(SECRET, "msg_1", body)
        | {"svix-signature": signed(SECRET, "msg_1", body)["svix-signature"].replace("v1", "v2")}
    ),
    "without an id": lambda body: signed(SECRET, "", body),
    "with an endless id": lambda body: signed(SECRET, "m" * 201, body),
    "six minutes old": lambda body: signed(SECRET, "msg_1", body, time.time() - 360),
    "of in six minutes": lambda body: signed(SECRET, "msg_1", body, time.time() + 360),
    "of no time": lambda body: signed(SECRET, "msg_1", body) | {"svix-timestamp": "now"},
    "of a huge time": lambda body: signed(SECRET, "msg_1", body) | {"svix-timestamp": "9" * 5000},
    "not ASCII": lambda body: signed(SECRET, "msg_1", body) | {"svix-signature": "v1,é".encode()},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_signature_that_does_not_fit_is_refused_and_nothing_is_kept(
    provider: httpx2.AsyncClient, sessions: Sessions, wrong: Any
) -> None:
    body = resend_event("email.bounced", uuid4())
    answer = await provider.post(RESEND, content=body, headers=wrong(body))
    assert_problem(answer, 401, "invalid_signature")
    assert await kept(sessions, "msg_1") == []


async def test_while_a_secret_is_replaced_one_of_two_signatures_is_enough(
    provider: httpx2.AsyncClient,
) -> None:
    body = resend_event("email.sent", uuid4())
    headers = signed(SECRET, "msg_two", body)
    old = signed(b"the one before", "msg_two", body)["svix-signature"]
    headers["svix-signature"] = f"{old} {headers['svix-signature']}"
    answer = await provider.post(RESEND, content=body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{not json", 400, "malformed_json"),
        (b"[]", 422, "invalid_request"),
        (b'{"type": "email.sent"}', 422, "invalid_request"),
        (b'{"type": "email.sent", "created_at": "yesterday"}', 422, "invalid_request"),
        (b'{"type": "email.sent", "created_at": "0001-01-01T00:00:00Z"}', 422, "invalid_request"),
        (b'{"type": "email.sent", "created_at": "2026-01-01T00:00:00"}', 422, "invalid_request"),
        (resend_event("email.sent", "", tags=7), 422, "invalid_request"),
        (b"[" * 100_000, 400, "malformed_json"),
        (b"\xff", 400, "malformed_json"),
    ],
)
async def test_a_body_that_says_nothing_is_told_so(
    provider: httpx2.AsyncClient, body: bytes, status: int, code: str
) -> None:
    assert_problem(await send(provider, body), status, code)


async def test_whatever_is_in_a_body_can_be_kept_and_shown(
    provider: httpx2.AsyncClient, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    event_id = f"msg_{uuid4()}"
    strange = "\x00 \ud800 \u202e {{7*7}} '); DROP TABLE" + "x" * 9_000
    body = resend_event("email.failed", "not an id", failed={"reason": strange})
    answer = await send(provider, body, event_id)
    assert answer.status_code == 200, answer.text
    [row] = await kept(sessions, event_id)
    listed = await api.get("/api/v1/delivery-reports?of_ours=false&kind=failed&limit=1")
    [shown] = listed.json()["items"]
    assert (shown["event_id"], shown["words"]) == (event_id, "The provider gave it up.")
    assert row.effect is None
    assert row.said is not None
    assert row.said.startswith("email.failed: {{7*7}} ')")
    assert len(row.said) <= 500
    future = b'{"type": "email.sent", "created_at": "9999-12-31T23:59:59-14:00"}'
    assert (await send(provider, future, f"{event_id}-2")).status_code == 200
    [row] = await kept(sessions, f"{event_id}-2")
    assert row.reported_at <= datetime.now(UTC)


async def test_too_much_or_something_else_is_not_read(provider: httpx2.AsyncClient) -> None:
    assert_problem(await send(provider, b" " * 10_000_000), 413, "too_large")
    body = resend_event("email.sent", uuid4())
    for header in ({"content_type": "text/plain"}, {"content_encoding": "gzip"}):
        assert_problem(await send(provider, body, **header), 415, "unsupported_media_type")


@pytest.mark.parametrize("path", [RESEND, TWILIO])
async def test_without_a_secret_nothing_is_believed(api: httpx2.AsyncClient, path: str) -> None:
    body = resend_event("email.sent", uuid4())
    answer = await api.post(path, content=body, headers=signed(b"", "msg_1", body))
    problem = assert_problem(answer, 404, "provider_events_off")
    assert problem["remedy"].startswith("Set CRM_")


async def test_a_secret_that_can_not_be_one_is_noticed_at_the_start(settings: Settings) -> None:
    wrong = settings.model_copy(update={"resend_webhook_secret": SecretStr("whsec_é")})
    with pytest.raises(SystemExit, match="CRM_RESEND_WEBHOOK_SECRET"):
        async with running_app(wrong):
            pass


# --- Twilio --------------------------------------------------------------------------------------


async def text(
    provider: httpx2.AsyncClient, effect: object, address: str = PUBLIC, **fields: str
) -> httpx2.Response:
    """A status callback, signed for an address."""
    path = f"{TWILIO}?effect={effect}"
    pairs = list(fields.items())
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "x-twilio-signature": twilio_signature(TOKEN, address + path, pairs),
    }
    return await provider.post(path, content=urlencode(pairs), headers=headers)


@pytest.mark.parametrize(
    ("status", "error", "kind", "said"),
    [
        ("queued", "", ReportKind.ACCEPTED, "queued"),
        ("sent", "0", ReportKind.ACCEPTED, "sent"),
        ("delivered", "", ReportKind.DELIVERED, "delivered"),
        ("undelivered", "30003", ReportKind.FAILED, "undelivered: error 30003"),
        (
            "undelivered",
            "30005",
            ReportKind.BOUNCED,
            "undelivered: error 30005 (the number is unknown)",
        ),
        (
            "undelivered",
            "\x1b300\x0005\n",
            ReportKind.BOUNCED,
            "undelivered: error 30005 (the number is unknown)",
        ),
        ("failed", "30007", ReportKind.FAILED, "failed: error 30007"),
        ("partially_delivered", "", ReportKind.OTHER, "partially_delivered"),
    ],
)
async def test_each_status_of_twilio_is_kept_as_what_it_says_and_once(
    provider: httpx2.AsyncClient,
    sessions: Sessions,
    status: str,
    error: str,
    kind: ReportKind,
    said: str,
) -> None:
    effect, sid = uuid4(), f"SM{uuid4().hex}"
    fields = {"MessageSid": sid, "MessageStatus": status, "ErrorCode": error, "To": "+49 30 1"}
    answers = [await text(provider, effect, **fields) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"duplicate": False}, {"duplicate": True}]
    [row] = await kept(sessions, f"{sid}/{status}")
    assert (row.source, row.kind, row.said, row.effect) == ("twilio", kind, said, effect)


def test_the_signature_is_that_of_twilio() -> None:
    """The example of its own libraries (twilio-python, tests/unit/test_request_validator.py)."""
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
        "Caller": "+14158675309",
    }
    address = "https://mycompany.com/myapp.php?foo=1&bar=2"
    signature = twilio_signature("12345", address, list(fields.items()))
    assert signature == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


async def test_a_text_that_twilio_did_not_sign_for_our_address_is_refused(
    provider: httpx2.AsyncClient, sessions: Sessions
) -> None:
    fields = {"MessageSid": "SM-forged", "MessageStatus": "delivered"}
    forged = await text(provider, uuid4(), address="http://crm", **fields)
    assert_problem(forged, 401, "invalid_signature")
    unsigned = await provider.post(TWILIO, data=fields)
    assert_problem(unsigned, 401, "invalid_signature")
    assert await kept(sessions, "SM-forged/delivered") == []


async def test_a_callback_that_is_none_is_told_so(provider: httpx2.AsyncClient) -> None:
    assert_problem(await text(provider, "x", MessageSid="SM1"), 422, "invalid_request")
    strange = {"MessageSid": "SM\x00", "MessageStatus": "sent"}
    assert_problem(await text(provider, "x", **strange), 422, "invalid_request")
    form = {"content-type": "application/x-www-form-urlencoded"}
    for body in (b"\xff=1", b"&".join(b"a=1" for _ in range(201))):
        answer = await provider.post(TWILIO, content=body, headers=form)
        assert_problem(answer, 400, "malformed_form")
    assert_problem(await provider.post(TWILIO, json={}), 415, "unsupported_media_type")


# --- together ------------------------------------------------------------------------------------


async def test_a_storm_of_repeated_and_shuffled_events_has_each_effect_once(
    provider: httpx2.AsyncClient, sessions: Sessions, temporal: WorkflowEnvironment
) -> None:
    result = await storm(provider, sessions, temporal.client, SECRET, events=30, seed=7)
    assert result.wrong == []
    assert result.duplicates == result.deliveries - 30 > 300
    assert result.early >= 2


async def test_the_explanation_of_a_message_tells_what_was_reported(
    provider: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    temporal: WorkflowEnvironment,
) -> None:
    result = await storm(provider, sessions, temporal.client, SECRET, events=1, seed=1)
    assert result.wrong == []
    async with sessions() as session:
        newest = sa.select(DeliveryReportRow).order_by(DeliveryReportRow.id.desc()).limit(1)
        message_id: UUID | None = (await session.scalars(newest)).one().message_id
    await send(provider, resend_event("email.complained", str(message_id)))
    explanation = (await api.get(f"/api/v1/messages/{message_id}/explanation")).json()
    *_, told = explanation["reports"]
    assert (told["kind"], told["words"]) == ("complained", "The recipient complained about it.")
    assert told["outcome"] is None
    await take_in_reports(sessions, temporal.client)
    explanation = (await api.get(f"/api/v1/messages/{message_id}/explanation")).json()
    assert explanation["words"] == "Delivered, and the recipient complained: email.complained."
    assert [report["source"] for report in explanation["reports"]] == ["resend"] * 2
    assert explanation["reports"][1]["outcome"].endswith("suppressed for marketing")
