"""The first start makes one administrator, whose password is printed and good for once."""

from typing import NamedTuple

import psycopg

from supervisor.postgres_url import libpq_url

_ID = "admin"


class FirstAdmin(NamedTuple):
    email: str
    password: str


def first_admin(database_url: str, email: str) -> FirstAdmin | None:
    """Made where nobody works yet; None where somebody does."""
    with psycopg.connect(libpq_url(database_url), connect_timeout=5) as connection:
        if connection.execute("SELECT EXISTS (SELECT FROM staff)").fetchone() != (False,):
            return None
        # Only now: its import takes longer than the question.
        from domain.passwords import hashed_password, one_time_password  # noqa: PLC0415

        password = one_time_password()
        made = connection.execute(
            "INSERT INTO staff (id, email, name, role, password_hash, one_time_password, version)"
            " VALUES (%s, %s, %s, 'admin', %s, true, 1) ON CONFLICT DO NOTHING RETURNING id",
            (_ID, email, "Administrator", hashed_password(password, about=email)),
        ).fetchone()
        return FirstAdmin(email, password) if made else None
