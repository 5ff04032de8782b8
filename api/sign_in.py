"""Passwords and sessions: what the console's sign-in page and the staff endpoints share."""

import asyncio
import secrets

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Resources
from api.errors import Code, Problem, invalid_field
from database.queries.staff import (
    begin_session,
    blocked_for,
    find_by_email,
    forget_failures,
    note_failure,
)
from database.staff import Staff
from domain.passwords import hashed_password, is_right


async def sign_in(request: Request, held: Resources, email: str, password: str) -> str:
    """Begin a session; the token for its cookie. Raises the 401 and 429 problems.

    Failures are counted for the account and for the address they come from, and committed although
    the request is refused.
    """
    address = request.client.host if request.client else "unknown"
    account = f"account {email.strip().lower()}"
    async with held.sessions() as session:
        wait = await blocked_for(session, [account, f"address {address}"])
        staff = await find_by_email(session, email)
    if wait:
        raise Problem(
            Code.TOO_MANY_SIGN_INS,
            f"try again in {wait:.0f} s",
            headers={"Retry-After": str(int(wait) + 1)},
        )
    known = staff.password_hash if staff else None
    fits = await asyncio.to_thread(is_right, password, known)
    async with held.sessions.begin() as session:
        if staff is None or staff.disabled_at is not None or not fits:
            await note_failure(session, account)
            await note_failure(session, f"address {address}")
        else:
            await forget_failures(session, account)
            return await new_session(session, staff.id, request.headers.get("user-agent", ""))
    raise Problem(Code.UNAUTHENTICATED, "the e-mail address or the password is not right")


async def new_session(session: AsyncSession, staff_id: str, browser: str) -> str:
    """The token that its cookie holds, and nobody else."""
    token = secrets.token_urlsafe(32)
    csrf_token = secrets.token_urlsafe(24)
    await begin_session(session, staff_id, token=token, csrf_token=csrf_token, browser=browser)
    return token


async def confirm_password(staff: Staff, password: str) -> None:
    """Raises the problem of the field."""
    if not await asyncio.to_thread(is_right, password, staff.password_hash):
        raise invalid_field("/current_password", "is not right")


async def hash_password(password: str, *, about: str) -> str:
    """Raises the problem of the field, with what to do."""
    try:
        return await asyncio.to_thread(hashed_password, password, about=about)
    except ValueError as refusal:
        raise invalid_field("/new_password", str(refusal)) from None
