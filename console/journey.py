"""One customer's journey: how each moment felt, by a model whose rules stand below the curve."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from fastapi.responses import Response

from api.errors import Code, Problem
from console.charts import curve
from console.desk import AtDesk
from console.routes import ConsoleRoute
from database.queries.journey import AT_MOST, lines_of, name_of, settled_promises
from domain.journey import (
    PROMISES,
    REACH,
    RULES,
    WAITS,
    Happened,
    Moment,
    moments_of,
    promise_moment,
    remembered,
)
from domain.timeline import words_for

router = APIRouter(route_class=ConsoleRoute)

_FELT = frozenset({*RULES, "feedback_received", "case_answered"})
_DRAWN = 60  # moments in the picture: the latest


@router.get("/customers/{customer_id}/journey")
async def show_journey(desk: AtDesk, customer_id: Annotated[UUID, Path()]) -> Response:
    async with desk.database() as session:
        name = await name_of(session, customer_id)
        if name is None:
            raise Problem(Code.UNKNOWN_CUSTOMER, f"there is no customer {customer_id}")
        lines = await lines_of(session, customer_id, _FELT)
        promises = await settled_promises(session, customer_id)
    felt = moments_of(
        Happened(
            line.happened_at,
            line.kind,
            line.facts,
            words_for(line.kind, line.facts),
            line.workflow_id,
        )
        for line in lines
    )
    kept = (
        promise_moment(one.settled_at, one.state, f"Promised: {one.text}")
        for one in promises
        if one.settled_at is not None
    )
    moments: list[Moment] = sorted(
        [*felt, *(one for one in kept if one is not None)], key=lambda moment: moment.at
    )
    drawn = moments[-_DRAWN:]
    return desk.page(
        "journey/page.html",
        customer_id=customer_id,
        name=name,
        moments=moments,
        first=len(moments) - len(drawn),
        chart=curve([(one.value, f"{one.words}: {one.value:+d}") for one in drawn], reach=REACH),
        remembered=remembered(moments),
        rules=RULES,
        promises=PROMISES,
        waits=WAITS,
        at_most=AT_MOST if len(lines) == AT_MOST else None,
    )
