"""Some filled lives after each other: made, and copied into the database in one transaction."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from database.tables import Base
from replay.fill.customer import live
from replay.fill.life import Row, Share

TABLES = [table.name for table in Base.metadata.sorted_tables]  # what is referred to comes first


class Batch(NamedTuple):
    first: int  # number of a customer; the others follow
    shares: Sequence[Share]
    seed: int
    simulation: UUID
    now: datetime


def write_batch(batch: Batch, connection: psycopg.Connection) -> None:
    """Make its lives and commit them.

    Secondary indexes and foreign keys, each a third of PostgreSQL's work here, stay: without them
    the tables would be locked until the end for an instance that runs, and nothing committed before
    it; to switch the checks off takes a superuser, which our role is not.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    _, shares, seed, simulation, now = batch
    for number, share in enumerate(shares, batch.first):
        life = live(number, share, seed=seed, simulation=simulation, now=now)
        for table, added in life.rows.items():
            rows[table] += added
    with connection.transaction():
        # Whoever fills goes on meanwhile; what is committed after that brings it to the disk.
        connection.execute("SET LOCAL synchronous_commit TO off")
        for table in TABLES:
            if table in rows:
                _copy(connection, table, rows[table])


def _copy(connection: psycopg.Connection, table: str, rows: Sequence[Row]) -> None:
    """Much faster than psycopg's own `write_row`, which looks at each value for its type.

    What Python makes of a value is what COPY reads; no value holds a tab or a new line, which
    would be escaped, and none is the word None.
    """
    into = sql.SQL("COPY {} ({}) FROM STDIN (NULL 'None')").format(
        sql.Identifier(table), sql.SQL(",").join(map(sql.Identifier, rows[0]))
    )
    text = "".join(["\t".join(map(str, row.values())) + "\n" for row in rows])
    with connection.cursor().copy(into) as copy:
        copy.write(text.replace("\\", r"\\"))
