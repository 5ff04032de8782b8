"""What text is searched by: without case and accents, and in plain ASCII whatever its script.

pg_trgm knows the letters of the database's LC_CTYPE only, and the embedded one's is C: of a name in
Arabic or Chinese no trigram is left. So `folded` writes each byte beyond ASCII as x and three
digits, which keeps prefixes, parts and likeness what they were.
"""

from typing import Any

import sqlalchemy as sa

LONGEST_FOLDED = 1_000  # characters: what a btree takes, in any script

CREATE_EXTENSIONS = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE EXTENSION IF NOT EXISTS unaccent",
)
# Immutable for us: `unaccent` reads a dictionary that only a change of the extension changes.
CREATE_FOLDED = f"""
CREATE OR REPLACE FUNCTION folded(said text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN left(translate(encode(convert_to(
    lower(unaccent(normalize(said, NFKC)) COLLATE pg_c_utf8), 'UTF8'), 'escape'
), '\\', 'x'), {LONGEST_FOLDED})
"""


def prepare_search(metadata: sa.MetaData) -> None:
    """Whoever makes the tables from `metadata` gets what their columns and indexes stand on."""

    def create(_: sa.MetaData, connection: sa.Connection, **options: object) -> None:
        for statement in (*CREATE_EXTENSIONS, CREATE_FOLDED):
            connection.exec_driver_sql(statement)

    sa.event.listen(metadata, "before_create", create)


def trigrams(name: str, expression: str, **options: Any) -> sa.Index:
    """For LIKE with a wildcard on either side, and for what is like."""
    column: sa.Label[str] = sa.literal_column(expression).label("searched")
    operators = {"searched": "gin_trgm_ops"}
    return sa.Index(name, column, postgresql_using="gin", postgresql_ops=operators, **options)


def prefixes(name: str, expression: str) -> sa.Index:
    """For what is typed as it is or begins with it, whatever the database's collation."""
    column: sa.Label[str] = sa.literal_column(expression).label("searched")
    return sa.Index(name, column, postgresql_ops={"searched": "text_pattern_ops"})
