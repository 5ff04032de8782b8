"""A small shop's history in the files a replay reads, made here: no row of anybody's data."""

import csv
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from replay.olist import (
    CATEGORIES,
    COLUMNS,
    CUSTOMERS,
    ITEMS,
    ORDERS,
    PAYMENTS,
    PRODUCTS,
    REVIEWS,
)

FIRST_DAY = datetime.fromisoformat("2017-03-06 09:30:00")  # a Monday; naive, as in the files
Tables = dict[str, list[dict[str, str]]]


class Shop:
    """Orders are added in turn; each is of a customer of its own unless told otherwise."""

    def __init__(self) -> None:
        self.tables: Tables = {name: [] for name in COLUMNS}
        self.tables[CATEGORIES] = [
            {"product_category_name": "brinquedos", "product_category_name_english": "toys"}
        ]
        self.tables[PRODUCTS] = [
            {"product_id": "p1", "product_category_name": "brinquedos"},
            {"product_id": "p2", "product_category_name": ""},
        ]

    def order(
        self,
        name: str,
        status: str,
        placed: float,
        *,
        approved: float | None = None,
        dispatched: float | None = None,
        delivered: float | None = None,
        promised: float = 12,
        customer: str = "",
        items: tuple[str, ...] = ("p1",),
    ) -> None:
        """All moments in days after FIRST_DAY; the promise in days after the order."""
        self.tables[CUSTOMERS].append(
            {"customer_id": f"of-{name}", "customer_unique_id": customer or f"who-{name}"}
        )
        promised_on = (FIRST_DAY + timedelta(days=placed + promised)).date()
        self.tables[ORDERS].append(
            {
                "order_id": name,
                "customer_id": f"of-{name}",
                "order_status": status,
                "order_purchase_timestamp": moment(placed),
                "order_approved_at": moment(approved),
                "order_delivered_carrier_date": moment(dispatched),
                "order_delivered_customer_date": moment(delivered),
                "order_estimated_delivery_date": f"{promised_on} 00:00:00",
            }
        )
        for number, product in enumerate(items, start=1):
            self.tables[ITEMS].append(
                {
                    "order_id": name,
                    "order_item_id": str(number),
                    "product_id": product,
                    "price": "21.99",
                    "freight_value": "3.5",
                }
            )
        self.tables[PAYMENTS].append(
            {"order_id": name, "payment_sequential": "1", "payment_value": "25.49"}
        )

    def review(
        self, order: str, score: int, answered: float, *, name: str = "", comment: str = ""
    ) -> None:
        self.tables[REVIEWS].append(
            {
                "review_id": name or f"about-{order}",
                "order_id": order,
                "review_score": str(score),
                "review_comment_title": "",
                "review_comment_message": comment,
                "review_creation_date": moment(answered - 1)[:10] + " 00:00:00",
                "review_answer_timestamp": moment(answered),
            }
        )

    def change(self, table: str, row: int, **values: str) -> None:
        self.tables[table][row].update(values)

    def write(self, directory: Path, encode: Callable[[str], bytes] = str.encode) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for name, columns in COLUMNS.items():
            path = directory / name
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(self.tables[name])
            path.write_bytes(encode(path.read_text(encoding="utf-8")))
        return directory


def moment(days: float | None) -> str:
    if days is None:
        return ""
    return f"{FIRST_DAY + timedelta(days=days):%Y-%m-%d %H:%M:%S}"


def way(placed: float, days: float) -> Mapping[str, Any]:
    """The milestones of an order that arrives after so many days."""
    return {"approved": placed + 0.1, "dispatched": placed + 1, "delivered": placed + days}


def varied_shop(of_each: int = 1) -> Shop:
    """Every kind of order there is, each so many times."""
    shop = Shop()
    for number in range(of_each):
        _every_kind(shop, f"{number:03}", number * 0.7)
    return shop


def _every_kind(shop: Shop, n: str, at: float) -> None:
    shop.order(f"ontime{n}", "delivered", at, **way(at, 6), items=("p1", "p1", "p2"))
    shop.review(f"ontime{n}", 5, at + 8, comment='He wrote "good",\nand more\nthan that.')
    shop.order(f"late{n}", "delivered", at, **way(at, 17))
    shop.review(f"late{n}", 2, at + 14, comment="Não chegou")
    shop.order(f"lateday{n}", "delivered", at, **way(at, 12.4), promised=12)
    shop.order(f"again{n}", "delivered", at + 20, **way(at + 20, 5), customer=f"who-ontime{n}")
    shop.review(f"again{n}", 1, at + 30)
    shop.review(f"again{n}", 4, at + 31, name=f"second-about-again{n}")
    shop.order(f"created{n}", "created", at, promised=60)
    shop.order(f"invoiced{n}", "invoiced", at, approved=at + 1)
    shop.order(f"processing{n}", "processing", at, approved=at + 1)
    shop.review(f"processing{n}", 1, at + 25, comment="   ")
    shop.order(f"shipped{n}", "shipped", at, approved=at + 0.5, dispatched=at + 2)
    shop.order(f"unavailable{n}", "unavailable", at, approved=at + 0.5)
    shop.order(f"canceled{n}", "canceled", at)
    shop.order(f"returned{n}", "canceled", at, **way(at, 7))
    shop.order(f"undated{n}", "delivered", at, approved=at + 0.5, dispatched=at + 2)
    shop.review(f"undated{n}", 3, at + 9)
    shop.order(
        f"disorder{n}", "delivered", at, approved=at + 3, dispatched=at + 1, delivered=at + 2
    )
    shop.order(
        f"before{n}", "delivered", at, approved=at + 1, dispatched=at + 5, delivered=at + 4,
        items=(),
    )  # fmt: skip
    shop.review(f"before{n}", 5, at - 1)
