"""Wordings that staff changes: what is in force, drafts with their faults, previews, history."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path
from fastapi.responses import Response

from console.desk import AtDesk, Desk, Json, Refused, Undo
from console.mail_frames import mail_frame
from console.rendering import pairs
from console.routes import ConsoleRoute
from domain.messages import MessageClass, Template
from domain.staff import Permission
from domain.templates import FILE, Part, Tone

router = APIRouter(route_class=ConsoleRoute)

Number = Annotated[int, Path(ge=1, le=1_000_000)]

_PARTS = {
    Part.SUBJECT: "Subject",
    Part.BODY_MJML: "HTML body (MJML)",
    Part.BODY_TEXT: "Text body",
    Part.SMS: "Text message (SMS)",
}
_LANGUAGES = ("en", "pt-BR")


class Line(NamedTuple):
    """A line of a comparison: `mark` is +, - or a space; `at` counts from 1 where it stands."""

    mark: str
    at: int | None
    text: str


@router.get("/templates")
async def list_templates(desk: AtDesk) -> Response:
    desk.require(Permission.EDIT_TEMPLATES)
    found = (await desk.get("/templates"))["items"]
    wanted = desk.filters("message_class").get("message_class")
    shown = [one for one in found if wanted in (None, one["message_class"])]
    classes = [one for one in MessageClass if one is not MessageClass.STAFF]
    return desk.page("templates/list.html", templates=shown, tabs=[("", "All"), *pairs(classes)])


@router.get("/templates/{template}")
async def show_template(desk: AtDesk, template: Template) -> Response:
    """The wordings in force, and every version there was."""
    shown = await desk.get(f"/templates/{template}")
    asked = desk.filters("locale", "tone")
    wordings = shown["wordings"]
    fitting = [one for one in wordings if asked.items() <= one.items()]
    filters = desk.filters("cursor")
    return desk.page(
        "templates/one.html",
        kind=shown,
        wording=(fitting or wordings)[0],
        parts=_PARTS,
        versions=await desk.get(f"/templates/{template}/versions", limit=25, **filters),
        drafts=(await desk.get(f"/templates/{template}/versions", state="draft"))["items"],
        tones=pairs(Tone),
        languages=sorted({*_LANGUAGES, *(one["locale"] for one in wordings)}),
        is_marketing=shown["message_class"] == MessageClass.MARKETING,
    )


@router.post("/templates/{template}/versions")
async def begin_draft(desk: AtDesk, template: Template) -> Response:
    """With the words that are in force now, or those of an earlier version."""
    body = {"locale": desk.text("locale"), "tone": desk.text("tone") or Tone.NEUTRAL}
    begins = desk.text("number")
    if begins:
        sources = (await desk.get(f"/templates/{template}/versions/{begins}"))["sources"]
    else:
        wordings = (await desk.get(f"/templates/{template}"))["wordings"]
        sources = _nearest(wordings, body["locale"], body["tone"])["sources"]
    draft = await desk.act("POST", f"/templates/{template}/versions", {**body, **sources})
    return desk.back("Draft begun", to=_address(template, draft["number"]))


@router.get("/templates/{template}/versions/{number}")
async def show_version(desk: AtDesk, template: Template, number: Number) -> Response:
    """A draft in its editor, or what was published and how it differs."""
    version = await desk.get(f"/templates/{template}/versions/{number}")
    return await _version_page(desk, template, version, version["sources"])


@router.post("/templates/{template}/versions/{number}")
async def save_draft(desk: AtDesk, template: Template, number: Number) -> Response:
    typed = {part: desk.form.get(part, "").replace("\r\n", "\n") for part in Part}
    sources: dict[str, Any] = {str(part): text for part, text in typed.items()}
    sources["sms"] = typed[Part.SMS] or None
    path = f"/templates/{template}/versions/{number}"
    try:
        saved = await desk.act("PUT", path, sources, version=desk.text("version"))
    except Refused as refused:
        if refused.status != 412:
            raise
        now = refused.problem["current"]
        current = {**now["sources"], "version": now["revision"]}
        raise Refused({**refused.problem, "current": current}) from None
    wanted = desk.text("customer_id")
    faults = len(saved["faults"])
    said = f"Saved; {faults} fault{'' if faults == 1 else 's'} left" if faults else "Saved"
    shows = f"?customer_id={wanted}" if wanted else ""
    return desk.back(said, to=f"{_address(template, number)}{shows}")


@router.get("/templates/{template}/versions/{number}/frame")
async def show_frame(desk: AtDesk, template: Template, number: Number) -> Response:
    """The mail as the customer would get it."""
    shown = await _preview(desk, template, number, desk.request.query_params.get("customer_id", ""))
    return mail_frame(shown["html"])


@router.post("/templates/{template}/versions/{number}/test")
async def send_test(desk: AtDesk, template: Template, number: Number) -> Response:
    body: dict[str, Any] = {"number": number, **desk.given("channel", "email", "phone")}
    sent = await desk.act("POST", f"/templates/{template}/tests", body)
    return desk.back("Test on its way", to=f"/console/messages/{sent['message_id']}")


@router.post("/templates/{template}/versions/{number}/publication")
async def publish_version(desk: AtDesk, template: Template, number: Number) -> Response:
    """In force for the next message; a refusal is told beside the editor, by part and line."""
    try:
        published = await desk.act(
            "POST",
            f"/templates/{template}/publications",
            {"number": number},
            version=desk.text("version"),
        )
    except Refused as refused:
        if refused.status not in (409, 412, 422):
            raise
        version = await desk.get(f"/templates/{template}/versions/{number}")
        version["faults"] = refused.problem.get("faults", version["faults"])
        problem = refused.problem
        return await _version_page(desk, template, version, version["sources"], problem=problem)
    undo = Undo(
        f"/console/templates/{template}/rollback",
        {
            "locale": published["locale"],
            "tone": published["tone"],
            "to": str(published["replaced"] or ""),
        },
    )
    said = f"Version {number} is in force: the next message says it"
    return desk.back(said, to=f"/console/templates/{template}", undo=undo)


@router.post("/templates/{template}/rollback")
async def roll_back(desk: AtDesk, template: Template) -> Response:
    to = desk.text("to")
    body = {
        "locale": desk.text("locale"),
        "tone": desk.text("tone"),
        "to": int(to) if to.isdecimal() else None,
    }
    back = await desk.act("POST", f"/templates/{template}/rollbacks", body)
    undo = Undo(
        f"/console/templates/{template}/rollback",
        {
            **desk.given("locale", "tone"),
            "to": "" if back["replaced"] == FILE else back["replaced"],
        },
    )
    said = "The file is in force again" if to == "" else f"It says again what version {to} said"
    return desk.back(said, to=f"/console/templates/{template}", undo=undo)


async def _version_page(
    desk: Desk,
    template: Template,
    version: Json,
    sources: Json,
    *,
    problem: Json = None,
) -> Response:
    shown = await desk.get(f"/templates/{template}")
    in_force = _nearest(shown["wordings"], version["locale"], version["tone"])
    against, other = await _other(desk, template, version, in_force)
    filters = desk.filters("customer_id", "customer")
    customers = []
    if filters.get("customer"):
        customers = (await desk.get("/customers", q=filters["customer"][:200], limit=8))["items"]
        if len(customers) == 1:
            filters["customer_id"] = customers[0]["id"]
    preview, unseen = await _seen_by(desk, template, version, filters.get("customer_id", ""))
    return desk.page(
        "templates/version.html",
        status=problem["status"] if problem else 200,
        kind=shown,
        version=version,
        sources=sources,
        parts=_PARTS,
        faults=_by_part(version["faults"], sources),
        problem=problem,
        against=against,
        comparison={
            part: lines
            for part in _PARTS
            if (lines := list(_compared(other.get(part) or "", sources.get(part) or "")))
        },
        customers=customers,
        customer_id=filters.get("customer_id", ""),
        wanted=filters.get("customer", ""),
        preview=preview,
        unseen=unseen,
        is_marketing=shown["message_class"] == MessageClass.MARKETING,
    )


async def _seen_by(
    desk: Desk, template: Template, version: Json, customer_id: str
) -> tuple[Json, Json]:
    """(the preview, the problem that keeps it from being one)."""
    if not customer_id or not desk.viewer.may("edit_templates"):
        return None, None
    try:
        return await _preview(desk, template, version["number"], customer_id), None
    except Refused as refused:
        return None, refused.problem


async def _preview(desk: Desk, template: Template, number: int, customer_id: str) -> Json:
    return await desk.get(f"/templates/{template}/preview", number=number, customer_id=customer_id)


async def _other(desk: Desk, template: Template, version: Json, in_force: Json) -> tuple[str, Json]:
    """What it is compared with: what was asked for; else what is in force, or what it replaced."""
    asked = desk.filters("against").get("against", "")
    if not asked and version["state"] != "draft":
        asked = str(version["replaced"] or FILE)
    if asked.isdecimal():
        return asked, (await desk.get(f"/templates/{template}/versions/{asked}"))["sources"]
    if asked == FILE and in_force["version"] != FILE:
        return FILE, desk.held.workshop.default(template, version["locale"]).model_dump()
    return in_force["version"], in_force["sources"]


def _nearest(wordings: Sequence[Json], locale: str, tone: str) -> Json:
    """In force for that locale and tone; else for the locale, else English."""
    ranked = sorted(
        wordings,
        key=lambda one: (
            one["locale"] != locale,
            one["locale"].partition("-")[0] != locale.partition("-")[0],
            one["locale"] != "en",
            one["tone"] != tone,
            one["tone"] != Tone.NEUTRAL,
        ),
    )
    return ranked[0]


def _by_part(faults: Sequence[Json], sources: Json) -> dict[str, list[tuple[Json, str]]]:
    """Each fault with the line it is about, as it was written."""
    found: dict[str, list[tuple[Json, str]]] = {}
    for fault in faults:
        lines = (sources.get(fault["part"]) or "").split("\n")
        at = fault["line"]
        said = lines[at - 1] if at and at <= len(lines) else ""
        found.setdefault(fault["part"], []).append((fault, said.strip()[:200]))
    return found


def _compared(before: str, after: str) -> Iterator[Line]:
    """Line by line with two lines around each change; nothing where they are the same."""
    old, new = before.split("\n"), after.split("\n")
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(2):
        for tag, begin, end, begins, ends in group:
            if tag == "equal":
                yield from (
                    Line(" ", begins + n + 1, text) for n, text in enumerate(old[begin:end])
                )
                continue
            yield from (Line("-", None, text) for text in old[begin:end])
            yield from (Line("+", begins + n + 1, text) for n, text in enumerate(new[begins:ends]))


def _address(template: Template, number: int) -> str:
    return f"/console/templates/{template}/versions/{number}"
