"""Writes filled lives into a database, and takes them out again."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from typing import LiteralString, NamedTuple, cast
from uuid import UUID

import psycopg
from psycopg import sql

from database.tables import Base
from replay.fill.batch import TABLES, Batch, write_batch
from replay.fill.crew import Crew, connected
from replay.fill.life import Share
from supervisor.errors import Refused

_BATCH = 1_000  # customers a transaction
_ABOUT_ORDERS = ("order_milestones",)
_ABOUT_MESSAGES = ("delivery_reports", "message_reactions")

Progress = Callable[[str, int, int], None]  # what, done, of how many


class Size(NamedTuple):
    customers: int = 100_000
    orders: int = 300_000
    lines: int = 1_000_000  # of the timeline


def fill(
    url: str,
    size: Size,
    *,
    seed: int,
    now: datetime,
    processes: int,
    beside_real: bool,
    progress: Progress,
) -> None:
    """Write `size` into the database at `url` and bring the planner's figures up to date.

    Seed and `now` make the rows, however many `processes` write them; only the numbers that
    PostgreSQL gives are in no order. Committed by the thousand customers: what was given up
    half-way is taken out by `remove`.

    Raises:
        Refused: it holds a fill already, or real customers and not `beside_real`; or a process
            ended early.
    """
    now = now.replace(minute=0, second=0, microsecond=0)
    with connected(url) as connection:
        _refuse_unfit(connection, beside_real=beside_real)
        simulation = _open_simulation(connection, seed, now)
    count = min(_BATCH, -(-size.customers // processes))
    shares = _shares(size, seed)
    batches = (
        Batch(first, list(islice(shares, count)), seed, simulation, now)
        for first in range(1, size.customers + 1, count)
    )
    with Crew(url, processes) as crew:
        for done, _ in enumerate(crew.do(partial(write_batch, batch) for batch in batches), 1):
            progress("customers", min(done * count, size.customers), size.customers)
        _tidy(crew, progress)


def remove(url: str, *, processes: int, progress: Progress) -> int:
    """Take every filled customer out with all that refers to them; how many there were.

    One transaction: nothing is taken out when it is interrupted.
    """
    with connected(url) as connection, connection.transaction():
        connection.execute(
            "CREATE TEMPORARY TABLE filled ON COMMIT DROP AS SELECT c.id FROM customers c"
            " JOIN simulations s ON s.id = c.simulation_id WHERE s.filled"
        )
        connection.execute("ALTER TABLE filled ADD PRIMARY KEY (id)")
        connection.execute("ANALYZE filled")
        for done, table in enumerate(reversed(TABLES)):
            progress(table, done, len(TABLES))
            _remove_from(connection, table)
        removed = connection.execute("DELETE FROM customers WHERE id IN (TABLE filled)")
        connection.execute("DELETE FROM simulations WHERE filled")
    with Crew(url, processes) as crew:
        _tidy(crew, progress)
    return removed.rowcount


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
    for left in range(size.customers, 0, -1):  # in the order in which they came
        mean = orders / left
        share = orders
        if left > 1:
            share = min(orders, round(dice.expovariate(1 / mean))) if orders else 0
        orders -= share
        weight += 2 + 3 * share
        lines = size.lines * weight // whole - written
        written += lines
        yield Share(share, lines, age=(left - dice.random()) / size.customers)


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


def _tidy(crew: Crew, progress: Progress) -> None:
    """As autovacuum would before long: an installation that grew to this size has had it done."""
    for done, _ in enumerate(crew.do(partial(_vacuum, table) for table in reversed(TABLES)), 1):
        progress("figures of the tables", done, len(TABLES))


def _vacuum(table: str, connection: psycopg.Connection) -> None:
    connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
