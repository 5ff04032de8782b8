"""Writes filled lives into a database, and takes them out again."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import LiteralString, NamedTuple, cast
from uuid import UUID

import psycopg
from psycopg import sql

from database.tables import Base
from replay.fill.lives import Life, Row, Share
from supervisor.errors import Refused
from supervisor.postgres_url import libpq_url

_BATCH = 1_000  # customers a transaction
_TABLES = [table.name for table in Base.metadata.sorted_tables]  # what is referred to comes first
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_ABOUT_ORDERS = ("order_milestones",)
_ABOUT_MESSAGES = ("delivery_reports", "message_reactions")

Progress = Callable[[str, int, int], None]  # what, done, of how many


class Size(NamedTuple):
    customers: int = 100_000
    orders: int = 300_000
    lines: int = 1_000_000  # of the timeline


def fill(url: str, size: Size, *, seed: int, beside_real: bool, progress: Progress) -> None:
    """Write `size` into the database at `url` and bring the planner's figures up to date.

    Committed by the thousand customers: what was given up half-way is taken out by `remove`.

    Raises:
        Refused: it holds a fill already, or real customers and not `beside_real`.
    """
    with _connected(url) as connection:
        _refuse_unfit(connection, beside_real=beside_real)
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        simulation = _open_simulation(connection, seed, now)
        batch: dict[str, list[Row]] = defaultdict(list)
        for number, share in enumerate(_shares(size, seed), 1):
            life = Life(number, share, seed=seed, simulation=simulation, now=now)
            for table, rows in life.rows.items():
                batch[table] += rows
            if number % _BATCH == 0 or number == size.customers:
                with connection.transaction():
                    _copy(connection, batch)
                batch.clear()
                progress("customers", number, size.customers)
        _tidy(connection, progress)


def remove(url: str, progress: Progress) -> int:
    """Take every filled customer out with all that refers to them; how many there were.

    One transaction: nothing is taken out when it is interrupted.
    """
    with _connected(url) as connection:
        with connection.transaction():
            connection.execute(
                "CREATE TEMPORARY TABLE filled ON COMMIT DROP AS SELECT c.id FROM customers c"
                " JOIN simulations s ON s.id = c.simulation_id WHERE s.filled"
            )
            connection.execute("ALTER TABLE filled ADD PRIMARY KEY (id)")
            connection.execute("ANALYZE filled")
            for done, table in enumerate(reversed(_TABLES)):
                progress(table, done, len(_TABLES))
                _remove_from(connection, table)
            removed = connection.execute("DELETE FROM customers WHERE id IN (TABLE filled)")
            connection.execute("DELETE FROM simulations WHERE filled")
        _tidy(connection, progress)
    return removed.rowcount


def _connected(url: str) -> psycopg.Connection:
    return psycopg.connect(libpq_url(url), autocommit=True)


def _refuse_unfit(connection: psycopg.Connection, *, beside_real: bool) -> None:
    filled = connection.execute("SELECT FROM simulations WHERE filled LIMIT 1").fetchone()
    if filled is not None:
        raise Refused("this database is filled already: take that out first with --remove")
    real = connection.execute(
        "SELECT FROM customers WHERE simulation_id IS NULL LIMIT 1"
    ).fetchone()
    if real is not None and not beside_real:
        raise Refused("this database holds real customers: --yes fills it nevertheless")


def _open_simulation(connection: psycopg.Connection, seed: int, now: datetime) -> UUID:
    """Its clock goes as ours does: it is there to tell the filled from the others."""
    row = connection.execute(
        "INSERT INTO simulations (name, machine_origin, business_origin, speed, filled)"
        " VALUES (%s, %s, %s, 1, true) RETURNING id",
        [f"fill, seed {seed}", now, now],
    ).fetchone()
    assert row is not None
    return cast(UUID, row[0])


def _shares(size: Size, seed: int) -> Iterator[Share]:
    """Few customers order often and many seldom; the sums are exact."""
    dice = random.Random(seed)
    orders, weight, written = size.orders, 0, 0
    whole = 2 * size.customers + 3 * size.orders  # lines per customer and per order
    for left in range(size.customers, 0, -1):
        mean = orders / left
        share = orders
        if left > 1:
            share = min(orders, round(dice.expovariate(1 / mean))) if orders else 0
        orders -= share
        weight += 2 + 3 * share
        lines = size.lines * weight // whole - written
        written += lines
        yield Share(share, lines)


def _copy(connection: psycopg.Connection, batch: dict[str, list[Row]]) -> None:
    for table in _TABLES:
        if not (rows := batch.get(table)):
            continue
        names = list(rows[0])
        into = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(",").join(map(sql.Identifier, names))
        )
        with connection.cursor().copy(into) as copy:
            copy.write("".join("\t".join(map(_field, row.values())) + "\n" for row in rows))


def _field(value: object) -> str:
    """As COPY reads it. Thrice as fast as psycopg, which looks at each value for its type."""
    if value is None:
        return r"\N"
    return str(value).translate(_ESCAPES)


def _remove_from(connection: psycopg.Connection, table: str) -> None:
    columns = Base.metadata.tables[table].columns
    if table == "suppressions":
        which: LiteralString = (
            "(channel, address) IN (SELECT channel, lower(address) FROM contact_points"
            " WHERE customer_id IN (TABLE filled))"
        )
    elif table in _ABOUT_ORDERS:
        which = "order_id IN (SELECT id FROM orders WHERE customer_id IN (TABLE filled))"
    elif table in _ABOUT_MESSAGES:
        which = "message_id IN (SELECT id FROM messages WHERE customer_id IN (TABLE filled))"
    elif "customer_id" in columns:
        which = "customer_id IN (TABLE filled)"
    else:
        return
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), sql.SQL(which))
    )


def _tidy(connection: psycopg.Connection, progress: Progress) -> None:
    """As autovacuum would before long: an installation that grew to this size has had it done."""
    for done, table in enumerate(_TABLES):
        progress(f"figures of {table}", done, len(_TABLES))
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
