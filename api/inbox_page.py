"""The local mail inbox, for people: what would have gone out to customers."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse

from api.deps import Held
from api.errors import Code, Problem
from api.pages import PageRoute, page
from database.inbox import Inbox, InboxUnavailable

router = APIRouter(
    prefix="/inbox", tags=["pages"], route_class=PageRoute, default_response_class=HTMLResponse
)

_PAGE = 50


@router.get("", include_in_schema=False)
async def list_mails(
    held: Held,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    to: Annotated[str, Query(max_length=100)] = "",
) -> HTMLResponse:
    """The newest mails first, and the newest text messages."""
    inbox = Inbox(held.inbox)
    try:
        mails = await inbox.mails(_PAGE, before, to)
        count = await inbox.count()
        texts = await inbox.texts(20) if before is None and not to else []
    except InboxUnavailable:  # nothing was received yet, or mail goes to another server
        mails, count, texts = [], 0, []
    older = mails[-1].id if len(mails) == _PAGE else None
    context = {"mails": mails, "texts": texts, "count": count, "older": older, "to": to}
    return page("inbox.html", context)


@router.get("/{mail_id}", include_in_schema=False)
async def open_mail(mail_id: Annotated[int, Path(ge=1, le=2**62)], held: Held) -> HTMLResponse:
    """One mail: as a mail program shows it, in a frame that runs nothing; text and headers."""
    try:
        opened = await Inbox(held.inbox).open(mail_id)
    except InboxUnavailable:
        opened = None
    if opened is None:
        raise Problem(Code.NOT_FOUND, f"there is no mail {mail_id}")
    return page("mail.html", {"opened": opened}, mail=True)
