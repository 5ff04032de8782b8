"""Reads a shop's history in the format of the Olist public dataset into an ordered history.

Local times are those of one zone. What the files do not say and the product has to know is assumed
by rule, and each such assumption is counted and told.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from domain.delivery import DeliveryState
from replay.history import CUSTOMER, BadInput, BadRow, Entry, HistoricOrder, History
from replay.tables import BadValue, Row, read_table

T = TypeVar("T")

CURRENCY, LOCALE, ZONE = "BRL", "pt-BR", "America/Sao_Paulo"

ORDERS = "olist_orders_dataset.csv"
CUSTOMERS = "olist_customers_dataset.csv"
ITEMS = "olist_order_items_dataset.csv"
PAYMENTS = "olist_order_payments_dataset.csv"
REVIEWS = "olist_order_reviews_dataset.csv"
PRODUCTS = "olist_products_dataset.csv"
CATEGORIES = "product_category_name_translation.csv"

COLUMNS = {
    ORDERS: (
        "order_id",
        "customer_id",
        "order_status",
        "order_purchase_timestamp",
        "order_approved_at",
        "order_delivered_carrier_date",
        "order_delivered_customer_date",
        "order_estimated_delivery_date",
    ),
    CUSTOMERS: ("customer_id", "customer_unique_id"),
    ITEMS: ("order_id", "order_item_id", "product_id", "price", "freight_value"),
    PAYMENTS: ("order_id", "payment_sequential", "payment_value"),
    REVIEWS: (
        "review_id",
        "order_id",
        "review_score",
        "review_comment_title",
        "review_comment_message",
        "review_creation_date",
        "review_answer_timestamp",
    ),
    PRODUCTS: ("product_id", "product_category_name"),
    CATEGORIES: ("product_category_name", "product_category_name_english"),
}

STATES = {
    "created": DeliveryState.PLACED,
    "approved": DeliveryState.APPROVED,
    "invoiced": DeliveryState.APPROVED,
    "processing": DeliveryState.APPROVED,
    "shipped": DeliveryState.DISPATCHED,
    "delivered": DeliveryState.DELIVERED,
    "unavailable": DeliveryState.UNAVAILABLE,
    "canceled": DeliveryState.CANCELLED,
}
_ON_THE_WAY = (
    DeliveryState.PLACED,
    DeliveryState.APPROVED,
    DeliveryState.DISPATCHED,
    DeliveryState.DELIVERED,
)
_KINDS = {
    DeliveryState.APPROVED: "order_approved",
    DeliveryState.DISPATCHED: "order_dispatched",
    DeliveryState.DELIVERED: "order_delivered",
    DeliveryState.UNAVAILABLE: "order_unavailable",
    DeliveryState.CANCELLED: "order_cancelled",
}
_DATES = {
    DeliveryState.APPROVED: "order_approved_at",
    DeliveryState.DISPATCHED: "order_delivered_carrier_date",
    DeliveryState.DELIVERED: "order_delivered_customer_date",
}
_RANK = [CUSTOMER, "order_placed", *_KINDS.values(), "review_received"]  # at one moment, in turn
_NOON = time(12)
_MOST_LINES = 200  # of one order, in the API
_LONGEST_COMMENT = 10_000
_OUT_OF_ORDER = "events that say they happened before their order was placed: entered right after"


def read_olist(
    directory: Path, *, zone: str = ZONE, limit: int | None = None, skip_bad_rows: bool = False
) -> History:
    """The history of a directory; with `limit` only of the first orders by purchase time.

    Raises BadInput with every fault found. With `skip_bad_rows` bad rows, and what depends on
    them, are left out and listed; a file that can't be read as a whole is refused all the same.
    """
    if not directory.is_dir():
        what = "is not a directory: name the one that holds the CSV files"
        raise BadInput([BadRow(str(directory), None, None, "", what)])
    return _Reader(directory, zone, limit, skip_bad_rows).read()


class _Order(NamedTuple):
    id: str
    customer: str
    status: str
    placed: datetime  # all local and naive, as in the file
    dates: dict[DeliveryState, datetime]
    promised_on: date | None


class _Item(NamedTuple):
    product: str
    name: str
    price: int
    freight: int


class _Review(NamedTuple):
    id: str
    score: int
    title: str
    comment: str
    asked_on: date | None
    answered: datetime


class _Reader:
    def __init__(self, directory: Path, zone: str, limit: int | None, skip: bool) -> None:
        self._directory = directory
        self._zone = ZoneInfo(zone)
        self._limit = limit
        self._skip = skip
        self._bad: list[BadRow] = []
        self._assumed: Counter[str] = Counter()
        self._rejected: set[str] = set()  # orders that are left out, whose rows go with them

    def read(self) -> History:
        tables = self._read_tables()
        customers = self._by_key(
            tables[CUSTOMERS], "customer_id", lambda row: row.id("customer_unique_id")
        )
        orders = self._read_orders(tables[ORDERS], customers)
        items = self._read_items(tables, orders)
        payments = self._of_orders(tables[PAYMENTS], orders, _payment)
        reviews = self._of_orders(tables[REVIEWS], orders, _review)
        if self._bad and not self._skip:
            raise BadInput(self._bad)
        if not orders:
            what = "has no order that can be played: check that it is the right directory"
            raise BadInput([*self._bad, BadRow(ORDERS, None, None, "", what)])
        first = sorted(orders.values(), key=lambda order: (order.placed, order.id))
        return self._write_history(first[: self._limit], items, payments, reviews)

    # --- rows --------------------------------------------------------------------------------

    def _read_tables(self) -> dict[str, list[Row]]:
        tables: dict[str, list[Row]] = {}
        unreadable: list[BadRow] = []
        for name, columns in COLUMNS.items():
            try:
                tables[name], bad = read_table(self._directory, name, columns)
            except BadInput as problem:
                unreadable += problem.problems
                continue
            self._bad += bad
        if unreadable:
            raise BadInput(unreadable)
        return tables

    def _by_key(self, rows: Iterable[Row], field: str, read: Callable[[Row], T]) -> dict[str, T]:
        """Rows by their key; a key that comes again is bad."""
        found: dict[str, T] = {}
        for row in rows:
            try:
                key, value = row.id(field), read(row)
                if key in found:
                    raise BadValue(field, f"{key} is there twice: leave one out")
            except BadValue as error:
                self._bad.append(row.bad(error))
                continue
            found[key] = value
        return found

    def _read_orders(self, rows: Iterable[Row], customers: Mapping[str, str]) -> dict[str, _Order]:
        orders: dict[str, _Order] = {}
        for row in rows:
            try:
                order = _order(row, customers)
                if order.id in orders:
                    raise BadValue("order_id", f"{order.id} is there twice: leave one out")
            except BadValue as error:
                self._bad.append(row.bad(error))
                self._rejected.add(row.text("order_id"))
                continue
            orders[order.id] = order
        self._rejected -= orders.keys()
        return orders

    def _of_orders(
        self,
        rows: Iterable[Row],
        orders: Mapping[str, _Order],
        read: Callable[[Row], tuple[str, T]],
    ) -> dict[str, list[T]]:
        """Rows by their order. What `read` answers first is told apart within an order."""
        found: dict[str, list[T]] = defaultdict(list)
        seen: set[tuple[str, str]] = set()
        for row in rows:
            order_id = row.text("order_id")
            if order_id in self._rejected:
                continue
            try:
                if row.id("order_id") not in orders:
                    raise BadValue(
                        "order_id", f"{order_id} is not in {ORDERS}: add it or leave the row out"
                    )
                key, value = read(row)
                if (order_id, key) in seen:
                    raise BadValue(
                        "order_id", f"{order_id} has {key} twice: leave one of the rows out"
                    )
            except BadValue as error:
                self._bad.append(row.bad(error))
                continue
            seen.add((order_id, key))
            found[order_id].append(value)
        return found

    def _read_items(
        self, tables: Mapping[str, list[Row]], orders: Mapping[str, _Order]
    ) -> dict[str, list[_Item]]:
        """Items with their product's category in English as their name."""
        english = {
            row.text("product_category_name"): row.text("product_category_name_english")
            for row in tables[CATEGORIES]
        }
        categories = self._by_key(
            tables[PRODUCTS], "product_id", lambda row: row.text("product_category_name")
        )

        def read(row: Row) -> tuple[str, _Item]:
            category = categories.get(row.id("product_id"), "")
            return _item(row, english.get(category) or category)

        return self._of_orders(tables[ITEMS], orders, read)

    # --- the history -------------------------------------------------------------------------

    def _write_history(
        self,
        orders: list[_Order],
        items: Mapping[str, list[_Item]],
        payments: Mapping[str, list[int]],
        reviews: Mapping[str, list[_Review]],
    ) -> History:
        history = History(entries=[], zone=self._zone.key, skipped=self._bad)
        for order in orders:
            own_reviews = reviews.get(order.id, [])
            entries = [
                self._customer_entry(order),
                self._placed_entry(order, items.get(order.id, []), payments.get(order.id, [])),
            ]
            state, delivered_at, milestones = self._milestones(order, own_reviews)
            entries += milestones
            for review in own_reviews:
                entry = self._review_entry(order, review)
                history.scores[entry.key] = review.score
                entries.append(entry)
            history.entries += entries
            promised_on = order.promised_on
            late = bool(delivered_at and promised_on and delivered_at.date() > promised_on)
            history.orders[order.id] = HistoricOrder(
                reference=order.id,
                customer=order.customer,
                status=order.status,
                state=state,
                promised_on=promised_on,
                delivered=delivered_at is not None,
                late=late,
            )
        history.entries.sort(key=lambda entry: (entry.at, _RANK.index(entry.kind), entry.key))
        history.statuses = Counter(order.status for order in orders)
        history.assumptions = [f"{count} {what}" for what, count in sorted(self._assumed.items())]
        return history

    def _customer_entry(self, order: _Order) -> Entry:
        customer = order.customer
        fields = {
            "name": f"Customer {customer[:6]}",
            "email": f"{_mailbox(customer)}@customers.example",
            "locale": LOCALE,
            "zone": self._zone.key,
        }
        at = self._utc(order.placed)
        return Entry(at, customer, CUSTOMER, f"{order.id}/customer", at, fields)

    def _placed_entry(
        self,
        order: _Order,
        items: list[_Item],
        payments: list[int],
    ) -> Entry:
        lines: dict[tuple[str, int], dict[str, Any]] = {}
        for item in items:
            line = lines.setdefault(
                (item.product, item.price),
                {"product": item.name, "quantity": 0, "price_minor": item.price},
            )
            line["quantity"] += 1
        total = sum(payments) if payments else sum(i.price + i.freight for i in items)
        fields: dict[str, Any] = {
            "currency": CURRENCY,
            "total_minor": total,
            "lines": list(lines.values())[:_MOST_LINES],
        }
        if order.promised_on is not None:
            fields["promised_on"] = order.promised_on.isoformat()
        return self._entry(order, "order_placed", "placed", order.placed, fields)

    def _milestones(
        self, order: _Order, reviews: list[_Review]
    ) -> tuple[DeliveryState, datetime | None, list[Entry]]:
        """The state in the end, the local time of the delivery, and the reports on the way."""
        known: dict[DeliveryState, datetime] = dict(order.dates)
        state = STATES[order.status]
        if state is DeliveryState.UNAVAILABLE and DeliveryState.DELIVERED in known:
            self._assume("orders `unavailable` with a delivery date: they were delivered")
            state = DeliveryState.DELIVERED
        if state in _ON_THE_WAY:
            dated = max((*known, DeliveryState.PLACED), key=_ON_THE_WAY.index)
            if _ON_THE_WAY.index(dated) > _ON_THE_WAY.index(state):
                self._assume(f"orders `{order.status}` with a later milestone's date: {dated}")
                state = dated
        if state is not DeliveryState.PLACED and state not in known:
            known[state] = self._assumed_moment(order, state, known, reviews)
        entries = [
            self._entry(order, _KINDS[reached], reached.value, at) for reached, at in known.items()
        ]
        return state, known.get(DeliveryState.DELIVERED), entries

    def _assumed_moment(
        self,
        order: _Order,
        state: DeliveryState,
        known: Mapping[DeliveryState, datetime],
        reviews: list[_Review],
    ) -> datetime:
        """When an order reached a state for which the file has no time."""
        last = max([order.placed, *known.values()])
        if state is DeliveryState.DELIVERED:
            self._assume(
                "orders `delivered` without a date: on the promised day, or when the first "
                "review was asked for if that was sooner; not counted late"
            )
            days = [review.asked_on for review in reviews if review.asked_on]
            days += [order.promised_on] if order.promised_on else []
            if not days:
                return last
            return max(datetime.combine(min(days), _NOON), last)
        if state is DeliveryState.APPROVED:
            self._assume("orders approved without a date: at once")
            return last
        self._assume(
            f"orders `{order.status}`, of which the file has no time: "
            "one business day after the last known milestone"
        )
        return _next_business_day(last)

    def _review_entry(self, order: _Order, review: _Review) -> Entry:
        fields: dict[str, Any] = {"score": review.score}
        words = {"title": review.title, "comment": review.comment}
        fields.update({name: text for name, text in words.items() if text})
        key = f"review/{review.id}"
        return self._entry(order, "review_received", key, review.answered, fields)

    def _entry(
        self,
        order: _Order,
        kind: str,
        key: str,
        local: datetime,
        fields: Mapping[str, Any] | None = None,
    ) -> Entry:
        occurred_at, placed_at = self._utc(local), self._utc(order.placed)
        if occurred_at < placed_at:
            self._assume(_OUT_OF_ORDER)
        return Entry(
            at=max(occurred_at, placed_at),
            customer=order.customer,
            kind=kind,
            key=f"{order.id}/{key}",
            occurred_at=occurred_at,
            fields=fields or {},
            order=order.id,
        )

    def _assume(self, what: str) -> None:
        self._assumed[what] += 1

    def _utc(self, local: datetime) -> datetime:
        """A local time that a clock change made twice is the first; one it left out, an hour on."""
        return local.replace(tzinfo=self._zone).astimezone(UTC)


