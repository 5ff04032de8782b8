"""Published versions of the policies. None published: the defaults of domain/policies.py."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, written_now
from domain.policies import PolicyKind


class PolicyVersion(Base):
    __tablename__ = "policies"

    kind: Mapped[PolicyKind] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    document: Mapped[dict[str, Any]]
    note: Mapped[str] = mapped_column(default="")
    published_by: Mapped[str]
    published_at: Mapped[datetime] = written_now()

    __table_args__ = (sa.CheckConstraint("version > 0", name="version_counts_from_one"),)
