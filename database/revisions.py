"""What the newest revision of the schema is, without the time it takes to import Alembic."""

import re
from pathlib import Path

_MIGRATIONS = Path(__file__).with_name("migrations")
_REVISION = re.compile(r"""^revision\b.*?=\s*["'](\w+)["']""", re.M)
_FOLLOWS = re.compile(r"^down_revision\b.*?=(.*)$", re.M)


def newest_revisions() -> set[str]:
    """The revisions no other one follows, read from the files' text."""
    texts = [file.read_text() for file in (_MIGRATIONS / "versions").glob("*.py")]
    revisions = {name for text in texts for name in _REVISION.findall(text)}
    followed = {
        name
        for text in texts
        for line in _FOLLOWS.findall(text)
        for name in re.findall(r"""["'](\w+)["']""", line)
    }
    return revisions - followed
