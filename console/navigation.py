"""The left navigation: every screen, in the order of a working day."""

from typing import TYPE_CHECKING, NamedTuple

from domain.staff import Permission

if TYPE_CHECKING:
    from console.viewer import Viewer


class Entry(NamedTuple):
    label: str
    path: str
    mark: str  # a glyph; the label says it in words
    key: str  # after `g`
    permission: Permission = Permission.READ


GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Work",
        (
            Entry("Home", "/console", "⌂", "h"),
            Entry("Tasks", "/console/tasks", "☑", "t"),
            Entry("Cases", "/console/cases", "✉", "q"),
            Entry("Customers", "/console/customers", "☺", "c"),
            Entry("Orders", "/console/orders", "▣", "o"),
            Entry("Feedback", "/console/feedback", "★", "f"),
        ),
    ),
    (
        "Understand",
        (
            Entry("Processes", "/console/processes", "⟳", "p"),
            Entry("Messages", "/console/messages", "↗", "m"),
            Entry("Received", "/console/received-mails", "↙", "r"),
            Entry("Suppressed", "/console/suppressions", "⊘", "d"),
            Entry("Figures", "/console/figures", "▥", "i"),
        ),
    ),
    (
        "Steer",
        (
            Entry("Templates", "/console/templates", "¶", "e", Permission.EDIT_TEMPLATES),
            Entry("Claims", "/console/claims", "✓", "n", Permission.EDIT_TEMPLATES),
            Entry("Policies", "/console/policies", "§", "l", Permission.PUBLISH_POLICIES),
            Entry("Schedules", "/console/schedules", "◷", "s", Permission.RUN_SCHEDULES),
            Entry("Operations", "/console/operations", "⚙", "x", Permission.STEER_PROCESSES),
            Entry("Staff", "/console/staff", "♟", "a", Permission.MANAGE_STAFF),
            Entry("Audit", "/console/audit", "☰", "u", Permission.READ_AUDIT),
        ),
    ),
)


def entries_for(viewer: "Viewer") -> list[tuple[str, list[Entry]]]:
    """What that role may open; groups without any are left out."""
    found = [
        (title, [entry for entry in entries if viewer.may(entry.permission)])
        for title, entries in GROUPS
    ]
    return [(title, entries) for title, entries in found if entries]
