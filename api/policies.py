"""Policies: every duration, count and limit; read, and published as a new version."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.dialects.postgresql import distinct_on, insert

from api.deps import Session
from api.errors import Code, FieldError, Problem, field_errors
from api.etags import changed_meanwhile
from api.fields import Body, Prose, StaffId, example
from api.routing import ApiRoute, needs, note_change
from database.messages import Message
from database.policies import PolicyVersion
from domain.messages import MESSAGES, MessageClass, MessageState, Template
from domain.policies import POLICIES, PolicyKind, Priority
from domain.staff import Permission

router = APIRouter(prefix="/policies", tags=["policies"], route_class=ApiRoute)

_DURATION = re.compile(
    r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d{1,6})?S)?)?)"
)
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?")


class PolicyView(BaseModel):
    """One version. Version 0 is the default that holds until one is published."""

    kind: PolicyKind
    version: int
    document: dict[str, Any]
    note: str
    published_by: str
    published_at: datetime | None


class Policies(BaseModel):
    items: list[PolicyView]


class PolicyVersions(BaseModel):
    current: PolicyView
    versions: list[PolicyView]
    fields: dict[str, str] = Field(
        description="what each field of the document means; a field inside of one: stream.sender"
    )


class NewVersion(Body):
    """A whole document: read the current one, change it, publish it."""

    model_config = example(
        document={
            "approval_expected": "P3D",
            "warn_before": "P2D",
            "chase_every": "P7D",
            "chases": 3,
            "redelivery_expected": "P2D",
            "failed_attempts": 2,
            "compensation_due": "P1D",
        },
        note="of the kind delivery",
    )

    document: dict[str, Any] = Field(
        description="every field of the kind; durations as ISO 8601, such as P3D"
    )
    note: Prose | None = None
    replaces: int | None = Field(
        None,
        ge=0,
        strict=True,
        description="the version that was read; another one in force meanwhile: 412",
    )
    by: StaffId = "api"


@router.get("")
async def list_policies(session: Session) -> Policies:
    """The policy in force of every kind."""
    found = await session.scalars(
        sa.select(PolicyVersion)
        .ext(distinct_on(PolicyVersion.kind))
        .order_by(PolicyVersion.kind, PolicyVersion.version.desc())
    )
    published = {version.kind: _view(version) for version in found}
    return Policies(items=[published.get(kind) or _default(kind) for kind in PolicyKind])


@router.get("/{kind}")
async def show_policy(kind: PolicyKind, session: Session) -> PolicyVersions:
    """One kind: what is in force, and every version before it, the newest first."""
    found = await session.scalars(
        sa.select(PolicyVersion)
        .where(PolicyVersion.kind == kind)
        .order_by(PolicyVersion.version.desc())
    )
    versions = [*(_view(version) for version in found), _default(kind)]
    return PolicyVersions(
        current=versions[0], versions=versions, fields=dict(_meanings(POLICIES[kind]))
    )


@router.post("/{kind}", status_code=201)
@needs(Permission.PUBLISH_POLICIES)
async def publish_policy(
    kind: PolicyKind, body: NewVersion, request: Request, session: Session, response: Response
) -> PolicyView:
    """Publish a version. Processes that start from now on take it; running ones keep theirs.

    The kinds contact and sending are read anew for each message, also for those that wait.
    """
    document = checked(kind, body.document)
    current = (await show_policy(kind, session)).current
    if body.replaces not in (None, current.version):
        raise changed_meanwhile(f"policy {kind}", current.version, current)
    note_change(request, before=current.document, after=document)
    published = await session.scalar(
        insert(PolicyVersion)
        .values(
            kind=kind,
            version=sa.select(sa.func.coalesce(sa.func.max(PolicyVersion.version), 0) + 1)
            .where(PolicyVersion.kind == kind)
            .scalar_subquery(),
            document=document,
            note=body.note or "",
            published_by=body.by,
        )
        .on_conflict_do_nothing()
        .returning(PolicyVersion)
    )
    if published is None:
        raise Problem(Code.CONFLICT, "somebody else published a version at the same moment")
    if kind is PolicyKind.CONTACT:  # what waits by the old rules is asked again by the new ones
        held = sa.update(Message).where(Message.state == MessageState.HELD)
        await session.execute(held.values(not_before=sa.func.now()))
    response.headers["Location"] = f"/api/v1/policies/{kind}"
    return _view(published)


def _meanings(policy: type[BaseModel], within: str = "") -> Iterator[tuple[str, str]]:
    for name, field in policy.model_fields.items():
        yield f"{within}{name}", field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _meanings(field.annotation, f"{within}{name}.")


def checked(kind: PolicyKind, document: dict[str, Any]) -> dict[str, Any]:
    """The document as it is stored. Raises 422 with every fault."""
    policy = POLICIES[kind]
    errors = [*_unknown_or_missing(policy, document), *_written_otherwise(policy, document)]
    if not errors:
        try:
            found = policy.model_validate(document)
        except ValidationError as error:
            errors = field_errors(error.errors(include_url=False, include_input=False), document)
        else:
            errors = _touches(document)
            if not errors:
                return found.model_dump(mode="json")
    errors = [
        FieldError(pointer=f"/document{e.pointer}", code=e.code, detail=e.detail) for e in errors
    ]
    first = errors[0]
    raise Problem(Code.INVALID_REQUEST, f"{first.pointer}: {first.detail}", errors=errors)


def _unknown_or_missing(
    policy: type[BaseModel], document: dict[str, Any], at: str = ""
) -> list[FieldError]:
    known = policy.model_fields
    unknown = [
        FieldError(
            pointer=f"{at}/{name[:60]}", code="unknown_field", detail="there is no such field"
        )
        for name in document
        if name not in known
    ]
    missing = [
        FieldError(
            pointer=f"{at}/{name}",
            code="missing",
            detail="is missing: a version is a whole document",
        )
        for name in known
        if name not in document
    ]
    for name, field in known.items():
        part, kind = document.get(name), field.annotation
        if isinstance(part, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            missing += _unknown_or_missing(kind, part, f"{at}/{name}")
    return unknown + missing


def _written_otherwise(policy: type[BaseModel], document: dict[str, Any]) -> list[FieldError]:
    """Only ISO 8601, and each priority of a table; pydantic would take numbers and leave gaps."""
    schema = policy.model_json_schema()["properties"]
    errors = []
    for name, value in document.items():
        if name not in schema:
            continue
        if schema[name].get("format") == "duration":
            errors += _duration(f"/{name}", value)
        elif schema[name].get("format") == "time":
            errors += _time_of_day(f"/{name}", value)
        elif isinstance(value, dict) and schema[name].get("type") == "object":
            for priority in Priority:
                if priority not in value:
                    errors.append(
                        FieldError(
                            pointer=f"/{name}/{priority}", code="missing", detail="is missing"
                        )
                    )
            for priority, duration in value.items():
                errors += _duration(f"/{name}/{str(priority)[:40]}", duration)
        elif (isinstance(value, bool) and schema[name].get("type") != "boolean") or (
            isinstance(value, str) and schema[name].get("type") in ("integer", "number")
        ):
            errors.append(FieldError(pointer=f"/{name}", code="type", detail="must be a number"))
    return errors


def _duration(pointer: str, value: Any) -> list[FieldError]:
    if isinstance(value, str) and _DURATION.fullmatch(value) and value[-1] not in "PT":
        return []
    detail = "is not a duration: write it as P3D or PT8H (ISO 8601)"
    return [FieldError(pointer=pointer, code="duration", detail=detail)]


def _time_of_day(pointer: str, value: Any) -> list[FieldError]:
    if isinstance(value, str) and _TIME_OF_DAY.fullmatch(value):
        return []
    detail = "is not a time of day: write it as 21:00"
    return [FieldError(pointer=pointer, code="time", detail=detail)]


def _touches(document: dict[str, Any]) -> list[FieldError]:
    """Only marketing templates that exist."""
    possible = [
        str(template)
        for template in Template
        if MESSAGES[template].message_class is MessageClass.MARKETING
    ]
    return [
        FieldError(
            pointer=f"/touches/{index}",
            code="unknown_template",
            detail=f"must be one of: {', '.join(possible)}",
        )
        for index, touch in enumerate(document.get("touches", ()))
        if touch not in possible
    ]


def _default(kind: PolicyKind) -> PolicyView:
    return PolicyView(
        kind=kind,
        version=0,
        document=POLICIES[kind]().model_dump(mode="json"),
        note="the default",
        published_by="perennial",
        published_at=None,
    )


def _view(version: PolicyVersion) -> PolicyView:
    """The document as a process would take it: with defaults for fields added since."""
    return PolicyView(
        kind=version.kind,
        version=version.version,
        document=POLICIES[version.kind].model_validate(version.document).model_dump(mode="json"),
        note=version.note,
        published_by=version.published_by,
        published_at=version.published_at,
    )
