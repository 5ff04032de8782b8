"""Customers and how they are reached, from bad input to pages of them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from database.base import Sessions
from database.events import Event
from tests.api.conftest import Json, MakeCustomer, assert_problem, count

BULK = {"Idempotency-Key": "bulk"}


async def _make(api: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    return await api.post("/api/v1/customers", json={"name": "Ada", **fields})


async def test_a_customer_is_made_and_found(api: httpx2.AsyncClient) -> None:
    reference = f"C-{uuid4().hex[:8]}"
    made = await _make(
        api,
        reference=reference,
        name="  Ada Lovelace ",
        email="Ada.L@EXAMPLE.com",
        phone="+55 (11) 96123-4567",
        locale="pt-br",
        zone="America/Sao_Paulo",
    )
    assert made.status_code == 201
    customer = made.json()
    assert customer["name"] == "Ada Lovelace"
    assert customer["locale"] == "pt-BR"
    assert customer["stage"] is None
    addresses = {one["channel"]: one["address"] for one in customer["contact_points"]}
    assert addresses == {"email": "Ada.L@example.com", "sms": "+5511961234567"}
    found = await api.get(made.headers["location"])
    assert found.json() == customer
    for query in ({"reference": reference}, {"q": "ada.l@example.com"}, {"q": reference[2:]}):
        page = (await api.get("/api/v1/customers", params=query)).json()
        assert customer["id"] in [one["id"] for one in page["items"]]
    assert (await api.get("/api/v1/customers", params={"q": "%_%"})).json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"email": "a@localhost"}, "/email"),
        ({"email": "a@[127.0.0.1]"}, "/email"),
        ({"email": '"a b"@example.com'}, "/email"),
        ({"email": "a" * 65 + "@example.com"}, "/email"),
        ({"email": "a@" + "b" * 250 + ".com"}, "/email"),
        ({"email": "a@example.com,b@example.com"}, "/email"),
        ({"email": "a@example.com\r\nBcc: b@example.com"}, "/email"),
        ({"email": "аda@example.com"}, "/email"),  # noqa: RUF001  # a Cyrillic look-alike
        ({"email": "ada@example.com."}, "/email"),
        ({"email": "ada@example.com "}, "/email"),
        ({"email": "ada@example.com%0d%0aBcc: b@example.com"}, "/email"),
        ({"email": "<>"}, "/email"),
        ({"email": ""}, "/email"),
        ({"phone": "0000"}, "/phone"),
        ({"phone": "+999123456789"}, "/phone"),
        ({"phone": "+1 800 FLOWERS"}, "/phone"),
        ({"phone": "030 123456"}, "/phone"),
        ({"phone": "+٤٩٣٠١٢٣٤٥٦"}, "/phone"),
        ({"phone": "+49 900 1234567"}, "/phone"),
        ({"phone": "+49 30 901820 ext. 5"}, "/phone"),
        ({"phone": 4930123456}, "/phone"),
        ({"zone": "Etc/GMT+14"}, "/zone"),
        ({"zone": "../../etc/passwd"}, "/zone"),
        ({"locale": "klingon-XX-tlh-1"}, "/locale"),
        ({"locale": ""}, "/locale"),
        ({"name": ""}, "/name"),
        ({"name": " \u200b "}, "/name"),
        ({"name": "Ada\nLovelace"}, "/name"),
        ({"name": "Ada\x00"}, "/name"),
        ({"name": "Ada\u2028Lovelace"}, "/name"),
        ({"name": "\u202eecalevoL adA"}, "/name"),
        ({"name": None}, "/name"),
        ({"name": ["Ada"]}, "/name"),
        ({"kind": "robot"}, "/kind"),
        ({"reference": "a/b"}, "/reference"),
        ({"simulation_id": str(uuid4())}, "/simulation_id"),
        ({"stage": "lost"}, "/stage"),
        (
            {"consents": [{"channel": "fax", "purpose": "marketing", "source": "x"}]},
            "/consents/0/channel",
        ),
    ],
)
async def test_what_cannot_be_is_refused(
    api: httpx2.AsyncClient, fields: dict[str, Any], pointer: str
) -> None:
    problem = assert_problem(await _make(api, **fields), 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    "name",
    [
        "Robert'); DROP TABLE customers;--",
        "{{7*7}}",
        "<script>",
        "👩‍👩‍👧 família",
        "=cmd|' /C calc'!A0",
        "Ada%0d%0aBcc: eve@example.com",
    ],
)
async def test_strange_names_are_names(api: httpx2.AsyncClient, name: str) -> None:
    made = await _make(api, name=name)
    assert made.json()["name"] == name


async def test_what_is_written_in_two_ways_is_stored_in_one(api: httpx2.AsyncClient) -> None:
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    made = await _make(api, name=decomposed, email="ada+shop@münchen.de")
    assert made.json()["name"] == composed
    again = await _make(api, name=composed, email="ada+shop@xn--mnchen-3ya.de")
    assert again.json()["name"] == composed
    addresses = [one.json()["contact_points"][0]["address"] for one in (made, again)]
    assert addresses == ["ada+shop@xn--mnchen-3ya.de"] * 2


async def test_a_look_alike_domain_shows_itself(api: httpx2.AsyncClient) -> None:
    made = await _make(api, email="ada@exаmple.com")  # noqa: RUF001
    assert made.json()["contact_points"][0]["address"] == "ada@xn--exmple-4nf.com"


async def test_a_taken_reference_is_refused(api: httpx2.AsyncClient) -> None:
    reference = uuid4().hex
    assert (await _make(api, reference=reference)).status_code == 201
    assert_problem(await _make(api, reference=reference, name="Another"), 409, "conflict")
    found = (await api.get("/api/v1/customers", params={"reference": reference})).json()
    assert [one["name"] for one in found["items"]] == ["Ada"]


async def test_an_upsert_makes_then_updates_then_changes_nothing(api: httpx2.AsyncClient) -> None:
    path = f"/api/v1/customers/by-reference/{uuid4().hex}"
    made = await api.put(path, json={"name": "Ada", "email": "ada@example.com"})
    assert (made.status_code, made.json()["created"]) == (201, True)
    changed = await api.put(path, json={"name": "Ada L", "email": "ada.l@example.com"})
    assert (changed.status_code, changed.json()["created"]) == (200, False)
    assert changed.json()["id"] == made.json()["id"]
    view = (await api.get(changed.headers["location"])).json()
    assert view["name"] == "Ada L"
    assert view["contact_points"][0]["address"] == "ada.l@example.com"
    await api.put(path, json={"name": "Ada L", "email": "ada.l@example.com"})
    assert (await api.get(changed.headers["location"])).json()["version"] == view["version"]


async def test_an_upsert_does_not_undo_an_opt_out(api: httpx2.AsyncClient) -> None:
    path = f"/api/v1/customers/by-reference/{uuid4().hex}"
    grant = {"channel": "email", "purpose": "feedback", "source": "shop"}
    body = {"name": "Ada", "consents": [grant]}
    customer = (await api.put(path, json=body)).json()["id"]
    consents = f"/api/v1/customers/{customer}/consents"
    await api.post(consents, json={**grant, "state": "withdrawn"})
    await api.put(path, json=body)
    held = (await api.get(consents, params={"holds": "true"})).json()["items"]
    assert [one["state"] for one in held] == ["withdrawn"]
    earlier = {**grant, "occurred_at": "2026-01-01T00:00:00Z"}
    await api.put(path, json={**body, "consents": [earlier]})
    held = (await api.get(consents, params={"holds": "true"})).json()["items"]
    assert [one["state"] for one in held] == ["withdrawn"]
    now = datetime.now(UTC)
    await api.put(path, json={**body, "consents": [{**grant, "occurred_at": now.isoformat()}]})
    held = (await api.get(consents, params={"holds": "true"})).json()["items"]
    assert [one["state"] for one in held] == ["granted"]


@pytest.mark.parametrize("purpose", ["marketing", "feedback"])
@pytest.mark.parametrize("by", ["consent", "event"])
async def test_a_withdrawal_wins_over_what_was_recorded_before_whatever_its_clock_says(
    api: httpx2.AsyncClient, purpose: str, by: str
) -> None:
    now = datetime.now(UTC)
    about = {"channel": "email", "purpose": purpose, "source": "shop"}
    customer = (await _make(api, consents=[{**about, "occurred_at": now.isoformat()}])).json()["id"]
    consents = f"/api/v1/customers/{customer}/consents"
    said_at = (now - timedelta(hours=2)).isoformat()
    if by == "consent":
        body = {**about, "state": "withdrawn", "occurred_at": said_at}
        answer = await api.post(consents, json=body)
        assert (answer.status_code, answer.json()["holds"]) == (201, True)
    else:
        event = {**about, "kind": "opted_out", "event_id": uuid4().hex, "customer_id": customer}
        answers = [
            await api.post("/api/v1/events", json={**event, "occurred_at": said_at})
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
    held = (await api.get(consents, params={"holds": "true"})).json()["items"]
    assert [one["state"] for one in held] == ["withdrawn"]
    earlier = {**about, "state": "granted", "occurred_at": said_at}
    await api.post(consents, json=earlier)
    held = (await api.get(consents, params={"holds": "true"})).json()["items"]
    assert [one["state"] for one in held] == ["withdrawn"], "an old grant undoes nothing"


async def test_a_consent_of_the_future_is_refused(api: httpx2.AsyncClient) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    grant = {"channel": "email", "purpose": "feedback", "source": "x", "occurred_at": tomorrow}
    problem = assert_problem(await _make(api, consents=[grant]), 422, "impossible_date")
    assert problem["errors"][0]["pointer"] == "/consents/0/occurred_at"
    customer = (await _make(api)).json()["id"]
    body = {**grant, "state": "granted"}
    answer = await api.post(f"/api/v1/customers/{customer}/consents", json=body)
    assert_problem(answer, 422, "impossible_date")


async def test_in_bulk_the_good_ones_go_on(api: httpx2.AsyncClient) -> None:
    prefix = uuid4().hex
    items = [
        {"reference": f"{prefix}-1", "name": "One"},
        {"reference": f"{prefix}-2", "name": "Two", "email": "no address"},
        {"reference": f"{prefix}-1", "name": "One again"},
        {"name": "no reference"},
        "not an object",
        {"reference": f"{prefix}-3", "name": "Three", "colour": "red"},
        {"reference": f"{prefix}-4", "name": "Four", "simulation_id": str(uuid4())},
        {"reference": f"{prefix}-5", "name": "Five"},
    ]
    headers = {"Idempotency-Key": prefix}
    answer = await api.post("/api/v1/customers/bulk", json={"items": items}, headers=headers)
    assert answer.status_code == 200, answer.text
    results: Json = answer.json()
    assert [one["status"] for one in results["items"]] == [201, 422, 422, 422, 422, 422, 422, 201]
    assert (results["written"], results["refused"]) == (2, 6)
    pointers = [
        one["problem"]["errors"][0]["pointer"] for one in results["items"] if one["problem"]
    ]
    assert pointers == ["/email", "/reference", "/reference", "/", "/colour", "/simulation_id"]


async def test_a_bulk_has_a_limit(api: httpx2.AsyncClient) -> None:
    for items in ([], [{"reference": str(n), "name": "x"} for n in range(201)]):
        answer = await api.post("/api/v1/customers/bulk", json={"items": items}, headers=BULK)
        assert_problem(answer, 422, "invalid_request")


async def test_a_change_needs_what_was_read(api: httpx2.AsyncClient, customer: UUID) -> None:
    path = f"/api/v1/customers/{customer}"
    etag = (await api.get(path)).headers["etag"]
    assert_problem(await api.patch(path, json={"name": "B"}), 428, "precondition_required")
    changed = await api.patch(path, json={"name": "B"}, headers={"If-Match": etag})
    assert changed.status_code == 200
    assert changed.json()["name"] == "B"
    stale = await api.patch(path, json={"name": "C"}, headers={"If-Match": etag})
    problem = assert_problem(stale, 412, "precondition_failed")
    assert problem["current"]["name"] == "B"
    assert stale.headers["etag"] == changed.headers["etag"]
    same = await api.get(path, headers={"If-None-Match": changed.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    newest = {"If-Match": changed.headers["etag"]}
    for wrong in ({"name": None}, {"stage": "lost"}, {"simulation_id": None}):
        assert_problem(await api.patch(path, json=wrong, headers=newest), 422, "invalid_request")


async def test_addresses_come_and_go(api: httpx2.AsyncClient, customer: UUID) -> None:
    path = f"/api/v1/customers/{customer}/contact-points"
    added = await api.post(path, json={"channel": "sms", "address": "+49 30 901820"})
    assert added.status_code == 201
    assert added.json()["address"] == "+4930901820"
    wrong = await api.post(path, json={"channel": "sms", "address": "ada@example.com"})
    assert_problem(wrong, 422, "invalid_request")
    assert (await api.delete(f"{path}/{added.json()['id']}")).status_code == 204
    view = (await api.get(f"/api/v1/customers/{customer}")).json()
    assert [one["channel"] for one in view["contact_points"]] == ["email"]
    assert_problem(await api.delete(f"{path}/{uuid4()}"), 404, "not_found")
    nobody = f"/api/v1/customers/{uuid4()}/contact-points"
    answer = await api.post(nobody, json={"channel": "email", "address": "a@example.com"})
    assert_problem(answer, 404, "unknown_customer")


async def test_an_address_that_is_used_already_is_added_without_a_change(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    path = f"/api/v1/customers/{customer}"
    first = {"channel": "email", "address": f"{uuid4().hex}@example.com"}
    added = await api.post(f"{path}/contact-points", json=first)
    version = (await api.get(path)).headers["etag"]
    again = await api.post(f"{path}/contact-points", json=first)
    assert (again.status_code, again.json()) == (201, added.json())
    assert (await api.get(path)).headers["etag"] == version

    await api.post(f"{path}/contact-points", json={**first, "address": "b@example.com"})
    back = await api.post(f"{path}/contact-points", json=first)
    assert back.json()["id"] == added.json()["id"], "taken up again: it is the newest now"
    assert (await api.get(path)).headers["etag"] != version


@pytest.mark.parametrize("purpose", ["marketing", "feedback"])
async def test_a_consent_with_its_moment_is_recorded_once(
    api: httpx2.AsyncClient, make_customer: MakeCustomer, sessions: Sessions, purpose: str
) -> None:
    customer = await make_customer()
    consents = f"/api/v1/customers/{customer}/consents"
    grant = {"channel": "email", "purpose": purpose, "state": "granted", "source": "form"}
    grant["occurred_at"] = "2026-02-01T10:00:00Z"
    leaving = {**grant, "state": "withdrawn", "occurred_at": "2026-01-31T10:00:00Z"}

    async def state(*statements: Json) -> list[str]:
        for body in statements:
            assert (await api.post(consents, json=body)).status_code == 201
        return [one["state"] for one in (await api.get(consents)).json()["items"]]

    assert await state(grant, grant) == ["granted"]
    assert await state(leaving, leaving) == ["withdrawn", "granted"]
    assert await state(grant) == ["withdrawn", "granted"], "it was said before the withdrawal"
    later = {**grant, "occurred_at": "2026-02-02T10:00:00Z"}
    assert (await state(later))[0] == "granted"
    assert (await state(leaving))[0] == "withdrawn", "what is withdrawn is never taken for a repeat"
    withdrawals = 2 if purpose == "marketing" else 0
    assert await count(sessions, Event, customer_id=customer, kind="opted_out") == withdrawals


async def test_pages_lead_through_everything_once(
    api: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    word = f"Pageable{uuid4().hex[:6]}"
    made = [str(await make_customer(name=f"{word} {n}")) for n in range(5)]
    seen: list[str] = []
    params: dict[str, Any] = {"q": word, "limit": 2}
    page = (await api.get("/api/v1/customers", params=params)).json()
    assert page["prev_cursor"] is None
    while True:
        seen += [one["id"] for one in page["items"]]
        if not page["has_more"]:
            break
        params["cursor"] = page["next_cursor"]
        answer = await api.get("/api/v1/customers", params=params)
        assert 'rel="prev"' in answer.headers["link"]
        page = answer.json()
    assert seen == list(reversed(made))
    params["cursor"] = page["prev_cursor"]
    back = (await api.get("/api/v1/customers", params=params)).json()
    assert [one["id"] for one in back["items"]] == seen[2:4]


async def test_a_cursor_fits_its_list_only(
    api: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    for _ in range(2):
        await make_customer()
    page = (await api.get("/api/v1/customers", params={"limit": 1})).json()
    cursor = page["next_cursor"]
    # Not the last character: some of its bits are padding, and another may mean the same.
    forged = cursor[:-8] + ("A" if cursor[-8] != "A" else "B") + cursor[-7:]
    for path, params in (
        ("/api/v1/customers", {"cursor": cursor, "q": "x"}),
        ("/api/v1/tasks", {"cursor": cursor}),
        ("/api/v1/customers", {"cursor": forged}),
        ("/api/v1/customers", {"cursor": "W10.abc"}),
    ):
        assert_problem(await api.get(path, params=params), 400, "invalid_cursor")


async def test_a_simulation_has_its_own_time(api: httpx2.AsyncClient) -> None:
    body = {"name": "2017", "business_origin": "2017-01-01T00:00:00Z", "speed": 86400}
    made = (await api.post("/api/v1/simulations", json=body)).json()
    assert made["business_now"] >= "2017-01-01"
    customer = (await _make(api, simulation_id=made["id"])).json()
    event = {
        "kind": "lead_received",
        "event_id": uuid4().hex,
        "occurred_at": "2026-01-01T00:00:00Z",
        "customer_id": customer["id"],
    }
    assert_problem(await api.post("/api/v1/events", json=event), 422, "impossible_date")
    event["occurred_at"] = "2017-01-01T12:00:00Z"
    assert (await api.post("/api/v1/events", json=event)).status_code == 202
    for wrong in (0, -1, "1", True, 10**9, None):
        answer = await api.post("/api/v1/simulations", json={**body, "speed": wrong})
        assert_problem(answer, 422, "invalid_request")
    listed = (await api.get("/api/v1/simulations")).json()["items"]
    assert made["id"] in [one["id"] for one in listed]
