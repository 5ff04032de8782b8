"""Text messages that came: what follows from each, and those of numbers that nobody has."""

from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk, Desk, Json, Refused
from console.mails import DISMISSALS, names_beside, whose
from console.routes import ConsoleRoute
from domain.received_texts import TextOutcome

router = APIRouter(route_class=ConsoleRoute)

_TEXTS = "/received-texts"
_TABS = [
    ("", "Unknown number"),
    (TextOutcome.FAILED.value, "Set aside: not understood"),
    (TextOutcome.STOPPED.value, "Asked to stop"),
    (TextOutcome.DISMISSED.value, "Dismissed"),
    ("all", "All"),
]


@router.get(_TEXTS)
async def list_texts(desk: AtDesk) -> Response:
    """First those of numbers that are nobody's, or several customers'."""
    filters = desk.filters("cursor")
    outcome = desk.filters("outcome").get("outcome", TextOutcome.UNKNOWN_SENDER)
    if outcome != "all":
        filters["outcome"] = outcome
    texts = await desk.get(_TEXTS, **filters)
    names = await names_beside(desk, texts["items"])
    return desk.page("texts/list.html", texts=texts, tabs=_TABS, names=names)


@router.get(_TEXTS + "/{text_id}")
async def show_text(desk: AtDesk, text_id: UUID) -> Response:
    """With `q` or `customer_id`: whose it may be."""
    return await _page(desk, text_id)


@router.post(_TEXTS + "/{text_id}")
async def attribute_text(desk: AtDesk, text_id: UUID) -> Response:
    """Give it to a customer, and to a case of theirs; with `known` the number is theirs as well."""
    path = f"{_TEXTS}/{text_id}"
    try:
        await desk.act("POST", f"{path}/attribution", desk.given("customer_id", "case_id"))
        if desk.text("known"):
            number = {"channel": "sms", "address": (await desk.get(path))["sender"]}
            key = f"{desk.form.get('key', '')}-number"
            points = f"/customers/{desk.text('customer_id')}/contact-points"
            await desk.act("POST", points, number, key=key)
    except Refused as refused:
        return await _page(desk, text_id, refused.problem)
    return desk.back("The text is the customer's now; it is handled like any reply")


@router.post(_TEXTS + "/{text_id}/dismissal")
async def dismiss_text(desk: AtDesk, text_id: UUID) -> Response:
    await desk.act("POST", f"{_TEXTS}/{text_id}/dismissal", desk.given("reason"))
    return desk.back("Dismissed; it can still be given to a customer")


async def _page(desk: Desk, text_id: UUID, problem: Json = None) -> Response:
    text = await desk.get(f"{_TEXTS}/{text_id}")
    outcome = text["outcome"] and TextOutcome(text["outcome"])
    return desk.page(
        "texts/one.html",
        status=int(problem["status"]) if problem else 200,
        text=text,
        problem=problem,
        open=outcome and outcome.may_become(TextOutcome.ATTRIBUTED),
        dismissible=outcome and outcome.may_become(TextOutcome.DISMISSED),
        dismissals=DISMISSALS,
        **await whose(desk, text),
    )
