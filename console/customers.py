"""The list of customers: filters in the address, views that are kept, rows to choose; a new one."""

from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import PREFIX, AtDesk, Desk, Json, Refused
from console.routes import ConsoleRoute
from console.saved_views import views_of
from database.customers import CustomerKind
from domain.messages import Channel, Purpose
from domain.processes import ProcessKind, Stage
from domain.staff import STARTS, Permission

router = APIRouter(route_class=ConsoleRoute)

FILTERS = ("q", "kind", "stage", "locale", "consent", "silent", "sort")
SORTS = {
    "": "Newest first",
    "name": "Name",
    "-stage_since": "Latest change of stage",
    "-last_heard_at": "Heard from last",
    "silence_due_at": "Silent for longest",
}
CONSENTS = [
    (f"{channel}/{purpose}", f"{purpose.capitalize()} by {channel}")
    for purpose in (Purpose.MARKETING, Purpose.FEEDBACK, Purpose.TRACKING)
    for channel in Channel
]
# Of many customers at once: what is about one order or case is started from there.
STARTED_IN_BULK = (ProcessKind.MARKETING, ProcessKind.RETENTION, ProcessKind.SUPPORT)
_NEW = ("name", "kind", "locale", "zone", "email", "phone", "reference")


@router.get("/customers")
async def list_customers(desk: AtDesk) -> Response:
    filters = desk.filters(*FILTERS)
    return desk.page(
        "customers/list.html",
        block="rows",
        customers=await find_customers(desk, filters, cursor=desk.filters("cursor").get("cursor")),
        filters=filters,
        filter_query=urlencode(filters),
        views=await views_of(desk, "customers"),
        stages=list(Stage),
        kinds=list(CustomerKind),
        consents=CONSENTS,
        sorts=list(SORTS.items()),
        starts=[kind for kind in STARTED_IN_BULK if desk.viewer.may(STARTS[kind])],
    )


async def find_customers(desk: Desk, filters: dict[str, str], **paging: object) -> Json:
    """The page of customers that fits filters of this screen."""
    asked: dict[str, object] = {name: filters.get(name) for name in FILTERS}
    asked["silent"] = "true" if filters.get("silent") else None
    return await desk.get("/customers", **asked, **paging)


@router.get("/customers/new")
async def ask_for_customer(desk: AtDesk) -> Response:
    desk.require(Permission.EDIT_CUSTOMERS)
    return _new(desk, {}, None)


@router.post("/customers")
async def make_customer(desk: AtDesk) -> Response:
    body: dict[str, object] = {**desk.given(*_NEW)}
    consents = [
        {
            "channel": channel,
            "purpose": "marketing",
            "source": desk.text("consent_source") or "staff",
            "wording": desk.text("consent_wording") or None,
        }
        for channel in desk.lists.get("consent", [])
    ]
    try:
        made = await desk.act("POST", "/customers", {**body, "consents": consents})
    except Refused as refused:
        return _new(desk, dict(desk.form), refused)
    return desk.back(f"{made['name']} is in", to=f"{PREFIX}/customers/{made['id']}")


def _new(desk: Desk, typed: dict[str, str], refused: Refused | None) -> Response:
    return desk.page(
        "customers/new.html",
        status=refused.status if refused else 200,
        problem=refused.problem if refused else None,
        typed=typed,
        agreed=desk.lists.get("consent", []),
        kinds=list(CustomerKind),
        channels=list(Channel),
    )
