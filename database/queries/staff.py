"""Signing in and out: sessions by their token's hash, failures by the hash of what was tried."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from database.staff import SignInFailure, Staff, StaffSession
from domain.staff import (
    FAILURES_COUNT_FOR,
    SESSION_LASTS_AT_MOST,
    SESSION_RESTS_AT_MOST,
    wait_after,
)

_NOTED_EVERY = timedelta(minutes=1)


class SignedIn(NamedTuple):
    staff: Staff
    session: StaffSession


def hashed(secret: str) -> str:
    """Of a random token or a subject, not of a password: nothing slow is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def find_signed_in(
    session: AsyncSession, token: str, *, used: bool = True
) -> SignedIn | None:
    """Whose session that is, if it is still good; notes about once a minute that it is `used`."""
    rests = (StaffSession.seen_at < sa.func.now() - _NOTED_EVERY).label("rests")
    row = (
        await session.execute(
            sa.select(Staff, StaffSession, rests)
            .join(StaffSession, StaffSession.staff_id == Staff.id)
            .where(
                StaffSession.token_hash == hashed(token),
                StaffSession.expires_at > sa.func.now(),
                StaffSession.seen_at > sa.func.now() - SESSION_RESTS_AT_MOST,
                Staff.disabled_at.is_(None),
            )
        )
    ).one_or_none()
    if row is None:
        return None
    staff, signed_in, rests_long = row
    if used and rests_long:
        await session.execute(
            sa.update(StaffSession)
            .where(StaffSession.id == signed_in.id)
            .values(seen_at=sa.func.now())
            .execution_options(synchronize_session=False)
        )
    return SignedIn(staff, signed_in)


async def find_by_email(session: AsyncSession, email: str) -> Staff | None:
    found: Staff | None = await session.scalar(
        sa.select(Staff).where(sa.func.lower(Staff.email) == email.strip().lower())
    )
    return found


async def begin_session(
    session: AsyncSession, staff_id: str, *, token: str, csrf_token: str, browser: str
) -> None:
    expires: sa.ColumnElement[datetime] = sa.func.now() + SESSION_LASTS_AT_MOST
    await session.execute(
        insert(StaffSession).values(
            token_hash=hashed(token),
            csrf_token=csrf_token,
            staff_id=staff_id,
            browser=browser[:200],
            expires_at=expires,
        )
    )


async def end_sessions(
    session: AsyncSession, *, staff_id: str, but: UUID | None = None, only: UUID | None = None
) -> int:
    """Revoke sessions of somebody; how many there were."""
    statement = sa.delete(StaffSession).where(StaffSession.staff_id == staff_id)
    if but is not None:
        statement = statement.where(StaffSession.id != but)
    if only is not None:
        statement = statement.where(StaffSession.id == only)
    ended = await session.execute(statement.returning(StaffSession.id))
    return len(ended.all())


async def blocked_for(session: AsyncSession, subjects: Sequence[str]) -> float:
    """Seconds until another try is looked at; 0: at once."""
    rest = sa.extract("epoch", sa.func.max(SignInFailure.blocked_until) - sa.func.now())
    left = await session.scalar(
        sa.select(rest).where(SignInFailure.subject.in_([hashed(one) for one in subjects]))
    )
    return max(float(left or 0), 0.0)


# A row that has to wait is left as it is, also where that was written after this statement began.
_FAILURE = sa.text("""
    INSERT INTO sign_in_failures AS known (subject, failures, blocked_until)
    VALUES (:subject, 1, now())
    ON CONFLICT (subject) DO UPDATE SET failures =
        CASE WHEN known.blocked_until < now() - :count_for THEN 1 ELSE known.failures + 1 END
    WHERE known.blocked_until <= clock_timestamp()
    RETURNING new.failures, old.blocked_until AS before
""")


class Noted(NamedTuple):
    """A failure that was counted; `before`: until when its subject had had to wait, if it had."""

    subject: str
    before: datetime | None


async def note_failure(session: AsyncSession, subject: str) -> Noted | None:
    """One more in a row, and the time until the next try is looked at; None where that is not over.

    Of several at once each counts, one after the other.
    """
    known = {"subject": hashed(subject), "count_for": FAILURES_COUNT_FOR}
    row = (await session.execute(_FAILURE, known)).one_or_none()
    if row is None:
        return None
    await session.execute(
        _of(subject).values(blocked_until=sa.func.now() + wait_after(row.failures))
    )
    return Noted(subject, row.before)


async def take_back(session: AsyncSession, noted: Noted) -> None:
    """It was none."""
    before = sa.func.now() if noted.before is None else noted.before
    await session.execute(
        _of(noted.subject).values(failures=SignInFailure.failures - 1, blocked_until=before)
    )


def _of(subject: str) -> sa.Update:
    return sa.update(SignInFailure).where(SignInFailure.subject == hashed(subject))


async def forget_failures(session: AsyncSession, subject: str) -> None:
    await session.execute(sa.delete(SignInFailure).where(SignInFailure.subject == hashed(subject)))


async def forget_past(session: AsyncSession, at: datetime) -> int:
    """Delete sessions that open nothing any more and failures that don't count; how many."""
    ended = sa.delete(StaffSession).where(
        (StaffSession.expires_at < at) | (StaffSession.seen_at < at - SESSION_RESTS_AT_MOST)
    )
    past = sa.delete(SignInFailure).where(SignInFailure.blocked_until < at - FAILURES_COUNT_FOR)
    sessions = await session.execute(ended.returning(StaffSession.id))
    failures = await session.execute(past.returning(SignInFailure.subject))
    return len(sessions.all()) + len(failures.all())
