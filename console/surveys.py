"""Surveys that were asked: which were answered, and which still wait."""

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk
from console.mails import names_beside
from console.routes import ConsoleRoute

router = APIRouter(route_class=ConsoleRoute)

_ANSWERED = {"": None, "no": False, "yes": True}


@router.get("/surveys")
async def list_surveys(desk: AtDesk) -> Response:
    """The latest asked first."""
    answered = _ANSWERED.get(desk.filters("answered").get("answered", ""))
    surveys = await desk.get("/surveys", answered=answered, **desk.filters("customer_id", "cursor"))
    names = await names_beside(desk, surveys["items"])
    return desk.page("surveys/list.html", surveys=surveys, names=names)
