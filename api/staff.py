"""Staff: accounts and roles, sessions that end at once, and what everybody did."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Asker, Session, signed_in_by
from api.errors import Code, FieldError, Problem, invalid_field, not_found
from api.etags import IfMatch, changed_meanwhile, etag, expected_version
from api.fields import Body, Email, Flag, Line, StaffId, Zone
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs, note_change
from api.sign_in import confirm_password, hash_password
from database.queries.staff import end_sessions
from database.staff import Staff, StaffAction, StaffSession
from domain.passwords import one_time_password
from domain.staff import PERMISSIONS, PROGRAM, Permission, Principal
from domain.tasks import Role

router = APIRouter(prefix="/staff", tags=["staff"], route_class=ApiRoute)
actions = APIRouter(prefix="/staff-actions", tags=["staff"], route_class=ApiRoute)

# The programs' own id, and the word for oneself in addresses.
_NOBODYS_IDS = frozenset({PROGRAM.id, "me"})
_IS_ADMIN = (Staff.role == Role.ADMIN) & Staff.disabled_at.is_(None)  # who can sign in

Password = Annotated[str, StringConstraints(max_length=256)]


class Colleague(BaseModel):
    """A member of staff, as everybody who works here sees one: to own things and take them over.
    The id stands for the person in processes and logs.
    """

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    role: Role
    enabled: bool = Field(description="false: the account is closed")


class StaffView(Colleague):
    """The account of a member of staff, for who may manage staff."""

    email: str
    one_time_password: bool = Field(description="true: has not chosen a password yet")
    one_time_until: datetime | None = Field(description="when a password for once ends")
    disabled_at: datetime | None
    version: int
    recorded_at: datetime


class Me(BaseModel):
    """Who asks, and what that role may do."""

    id: str
    name: str
    role: Role | None = Field(description="null: a program with the API key")
    permissions: list[Permission]


class NewStaff(Body):
    id: StaffId
    email: Email
    name: Line = Field(examples=["Ana Lima"])
    role: Role


class StaffChange(Body):
    """RFC 7396: only what is there changes. Disabling somebody ends his sessions."""

    name: Line | None = None
    email: Email | None = None
    role: Role | None = None
    disabled: Flag | None = None


class OneTimePassword(BaseModel):
    """Shown this once; it opens nothing but the choice of another, until then."""

    id: str
    password: str
    until: datetime


class NewPassword(Body):
    current_password: Password
    new_password: Password = Field(examples=["correct horse battery staple"])


class Preferences(Body):
    theme: Literal["system", "light", "dark"] = "system"
    zone: Zone = "UTC"
    keys: Flag = Field(True, description="false: single keys are no commands (WCAG 2.1.4)")


class SessionView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    browser: str
    seen_at: datetime
    expires_at: datetime
    recorded_at: datetime


class Sessions(BaseModel):
    items: list[SessionView]


class SessionsEnded(BaseModel):
    ended: int


class StaffActionView(BaseModel):
    """What somebody did: the operation of the API, on what, and what it changed."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    staff_id: str
    operation: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str
    recorded_at: datetime


@router.get("")
async def list_staff(
    session: Session,
    asker: Asker,
    paging: Paging,
    role: Annotated[Role | None, Query()] = None,
    disabled: Annotated[bool | None, Query()] = None,
) -> Page[StaffView | Colleague]:
    """Everybody who works here, by id; their accounts only to who may manage staff."""
    statement = sa.select(Staff)
    if role is not None:
        statement = statement.where(Staff.role == role)
    if disabled is not None:
        is_disabled = Staff.disabled_at.is_not(None)
        statement = statement.where(is_disabled if disabled else ~is_disabled)
    return await read_page(
        session, statement, [Staff.id], paging, lambda row: _view(asker, row), descending=False
    )


@router.get("/me")
async def show_me(session: Session, asker: Asker) -> Me:
    """Who I am, and what I may do."""
    staff = await session.get(Staff, asker.id) if asker.is_staff else None
    may = sorted(PERMISSIONS[asker.role] if asker.role else Permission)
    return Me(id=asker.id, name=staff.name if staff else "", role=asker.role, permissions=may)


