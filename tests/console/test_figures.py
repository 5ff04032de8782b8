"""The figures: their numbers are those of the tables, their pictures have words."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from playwright.async_api import expect

from console import counted
from database.base import Base, Sessions
from database.feedback import Feedback, Survey
from database.messages import Message
from database.orders import Order
from database.processes import Lifecycle, ProcessRow
from database.queries.figures import WEEKS, Figures, read_figures, world_of
from domain.delivery import DeliveryState
from domain.messages import MESSAGES, Channel, MessageState, Template
from domain.policies import SurveyScale
from domain.processes import ProcessKind, ProcessState, Stage
from domain.promises import delivered_late
from domain.tasks import Role
from tests.api.conftest import MakeCustomer
from tests.console.conftest import SignIn, calling_as

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
NAME = "<b>small</b> world"
_DECISION: dict[str, Any] = {"verdict": "held"}


@pytest.fixture
async def simulation(api: httpx2.AsyncClient) -> str:
    """A world of its own whose clock is the machine's: only what a test writes is in it."""
    clock = {"name": NAME, "business_origin": NOW.isoformat(), "speed": 1.0}
    made = await api.post("/api/v1/simulations", json=clock)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def _order(customer: UUID, days_ago: int, promised_in: int, arrived_in: int | None) -> Order:
    placed = NOW - days_ago * DAY
    arrived = None if arrived_in is None else placed + arrived_in * DAY
    promised = (placed + promised_in * DAY).date()
    return Order(
        id=uuid4(),
        customer_id=customer,
        reference=uuid4().hex,
        state=DeliveryState.DELIVERED if arrived else DeliveryState.PLACED,
        currency="EUR",
        total_minor=1,
        lines=[],
        promised_on=promised,
        first_promised_on=promised,
        placed_at=placed,
        delivered_at=arrived,
        delivered_late=arrived and delivered_late(promised, arrived, "UTC"),
    )


def _message(customer: UUID, state: MessageState) -> Message:
    kind = MESSAGES[Template.ORDER_CONFIRMED]
    sent = state in (MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.BOUNCED)
    held = state in (MessageState.HELD, MessageState.SUPPRESSED, MessageState.CANCELLED)
    return Message(
        key=uuid4().hex,
        customer_id=customer,
        workflow_id="test",
        step="test",
        template=Template.ORDER_CONFIRMED,
        message_class=kind.message_class,
        purpose=kind.purpose,
        channel=Channel.EMAIL,
        context={},
        state=state,
        accepted_at=NOW if sent else None,
        decision=_DECISION if held else None,
        not_before=NOW + 900 * DAY,
        asked_at=NOW,
    )


def _answer(customer: UUID, score: int, days_ago: int) -> list[Base]:
    survey = Survey(
        id=uuid4(),
        customer_id=customer,
        workflow_id="test",
        scale=SurveyScale.STARS,
        asked_at=NOW - (days_ago + 1) * DAY,
        answered_at=NOW - days_ago * DAY,
    )
    answer = Feedback(
        id=uuid4(),
        customer_id=customer,
        event_id=uuid4().hex,
        scale=SurveyScale.STARS,
        score=score,
        verdict="promoter" if score == 5 else "passive" if score > 2 else "detractor",
        recovery_case_id=uuid4(),
        answered_at=NOW - days_ago * DAY,
    )
    return [survey, answer]


@pytest.fixture
async def known(sessions: Sessions, make_customer: MakeCustomer, simulation: str) -> str:
    """A small world: three customers, five orders, a message in each state, four answers."""
    one, two, three = [await make_customer(simulation_id=simulation) for _ in range(3)]
    rows: list[Base] = [
        _order(one, 20, 5, 4),
        _order(one, 20, 5, 5),
        _order(two, 20, 5, 9),
        _order(two, 3, 5, None),
        _order(two, 400, 5, 9),  # before these weeks
        *(_message(one, state) for state in MessageState),
        _message(three, MessageState.ACCEPTED),
        *(row for score in (5, 5, 4, 1) for row in _answer(one, score, 7)),
        *_answer(one, 1, 200),
        Survey(
            id=uuid4(),
            customer_id=two,
            workflow_id="test",
            scale=SurveyScale.STARS,
            asked_at=NOW - DAY,
        ),
    ]
    for customer, stage, days in ((one, Stage.QUIET, 4), (two, Stage.QUIET, 2), (three, "lost", 9)):
        rows.append(
            Lifecycle(
                customer_id=customer,
                stage=Stage(stage),
                stage_reason="test",
                stage_since=NOW - days * DAY,
            )
        )
    for days, ended in ((1, True), (3, True), (5, True), (0, False)):
        rows.append(
            ProcessRow(
                workflow_id=f"delivery/{uuid4()}",
                kind=ProcessKind.DELIVERY,
                customer_id=one,
                state=ProcessState.COMPLETED if ended else ProcessState.RUNNING,
                step="test",
                waiting_for="",
                outcome="",
                allowed=[],
                started_at=NOW - (days + 1) * DAY,
                ended_at=NOW - DAY if ended else None,
            )
        )
    async with sessions.begin() as session:
        session.add_all(rows)
    return simulation