def _order(row: Row, customers: Mapping[str, str]) -> _Order:
    customer_id = row.id("customer_id")
    if customer_id not in customers:
        raise BadValue(
            "customer_id", f"{customer_id} is not in {CUSTOMERS}: add it or leave the order out"
        )
    promised_on = row.moment("order_estimated_delivery_date")
    dates = {state: row.moment(field) for state, field in _DATES.items()}
    return _Order(
        id=row.id("order_id"),
        customer=customers[customer_id],
        status=row.one_of("order_status", STATES),
        placed=row.required_moment("order_purchase_timestamp"),
        dates={state: at for state, at in dates.items() if at is not None},
        promised_on=promised_on.date() if promised_on else None,
    )


def _item(row: Row, category: str) -> tuple[str, _Item]:
    """A product without a category is called by the beginning of its id."""
    number = row.whole("order_item_id", range(1, 100_000), "an item's number")
    product = row.id("product_id")
    return f"item {number}", _Item(
        product=product,
        name=_readable(category.replace("_", " "))[:200] or f"product {product[:8]}",
        price=row.money("price"),
        freight=row.money("freight_value"),
    )


def _payment(row: Row) -> tuple[str, int]:
    number = row.whole("payment_sequential", range(1, 100_000), "a payment's number")
    return f"payment {number}", row.money("payment_value")


