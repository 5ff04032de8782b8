"""Passwords and sessions: what the console's sign-in page and the staff endpoints share."""

import asyncio
import math
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Resources
from api.errors import Code, Problem, invalid_field
from api.routing import note_if_refused
from database.queries.staff import (
    begin_session,
    blocked_for,
    find_by_email,
    forget_failures,
    note_failure,
    take_back,
)
from database.staff import Staff
from domain.passwords import hashed_password, is_right
from domain.staff import ONE_TIME_PASSWORD_LASTS


async def sign_in(request: Request, held: Resources, email: str, password: str) -> str:
    """Begin a session; the token for its cookie. Raises the 401 and 429 problems, and the 403 of a
    password for once that has ended: only who knows that password is told so.

    A try counts for the account and for the address it comes from. It counts as failed before the
    password is looked at: many at once would each find nothing counted yet.
    """
    account, address = subjects = _tried(request, email)
    async with held.sessions.begin() as session:
        await _refuse_blocked(session, subjects)
        of_account = await note_failure(session, account)
        of_address = await note_failure(session, address)
        if of_account is None or of_address is None:  # of two at once the other was first
            raise _too_many(1)
        staff = await find_by_email(session, email)
    known = staff.password_hash if staff else None
    fits = await asyncio.to_thread(is_right, password, known)
    if staff is None or staff.disabled_at is not None or not fits:
        raise Problem(Code.UNAUTHENTICATED, "the e-mail address or the password is not right")
    _refuse_ended(staff)
    async with held.sessions.begin() as session:
        await forget_failures(session, account)
        await take_back(session, of_address)
        return await new_session(session, staff.id, request.headers.get("user-agent", ""))


async def new_session(session: AsyncSession, staff_id: str, browser: str) -> str:
    """The token that its cookie holds, and nobody else."""
    token = secrets.token_urlsafe(32)
    csrf_token = secrets.token_urlsafe(24)
    await begin_session(session, staff_id, token=token, csrf_token=csrf_token, browser=browser)
    return token


async def confirm_password(
    request: Request, session: AsyncSession, staff: Staff, password: str
) -> None:
    """That of the account which `session` has locked. Raises the problem of the field, the 429, and
    the 403 of a password for once that has ended.

    Who has found a session open must not find out its password either, so a failure counts as one
    of the sign-in does.
    """
    subjects = _tried(request, staff.email)
    await _refuse_blocked(session, subjects)
    if not await asyncio.to_thread(is_right, password, staff.password_hash):
        note_if_refused(request, partial(_note_failures, subjects=subjects))
        raise invalid_field("/current_password", "is not right")
    _refuse_ended(staff)
    await forget_failures(session, subjects[0])


async def hash_password(password: str, *, about: str) -> str:
    """Raises the problem of the field, with what to do."""
    try:
        return await asyncio.to_thread(hashed_password, password, about=about)
    except ValueError as refusal:
        raise invalid_field("/new_password", str(refusal)) from None


def _tried(request: Request, email: str) -> tuple[str, str]:
    """What failures are counted for: the account and the address."""
    address = request.client.host if request.client else "unknown"
    return f"account {email.strip().lower()}", f"address {address}"


def _refuse_ended(staff: Staff) -> None:
    if staff.one_time_until is not None and staff.one_time_until <= datetime.now(UTC):
        raise Problem(
            Code.ONE_TIME_PASSWORD_ENDED,
            f"it was good for {ONE_TIME_PASSWORD_LASTS // timedelta(hours=1)} hours",
        )


async def _refuse_blocked(session: AsyncSession, subjects: Sequence[str]) -> None:
    if wait := await blocked_for(session, subjects):
        raise _too_many(wait)


async def _note_failures(session: AsyncSession, subjects: Sequence[str]) -> None:
    for subject in subjects:
        await note_failure(session, subject)


def _too_many(wait: float) -> Problem:
    after = math.ceil(wait)
    headers = {"Retry-After": str(after)}
    return Problem(Code.TOO_MANY_SIGN_INS, f"try again in {after} s", headers=headers)
