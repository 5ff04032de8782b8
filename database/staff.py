"""Staff: accounts, sessions, what each has done, and the views they keep."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, uuid_key, written_now
from domain.staff import ONE_TIME_PASSWORD_LASTS
from domain.tasks import Role


class Staff(Base):
    """A person who works here. The id stands where names must not: in workflows, logs, messages."""

    __tablename__ = "staff"

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    role: Mapped[Role]
    password_hash: Mapped[str]  # argon2id, with its parameters
    password_set_at: Mapped[datetime] = written_now()
    one_time_password: Mapped[bool]  # to be replaced at the first sign-in
    preferences: Mapped[dict[str, Any]] = mapped_column(server_default=sa.text("'{}'"))
    disabled_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (sa.Index("uq_staff_email", sa.text("lower(email)"), unique=True),)

    @property
    def one_time_until(self) -> datetime | None:
        return self.password_set_at + ONE_TIME_PASSWORD_LASTS if self.one_time_password else None

    @property
    def enabled(self) -> bool:
        return self.disabled_at is None


class StaffSession(Base):
    """A sign-in. Revoked by its row: there is nothing a browser could keep that still opens."""

    __tablename__ = "staff_sessions"

    id: Mapped[UUID] = uuid_key()
    token_hash: Mapped[str] = mapped_column(unique=True)  # sha256: the table alone opens nothing
    csrf_token: Mapped[str]
    staff_id: Mapped[str] = mapped_column(sa.ForeignKey("staff.id", ondelete="CASCADE"), index=True)
    browser: Mapped[str]
    seen_at: Mapped[datetime] = written_now()
    expires_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = written_now()


class SignInFailure(Base):
    """Failed sign-ins in a row, for an account and for an address; a success takes them away."""

    __tablename__ = "sign_in_failures"

    subject: Mapped[str] = mapped_column(primary_key=True)  # sha256 of what was tried
    failures: Mapped[int]
    blocked_until: Mapped[datetime]


class StaffAction(Base):
    """What a member of staff did, written in the transaction of its effect."""

    __tablename__ = "staff_actions"

    id: Mapped[UUID] = uuid_key()
    staff_id: Mapped[str] = mapped_column(index=True)
    operation: Mapped[str]  # of the API, such as `complete_task`
    target: Mapped[str] = mapped_column(index=True)  # the path, such as /tasks/<id>
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    request_id: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=sa.func.now(), index=True)


class SavedView(Base):
    """A list with its filters, under a name."""

    __tablename__ = "saved_views"

    id: Mapped[UUID] = uuid_key()
    staff_id: Mapped[str] = mapped_column(sa.ForeignKey("staff.id", ondelete="CASCADE"), index=True)
    screen: Mapped[str]
    name: Mapped[str]
    query: Mapped[str]
    shared: Mapped[bool]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (sa.UniqueConstraint("staff_id", "screen", "name"),)
