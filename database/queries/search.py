"""Customers, orders, cases, tasks and processes by what somebody types; every answer is bounded.

The best come first: what is typed as it is, what begins with it, what contains it. Only where too
little of that is found, what is like it (pg_trgm): a reference must be right, a name need not be.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import ContactPoint, Customer, CustomerKind
from database.orders import Order
from database.processes import ProcessRow
from database.support import Case
from database.tasks import Task
from domain.messages import Channel
from domain.processes import (
    ProcessKind,
    delivery_workflow_id,
    follow_up_workflow_id,
    support_workflow_id,
)
from domain.tasks import TaskKind

_LIKENESS_FROM = 4  # characters; less is like too much
# What pg_trgm finds in a part: three in a word, the last two of one, or where one begins.
_TRIGRAM = re.compile("[a-z0-9]{3}|[a-z0-9]{2}[^a-z0-9]|[^a-z0-9][a-z0-9]")
_DIGITS_FROM = 4  # of a phone number
_HEX_FROM = 8  # digits of an id: of a version 7, the minute
_PHONE = re.compile(r"[+0-9 ()./-]+")
_ID = re.compile(r"(?:(?P<word>[a-z-]+)/)?(?P<hex>[0-9a-f-]{8,36})(?:/.*)?")
_KINDS = {  # by the first word of a workflow id
    "customer": ProcessKind.LIFECYCLE,
    "marketing": ProcessKind.MARKETING,
    "delivery": ProcessKind.DELIVERY,
    "case": ProcessKind.SUPPORT,
    "follow-up": ProcessKind.FOLLOW_UP,
    "retention": ProcessKind.RETENTION,
}

# pg_trgm's own 0.6 forgives no wrong letter in a short name. A script beyond ASCII is written in
# digits (database/search.py), which are all a little alike.
_ALIKE, _ALIKE_IN_DIGITS = "0.5", "0.8"

Referenced = TypeVar("Referenced", Order, Case)


class Match(StrEnum):
    """How well something fits; the best first."""

    EXACT = "exact"
    PREFIX = "prefix"
    CONTAINS = "contains"
    SIMILAR = "similar"


_MATCHES = list(Match)


class Typed(NamedTuple):
    """What was typed: in lower case as references and addresses are, and folded as names are."""

    lower: str
    folded: str

    @property
    def digits(self) -> str:
        """Of a phone number; empty when it can't be one."""
        found = re.sub(r"\D", "", self.lower) if _PHONE.fullmatch(self.lower) else ""
        return found if len(found) >= _DIGITS_FROM else ""

    @property
    def may_be_misspelt(self) -> bool:
        return len(self.folded) >= _LIKENESS_FROM


class Ids(NamedTuple):
    """A range of ids: those that begin as typed. `kind`: where it is of a workflow id."""

    kind: ProcessKind | None
    first: UUID
    last: UUID


async def read_typed(session: AsyncSession, text: str) -> Typed:
    """Fold `text` as PostgreSQL folds what is looked for.

    Until the transaction ends it also knows how alike is alike, and plans for the very words: a
    plan for any pattern can't use what begins with this one.
    """
    folded = sa.func.folded(text)
    encoded = folded.regexp_match("x[0-9]{3}x[0-9]{3}")
    alike = sa.case((encoded, _ALIKE_IN_DIGITS), else_=_ALIKE)
    row = await session.execute(
        sa.select(
            sa.func.lower(text),
            folded,
            sa.func.set_config("pg_trgm.word_similarity_threshold", alike, True),
            sa.func.set_config("plan_cache_mode", "force_custom_plan", True),
        )
    )
    return Typed(*row.one()[:2])


def ids_in(text: str) -> Ids | None:
    """What a workflow id, or an id or its first digits, stand for."""
    found = _ID.fullmatch(text.lower())
    if found is None or found["word"] not in (None, *_KINDS):
        return None
    digits = found["hex"].replace("-", "")
    if not _HEX_FROM <= len(digits) <= 32:
        return None
    kind = _KINDS[found["word"]] if found["word"] else None
    return Ids(kind, UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))


async def customers_like(session: AsyncSession, text: str) -> sa.ColumnElement[bool]:
    """The condition of a list of customers: those that fit or, where none does, that are like it.

    They fit by a part of the name or reference, or by an address as far as it was typed.
    """
    typed = await read_typed(session, text)
    if not typed.may_be_misspelt:
        return _fits(typed)
    arms = _customer_arms(typed, kind=None, ids=None)
    if await _best(session, 1, arms):
        return _fits(typed)
    # Found first and sorted then: the planner takes likeness for cheap, and would try everybody.
    alike = sa.select(Customer.id).where(_is_like(typed))
    return Customer.id == sa.any_(sa.func.array(alike.correlate(None).scalar_subquery()))


