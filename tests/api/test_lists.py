"""The lists as the console asks for them: filtered, sorted and paged."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.customers import Consent
from database.orders import Order
from database.processes import Lifecycle
from database.support import Case
from tests.api.conftest import Json, MakeCustomer, assert_problem

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)


async def _names(api: httpx2.AsyncClient, **parameters: Any) -> list[str]:
    """All pages of two."""
    names: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        query = {"limit": 2, **parameters, **cursor}
        answer = await api.get("/api/v1/customers", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        names += [one["name"] for one in page["items"]]
        if not page["has_more"]:
            return names
        cursor = {"cursor": page["next_cursor"]}


async def _items(api: httpx2.AsyncClient, path: str, **parameters: Any) -> list[Json]:
    answer = await api.get(f"/api/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


@pytest.fixture
async def three(make_customer: MakeCustomer, sessions: Sessions) -> str:
    """Čapek, adler and Bauer, whose names share a word that is answered with. Bauer is silent."""
    word = f"W{uuid4().hex[:8]}"
    for hours, name in enumerate(("Čapek", "adler", "Bauer")):
        customer = await make_customer(name=f"{name} {word}", locale="de")
        if name != "Bauer":
            async with sessions.begin() as session:
                session.add(_lifecycle(customer, NOW - timedelta(hours=hours)))
    return word


def _lifecycle(customer: UUID, since: datetime) -> Lifecycle:
    return Lifecycle(
        customer_id=customer,
        stage="quiet",
        stage_reason="",
        stage_since=since,
        last_heard_at=since,
        silence_due_at=since + 90 * DAY,
    )


async def test_customers_come_in_the_order_asked_for(api: httpx2.AsyncClient, three: str) -> None:
    async def order(sort: str) -> list[str]:
        return [name.split()[0] for name in await _names(api, q=three, sort=sort)]

    assert await order("-recorded_at") == ["Bauer", "adler", "Čapek"]
    assert await order("name") == ["adler", "Bauer", "Čapek"]
    assert await order("-name") == ["Čapek", "Bauer", "adler"]
    assert await order("updated_at") == ["Čapek", "adler", "Bauer"]
    for date in ("stage_since", "last_heard_at", "silence_due_at"):
        assert await order(date) == ["adler", "Čapek"]  # of Bauer nothing was heard
        assert await order(f"-{date}") == ["Čapek", "adler"]


async def test_a_page_before_is_found_again_in_any_order(
    api: httpx2.AsyncClient, three: str
) -> None:
    query: Json = {"q": three, "sort": "name", "limit": 2}
    first = (await api.get("/api/v1/customers", params=query)).json()
    cursor = first["next_cursor"]
    second = (await api.get("/api/v1/customers", params={**query, "cursor": cursor})).json()
    back = {**query, "cursor": second["prev_cursor"]}
    assert (await api.get("/api/v1/customers", params=back)).json()["items"] == first["items"]
    other = {**query, "cursor": cursor, "sort": "-name"}
    assert_problem(await api.get("/api/v1/customers", params=other), 400, "invalid_cursor")


async def test_customers_are_filtered(
    api: httpx2.AsyncClient, three: str, make_customer: MakeCustomer, sessions: Sessions
) -> None:
    consent = {"channel": "email", "purpose": "marketing", "source": "form", "confirmed": True}
    agrees = await make_customer(name=f"Yes {three}", consents=[consent], kind="organisation")
    changed = await make_customer(name=f"No {three}", consents=[consent])
    async with sessions.begin() as session:
        session.add(_withdrawal(changed))
    assert await _names(api, q=three, consent="email/marketing") == [f"Yes {three}"]
    assert await _names(api, q=three, consent="sms/marketing") == []
    assert await _names(api, q=three, kind="organisation") == [f"Yes {three}"]
    assert len(await _names(api, q=three, locale="de")) == 3
    assert len(await _names(api, q=three, stage="quiet")) == 2
    due = (NOW + 90 * DAY - timedelta(minutes=30)).isoformat()
    assert await _names(api, q=three, silence_due_before=due) == [f"adler {three}"]
    assert agrees != changed


async def test_who_is_silent_is_so_by_his_own_clock(
    api: httpx2.AsyncClient, three: str, make_customer: MakeCustomer, sessions: Sessions
) -> None:
    """By the machine's the one would be, and the other would not."""
    machine = datetime.now(UTC)
    for name, starts, due in (
        ("behind", machine - 400 * DAY, machine - 399 * DAY),
        ("ahead", machine + 400 * DAY, machine + 399 * DAY),
    ):
        body = {"name": name, "business_origin": starts.isoformat(), "speed": 1}
        made = await api.post("/api/v1/simulations", json=body)
        assert made.status_code == 201, made.text
        there = await make_customer(name=f"{name} {three}", simulation_id=made.json()["id"])
        async with sessions.begin() as session:
            session.add(_lifecycle(there, due - 90 * DAY))
    silent = await _names(api, q=three, silent=True, sort="name")
    assert silent == [f"adler {three}", f"ahead {three}", f"Čapek {three}"]
    others = await _names(api, q=three, silent=False, sort="name")
    assert others == [f"Bauer {three}", f"behind {three}"], "of Bauer nothing was heard yet"


