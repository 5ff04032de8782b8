"""What providers reported about messages: also what is about none of ours, or nobody looked at."""

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk
from console.routes import ConsoleRoute
from domain.delivery_reports import ReportKind

router = APIRouter(route_class=ConsoleRoute)

_OF_OURS = {"": None, "ours": True, "unknown": False}


@router.get("/delivery-reports")
async def list_reports(desk: AtDesk) -> Response:
    of_ours = _OF_OURS.get(desk.filters("about").get("about", ""))
    filters = desk.filters("kind", "source", "cursor")
    return desk.page(
        "received/reports.html",
        reports=await desk.get("/delivery-reports", of_ours=of_ours, **filters),
        kinds=list(ReportKind),
    )
