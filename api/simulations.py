"""Simulations: clocks that run faster, for replays and the demo."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.deps import Session
from api.errors import not_found
from api.fields import Body, Instant, Line
from api.intake import now_on
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute
from database.customers import Simulation

router = APIRouter(prefix="/simulations", tags=["simulations"], route_class=ApiRoute)


class NewSimulation(Body):
    """A clock that starts now at `business_origin`."""

    name: Line = Field(examples=["shop history 2017"])
    business_origin: Instant
    speed: Annotated[
        float,
        Field(
            strict=True, gt=0, le=10_000_000, allow_inf_nan=False, description="seconds a second"
        ),
    ]


class SimulationView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    machine_origin: datetime
    business_origin: datetime
    speed: float
    business_now: datetime | None = None
    recorded_at: datetime


@router.post("", status_code=201)
async def start_simulation(
    body: NewSimulation, session: Session, response: Response
) -> SimulationView:
    """Start a clock. Customers made with its id live by it."""
    simulation = Simulation(
        name=body.name,
        machine_origin=datetime.now(UTC),
        business_origin=body.business_origin,
        speed=body.speed,
    )
    session.add(simulation)
    await session.flush()
    await session.refresh(simulation)
    response.headers["Location"] = f"/api/v1/simulations/{simulation.id}"
    return _view(simulation)


@router.get("")
async def list_simulations(session: Session, paging: Paging) -> Page[SimulationView]:
    """The simulations, the newest first."""
    return await read_page(session, sa.select(Simulation), [Simulation.id], paging, _view)


@router.get("/{simulation_id}")
async def show_simulation(simulation_id: UUID, session: Session) -> SimulationView:
    """One simulation and what time it is there."""
    simulation = await session.get(Simulation, simulation_id)
    if simulation is None:
        raise not_found("simulation", simulation_id)
    return _view(simulation)


def _view(simulation: Simulation) -> SimulationView:
    view = SimulationView.model_validate(simulation)
    return view.model_copy(update={"business_now": now_on(simulation.clock)})
