"""Operations: what does not go on and why, queues and workers, messages in trouble."""

from datetime import UTC, datetime
from typing import cast

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk
from console.processes import REASONS, unless_away
from console.providers import provider_lines
from console.routes import ConsoleRoute
from database.queries.operations import (
    last_verification,
    message_doubts,
    message_figures,
    refusing_providers,
)
from database.queries.policies import current_policy
from database.queries.processes import names_of
from domain.policies import PolicyKind, SendingPolicy
from domain.staff import Permission

router = APIRouter(route_class=ConsoleRoute)


@router.get("/operations")
async def show_operations(desk: AtDesk) -> Response:
    desk.require(Permission.STEER_PROCESSES)
    troubles = await unless_away(desk, "/operations/processes", **desk.filters("kind"))
    queues = await unless_away(desk, "/operations/queues")
    schedules = await unless_away(desk, "/schedules")
    known = troubles["items"] if troubles else []
    async with desk.database() as session:
        figures = await message_figures(session)
        doubts = await message_doubts(session)
        refusing = await refusing_providers(session)
        policy = cast(SendingPolicy, await current_policy(session, PolicyKind.SENDING))
        verified = await last_verification(session)
        names = await names_of(session, (one["customer_id"] for one in known if one["customer_id"]))
    return desk.page(
        "operations.html",
        troubles=troubles,
        names={str(customer_id): name for customer_id, name in names.items()},
        queues=queues,
        figures=figures,
        doubts=doubts,
        providers=provider_lines(policy, refusing, datetime.now(UTC).date()),
        fall_back_after=policy.fall_back_after,
        verified=verified,
        schedules=schedules
        and [one for one in schedules["items"] if one["missed"] or one["paused"]],
        reasons=REASONS,
    )
