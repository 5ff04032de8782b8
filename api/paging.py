"""Keyset pages: a signed cursor that fits one list with one set of filters."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, Query, Request, Response
from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from api.deps import resources
from api.errors import Code, Problem

T = TypeVar("T")
Key = sa.ColumnElement[Any] | InstrumentedAttribute[Any]
_NOT_FILTERS = frozenset({"cursor", "limit"})


class Page(BaseModel, Generic[T]):
    """One page of a list. The cursors hold for the same filters; null: there is no such page."""

    items: list[T]
    next_cursor: str | None = None
    prev_cursor: str | None = None
    has_more: bool = False


class PageRequest:
    """Which page is wanted."""

    def __init__(
        self,
        request: Request,
        response: Response,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[
            str | None, Query(max_length=2000, description="from the answer before")
        ] = None,
    ) -> None:
        self.limit = limit
        self._request = request
        self._response = response
        self._signer = URLSafeSerializer(resources(request).signing_key, salt="cursor")
        filters = sorted(
            pair for pair in request.query_params.multi_items() if pair[0] not in _NOT_FILTERS
        )
        bound = repr((request.url.path, filters)).encode()
        self._list = hashlib.sha256(bound).hexdigest()[:16]
        self.backwards = False
        self.after: list[Any] | None = None
        if cursor:
            self.backwards, self.after = self._read(cursor)

    def _read(self, cursor: str) -> tuple[bool, list[Any]]:
        try:
            of_list, backwards, after = self._signer.loads(cursor)
        except (BadSignature, ValueError, TypeError):
            raise Problem(Code.INVALID_CURSOR, "the cursor was not made here") from None
        if of_list != self._list:
            raise Problem(Code.INVALID_CURSOR, "the cursor belongs to other filters")
        return bool(backwards), list(after)

    def cursor(self, keys: Sequence[Any], *, backwards: bool) -> str:
        cursor = self._signer.dumps([self._list, int(backwards), [_plain(key) for key in keys]])
        return cursor if isinstance(cursor, str) else cursor.decode()

    def link(self, **cursors: str | None) -> None:
        """The Link header (RFC 8288)."""
        links = [
            f"<{self._request.url.include_query_params(cursor=cursor).path}?"
            f'{self._request.url.include_query_params(cursor=cursor).query}>; rel="{relation}"'
            for relation, cursor in cursors.items()
            if cursor
        ]
        if links:
            self._response.headers["Link"] = ", ".join(links)


Paging = Annotated[PageRequest, Depends()]


class Order(NamedTuple):
    """Of a list: keys that are unique together, and whether the greatest comes first."""

    keys: Sequence[Key]
    descending: bool


def order_by(sort: str, orders: Mapping[str, Sequence[Key]]) -> Order:
    """What `sort` asks for: a name among the `orders`, with a minus for the greatest first."""
    return Order(orders[sort.removeprefix("-")], sort.startswith("-"))


def _plain(key: Any) -> Any:
    if isinstance(key, datetime | date):
        return key.isoformat()
    return key if isinstance(key, int) else str(key)


def _typed(value: Any, column: Key) -> Any:
    kind = column.type.python_type
    if kind in (datetime, date):
        value = kind.fromisoformat(value)
    elif kind is UUID:
        value = UUID(value)
    return sa.literal(value, column.type)


async def read_page(
    session: AsyncSession,
    statement: sa.Select[*tuple[Any, ...]],
    keys: Sequence[Key],
    paging: PageRequest,
    view: Callable[[Any], T],
    *,
    descending: bool = True,
    parameters: Mapping[str, Any] | None = None,
) -> Page[T]:
    """The page of `statement` in the order of `keys`, which are unique together and never null.

    `view` gets each row; a row of one column is unpacked. `parameters`: of the statement.
    """
    down = descending is not paging.backwards
    order = [key.desc() if down else key.asc() for key in keys]
    statement = statement.add_columns(*(key.label(f"key_{n}") for n, key in enumerate(keys)))
    if paging.after is not None:
        here = sa.tuple_(*keys)
        there = sa.tuple_(*(_typed(v, k) for v, k in zip(paging.after, keys, strict=True)))
        statement = statement.where(here < there if down else here > there)
    asked = statement.order_by(*order).limit(paging.limit + 1)
    rows = list(await session.execute(asked, parameters))
    further = len(rows) > paging.limit
    rows = rows[: paging.limit]
    if paging.backwards:
        rows.reverse()
    count = len(keys)
    more_after = further if not paging.backwards else True
    more_before = further if paging.backwards else paging.after is not None
    following = paging.cursor(rows[-1][-count:], backwards=False) if rows and more_after else None
    previous = paging.cursor(rows[0][-count:], backwards=True) if rows and more_before else None
    paging.link(next=following, prev=previous)
    return Page(
        items=[view(row[0] if len(row) == count + 1 else row) for row in rows],
        next_cursor=following,
        prev_cursor=previous,
        has_more=following is not None,
    )