async def find_customers(
    session: AsyncSession,
    typed: Typed,
    *,
    limit: int,
    kind: CustomerKind | None = None,
    ids: Ids | None = None,
) -> list[tuple[Customer, str | None, Match]]:
    """Each with the address used first; the best first."""
    arms = _customer_arms(typed, kind, ids)
    found = await _best(session, limit, arms)
    if len(found) < limit and typed.may_be_misspelt:
        likeness = sa.func.word_similarity(typed.folded, Customer.folded_name)
        like = (
            sa.select(Customer.id)
            .where(_is_like(typed), _of_kind(kind))
            .order_by(likeness.desc(), sa.func.length(Customer.folded_name), Customer.id)
            .limit(limit)
        )
        for customer_id in await session.scalars(like):
            found.setdefault(customer_id, Match.SIMILAR)
    return await _with_addresses(session, dict(list(found.items())[:limit]))


def _of_kind(kind: CustomerKind | None) -> sa.ColumnElement[bool]:
    return sa.true() if kind is None else Customer.kind == kind


def _customer_arms(
    typed: Typed, kind: CustomerKind | None, ids: Ids | None
) -> list[tuple[Match, sa.Select[UUID]]]:
    of_kind = _of_kind(kind)
    name, reference = Customer.folded_name, sa.func.lower(Customer.reference)
    customers = sa.select(Customer.id).where(of_kind)
    addressed = (
        sa.select(Customer.id)
        .join(ContactPoint, ContactPoint.customer_id == Customer.id)
        .where(of_kind)
    )
    arms = [
        (Match.EXACT, customers.where(reference == typed.lower)),
        (Match.EXACT, addressed.where(sa.func.lower(ContactPoint.address) == typed.lower)),
        (Match.EXACT, customers.where(name == typed.folded)),
        (Match.PREFIX, customers.where(_begins(name, typed.folded)).order_by(name)),
        (Match.PREFIX, customers.where(_begins(reference, typed.lower))),
        (Match.PREFIX, addressed.where(_address_fits(typed))),
        (Match.CONTAINS, customers.where(_has(name, typed.folded))),
        (Match.CONTAINS, customers.where(_has(reference, typed.lower))),
    ]
    if ids is not None and ids.kind in (None, ProcessKind.LIFECYCLE):
        arms.append((Match.PREFIX, customers.where(Customer.id.between(ids.first, ids.last))))
    return arms


async def find_referenced(
    session: AsyncSession, table: type[Referenced], typed: Typed, ids: Ids | None, limit: int
) -> list[tuple[Referenced, str, Match]]:
    """Orders or cases by reference or id, each with its customer's name; the best first."""
    reference = sa.func.lower(table.reference)
    rows = sa.select(table.id)
    arms = [
        (Match.EXACT, rows.where(reference == typed.lower)),
        (Match.PREFIX, rows.where(_begins(reference, typed.lower))),
        (Match.CONTAINS, rows.where(_has(reference, typed.lower))),
    ]
    if ids is not None and ids.kind in (None, _KINDS["delivery" if table is Order else "case"]):
        arms.append((Match.PREFIX, rows.where(table.id.between(ids.first, ids.last))))
    found = await _best(session, limit, arms)
    named = await session.execute(
        sa.select(table, Customer.name)
        .join(Customer, Customer.id == table.customer_id)
        .where(table.id.in_(found))
    )
    rows_found: list[tuple[Referenced, str]] = [(row[0], row[1]) for row in named]
    matched = [(row, name, found[row.id]) for row, name in rows_found]
    order = list(found)
    return sorted(matched, key=lambda hit: order.index(hit[0].id))


