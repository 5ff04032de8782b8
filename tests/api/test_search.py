"""What is typed into the one box, and what comes of it."""

from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.processes import ProcessRow
from database.support import Case
from database.tasks import Task
from tests.api.conftest import Json, MakeCustomer, assert_problem


async def _search(api: httpx2.AsyncClient, q: str, **parameters: Any) -> list[Json]:
    answer = await api.get("/api/v1/search", params={"q": q, **parameters})
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["items"]
    return found


async def _titles(api: httpx2.AsyncClient, q: str, **parameters: Any) -> list[str]:
    return [hit["title"] for hit in await _search(api, q, **parameters)]


@pytest.fixture(scope="module", autouse=True)
async def _people(api: httpx2.AsyncClient) -> None:
    for name in (
        "Zdzisława Brzęczyszczykiewicz",
        "Zoë Quartermain",
        "Quartermain & Söhne",
        "長谷川 五十嵐",
        "زينب الخطيب",
        "נועה כרמלי",
        "100% Zufrieden_heit",
        "🦜 Papageno",
    ):
        kind = "organisation" if "Söhne" in name else "person"
        answer = await api.post("/api/v1/customers", json={"name": name, "kind": kind})
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Zoë Quartermain", "Zoë Quartermain"),
        ("zoe quart", "Zoë Quartermain"),  # without its accent
        ("quartermian", "Zoë Quartermain"),  # misspelt
        ("brzeczyszczykiewicz", "Zdzisława Brzęczyszczykiewicz"),
        ("Brzenczyszczykiewicz", "Zdzisława Brzęczyszczykiewicz"),
        ("長谷川", "長谷川 五十嵐"),
        ("五十嵐", "長谷川 五十嵐"),
        ("川 五", "長谷川 五十嵐"),
        ("長", "長谷川 五十嵐"),
        ("الخطيب", "زينب الخطيب"),
        ("زي", "زينب الخطيب"),
        ("כרמלי", "נועה כרמלי"),
        ("100%", "100% Zufrieden_heit"),
        ("en_h", "100% Zufrieden_heit"),
        ("🦜", "🦜 Papageno"),
    ],
)
async def test_a_name_is_found_in_any_script_and_misspelt(
    api: httpx2.AsyncClient, typed: str, found: str
) -> None:
    assert found in await _titles(api, typed)
    page = (await api.get("/api/v1/customers", params={"q": typed})).json()
    assert found in [one["name"] for one in page["items"]]


@pytest.mark.parametrize("typed", ["%", "_", "%%%", "\\", "' OR 1=1 --", "x" * 200, "川" * 200])
async def test_what_means_something_to_the_database_means_nothing_here(
    api: httpx2.AsyncClient, typed: str
) -> None:
    for hit in await _search(api, typed):
        assert typed.strip("%_") in hit["title"] or "%" in hit["title"]


@pytest.mark.parametrize("typed", ["", "   ", "a\x00b", "a\u202eb", "x" * 201])
async def test_what_can_be_no_search_is_refused(api: httpx2.AsyncClient, typed: str) -> None:
    answer = await api.get("/api/v1/search", params={"q": typed})
    assert_problem(answer, 422, "invalid_request")


async def test_the_best_comes_first(api: httpx2.AsyncClient, make_customer: MakeCustomer) -> None:
    word = f"Wort{uuid4().hex[:8]}"
    await make_customer(name=f"Anna Vor{word.lower()}nach")
    await make_customer(name=f"{word} Zweig")
    await make_customer(name=word)
    hits = await _search(api, word)
    assert [hit["match"] for hit in hits[:3]] == ["exact", "prefix", "contains"]
    assert hits[0]["title"] == word
    assert len(await _search(api, word, limit=2)) == 2


async def test_a_prefix_says_who_is_meant(api: httpx2.AsyncClient) -> None:
    assert "Quartermain & Söhne" not in await _titles(api, "@quartermain")
    assert "Zoë Quartermain" in await _titles(api, "@ quartermain")
    organisations = await _search(api, "#quartermain")
    assert "Quartermain & Söhne" in [hit["title"] for hit in organisations]
    assert {hit["what"] for hit in organisations} == {"Organisation"}
    for alone in ("@", "#", "!"):
        assert await _search(api, alone) == []


async def test_a_customer_is_found_by_address_reference_and_id(
    api: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    box, number = uuid4().hex[:10], f"+55119{uuid4().int % 10**8:08}"
    customer = await make_customer(
        name="Mia", reference=f"Ref-{box}", email=f"{box}@example.com", phone=number
    )
    for typed in (f"{box}@EXAMPLE.com", box, number, number[5:], f"ref-{box}", f"f-{box[:6]}"):
        assert str(customer) in [hit["id"] for hit in await _search(api, typed)], typed
    hits = await _search(api, str(customer))
    assert (hits[0]["kind"], hits[0]["id"]) == ("customer", str(customer))
    assert hits[0]["subtitle"] == f"Ref-{box} · {box}@example.com"
    assert (await api.get(hits[0]["href"])).json()["name"] == "Mia"


async def test_what_is_about_a_customer_is_found_as_well(
    api: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    name = f"Nora {uuid4().hex[:8]}"
    customer = await make_customer(name=name)
    case_id, reference = uuid4(), f"CASE-{uuid4().hex[:8].upper()}"
    await _open_case(sessions, customer, case_id, reference)
    [case] = [hit for hit in await _search(api, reference[:11].lower()) if hit["kind"] == "case"]
    assert (case["title"], case["what"]) == (reference, "Request case")
    assert name in case["subtitle"]
    for typed in (f"case/{case_id}", str(case_id), str(case_id)[:13], str(customer)):
        processes = [hit for hit in await _search(api, typed) if hit["kind"] == "process"]
        assert [hit["id"] for hit in processes] == [f"case/{case_id}"], typed
    assert [hit["kind"] for hit in await _search(api, f"!{name}")] == ["task"]
    tasks = await _search(api, "!first resp", limit=20)
    assert {hit["title"] for hit in tasks} == {"First response"}


async def _open_case(sessions: Sessions, customer: UUID, case_id: UUID, reference: str) -> None:
    now, workflow_id = sa.func.now(), f"case/{case_id}"
    async with sessions.begin() as session:
        session.add(
            Case(
                id=case_id,
                reference=reference,
                customer_id=customer,
                kind="request",
                state="open",
                priority="normal",
                queue="support_agent",
                opened_at=now,
            )
        )
        session.add(
            Task(
                id=uuid4(),
                customer_id=customer,
                workflow_id=workflow_id,
                kind="first_response",
                role="support_agent",
                state="open",
                case_id=case_id,
                opened_at=now,
                due_at=now,
            )
        )
        session.add(
            ProcessRow(
                workflow_id=workflow_id,
                kind="support",
                customer_id=customer,
                state="stopped",
                step="opened",
                waiting_for="",
                outcome="",
                allowed=[],
                started_at=now,
                ended_at=now,
            )
        )
