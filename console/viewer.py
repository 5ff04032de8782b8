"""Who looks at a page."""

from dataclasses import dataclass
from uuid import UUID

from database.queries.staff import SignedIn
from domain.staff import PERMISSIONS, Permission
from domain.tasks import Role

THEMES = ("system", "light", "dark")


@dataclass(frozen=True)
class Viewer:
    id: str
    name: str
    email: str
    role: Role
    csrf_token: str
    session_id: UUID
    one_time: bool
    theme: str = "system"
    zone: str = "UTC"
    keys: bool = True  # single keys as commands (WCAG 2.1.4: they can be turned off)

    @classmethod
    def of(cls, signed_in: SignedIn) -> "Viewer":
        staff, session = signed_in
        return cls(
            id=staff.id,
            name=staff.name,
            email=staff.email,
            role=staff.role,
            csrf_token=session.csrf_token,
            session_id=session.id,
            one_time=staff.one_time_password,
            theme=str(staff.preferences.get("theme", "system")),
            zone=str(staff.preferences.get("zone", "UTC")),
            keys=bool(staff.preferences.get("keys", True)),
        )

    def may(self, permission: str) -> bool:
        """By the name of a `Permission`: templates ask too."""
        return Permission(permission) in PERMISSIONS[self.role]