async def find_tasks(
    session: AsyncSession, typed: Typed, kinds: Sequence[TaskKind], limit: int
) -> list[tuple[Task, str]]:
    """Open tasks of these kinds, of an owner or about a customer, each with his name.

    The most urgent first.
    """
    found = await session.execute(
        sa.select(Task, Customer.name)
        .join(Customer, Customer.id == Task.customer_id)
        .where(
            Task.ended_at.is_(None),
            sa.or_(Task.kind.in_(kinds), sa.func.lower(Task.owner) == typed.lower, _fits(typed)),
        )
        .order_by(Task.due_at, Task.id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in found]


async def find_processes(
    session: AsyncSession, text: str, ids: Ids, limit: int
) -> list[tuple[ProcessRow, str]]:
    """By workflow id, or by the id of a customer, an order or a case; the latest first."""
    about = [text]
    for table in (Order, Case):
        within = sa.select(table.id).where(table.id.between(ids.first, ids.last)).limit(limit)
        for found in await session.scalars(within):
            named = (delivery_workflow_id, support_workflow_id, follow_up_workflow_id)
            about += [workflow_id(found) for workflow_id in named]
    is_meant = sa.or_(
        ProcessRow.workflow_id.in_(about), ProcessRow.customer_id.between(ids.first, ids.last)
    )
    rows = await session.execute(
        sa.select(ProcessRow, Customer.name)
        .join(Customer, Customer.id == ProcessRow.customer_id)
        .where(is_meant, sa.true() if ids.kind is None else ProcessRow.kind == ids.kind)
        .order_by(ProcessRow.recorded_at.desc(), ProcessRow.workflow_id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows]


def _fits(typed: Typed) -> sa.ColumnElement[bool]:
    # As an array: three conditions on one table can each use their index.
    by_address = sa.select(ContactPoint.customer_id).where(_address_fits(typed))
    return sa.or_(
        _has(Customer.folded_name, typed.folded),
        _has(sa.func.lower(Customer.reference), typed.lower),
        Customer.id == sa.any_(sa.func.array(by_address.scalar_subquery())),
    )


def _is_like(typed: Typed) -> sa.ColumnElement[bool]:
    return sa.literal(typed.folded).bool_op("<%")(Customer.folded_name)


def _address_fits(typed: Typed) -> sa.ColumnElement[bool]:
    address = sa.func.lower(ContactPoint.address)
    fits = _begins(address, typed.lower)
    if typed.digits:
        by_phone = (ContactPoint.channel == Channel.SMS) & address.like(f"%{typed.digits}%")
        fits = sa.or_(fits, by_phone)
    return fits & ContactPoint.retired_at.is_(None)


def _begins(column: Any, text: str) -> sa.ColumnElement[bool]:
    fits: sa.ColumnElement[bool] = column.like(f"{_escaped(text)}%")
    return fits


def _has(column: Any, text: str) -> sa.ColumnElement[bool]:
    """A part of it; of a word its beginning where less than a trigram was typed.

    Without a letter or digit there is no trigram, and every row would be looked at.
    """
    if _TRIGRAM.search(text):
        fits: sa.ColumnElement[bool] = column.like(f"%{_escaped(text)}%")
        return fits
    begins = _begins(column, text)
    if text[0].isalnum() and text.isascii():
        return sa.or_(begins, column.like(f"% {_escaped(text)}%"))
    return begins


def _escaped(text: str) -> str:
    return re.sub(r"([%_\\])", r"\\\1", text)


async def _best(
    session: AsyncSession, limit: int, arms: Sequence[tuple[Match, sa.Select[UUID]]]
) -> dict[UUID, Match]:
    """The best of what the arms find. Each arm stops by itself: two letters fit thousands.

    What only contains it is looked for where too little is found without.
    """
    found: dict[UUID, Match] = {}
    for matches in ((Match.EXACT, Match.PREFIX), (Match.CONTAINS,)):
        bounded = [
            (_MATCHES.index(match), arm.limit(limit).subquery())
            for match, arm in arms
            if match in matches
        ]
        if len(found) < limit:
            rows = sa.union_all(
                *(sa.select(arm.c.id, sa.literal(order).label("match")) for order, arm in bounded)
            ).subquery()
            best = sa.func.min(rows.c.match)
            ranked = sa.select(rows.c.id, best).group_by(rows.c.id)
            for row in await session.execute(ranked.order_by(best, rows.c.id.desc()).limit(limit)):
                found.setdefault(row[0], _MATCHES[row[1]])
    return dict(list(found.items())[:limit])


async def _with_addresses(
    session: AsyncSession, found: dict[UUID, Match]
) -> list[tuple[Customer, str | None, Match]]:
    newest = (
        sa.select(ContactPoint.address)
        .where(ContactPoint.customer_id == Customer.id, ContactPoint.retired_at.is_(None))
        .order_by(ContactPoint.channel, ContactPoint.recorded_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = await session.execute(sa.select(Customer, newest).where(Customer.id.in_(found)))
    by_id = {row[0].id: (row[0], row[1]) for row in rows}
    return [(*by_id[one], match) for one, match in found.items()]
