"""Mail that came: shown so that nothing of it runs, and given to whoever wrote it."""

from base64 import b64decode
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk, Desk, Json, Refused
from console.routes import ConsoleRoute
from domain.received_mails import MailOutcome

router = APIRouter(route_class=ConsoleRoute)

_MAILS = "/received-mails"
_OPEN = (MailOutcome.ASKED, MailOutcome.UNKNOWN_SENDER, MailOutcome.KEPT, MailOutcome.FAILED)
# A stranger's file goes to the disk: no browser opens it, whatever it says that it is.
_FILE = {"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "no-store"}


@router.get(_MAILS)
async def list_mails(desk: AtDesk) -> Response:
    """Those whose sender nobody knows; the customer's own are on their timeline."""
    cursor = desk.filters("cursor").get("cursor")
    mails = await desk.get(_MAILS, outcome=MailOutcome.UNKNOWN_SENDER, cursor=cursor)
    return desk.page("mails/list.html", mails=mails)


@router.get(_MAILS + "/{mail_id}")
async def show_mail(desk: AtDesk, mail_id: UUID) -> Response:
    """With `q` or `customer_id`: whose it may be."""
    return await _page(desk, mail_id)


@router.post(_MAILS + "/{mail_id}")
async def attribute_mail(desk: AtDesk, mail_id: UUID) -> Response:
    """Give it to a customer, and to a case of theirs; then the task that asked is done."""
    mail = await desk.get(f"{_MAILS}/{mail_id}")
    body = desk.given("customer_id", "case_id")
    try:
        await desk.act("POST", f"{_MAILS}/{mail_id}/attribution", body)
    except Refused as refused:
        return await _page(desk, mail_id, refused.problem)
    if mail["task_id"] is not None:
        await _complete(desk, mail["task_id"])
    return desk.back("The mail is the customer's now; it is handled like any reply")


@router.get(_MAILS + "/{mail_id}/raw")
async def download_mail(desk: AtDesk, mail_id: UUID) -> Response:
    mail = await desk.get(f"{_MAILS}/{mail_id}/raw")
    return _download(mail["raw"], f"{mail_id}.eml")


@router.get(_MAILS + "/{mail_id}/attachments/{attachment_id}")
async def download_attachment(desk: AtDesk, mail_id: UUID, attachment_id: UUID) -> Response:
    found = await desk.get(f"{_MAILS}/{mail_id}/attachments/{attachment_id}")
    return _download(found["content"], found["name"])


def _download(content: str, name: str) -> Response:
    headers = {**_FILE, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return Response(b64decode(content), media_type="application/octet-stream", headers=headers)


async def _page(desk: Desk, mail_id: UUID, problem: Json | None = None) -> Response:
    mail = await desk.get(f"{_MAILS}/{mail_id}")
    asked = desk.filters("q", "customer_id")
    chosen = desk.text("customer_id") or asked.get("customer_id") or mail["customer_id"]
    found = await desk.get("/customers", q=asked["q"], limit=10) if asked.get("q") else None
    return desk.page(
        "mails/one.html",
        status=int(problem["status"]) if problem else 200,
        mail=mail,
        problem=problem,
        open=mail["outcome"] in _OPEN,
        hits=found["items"] if found else [],
        asked=asked.get("q", ""),
        customer=chosen and await desk.get(f"/customers/{chosen}"),
        cases=(await desk.get("/cases", customer_id=chosen, limit=20))["items"] if chosen else [],
    )


async def _complete(desk: Desk, task_id: str) -> None:
    """Whoever else has ended it meanwhile has done the same."""
    key = f"{desk.form.get('key', '')}-task"
    try:
        await desk.act("POST", f"/tasks/{task_id}/complete", {"outcome": "attributed"}, key=key)
    except Refused as refused:
        if refused.status not in (404, 409):
            raise
