"""The pages people open without a key: surveys, unsubscribing, the inbox, the documentation."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy.dialects.postgresql import insert

from api.pages import LOCALES, said_in
from database.base import Sessions
from database.customers import Consent
from database.events import Event
from database.feedback import Survey
from domain.messages import Channel, Purpose
from domain.policies import SurveyScale
from domain.tokens import TokenPurpose, sign, unsubscribe_value
from settings import Settings
from tests.api.conftest import (
    SIGNING_KEY,
    Json,
    MakeCustomer,
    Report,
    calling,
    count,
    eventually,
    running_app,
)
from tests.api.reading import ReadPage, assert_anybody_can_use

HTML = "text/html; charset=utf-8"


def _survey_link(survey_id: UUID) -> str:
    return f"/s/{sign(SIGNING_KEY.encode(), TokenPurpose.SURVEY, str(survey_id))}"


def _unsubscribe_link(customer: UUID, purpose: Purpose = Purpose.MARKETING) -> str:
    value = unsubscribe_value(customer, Channel.EMAIL, purpose)
    return f"/u/{sign(SIGNING_KEY.encode(), TokenPurpose.UNSUBSCRIBE, value)}"


async def _asked(
    sessions: Sessions, customer: UUID, order_id: str, scale: SurveyScale = SurveyScale.STARS
) -> UUID:
    """A survey as the follow-up would have asked it."""
    survey_id = uuid4()
    async with sessions.begin() as session:
        await session.execute(
            insert(Survey).values(
                id=survey_id,
                customer_id=customer,
                order_id=UUID(order_id),
                workflow_id=f"follow-up/{order_id}",
                scale=scale,
                asked_at=datetime.now(UTC),
            )
        )
    return survey_id


@pytest.fixture
async def survey(sessions: Sessions, customer: UUID, order_id: str) -> UUID:
    return await _asked(sessions, customer, order_id)


async def _answers(sessions: Sessions, survey: UUID) -> list[Json]:
    numbers = range(1, 20)
    async with sessions() as session:
        found = [await session.get(Event, f"survey/{survey}/{number}") for number in numbers]
    return [event.body for event in found if event is not None]


async def test_a_click_that_reaches_no_process_leaves_nothing_behind(
    settings: Settings, sessions: Sessions, survey: UUID
) -> None:
    away = settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    async with running_app(away) as app, calling(app) as client:
        answer = await client.get(_survey_link(survey), params={"score": 5})
        assert answer.status_code == 503
        assert answer.headers["content-type"] == HTML
    assert await _answers(sessions, survey) == []


@pytest.mark.usefixtures("worker")
async def test_one_click_answers_and_a_second_one_changes(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, sessions: Sessions, survey: UUID
) -> None:
    link = _survey_link(survey)
    first = await stranger.get(link, params={"score": 5})
    assert first.status_code == 200
    assert first.headers["content-type"] == HTML
    assert "<strong>5</strong>" in first.text
    query = {"survey_id": str(survey)}
    await eventually(
        lambda: api.get("/api/v1/feedback", params=query),
        lambda page: [one["score"] for one in page["items"]] == [5],
    )
    for _ in range(2):
        await stranger.get(link, params={"score": 1})
    assert [one["score"] for one in await _answers(sessions, survey)] == [5, 1]
    form = {"score": "1", "expectation": "below", "comment": "It came <late>."}
    said = await stranger.post(link, data=form)
    assert "It came &lt;late&gt;." in said.text
    await stranger.get(link, params={"score": 2})
    last = (await _answers(sessions, survey))[-1]
    assert (last["score"], last["expectation"]) == (2, "below")
    page = await eventually(
        lambda: api.get("/api/v1/feedback", params=query),
        lambda page: [one["score"] for one in page["items"]] == [2],
    )
    given = page["items"][0]
    assert (given["comment"], given["verdict"]) == ("It came <late>.", "detractor")
    assert given["changes"] >= 1
    shown = await api.get(f"/api/v1/feedback/{given['id']}")
    assert shown.json() == given
    surveys = await api.get("/api/v1/surveys", params={"order_id": given["order_id"]})
    assert surveys.json()["items"][0]["id"] == str(survey)


async def test_looking_at_a_survey_answers_nothing(
    stranger: httpx2.AsyncClient, sessions: Sessions, survey: UUID
) -> None:
    link = _survey_link(survey)
    assert (await stranger.get(link)).status_code == 200
    assert (await stranger.head(link, params={"score": 5})).status_code == 200
    assert await _answers(sessions, survey) == []


async def test_clicks_at_the_same_moment_are_one_answer(
    stranger: httpx2.AsyncClient, sessions: Sessions, survey: UUID
) -> None:
    link = _survey_link(survey)
    clicks = (stranger.get(link, params={"score": 4}) for _ in range(4))
    assert {answer.status_code for answer in await asyncio.gather(*clicks)} == {200}
    assert [one["score"] for one in await _answers(sessions, survey)] == [4]


async def test_different_clicks_at_the_same_moment_are_taken_in_some_order(
    stranger: httpx2.AsyncClient, sessions: Sessions, survey: UUID
) -> None:
    link = _survey_link(survey)
    clicks = (stranger.get(link, params={"score": score}) for score in (1, 2, 3))
    assert {answer.status_code for answer in await asyncio.gather(*clicks)} == {200}
    assert sorted(one["score"] for one in await _answers(sessions, survey)) == [1, 2, 3]


async def test_links_that_are_not_ours_change_nothing(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID, order_id: str, survey: UUID
) -> None:
    link = _survey_link(survey)
    stars_six = f"{link}?score=6"
    unknown = f"{_survey_link(uuid4())}?score=3"
    wrong_purpose = "/s/" + _unsubscribe_link(customer).removeprefix("/u/") + "?score=3"
    for bad in (f"{link}x?score=3", stars_six, unknown, wrong_purpose, "/s/%00?score=1", "/s/é"):
        answer = await stranger.get(bad)
        assert answer.status_code == 404, bad
        assert answer.headers["content-type"] == HTML
    assert (await stranger.get(f"{link}?score=five")).status_code == 404
    for form in ({}, {"score": "x"}, {"score": "3", "expectation": "?"}):
        assert (await stranger.post(link, data=form)).status_code in (404, 422)
    assert await _answers(sessions, survey) == []


@pytest.mark.parametrize(
    ("browser", "lang"),
    [
        (None, "en"),
        ("pt-BR,pt;q=0.9,en;q=0.8", "pt-BR"),
        ("de, PT;q=0.5, en;q=0.4", "pt-BR"),
        ("pt;q=0.1, en-GB;q=0.7", "en"),
        ("pt;q=0, *", "en"),
        ("fr-CH, fr;q=0.9", "en"),
        (";;, q=1, é, pt-BR;q=high", "en"),
        ("pt;q=0.9" + ", x" * 2000, "pt-BR"),
    ],
)
async def test_a_link_that_is_not_ours_is_refused_in_the_browsers_language(
    stranger: httpx2.AsyncClient, browser: str | None, lang: str
) -> None:
    headers = {b"Accept-Language": browser.encode("latin-1")} if browser is not None else {}
    said = {"en": "The link is not valid", "pt-BR": "O link não é válido"}
    for bad in ("/s/x", "/u/x", "/v/x", "/p/x", "/c/x"):
        answer = await stranger.get(bad, headers=headers)
        assert answer.status_code == 404
        assert answer.headers["vary"] == "Accept-Language"
        page = ReadPage(answer.text)
        assert_anybody_can_use(page, lang)
        assert said[lang] in page.text


async def test_who_is_known_is_told_of_a_problem_in_his_own_language(
    stranger: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(locale="pt-BR")
    survey = await _asked(sessions, customer, str(uuid4()))
    answer = await stranger.get(
        _survey_link(survey), params={"score": 6}, headers={"Accept-Language": "en"}
    )
    assert answer.status_code == 404
    page = ReadPage(answer.text)
    assert_anybody_can_use(page, "pt-BR")
    assert "O link não é válido" in page.text


@pytest.mark.parametrize("lang", LOCALES)
def test_each_language_has_the_same_words(lang: str) -> None:
    """And none that another lacks: a page in it would fail for its readers alone."""
    assert set(said_in(lang)) == set(said_in("en"))
    assert set(said_in(lang)["problems"]) == set(said_in("en")["problems"])


async def test_pages_speak_the_customers_language(
    stranger: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer, report: Report
) -> None:
    customer = await make_customer(locale="pt-BR")
    placed = await report("order_placed", customer_id=str(customer), order_reference="pt")
    survey = await _asked(sessions, customer, placed["order_id"], SurveyScale.NPS)
    page = (await stranger.get(_survey_link(survey), params={"score": 10})).text
    assert 'lang="pt-BR"' in page
    assert "Obrigado" in page
    assert "score=0" in page
    page = (await stranger.get(_unsubscribe_link(customer))).text
    assert "Não quero mais receber" in page


async def test_unsubscribing_needs_the_button(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    link = _unsubscribe_link(customer)
    assert "<form" in (await stranger.get(link)).text
    assert await count(sessions, Consent, customer_id=customer) == 1
    headers = {"content-type": "application/x-www-form-urlencoded"}
    body = "List-Unsubscribe=One-Click"
    for _ in range(2):
        done = await stranger.post(link, content=body, headers=headers)
        assert done.status_code == 200
    held = await api.get(f"/api/v1/customers/{customer}/consents", params={"holds": "true"})
    assert [(one["purpose"], one["state"]) for one in held.json()["items"]] == [
        ("marketing", "withdrawn")
    ]
    events = await count(sessions, Event, customer_id=customer, kind="opted_out")
    assert events == 1
    # Who comes back and leaves again is heard again.
    grant = {"channel": "email", "purpose": "marketing", "state": "granted", "source": "form"}
    await api.post(f"/api/v1/customers/{customer}/consents", json=grant)
    await stranger.post(link)
    assert await count(sessions, Event, customer_id=customer, kind="opted_out") == 2


ONE_CLICK = b"List-Unsubscribe=One-Click"
MULTIPART = (
    b"--b\r\nContent-Disposition: form-data; name=List-Unsubscribe\r\n\r\nOne-Click\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/x-www-form-urlencoded", ONE_CLICK),
        ("multipart/form-data; boundary=b", MULTIPART),
        (None, b""),
        ("application/x-www-form-urlencoded", b"something=else"),
        ("multipart/form-data; boundary=other", MULTIPART),
        ("application/json", b"{not json"),
        ("text/plain", b"\xff\x00"),
    ],
)
async def test_any_post_to_the_link_unsubscribes(
    stranger: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    customer: UUID,
    media: str | None,
    body: bytes,
) -> None:
    """RFC 8058 section 3.1 and 3.2: both kinds of forms; no cookie, no key; no redirect."""
    headers = {"content-type": media} if media else {}
    done = await stranger.post(_unsubscribe_link(customer), content=body, headers=headers)
    assert done.status_code == 200
    assert not {"location", "set-cookie", "www-authenticate"} & set(done.headers)
    held = await api.get(f"/api/v1/customers/{customer}/consents", params={"holds": "true"})
    assert [one["state"] for one in held.json()["items"]] == ["withdrawn"]


async def test_only_a_post_unsubscribes_and_a_bad_link_nobody(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    link = _unsubscribe_link(customer)
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        await stranger.request(method, link, content=ONE_CLICK)
    for bad in (f"{link}x", link[:-1], _unsubscribe_link(uuid4()), _survey_link(customer)):
        answer = await stranger.post(bad, content=ONE_CLICK)
        assert answer.status_code in (404, 422), bad
    assert await count(sessions, Consent, customer_id=customer) == 1


async def test_many_unsubscribe_at_once(
    stranger: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    """More than there are connections to the database."""
    customers = [await make_customer() for _ in range(12)]
    posts = (stranger.post(_unsubscribe_link(customer)) for customer in customers)
    assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}


@pytest.mark.parametrize("by", ["link", "phone"])
async def test_leaving_comes_after_a_grant_of_the_future(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, make_customer: MakeCustomer, by: str
) -> None:
    """The clock of the system that reported the grant goes ahead of ours."""
    later = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
    grant = {"channel": "email", "purpose": "marketing", "source": "form", "occurred_at": later}
    customer = await make_customer(consents=[grant])
    if by == "link":
        await stranger.post(_unsubscribe_link(customer))
    else:
        body = {"channel": "email", "purpose": "marketing", "state": "withdrawn", "source": "phone"}
        await api.post(f"/api/v1/customers/{customer}/consents", json=body)
    held = await api.get(f"/api/v1/customers/{customer}/consents", params={"holds": "true"})
    [said] = held.json()["items"]
    assert said["state"] == "withdrawn"
    assert datetime.fromisoformat(said["occurred_at"]) > datetime.fromisoformat(later)


@pytest.mark.parametrize("lang", ["en", "pt-BR"])
@pytest.mark.parametrize("purpose", [Purpose.MARKETING, Purpose.FEEDBACK, Purpose.TRACKING])
async def test_unsubscribing_is_in_the_customers_words_and_leads_to_his_other_choices(
    stranger: httpx2.AsyncClient, make_customer: MakeCustomer, lang: str, purpose: Purpose
) -> None:
    customer = await make_customer(locale=lang)
    for answer in (
        await stranger.get(_unsubscribe_link(customer, purpose)),
        await stranger.post(_unsubscribe_link(customer, purpose)),
    ):
        page = ReadPage(answer.text)
        assert_anybody_can_use(page, lang)
        assert str(purpose) not in page.text
        [choices] = page.links
        assert (await stranger.get(choices)).status_code == 200


async def test_an_objection_to_surveys_is_only_that(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    await stranger.post(_unsubscribe_link(customer, Purpose.FEEDBACK))
    held = await api.get(f"/api/v1/customers/{customer}/consents", params={"holds": "true"})
    states = {one["purpose"]: one["state"] for one in held.json()["items"]}
    assert states == {"feedback": "withdrawn", "marketing": "granted"}
    assert await count(sessions, Event, customer_id=customer, kind="opted_out") == 0


async def test_a_withdrawal_by_the_api_tells_the_process(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    path = f"/api/v1/customers/{customer}/consents"
    body = {"channel": "email", "purpose": "marketing", "state": "withdrawn", "source": "phone"}
    answer = await api.post(path, json=body)
    assert answer.status_code == 201
    assert answer.json()["holds"] is True
    assert await count(sessions, Event, customer_id=customer, kind="opted_out") == 1


async def test_the_inbox_shows_mails_without_running_them(
    stranger: httpx2.AsyncClient, settings: Settings
) -> None:
    assert "No mail yet" in (await stranger.get("/inbox")).text
    raw = (
        b"From: us@example.com\r\nTo: ada@example.com\r\nSubject: Hello\r\n"
        b'Content-Type: text/html; charset=utf-8\r\n\r\n<p onclick="x()">Hi</p><script>x()</script>'
    )
    with sqlite3.connect(settings.inbox) as inbox:
        inbox.execute(
            "CREATE TABLE mails (id INTEGER PRIMARY KEY, message_id TEXT, mail_from TEXT,"
            " rcpt_to TEXT, subject TEXT, effect TEXT, received_at TEXT, raw BLOB)"
        )
        inbox.execute(
            "CREATE TABLE sms (id INTEGER PRIMARY KEY, message_id TEXT, rcpt_to TEXT, text TEXT,"
            " effect TEXT, received_at TEXT)"
        )
        inbox.execute(
            "INSERT INTO mails VALUES (1, '<m>', 'us@example.com', 'ada@example.com',"
            " '<b>Hello</b>', 'e', '2026-01-01T00:00:00+00:00', ?)",
            (raw,),
        )
    listed = (await stranger.get("/inbox", params={"to": "ada"})).text
    assert "&lt;b&gt;Hello&lt;/b&gt;" in listed
    mail = await stranger.get("/inbox/1")
    assert 'sandbox="allow-popups' in mail.text
    assert "allow-scripts" not in mail.text
    assert "<script>" not in mail.text
    assert "script-src" not in mail.headers["content-security-policy"]
    for missing in ("/inbox/2", "/inbox/0", "/inbox/x"):
        answer = await stranger.get(missing)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == HTML


async def test_the_documentation_needs_no_network(stranger: httpx2.AsyncClient) -> None:
    page = (await stranger.get("/docs")).text
    assert "/api/v1/events" in page
    assert "<script" not in page
    assert "https://" not in page
