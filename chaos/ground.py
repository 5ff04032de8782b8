"""What a fault run stands on: servers, an empty database, a directory; and what it hands back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client

from database.base import Sessions


@dataclass(frozen=True)
class Ground:
    sessions: Sessions  # of an empty database with the schema
    admin_url: str  # the same server as its superuser
    client: Client
    directory: Path
    say: Callable[[str], None] = lambda _: None

    @property
    def database_url(self) -> str:
        url: str = self.sessions.kw["bind"].url.render_as_string(hide_password=False)
        return url


@dataclass
class Table:
    """The figures of a run, and each thing that is not as it must be."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str | int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.wrong.append(f"{what}: {found} instead of {wanted}")

    def as_json(self) -> dict[str, Any]:
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "wrong": self.wrong}

    def __str__(self) -> str:
        cells = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        return "\n".join([self.title, *lines, *(f"WRONG: {one}" for one in self.wrong)])
