"""What is read from a shop's files, and what is refused."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from domain.delivery import DeliveryState
from replay.history import BadInput, Entry, History
from replay.olist import (
    CATEGORIES,
    COLUMNS,
    CUSTOMERS,
    ITEMS,
    ORDERS,
    PAYMENTS,
    REVIEWS,
    read_olist,
)
from tests.replay.shop import FIRST_DAY, Shop, varied_shop

SAO_PAULO = ZoneInfo("America/Sao_Paulo")


def test_every_order_enters_with_its_milestones_in_order(tmp_path: Path) -> None:
    history = read_olist(varied_shop().write(tmp_path))
    assert history.entries == sorted(history.entries, key=lambda entry: entry.at)
    kinds = [entry.kind for entry in history.entries if _about(entry, "ontime000")]
    assert kinds == [
        "customer",
        "order_placed",
        "order_approved",
        "order_dispatched",
        "order_delivered",
        "review_received",
    ]
    assert len({entry.key for entry in history.entries}) == len(history.entries)


def test_states_are_the_files_in_the_products_words(tmp_path: Path) -> None:
    history = read_olist(varied_shop().write(tmp_path))
    assert history.states == {
        DeliveryState.DELIVERED: 7,
        DeliveryState.PLACED: 1,
        DeliveryState.APPROVED: 2,
        DeliveryState.DISPATCHED: 1,
        DeliveryState.UNAVAILABLE: 1,
        DeliveryState.CANCELLED: 2,
    }
    assert history.statuses["canceled"] == 2
    assert [o.reference for o in history.orders.values() if o.late] == ["late000"]
    overdue = [o.reference for o in history.orders.values() if history.is_overdue(o)]
    assert sorted(overdue) == ["invoiced000", "processing000", "shipped000"]
    assert history.disappointments == 3


def test_an_order_is_placed_with_what_was_bought_and_promised(tmp_path: Path) -> None:
    history = read_olist(varied_shop().write(tmp_path))
    placed = _one(history, "ontime000/placed")
    assert placed.occurred_at == FIRST_DAY.replace(tzinfo=SAO_PAULO).astimezone(UTC)
    assert placed.fields == {
        "currency": "BRL",
        "total_minor": 2549,
        "promised_on": "2017-03-18",
        "lines": [
            {"product": "toys", "quantity": 2, "price_minor": 2199},
            {"product": "product p2", "quantity": 1, "price_minor": 2199},
        ],
    }


def test_a_customer_enters_without_a_name_of_anybody(tmp_path: Path) -> None:
    shop = Shop()
    shop.order("o1", "created", 0, customer="0123456789abcdef")
    entry = _one(read_olist(shop.write(tmp_path)), "o1/customer")
    assert entry.fields == {
        "name": "Customer 012345",
        "email": "0123456789abcdef@customers.example",
        "locale": "pt-BR",
        "zone": "America/Sao_Paulo",
    }


def test_what_the_file_has_no_time_for_is_assumed_and_told(tmp_path: Path) -> None:
    history = read_olist(varied_shop().write(tmp_path))
    cancelled = _one(history, "canceled000/cancelled")
    assert _local(cancelled) == FIRST_DAY + timedelta(days=1)
    after_delivery = _one(history, "returned000/cancelled")
    assert _local(after_delivery) == FIRST_DAY + timedelta(days=8)
    undated = _one(history, "undated000/delivered")
    assert _local(undated).date() == (FIRST_DAY + timedelta(days=8)).date()
    told = " ".join(history.assumptions)
    for words in ("2 orders `canceled`", "1 orders `unavailable`", "1 orders `delivered`"):
        assert words in told


def test_a_cancellation_falls_on_a_business_day(tmp_path: Path) -> None:
    shop = Shop()
    shop.order("o1", "canceled", 4)  # a Friday
    entry = _one(read_olist(shop.write(tmp_path)), "o1/cancelled")
    assert _local(entry) == FIRST_DAY + timedelta(days=7)


def test_nothing_enters_before_its_order(tmp_path: Path) -> None:
    history = read_olist(varied_shop().write(tmp_path))
    review = _one(history, "before000/review/about-before000")
    placed = _one(history, "before000/placed")
    assert review.occurred_at < placed.at == review.at
    assert history.entries.index(placed) < history.entries.index(review)


def test_dates_beyond_the_status_count(tmp_path: Path) -> None:
    shop = Shop()
    shop.order("o1", "shipped", 0, approved=1, dispatched=2, delivered=20)
    shop.order("o2", "unavailable", 0, delivered=3)
    shop.order("o3", "approved", 0)
    shop.order("o4", "shipped", 0)
    history = read_olist(shop.write(tmp_path))
    assert [order.state for order in history.orders.values()] == [
        "delivered",
        "delivered",
        "approved",
        "dispatched",
    ]
    assert history.orders["o1"].late
    assert len(history.assumptions) == 4


def test_local_times_are_those_of_the_zone(tmp_path: Path) -> None:
    shop = Shop()
    shop.order("o1", "created", 0)
    history = read_olist(shop.write(tmp_path), zone="Asia/Tokyo")
    assert history.begins_at == FIRST_DAY.replace(tzinfo=ZoneInfo("Asia/Tokyo"))


def test_a_limit_takes_the_first_orders_by_purchase(tmp_path: Path) -> None:
    shop = Shop()
    shop.order("second", "created", 2)
    shop.order("first", "created", 1)
    shop.order("third", "created", 3)
    shop.review("third", 1, 5)
    history = read_olist(shop.write(tmp_path), limit=2)
    assert list(history.orders) == ["first", "second"]
    assert not history.scores


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    directory = varied_shop().write(tmp_path, lambda text: text.encode("utf-8-sig"))
    assert len(read_olist(directory).orders) == 14


def test_control_characters_of_a_comment_are_left_out(tmp_path: Path) -> None:
    shop = Shop()
    shop.order("o1", "created", 0)
    shop.review("o1", 4, 2, comment="fine\x07 \u202eand so on\n")
    history = read_olist(shop.write(tmp_path))
    assert _one(history, "o1/review/about-o1").fields["comment"] == "fine   and so on"


BAD_ROWS = [
    (ORDERS, {"order_purchase_timestamp": "2017-13-01 00:00:00"}, "not a day of the calendar"),
    (ORDERS, {"order_purchase_timestamp": "9th of May"}, "not a local time"),
    (ORDERS, {"order_purchase_timestamp": "2017-05-09T10:00:00Z"}, "not a local time"),
    (ORDERS, {"order_purchase_timestamp": ""}, "is empty"),
    (ORDERS, {"order_approved_at": "0001-01-01 00:00:00"}, "impossible date"),
    (ORDERS, {"order_estimated_delivery_date": "soon"}, "not a local time"),
    (ORDERS, {"order_id": ""}, "is empty"),
    (ORDERS, {"order_id": "a/b"}, "not an id"),
    (ORDERS, {"order_status": "lost"}, "is unknown: one of approved, canceled"),
    (ORDERS, {"customer_id": "nobody"}, f"is not in {CUSTOMERS}"),
    (CUSTOMERS, {"customer_unique_id": ""}, "is empty"),
    (ITEMS, {"price": "free"}, "not an amount"),
    (ITEMS, {"price": "-1"}, "not an amount"),
    (ITEMS, {"freight_value": "NaN"}, "not an amount"),
    (ITEMS, {"order_id": "unheard-of"}, f"is not in {ORDERS}"),
    (PAYMENTS, {"payment_value": "1e99"}, "not an amount"),
    (REVIEWS, {"review_score": "6"}, "is not a score: a whole number from 1 to 5"),
    (REVIEWS, {"review_score": "4.5"}, "is not a score"),
    (REVIEWS, {"review_answer_timestamp": ""}, "is empty"),
    (REVIEWS, {"review_comment_message": "x" * 1_000_000}, "shorten it to 10,000"),
]


@pytest.mark.parametrize(("file", "values", "what"), BAD_ROWS)
def test_a_bad_row_is_named_with_its_field_and_the_remedy(
    tmp_path: Path, file: str, values: dict[str, str], what: str
) -> None:
    shop = varied_shop(of_each=2)
    shop.change(file, 2, **values)
    with pytest.raises(BadInput) as refused:
        read_olist(shop.write(tmp_path))
    named = [one for one in refused.value.problems if one.file == file and what in one.what]
    assert [(one.row, one.field) for one in named] in (
        [(4, next(iter(values)))],
        [(4, "customer_id")],  # of an order whose customer is bad
    )


@pytest.mark.parametrize(("file", "values", "what"), BAD_ROWS)
def test_the_good_rows_go_on_where_that_is_asked_for(
    tmp_path: Path, file: str, values: dict[str, str], what: str
) -> None:
    shop = varied_shop(of_each=2)
    shop.change(file, 2, **values)
    history = read_olist(shop.write(tmp_path), skip_bad_rows=True)
    assert any(one.file == file and what in one.what for one in history.skipped)
    bad_order = file in (ORDERS, CUSTOMERS)
    assert len(history.orders) == 28 - bad_order
    assert len(history.scores) == 14 - (file == REVIEWS)


def test_rows_that_come_twice_are_refused(tmp_path: Path) -> None:
    shop = varied_shop()
    for file in (ORDERS, CUSTOMERS, ITEMS, PAYMENTS, REVIEWS):
        shop.tables[file].append(shop.tables[file][0])
    with pytest.raises(BadInput) as refused:
        read_olist(shop.write(tmp_path))
    twice = Counter(one.file for one in refused.value.problems if "twice" in one.what)
    assert set(twice) == {ORDERS, CUSTOMERS, ITEMS, PAYMENTS, REVIEWS}


def test_what_belongs_to_a_bad_order_goes_with_it(tmp_path: Path) -> None:
    shop = varied_shop()
    shop.change(ORDERS, 0, order_status="?")
    with pytest.raises(BadInput) as refused:
        read_olist(shop.write(tmp_path))
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize("name", list(COLUMNS))
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    varied_shop().write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadInput, match=f"{name}: is missing"):
        read_olist(tmp_path)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    shop = varied_shop().write(tmp_path)
    text = (shop / ORDERS).read_text().replace("order_approved_at", "approved", 1)
    (shop / ORDERS).write_text(text)
    with pytest.raises(BadInput, match="has no column order_approved_at; it has: order_id"):
        read_olist(shop)


def test_another_separator_is_recognised(tmp_path: Path) -> None:
    shop = varied_shop().write(tmp_path)
    (shop / ORDERS).write_text((shop / ORDERS).read_text().replace(",", ";"))
    with pytest.raises(BadInput, match="separate the values by commas"):
        read_olist(shop)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_recognised(tmp_path: Path, encoding: str) -> None:
    shop = varied_shop().write(tmp_path, lambda text: text.encode(encoding))
    for skip in (False, True):
        with pytest.raises(BadInput, match="is UTF-16, not UTF-8: convert it with `iconv"):
            read_olist(shop, skip_bad_rows=skip)


def test_rows_in_latin_1_are_named_and_can_be_left_out(tmp_path: Path) -> None:
    shop = varied_shop().write(tmp_path, lambda text: text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"row 3 .*review_comment_message: has bytes that are not"):
        read_olist(shop)
    history = read_olist(shop, skip_bad_rows=True)
    assert len(history.skipped) == 1
    assert len(history.scores) == 6


def test_a_row_with_too_many_values_is_named(tmp_path: Path) -> None:
    shop = varied_shop().write(tmp_path)
    with (shop / ORDERS).open("a") as file:
        file.write("x,y,delivered\n")
    with pytest.raises(BadInput, match="row 16: has 3 values for 8 columns"):
        read_olist(shop)


def test_an_open_quote_is_refused_as_nothing_after_it_can_be_told_apart(tmp_path: Path) -> None:
    shop = varied_shop().write(tmp_path)
    with (shop / REVIEWS).open("a") as file:
        file.write('r9,"ontime000,5,,,\n')
    for skip in (False, True):
        with pytest.raises(BadInput, match="a quote that is opened must be closed"):
            read_olist(shop, skip_bad_rows=skip)


def test_files_without_orders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no order that can be played"):
        read_olist(Shop().write(tmp_path), skip_bad_rows=True)
    with pytest.raises(BadInput, match="is not a directory"):
        read_olist(tmp_path / "elsewhere")


def test_a_category_nobody_translated_keeps_its_name(tmp_path: Path) -> None:
    shop = varied_shop()
    shop.tables[CATEGORIES] = []
    history = read_olist(shop.write(tmp_path))
    assert _one(history, "late000/placed").fields["lines"][0]["product"] == "brinquedos"


def _one(history: History, key: str) -> Entry:
    (found,) = [entry for entry in history.entries if entry.key == key]
    return found


def _about(entry: Entry, order: str) -> bool:
    return entry.key.startswith(f"{order}/")


def _local(entry: Entry) -> datetime:
    return entry.occurred_at.astimezone(SAO_PAULO).replace(tzinfo=None)