async def _read(sessions: Sessions, simulation: str) -> Figures:
    async with sessions() as session:
        world = await world_of(session, UUID(simulation), datetime.now(UTC))
        assert world is not None
        return await read_figures(session, world)


async def test_the_numbers_are_those_of_the_tables(sessions: Sessions, known: str) -> None:
    figures = await _read(sessions, known)
    quiet = next(stay for stay in figures.stays if stay.stage == "quiet")
    lost = next(stay for stay in figures.stays if stay.stage == "lost")
    delivery = next(stay for stay in figures.stays if stay.stage == "delivery")
    assert (quiet.here, lost.here, sum(stay.here for stay in figures.stays)) == (2, 1, 3)
    assert quiet.days_here == pytest.approx(2, abs=0.01)
    assert (delivery.here, delivery.began, delivery.ended, delivery.days) == (0, 4, 3, 3.0)
    assert lost.began is None
    assert len(figures.weeks) == WEEKS
    assert sum(week.kept for week in figures.weeks) == 2
    assert sum(week.late for week in figures.weeks) == 1
    promised = (NOW - 15 * DAY).date()
    monday = promised - promised.weekday() * DAY
    week = next(week for week in figures.weeks if week.monday == monday)
    assert (week.kept, week.late) == (2, 1)
    funnel = figures.funnel
    assert funnel.asked == len(MessageState) + 1
    assert (funnel.sent, funnel.delivered, funnel.waiting) == (4, 2, 2)
    assert (funnel.held, funnel.suppressed, funnel.cancelled) == (1, 1, 1)
    assert (funnel.failed, funnel.unknown, funnel.opened, funnel.answered) == (2, 1, 0, 0)
    assert [(one.scale, one.counts) for one in figures.scores] == [("stars", {5: 2, 4: 1, 1: 1})]
    assert (figures.surveys_asked, figures.surveys_answered) == (5, 4)


async def test_the_pictures_say_what_the_tables_say(
    sign_in: SignIn, sessions: Sessions, known: str
) -> None:
    page = await sign_in(Role.SUPPORT_AGENT)
    await page.goto(f"/console/figures?simulation_id={known}")
    await expect(page.get_by_text(NAME).first).to_be_visible()
    promises = page.get_by_role("img", name="Promised days kept and late, by week")
    assert len(await promises.locator("rect.good").all()) == 1
    section = page.locator("section", has=promises)
    await section.get_by_text("The numbers").click()
    cells = await section.locator("tbody td.number").all_inner_texts()
    assert sum(int(cell) for cell in cells[::3]) == 2
    assert sum(int(cell) for cell in cells[1::3]) == 1
    stages = page.get_by_role("img", name="Customers by stage")
    await expect(stages).to_contain_text("2, 2.0 days")
    passages = page.get_by_role("img", name="Days from begin to end")
    await expect(passages).to_contain_text("3.0 days (3)")
    shares = page.get_by_role("img", name="Shares of promoters")
    await expect(shares).to_contain_text("50% (15% to 85%)")  # 2 of 4: Wilson
    await expect(page.get_by_role("heading", name="n = 4")).to_be_visible()
    await expect(page.get_by_text("answered by their link: 4 (80 %")).to_be_visible()
    assert not await page.locator("[style]").all()


async def test_figures_that_take_long_are_kept_and_say_how_old_they_are(
    app: FastAPI, sessions: Sessions, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/console/figures?simulation_id={known}"
    held = re.compile(r"Held</th><td class=\"number\">(\d+)")
    async with calling_as(app, sessions, Role.OPS) as ops:
        monkeypatch.setattr(counted, "_FAST", 3600.0)
        assert "Counted" not in (await ops.get(path)).text
        monkeypatch.setattr(counted, "_FAST", 0.0)
        monkeypatch.setattr(counted, "_REST_PER_TIME", 1e6)
        await asyncio.sleep(1)
        async with sessions.begin() as session:
            await session.execute(
                sa.delete(Message).where(Message.state == "held", Message.workflow_id == "test")
            )
        again = (await ops.get(path)).text
        assert held.findall(again) == ["1"]
        assert re.search(r"Counted \d+ seconds? ago", again)
        monkeypatch.setattr(counted, "_FAST", 3600.0)
        assert held.findall((await ops.get(path)).text) == ["0"]
        assert (await ops.get(f"/console/figures?simulation_id={uuid4()}")).status_code == 404
        assert (await ops.get("/console/figures?simulation_id=x")).status_code == 404


async def test_a_world_without_anything_says_what_to_do(
    app: FastAPI, sessions: Sessions, simulation: str
) -> None:
    async with calling_as(app, sessions, Role.OPS) as ops:
        page = (await ops.get(f"/console/figures?simulation_id={simulation}")).text
    assert page.count('class="empty"') == 4
    assert "&lt;b&gt;small&lt;/b&gt; world" in page
