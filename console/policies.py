"""Policies: read with the meaning of each field, changed as a form, compared, published."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from api.errors import Code, Problem, not_found
from api.policies import checked
from console.desk import AtDesk, Desk, Json, Refused, Undo
from console.policy_form import (
    Document,
    Leaf,
    Unreadable,
    differences,
    document_of,
    leaves,
    merged,
    typed_of,
    value_at,
)
from console.rendering import words
from console.routes import ConsoleRoute
from database.queries.policy_reach import Reach, reach_of
from domain.policies import PolicyKind
from domain.staff import Permission

router = APIRouter(route_class=ConsoleRoute)

_BY_MESSAGES = "at once, by every message that is sent"
_TAKEN = {  # by whom a new version is read; where nothing stands, by processes that start
    PolicyKind.CONTACT: _BY_MESSAGES,
    PolicyKind.SENDING: _BY_MESSAGES,
    PolicyKind.STORAGE: "by the next sweep at night",
}


@router.get("/policies")
async def list_policies(desk: AtDesk) -> Response:
    desk.require(Permission.PUBLISH_POLICIES)
    policies = (await desk.get("/policies"))["items"]
    return desk.page("policies/list.html", policies=policies, taken=_TAKEN)


@router.get("/policies/{kind}")
async def show_policy(desk: AtDesk, kind: PolicyKind) -> Response:
    policy = await desk.get(f"/policies/{kind}")
    return await _shown(desk, kind, policy, typed_of(kind, policy["current"]["document"]))


@router.post("/policies/{kind}/review")
async def review_policy(desk: AtDesk, kind: PolicyKind) -> Response:
    """What would change, and for whom; nothing is published yet."""
    desk.require(Permission.PUBLISH_POLICIES)
    policy = await desk.get(f"/policies/{kind}")
    brought = desk.text("bring_back")
    if brought:
        earlier = _version(kind, policy, brought)
        return await _reviewed(
            desk, kind, policy, earlier["document"], f"Brings back version {brought}"
        )
    try:
        document = checked(kind, document_of(kind, desk.lists))
    except Unreadable as unreadable:
        return await _shown(desk, kind, policy, desk.lists, faults=unreadable.faults, status=422)
    except Problem as refused:
        return await _shown(
            desk, kind, policy, desk.lists, faults=_faults(kind, refused), status=422
        )
    return await _reviewed(desk, kind, policy, document, desk.text("note"))


@router.post("/policies/{kind}")
async def publish_policy(desk: AtDesk, kind: PolicyKind) -> Response:
    try:
        document = json.loads(desk.form.get("document", ""))
    except ValueError:
        raise Problem(Code.MALFORMED_FORM, "the document could not be read") from None
    return await _published(desk, kind, document, desk.text("note"))


@router.post("/policies/{kind}/undo")
async def undo_publication(desk: AtDesk, kind: PolicyKind) -> Response:
    """Back to what was in force before, unless somebody has published since."""
    desk.require(Permission.PUBLISH_POLICIES)
    to = desk.text("to")
    earlier = _version(kind, await desk.get(f"/policies/{kind}"), to)
    return await _published(desk, kind, earlier["document"], f"Brings back version {to}")


async def _published(desk: Desk, kind: PolicyKind, document: Document, note: str) -> Response:
    replaces = desk.text("replaces")
    body = {
        "document": document,
        "note": note or None,
        "replaces": int(replaces) if replaces.isdecimal() else None,
    }
    try:
        published = await desk.act("POST", f"/policies/{kind}", body)
    except Refused as refused:
        if refused.status != 412:
            raise
        return await _overtaken(desk, kind, document, note)
    undo = Undo(
        f"/console/policies/{kind}/undo",
        {"to": str(replaces or published["version"] - 1), "replaces": str(published["version"])},
    )
    said = f"Version {published['version']} of {words(kind)} is in force"
    return desk.back(said, to=f"/console/policies/{kind}", undo=undo)


async def _overtaken(desk: Desk, kind: PolicyKind, mine: Document, note: str) -> Response:
    """Somebody published meanwhile: their version with my changes, to be looked at again."""
    policy = await desk.get(f"/policies/{kind}")
    base = _version(kind, policy, desk.text("replaces"))["document"]
    theirs = policy["current"]["document"]
    both = merged(kind, base, theirs, mine)
    clashes = [
        (leaf, leaf.shown(value_at(base, leaf.name)), was, will)
        for leaf, was, will in differences(kind, theirs, mine)
    ]
    return await _reviewed(desk, kind, policy, both, note, clashes=clashes, status=412)


async def _reviewed(
    desk: Desk,
    kind: PolicyKind,
    policy: Json,
    document: Document,
    note: str,
    *,
    clashes: Sequence[tuple[Leaf, str, str, str]] = (),
    status: int = 200,
) -> Response:
    async with desk.database() as session:
        reach = await reach_of(session, kind)
    current = policy["current"]
    review = {
        "differences": differences(kind, current["document"], document),
        "clashes": clashes,
        "consequence": _consequence(kind, reach),
        "document": json.dumps(document),
        "note": note,
    }
    typed = typed_of(kind, document)
    return await _shown(desk, kind, policy, typed, review=review, status=status)


async def _shown(
    desk: Desk,
    kind: PolicyKind,
    policy: Json,
    typed: Mapping[str, Sequence[str]],
    *,
    review: Json = None,
    faults: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response:
    grouped = groupby(leaves(kind), key=lambda leaf: leaf.name.partition(".")[0])
    return desk.page(
        "policies/one.html",
        status=status,
        kind=kind,
        current=policy["current"],
        meanings=policy["fields"],
        groups=[(top, list(parts)) for top, parts in grouped],
        typed=typed,
        faults=faults or {},
        review=review,
        history=_history(kind, policy["versions"]),
        taken=_TAKEN.get(kind),
    )


def _history(kind: PolicyKind, versions: Sequence[Json]) -> list[tuple[Json, Any]]:
    """Each version with what it changed; the default with nothing."""
    before = [*versions[1:], versions[-1]]
    return [
        (version, differences(kind, earlier["document"], version["document"]))
        for version, earlier in zip(versions, before, strict=True)
    ]


def _version(kind: PolicyKind, policy: Json, number: str) -> Json:
    found = [one for one in policy["versions"] if str(one["version"]) == number]
    if not found:
        raise not_found(f"version of {kind} with the number", number[:20])
    return found[0]


def _faults(kind: PolicyKind, problem: Problem) -> dict[str, str]:
    """By the field of the form: `/document/touches/0` is said at `touches`."""
    known = [leaf.name for leaf in leaves(kind)]
    found = {}
    for error in problem.errors:
        path = error.pointer.removeprefix("/document/").replace("/", ".")
        names = [name for name in known if path == name or path.startswith(f"{name}.")]
        found[names[0] if names else path] = error.detail
    return found


def _consequence(kind: PolicyKind, reach: Reach) -> str:
    if kind is PolicyKind.SENDING:
        return "It holds at once, for every message that is sent from now on."
    if kind is PolicyKind.CONTACT:
        return (
            "It holds at once, for every message that is sent from now on; "
            f"it is asked again about what is held now ({reach.held:,})."
        )
    if kind is PolicyKind.STORAGE:
        return (
            "The next sweep, at night, deletes what is older than this; "
            "what it has deleted nobody can bring back."
        )
    return (
        f"Processes of the kind {words(kind).lower()} that start from now on take it. "
        f"What runs now ({reach.running:,}) keeps the version it began with, to its end."
    )