@router.post(
    "/me/password", responses={429: {"$ref": f"#/components/responses/{Code.TOO_MANY_SIGN_INS}"}}
)
@needs(Permission.CHANGE_OWN_PASSWORD)
async def change_own_password(
    body: NewPassword, request: Request, session: Session, asker: Asker
) -> SessionsEnded:
    """Choose a password; every other session of mine ends."""
    staff = await _one(session, asker.id, lock=True)
    await confirm_password(request, session, staff, body.current_password)
    if body.new_password == body.current_password:
        raise Problem(Code.CONFLICT, "the new password is the old one")
    await _set_password(staff, body.new_password, one_time=False)
    here = await signed_in_by(request)
    ended = await end_sessions(session, staff_id=staff.id, but=here.session.id if here else None)
    return SessionsEnded(ended=ended)


@router.put("/me/preferences")
@needs(Permission.READ)
async def set_own_preferences(body: Preferences, session: Session, asker: Asker) -> Preferences:
    """How the console looks and listens for me."""
    staff = await _one(session, asker.id, lock=True)
    staff.preferences = body.model_dump()
    return body


@router.get("/{staff_id}")
async def show_staff(
    staff_id: StaffId, session: Session, asker: Asker, response: Response
) -> StaffView | Colleague:
    """One member of staff; the ETag is what PATCH needs."""
    staff = await _one(session, staff_id)
    response.headers["ETag"] = etag(staff.version)
    return _view(asker, staff)


@router.post("", status_code=201)
@needs(Permission.MANAGE_STAFF)
async def create_staff(body: NewStaff, session: Session, response: Response) -> OneTimePassword:
    """Make an account. The password is shown once and has to be replaced at the first sign-in."""
    if body.id in _NOBODYS_IDS:
        raise invalid_field("/id", "stands for somebody else: take another")
    password = one_time_password()
    made = await session.scalar(
        insert(Staff)
        .values(
            **body.model_dump(),
            password_hash=await hash_password(password, about=body.email),
            one_time_password=True,
        )
        .on_conflict_do_nothing()
        .returning(Staff)
    )
    if made is None:
        raise Problem(
            Code.CONFLICT,
            "the id or the e-mail address is taken",
            errors=[FieldError(pointer="/id", code="taken", detail="this id or address is taken")],
        )
    response.headers["Location"] = f"/api/v1/staff/{body.id}"
    return _shown_once(made, password)


@router.patch("/{staff_id}")
@needs(Permission.MANAGE_STAFF)
async def change_staff(
    staff_id: StaffId,
    body: StaffChange,
    request: Request,
    session: Session,
    response: Response,
    if_match: IfMatch = None,
) -> StaffView:
    """Change an account, if nobody else did meanwhile. An administrator who can sign in stays."""
    expected = expected_version(if_match)
    await _lock_admins(session)
    staff = await _one(session, staff_id, lock=True)
    before = StaffView.model_validate(staff)
    if expected is not None and expected != staff.version:
        raise changed_meanwhile("account", staff.version, before)
    values = body.model_dump(exclude_unset=True, exclude_none=True)
    if (disabled := values.pop("disabled", None)) is not None:
        values["disabled_at"] = sa.func.now() if disabled else None
    for name, value in values.items():
        setattr(staff, name, value)
    staff.version += 1
    await session.flush()
    await session.refresh(staff)
    await _refuse_without_admin(session)
    if staff.disabled_at is not None:
        await end_sessions(session, staff_id=staff_id)
    view = StaffView.model_validate(staff)
    note_change(request, before=before.model_dump(mode="json"), after=view.model_dump(mode="json"))
    response.headers["ETag"] = etag(staff.version)
    return view


@router.post("/{staff_id}/password-resets", status_code=201)
@needs(Permission.MANAGE_STAFF)
async def reset_staff_password(staff_id: StaffId, session: Session) -> OneTimePassword:
    """A new password for once; all sessions of that account end."""
    staff = await _one(session, staff_id, lock=True)
    password = one_time_password()
    await _set_password(staff, password, one_time=True)
    await end_sessions(session, staff_id=staff_id)
    return _shown_once(staff, password)


