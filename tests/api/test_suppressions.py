"""A suppression is shown with its reason, and lifted by a person who gives his."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.customers import ContactPoint, Suppression
from domain.messages import Channel, Purpose
from tests.api.conftest import Json, MakeCustomer, assert_problem

PATH = "/api/v1/suppressions"
LIFT = {"reason": "mailbox-was-mended", "by": "agent-7"}
Suppress = Callable[..., Awaitable[str]]


@pytest.fixture
def suppress(sessions: Sessions) -> Suppress:
    """Suppress the address of a customer; its path."""

    async def insert(customer: UUID, reason: str, purpose: Purpose | None = None) -> str:
        async with sessions.begin() as session:
            of_customer = ContactPoint.customer_id == customer
            address = await session.scalar(sa.select(ContactPoint.address).where(of_customer))
            assert address is not None
            row = Suppression(
                channel=Channel.EMAIL, address=address.lower(), purpose=purpose, reason=reason
            )
            session.add(row)
            await session.flush()
            return f"{PATH}/{row.id}"

    return insert


async def items(api: httpx2.AsyncClient, path: str, **query: Any) -> list[Json]:
    found = await api.get(path, params=query)
    assert found.status_code == 200, found.text
    listed: list[Json] = found.json()["items"]
    return listed


async def consent(api: httpx2.AsyncClient, customer: UUID, state: str, **fields: Any) -> str:
    about = {"channel": "email", "purpose": "marketing", "source": "phone", **fields}
    path = f"/api/v1/customers/{customer}/consents"
    answer = await api.post(path, json={**about, "state": state})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_a_dead_address_is_written_to_again_once_a_person_says_why(
    api: httpx2.AsyncClient, customer: UUID, suppress: Suppress
) -> None:
    path = await suppress(customer, "hard bounce: 5.1.1 unknown")
    about = {"customer_id": str(customer), "channel": "email"}
    [held] = await items(api, PATH, **about, lifted="false")
    assert (held["reason"], held["lifted_at"]) == ("hard bounce: 5.1.1 unknown", None)

    lifted = await api.post(f"{path}/lift", json=LIFT)
    assert lifted.status_code == 200, lifted.text
    assert lifted.json()["lifted_because"] == "agent-7: mailbox-was-mended"
    again = await api.post(f"{path}/lift", json={**LIFT, "by": "agent-8"})
    assert again.json() == lifted.json(), "a repeat changes nothing"
    assert await items(api, PATH, **about, lifted="false") == []
    assert await items(api, PATH, **about, lifted="true") == [lifted.json()]
    assert (await api.get(path)).json() == lifted.json()

    timeline = await items(api, f"/api/v1/customers/{customer}/timeline", what="line")
    [line] = [one for one in timeline if one["kind"] == "suppression_lifted"]
    assert line["words"].startswith("An address of the customer may be written to again")
    assert (line["facts"]["by"], line["facts"]["reason"]) == ("agent-7", "mailbox-was-mended")


async def test_suppressions_are_found_by_their_reason_and_a_part_of_the_address(
    api: httpx2.AsyncClient, customer: UUID, make_customer: MakeCustomer, suppress: Suppress
) -> None:
    bounced = await suppress(customer, "hard bounce: 5.1.1 unknown")
    complained = await suppress(await make_customer(), "complaint: abuse", Purpose.MARKETING)
    address = (await api.get(bounced)).json()["address"]
    for query, is_there in (
        ({"reason": "hard bounce"}, {bounced}),
        ({"reason": "complaint"}, {complained}),
        ({"reason": "%"}, set()),
        ({"q": address[1:-4].upper()}, {bounced}),
        ({"q": "_" * 5}, set()),
    ):
        found = {f"{PATH}/{one['id']}" for one in await items(api, PATH, limit=200, **query)}
        assert found & {bounced, complained} == is_there, query


@pytest.mark.parametrize("reason", ["complaint: abuse", "asked by text to stop"])
async def test_what_the_recipient_asked_for_needs_a_consent_he_has_given_since(
    api: httpx2.AsyncClient,
    customer: UUID,
    make_customer: MakeCustomer,
    suppress: Suppress,
    reason: str,
) -> None:
    earlier = await consent(api, customer, "granted")
    path = await suppress(customer, reason, Purpose.MARKETING)
    stranger = await consent(api, await make_customer(), "granted")
    feedback = await consent(api, customer, "granted", purpose="feedback")
    withdrawn = await consent(api, customer, "withdrawn")
    for given in (None, str(uuid4()), earlier, stranger, feedback, withdrawn):
        refused = await api.post(f"{path}/lift", json={**LIFT, "consent_id": given})
        problem = assert_problem(refused, 422, "invalid_request")
        assert problem["errors"][0]["pointer"] == "/consent_id"
    assert (await api.get(path)).json()["lifted_at"] is None

    new = await consent(api, customer, "granted")
    lifted = await api.post(f"{path}/lift", json={**LIFT, "consent_id": new})
    assert lifted.status_code == 200, lifted.text
    assert lifted.json()["lifted_at"] is not None


async def test_a_consent_from_before_the_complaint_lifts_nothing(
    api: httpx2.AsyncClient, customer: UUID, suppress: Suppress
) -> None:
    before = await consent(api, customer, "granted")
    path = await suppress(customer, "complaint: abuse", Purpose.MARKETING)
    refused = await api.post(f"{path}/lift", json={**LIFT, "consent_id": before})
    problem = assert_problem(refused, 422, "invalid_request")
    assert "before the recipient asked" in problem["errors"][0]["detail"]


async def test_bad_input_is_refused(
    api: httpx2.AsyncClient, customer: UUID, suppress: Suppress
) -> None:
    path = await suppress(customer, "hard bounce")
    for body in ({}, {"reason": "x"}, {**LIFT, "reason": ""}, {**LIFT, "unknown": 1}):
        assert_problem(await api.post(f"{path}/lift", json=body), 422, "invalid_request")
    for unknown in (f"{PATH}/{uuid4()}", f"{PATH}/{uuid4()}/lift"):
        answer = await (api.get(unknown) if "lift" not in unknown else api.post(unknown, json=LIFT))
        assert_problem(answer, 404, "not_found")
    assert_problem(await api.get(PATH, params={"channel": "fax"}), 422, "invalid_request")
