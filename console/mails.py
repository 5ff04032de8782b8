"""Mail that came: shown so that nothing of it runs, and given to whoever wrote it."""

from base64 import b64decode
from collections.abc import Iterable
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk, Desk, Json, Refused
from console.routes import ConsoleRoute
from database.queries.processes import names_of
from domain.received_mails import MailKind, MailOutcome

router = APIRouter(route_class=ConsoleRoute)

_MAILS = "/received-mails"
_TABS = [
    ("", "Unknown sender"),
    (MailOutcome.ASKED.value, "Somebody is asked"),
    (MailOutcome.FAILED.value, "Set aside: not understood"),
    (MailOutcome.DISMISSED.value, "Dismissed"),
    ("all", "All"),
]
_NONE: Json = {"items": []}
# The reasons that can be chosen from; the API takes any code.
DISMISSALS = ("advertising", "not-a-customer", "sent-by-mistake", "nothing-to-do")
# A stranger's file goes to the disk: no browser opens it, whatever it says that it is.
_FILE = {"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "no-store"}


@router.get(_MAILS)
async def list_mails(desk: AtDesk) -> Response:
    """First those whose sender nobody knows; the customer's own are on their timeline too."""
    filters = desk.filters("kind", "cursor")
    outcome = desk.filters("outcome").get("outcome", MailOutcome.UNKNOWN_SENDER)
    if outcome != "all":
        filters["outcome"] = outcome
    mails = await desk.get(_MAILS, **filters)
    return desk.page(
        "mails/list.html",
        mails=mails,
        tabs=_TABS,
        kinds=list(MailKind),
        names=await names_beside(desk, mails["items"]),
    )


@router.get(_MAILS + "/{mail_id}")
async def show_mail(desk: AtDesk, mail_id: UUID) -> Response:
    """With `q` or `customer_id`: whose it may be."""
    return await _page(desk, mail_id)


@router.post(_MAILS + "/{mail_id}")
async def attribute_mail(desk: AtDesk, mail_id: UUID) -> Response:
    """Give it to a customer, and to a case of theirs; then the task that asked is done."""
    body = desk.given("customer_id", "case_id")
    try:
        await desk.act("POST", f"{_MAILS}/{mail_id}/attribution", body)
    except Refused as refused:
        return await _page(desk, mail_id, refused.problem)
    return desk.back("The mail is the customer's now; it is handled like any reply")


@router.post(_MAILS + "/{mail_id}/dismissal")
async def dismiss_mail(desk: AtDesk, mail_id: UUID) -> Response:
    await desk.act("POST", f"{_MAILS}/{mail_id}/dismissal", desk.given("reason"))
    return desk.back("Dismissed; it can still be given to a customer")


@router.get(_MAILS + "/{mail_id}/raw")
async def download_mail(desk: AtDesk, mail_id: UUID) -> Response:
    mail = await desk.get(f"{_MAILS}/{mail_id}/raw")
    return _download(mail["raw"], f"{mail_id}.eml")


@router.get(_MAILS + "/{mail_id}/attachments/{attachment_id}")
async def download_attachment(desk: AtDesk, mail_id: UUID, attachment_id: UUID) -> Response:
    found = await desk.get(f"{_MAILS}/{mail_id}/attachments/{attachment_id}")
    return _download(found["content"], found["name"])


async def names_beside(desk: Desk, rows: Iterable[Json]) -> dict[str, str]:
    """Of the customers in rows of the API, by their ids; a stranger has none."""
    ids = {UUID(row["customer_id"]) for row in rows if row["customer_id"]}
    async with desk.database() as session:
        return {str(one): name for one, name in (await names_of(session, ids)).items()}


async def whose(desk: Desk, about: Json) -> dict[str, Json]:
    """What a page asks with: customers found for `q`, the one chosen, and that one's cases."""
    asked = desk.filters("q", "customer_id")
    chosen = desk.text("customer_id") or asked.get("customer_id") or about["customer_id"]
    hits = await desk.get("/customers", q=asked["q"], limit=10) if asked.get("q") else _NONE
    cases = await desk.get("/cases", customer_id=chosen, limit=20) if chosen else _NONE
    return {
        "hits": hits["items"],
        "asked": asked.get("q", ""),
        "customer": chosen and await desk.get(f"/customers/{chosen}"),
        "cases": cases["items"],
    }


def _download(content: str, name: str) -> Response:
    headers = {**_FILE, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return Response(b64decode(content), media_type="application/octet-stream", headers=headers)


async def _page(desk: Desk, mail_id: UUID, problem: Json | None = None) -> Response:
    mail = await desk.get(f"{_MAILS}/{mail_id}")
    outcome = mail["outcome"] and MailOutcome(mail["outcome"])
    return desk.page(
        "mails/one.html",
        status=int(problem["status"]) if problem else 200,
        mail=mail,
        problem=problem,
        open=outcome and outcome.may_become(MailOutcome.ATTRIBUTED),
        dismissible=outcome and outcome.may_become(MailOutcome.DISMISSED),
        dismissals=DISMISSALS,
        **await whose(desk, mail),
    )