def _review(row: Row) -> tuple[str, _Review]:
    review_id = row.id("review_id")
    asked = row.moment("review_creation_date")
    return f"review {review_id}", _Review(
        id=review_id,
        score=row.whole("review_score", range(1, 6), "a score"),
        title=_words(row, "review_comment_title"),
        comment=_words(row, "review_comment_message"),
        asked_on=asked.date() if asked else None,
        answered=row.required_moment("review_answer_timestamp"),
    )


def _words(row: Row, field: str) -> str:
    text = _readable(row.text(field))
    if len(text) > _LONGEST_COMMENT:
        raise BadValue(
            field, f"has {len(text):,} characters: shorten it to {_LONGEST_COMMENT:,} or fewer"
        )
    return text


def _readable(text: str) -> str:
    """Without control characters, which no reader sees and the API refuses."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp")
        else " "
        for character in text
    ).strip()
    return kept if any(unicodedata.category(c)[0] not in "CMZ" for c in kept) else ""


def _mailbox(customer: str) -> str:
    """The id itself where it can be one."""
    if re.fullmatch(r"[A-Za-z0-9]{1,60}", customer):
        return customer
    return hashlib.sha256(customer.encode()).hexdigest()[:32]


def _next_business_day(local: datetime) -> datetime:
    """The same time of the next day from Monday to Friday."""
    following = local + timedelta(days=1)
    while following.weekday() >= 5:
        following += timedelta(days=1)
    return following
