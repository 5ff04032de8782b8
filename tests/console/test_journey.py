"""One customer's journey: the curve, and the lines behind it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI

from database.base import Sessions
from database.orders import Order
from database.promises import Promise
from database.timeline import TimelineLine
from domain.processes import Phase
from domain.promises import PromiseKind, PromiseState
from domain.tasks import Role
from tests.api.conftest import MakeCustomer
from tests.console.conftest import calling_as

BEGAN = datetime(2026, 3, 2, tzinfo=UTC)
MARKUP = "</title><script>alert(1)</script>"


@pytest.fixture
async def traveller(sessions: Sessions, make_customer: MakeCustomer) -> UUID:
    """Ordered, was told of a danger, waited, was disappointed, and said so."""
    customer = await make_customer(name=MARKUP)
    order_id = uuid4()
    delivery, case = f"delivery/{order_id}", f"case/{uuid4()}"
    lines: tuple[tuple[int, str, str, dict[str, Any]], ...] = (
        (0, delivery, "order_placed", {"order": "A-1"}),
        (1, delivery, "order_approved", {}),
        (8, delivery, "promise_endangered", {}),
        (10, case, "case_opened", {"kind": "question"}),
        (12, case, "case_answered", {}),
        (14, delivery, "order_delivered", {}),
        (17, f"follow-up/{order_id}", "feedback_received", {"verdict": "detractor", "score": 1}),
    )
    async with sessions.begin() as session:
        for days, workflow_id, kind, facts in lines:
            session.add(
                TimelineLine(
                    customer_id=customer,
                    workflow_id=workflow_id,
                    step_key=kind,
                    kind=kind,
                    phase=Phase.DURING,
                    happened_at=BEGAN + timedelta(days=days),
                    facts=facts,
                )
            )
        session.add(
            Order(
                id=order_id,
                customer_id=customer,
                reference="A-1",
                currency="EUR",
                total_minor=1,
                lines=[],
                placed_at=BEGAN,
            )
        )
        await session.flush()
        session.add(
            Promise(
                customer_id=customer,
                order_id=order_id,
                kind=PromiseKind.SERVICE,
                text="gift & <b>card</b>",
                state=PromiseState.BROKEN,
                source="order",
                settled_at=BEGAN + timedelta(days=14),
            )
        )
    return customer


async def test_the_curve_and_its_table_tell_the_same(
    app: FastAPI, sessions: Sessions, traveller: UUID
) -> None:
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        page = (await rep.get(f"/console/customers/{traveller}/journey")).text
    rows = page.partition("<tbody>")[2].partition("</tbody>")[0]
    # From the latest: said so, promise broken, delivered, waited, asked, in danger, ordered.
    marks = [part.partition("</span>")[2].strip()[:2] for part in rows.split('aria-hidden="true">')]
    assert marks[1:] == ["−3", "−2", "+1", "−1", "−1", "−1", "+1"]  # noqa: RUF001 (typeset minus)
    assert page.count("<circle") == 7
    assert page.count("Waited 2 days for an answer") == 2
    assert "gift &amp; &lt;b&gt;card&lt;/b&gt;" in page
    assert "<script>alert" not in page
    assert "-3.0" in page, "the peak and the end are the same"


async def test_who_has_not_lived_yet_has_no_curve(
    app: FastAPI, sessions: Sessions, api: httpx2.AsyncClient, customer: UUID
) -> None:
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        page = await rep.get(f"/console/customers/{customer}/journey")
        assert page.status_code == 200
        assert "Nothing that is felt has happened yet" in page.text
        for nobody in (uuid4(), "x"):
            missing = await rep.get(f"/console/customers/{nobody}/journey")
            assert missing.status_code == 404