@router.get("/{staff_id}/sessions")
@needs(Permission.READ)
async def list_staff_sessions(staff_id: StaffId, session: Session, asker: Asker) -> Sessions:
    """Where somebody is signed in: oneself, or anybody for an administrator."""
    _permit_own(asker.id, staff_id, asker.may(Permission.MANAGE_STAFF))
    await _one(session, staff_id)
    found = await session.scalars(
        sa.select(StaffSession)
        .where(StaffSession.staff_id == staff_id, StaffSession.expires_at > sa.func.now())
        .order_by(StaffSession.seen_at.desc())
    )
    return Sessions(items=[SessionView.model_validate(one) for one in found])


@router.delete("/{staff_id}/sessions")
@needs(Permission.CHANGE_OWN_PASSWORD)  # whoever has to choose one may leave instead
async def end_staff_sessions(
    staff_id: StaffId,
    session: Session,
    asker: Asker,
    only: Annotated[UUID | None, Query(description="null: all of them")] = None,
) -> SessionsEnded:
    """Revoke sessions at once."""
    may_all = asker.may(Permission.MANAGE_STAFF) and not asker.one_time
    _permit_own(asker.id, staff_id, may_all)
    return SessionsEnded(ended=await end_sessions(session, staff_id=staff_id, only=only))


@actions.get("")
@needs(Permission.READ_AUDIT)
async def list_staff_actions(
    session: Session,
    asker: Asker,
    paging: Paging,
    staff_id: Annotated[StaffId | None, Query()] = None,
    target: Annotated[
        str | None, Query(max_length=300, description="begins with it: such as /tasks/<id>")
    ] = None,
) -> Page[StaffActionView]:
    """Who did what, the latest first: by whom, on what, before and after."""
    statement = sa.select(StaffAction)
    if staff_id is not None:
        statement = statement.where(StaffAction.staff_id == staff_id)
    if target is not None:
        statement = statement.where(StaffAction.target.startswith(target, autoescape=True))
    return await read_page(
        session, statement, [StaffAction.id], paging, lambda row: _action_view(asker, row)
    )


async def _set_password(staff: Staff, password: str, *, one_time: bool) -> None:
    staff.password_hash = await hash_password(password, about=staff.email)
    staff.password_set_at = datetime.now(UTC)
    staff.one_time_password = one_time


def _shown_once(staff: Staff, password: str) -> OneTimePassword:
    assert staff.one_time_until is not None
    return OneTimePassword(id=staff.id, password=password, until=staff.one_time_until)


def _view(asker: Principal, staff: Staff) -> StaffView | Colleague:
    seen = StaffView if asker.may(Permission.MANAGE_STAFF) else Colleague
    return seen.model_validate(staff)


def _action_view(asker: Principal, action: StaffAction) -> StaffActionView:
    """What was done to an account is told without its address to who could not read that there."""
    view = StaffActionView.model_validate(action)
    if action.target.startswith("/staff") and not asker.may(Permission.MANAGE_STAFF):
        for told in (view.before, view.after):
            (told or {}).pop("email", None)
    return view


def _permit_own(asker_id: str, staff_id: str, may_all: bool) -> None:
    if asker_id != staff_id and not may_all:
        raise Problem(Code.FORBIDDEN, "only your own sessions")


async def _one(session: AsyncSession, staff_id: str, *, lock: bool = False) -> Staff:
    staff = await session.get(Staff, staff_id, with_for_update=lock)
    if staff is None:
        raise not_found("member of staff", staff_id)
    return staff


async def _lock_admins(session: AsyncSession) -> None:
    """Two who disable each other at once would each have seen the other stay."""
    admins = sa.select(Staff.id).where(_IS_ADMIN).order_by(Staff.id)
    await session.execute(admins.with_for_update())


async def _refuse_without_admin(session: AsyncSession) -> None:
    if not await session.scalar(sa.select(sa.exists().where(_IS_ADMIN))):
        raise Problem(Code.CONFLICT, "nobody would be left who may manage staff")