@pytest.mark.parametrize("path", ["tasks", "cases"])
async def test_what_one_owner_has_is_found_by_an_index(sessions: Sessions, path: str) -> None:
    table, order = {"tasks": ("tasks", "due_at"), "cases": ("cases", "opened_at")}[path]
    plan = f"EXPLAIN SELECT * FROM {table} WHERE owner = 'a' ORDER BY {order}, id LIMIT 50"
    async with sessions() as session:
        await session.execute(sa.text("SET LOCAL enable_seqscan = off"))
        lines = " ".join(await session.scalars(sa.text(plan)))
    assert f"ix_{table}_owner" in lines
    assert "Sort" not in lines


async def test_of_two_statements_of_one_moment_the_later_recorded_holds_in_the_list_too(
    api: httpx2.AsyncClient, three: str, make_customer: MakeCustomer, sessions: Sessions
) -> None:
    customer = await make_customer(name=f"Both {three}")
    at = datetime.now(UTC)
    said = {"customer_id": customer, "channel": "email", "purpose": "marketing", "source": "staff"}
    low, high = sorted((uuid4(), uuid4()))  # ids that are derived don't follow the time
    async with sessions.begin() as session:
        session.add(Consent(id=high, state="granted", recorded_at=at, occurred_at=at, **said))
        session.add(
            Consent(id=low, state="withdrawn", recorded_at=at + DAY, occurred_at=at, **said)
        )
    assert await _names(api, q=three, consent="email/marketing") == []


def _withdrawal(customer: UUID) -> Consent:
    return Consent(
        customer_id=customer,
        channel="email",
        purpose="marketing",
        state="withdrawn",
        source="staff",
        occurred_at=datetime.now(UTC) + DAY,
    )


def _order(customer: UUID, reference: str, promised: int, **columns: Any) -> Order:
    return Order(
        id=uuid4(),
        customer_id=customer,
        reference=reference,
        state=columns.pop("state", "dispatched"),
        currency="EUR",
        total_minor=100,
        lines=[],
        promised_on=(NOW + promised * DAY).date(),
        placed_at=NOW,
        **columns,
    )


async def test_orders_are_filtered_by_their_promise(
    api: httpx2.AsyncClient, customer: UUID, sessions: Sessions
) -> None:
    async with sessions.begin() as session:
        session.add_all(
            [
                _order(customer, "calm", 9),
                _order(customer, "risky", 2, endangered_at=NOW),
                _order(customer, "late", -2, endangered_at=NOW, late_noticed_at=NOW),
                _order(
                    *(customer, "past", -1),
                    state="delivered",
                    delivered_at=NOW,
                    late_noticed_at=NOW,
                    delivered_late=True,
                ),
            ]
        )

    async def references(**parameters: Any) -> list[str]:
        found = await _items(api, "orders", customer_id=str(customer), **parameters)
        return [one["reference"] for one in found]

    assert await references(sort="promised_on") == ["late", "past", "risky", "calm"]
    assert await references(sort="-promised_on") == ["calm", "risky", "past", "late"]
    assert await references(at_risk=True) == ["risky"]
    assert await references(overdue=True) == ["late"]
    assert set(await references(overdue=False)) == {"calm", "risky", "past"}
    day = NOW.date().isoformat()
    assert await references(promised_before=day, sort="promised_on") == ["late", "past"]
    assert await references(promised_from=day, sort="promised_on") == ["risky", "calm"]


async def test_cases_are_filtered_by_what_is_due(
    api: httpx2.AsyncClient, customer: UUID, sessions: Sessions
) -> None:
    def case(reference: str, **columns: Any) -> Case:
        return Case(
            id=uuid4(),
            reference=f"{reference}-{customer}",
            customer_id=customer,
            kind="request",
            state=columns.pop("state", "open"),
            priority="normal",
            queue="support_agent",
            opened_at=NOW,
            **columns,
        )

    async with sessions.begin() as session:
        session.add_all(
            [
                case("answer", first_response_due=NOW, resolution_due=NOW + 5 * DAY),
                case("answered", first_response_due=NOW, first_response_at=NOW),
                case("resolve", resolution_due=NOW),
                case("done", resolution_due=NOW, resolved_at=NOW, state="resolved"),
            ]
        )
    due = {"customer_id": str(customer), "due_before": (NOW + DAY).isoformat()}
    found = [one["reference"].partition("-")[0] for one in await _items(api, "cases", **due)]
    assert set(found) == {"answer", "resolve"}


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("customers", {"sort": "email"}),
        ("customers", {"sort": "--name"}),
        ("customers", {"consent": "post/marketing"}),
        ("customers", {"silence_due_before": "tomorrow"}),
        ("orders", {"sort": "total"}),
        ("orders", {"promised_before": "2026-02-30"}),
        ("cases", {"due_before": "2026-01-05T10:00:00"}),
        ("feedback", {"score": 11}),
    ],
)
async def test_what_a_filter_cannot_be_is_refused(
    api: httpx2.AsyncClient, path: str, parameters: Json
) -> None:
    answer = await api.get(f"/api/v1/{path}", params=parameters)
    assert_problem(answer, 422, "invalid_request")
    unknown = await api.get(f"/api/v1/{path}", params={"colour": "red"})
    assert_problem(unknown, 400, "unknown_parameter")
