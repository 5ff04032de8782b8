"""One member of staff of each role for the demo, with a password made on this installation."""

from pathlib import Path
from typing import NamedTuple

import psycopg

from domain.passwords import hashed_password, one_time_password
from domain.tasks import Role
from supervisor.errors import Refused
from supervisor.postgres_url import libpq_url
from supervisor.run_file import RunFile
from supervisor.secret_files import ensure_secret

_PEOPLE = {
    Role.SALES_REP: "Sam Sales",
    Role.SUPPORT_AGENT: "Alex Agent",
    Role.ACCOUNT_MANAGER: "Amal Account",
    Role.OPS: "Oda Operations",
    Role.MANAGER: "Mika Manager",
    Role.ADMIN: "Ada Admin",
}


# Somebody has chosen a password, and no demo was here before.
_IN_USE = (
    "SELECT EXISTS (SELECT FROM staff WHERE NOT one_time_password)"
    " AND NOT EXISTS (SELECT FROM staff WHERE id LIKE 'demo-%')"
)


class DemoStaff(NamedTuple):
    """How to get in: by these addresses, and one password for all of them."""

    emails: dict[Role, str]
    password: str
    file: Path


def demo_staff(run: RunFile) -> DemoStaff:
    """Made at the first demo on these data; afterwards the same.

    Raises:
        Refused: people work with this installation, and none of them is of the demo.
    """
    file = run.data_dir / "secrets" / "demo_password"
    password = ensure_secret(file, one_time_password)
    emails = {role: f"{role.replace('_', '-')}@demo.example" for role in _PEOPLE}
    with psycopg.connect(libpq_url(run.database_url), connect_timeout=5) as connection:
        if connection.execute(_IN_USE).fetchone() == (True,):
            raise Refused(
                "staff works here already: no accounts of the demo are made beside theirs"
            )
        for role, name in _PEOPLE.items():
            # What an earlier demo has made stays, unless its password file is gone.
            connection.execute(
                "INSERT INTO staff"
                " (id, email, name, role, password_hash, one_time_password, version)"
                " VALUES (%s, %s, %s, %s, %s, false, 1)"
                " ON CONFLICT (id) DO UPDATE"
                " SET password_hash = excluded.password_hash, password_set_at = now()",
                (
                    f"demo-{role.replace('_', '-')}",
                    *(emails[role], name, role.value),
                    hashed_password(password, about=emails[role]),
                ),
            )
    return DemoStaff(emails, password, file)
