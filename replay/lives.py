"""Generates customers' lives for the demo and the crash test: the same seed, the same lives.

Only what enters from outside is made here. What the customers click on and what staff does follows
in `replay/people.py` from what the product really sent and asked for.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from replay.history import CUSTOMER, Entry, History
from replay.names import REGIONS, Region, organisation, person

DAYS = 85  # in which a life is played
_FIRST_DAYS = 45  # in which lives begin
_HAS_CONSENT = 0.8
_IS_ORGANISATION = 0.1
_ORDERS_AGAIN = 0.3
_STATES_A_NEED = 0.12
_IS_AT_RISK = 0.08
_ASKS_FOR_HELP = 0.18

_PRODUCTS = (
    ("kettle", 3490),
    ("desk lamp", 5900),
    ("bicycle bell", 1250),
    ("chess set", 4200),
    ("garden shears", 2790),
    ("picture frame", 1890),
    ("hiking boots", 11900),
    ("tool box", 6450),
)
_CARRIERS = ("Swift Parcel", "Blue Van", "City Couriers")
_REPLIES = ("Could you send me an offer?", "Do you deliver on Saturdays?", "Tell me more, please.")
_NEEDS = ("Needs the same for a second flat.", "Looks for a gift in spring.", "Wants spare parts.")
_QUESTIONS = (
    "The handle came loose after a day.",
    "Where do I find the manual?",
    "Can I still change the address?",
    "The invoice has the wrong name.",
)


def make_lives(customers: int, seed: int, begins_at: datetime, days: float = DAYS) -> History:
    """Lives that begin at `begins_at` (aware) and fit into so many days; the first at once."""
    dice = random.Random(seed)
    entries: list[Entry] = []
    for number in range(customers):
        start = 0.0 if number < 3 else dice.uniform(0, _FIRST_DAYS * days / DAYS)
        life = _Life(random.Random(f"{seed}/{number}"), number, begins_at, start, days)
        life.live()
        entries += life.entries
    entries.sort(key=lambda entry: entry.at)  # stable: entries of one moment keep their order
    return History(entries=entries, zone=REGIONS[0].zone)


class _Life:
    """One customer's; `_at` is the day it has come to."""

    def __init__(
        self, dice: random.Random, number: int, begins_at: datetime, start: float, days: float
    ) -> None:
        self.entries: list[Entry] = []
        self._dice = dice
        self._customer = f"c{number + 1:04}"
        self._begins_at = begins_at
        self._at = start
        self._days = days
        self._region = REGIONS[number % len(REGIONS)]
        self._orders = 0
        self._facts = 0

    def live(self) -> None:
        self._enter()
        if self._chance(0.65) and not self._become_a_lead():
            return
        self._order()
        if self._chance(_ASKS_FOR_HELP):
            self._wait(1, 4)
            self._say("case_opened", text=self._dice.choice(_QUESTIONS), case_kind="question")
        if self._chance(_STATES_A_NEED):
            self._wait(1, 6)
            self._say("need_stated", text=self._dice.choice(_NEEDS))
        if self._chance(_ORDERS_AGAIN):
            self._wait(5, 15)
            self._order()
        if self._chance(_IS_AT_RISK):
            self._wait(5, 12)
            self._say("risk_noticed", cause=self._dice.choice(("contract-ends", "usage-fell")))

    # --- before the order --------------------------------------------------------------------

    def _enter(self) -> None:
        region = self._region
        is_organisation = self._chance(_IS_ORGANISATION)
        name = (organisation if is_organisation else person)(self._dice, region)
        fields: dict[str, Any] = {
            "kind": "organisation" if is_organisation else "person",
            "name": name,
            "email": f"{self._customer}@customers.example",
            "locale": region.locale,
            "zone": region.zone,
        }
        if self._chance(_HAS_CONSENT):
            consent = {"channel": "email", "purpose": "marketing", "source": "web-form"}
            fields["consents"] = [consent]
        at = self._now
        self._add(Entry(at, self._customer, CUSTOMER, f"{self._customer}/made", at, fields))

    def _become_a_lead(self) -> bool:
        """Whether an order follows from it."""
        self._say("lead_received", campaign=self._dice.choice(("spring", "fair", "referral")))
        ending = self._dice.random()
        if ending < 0.18:  # never heard of again
            return False
        if ending < 0.28:
            self._wait(1, 7)
            self._say("opted_out")
            return False
        if ending < 0.65:
            self._wait(0.5, 6)
            self._say("reply_received", text=self._dice.choice(_REPLIES))
        self._wait(1, 6)
        return True

    # --- an order ----------------------------------------------------------------------------

    def _order(self) -> None:
        self._orders += 1
        order = f"{self._customer}-{self._orders}"
        promised = self._dice.randint(6, 10)
        product, price = self._dice.choice(_PRODUCTS)
        quantity = self._dice.choice((1, 1, 1, 2, 3))
        promised_on = (self._now + timedelta(days=promised)).astimezone(_zone(self._region)).date()
        lines = [{"product": product, "quantity": quantity, "price_minor": price}]
        self._report(
            order,
            "order_placed",
            currency=self._region.currency,
            total_minor=price * quantity,
            lines=lines,
            promised_on=promised_on.isoformat(),
            promises=[{"kind": "quality", "code": "two-year-guarantee"}],
        )
        ways: list[tuple[float, Callable[[str, int], None]]] = [
            (0.58, self._arrives),
            (0.13, self._arrives_late),
            (0.07, self._is_rescheduled),
            (0.09, self._arrives_at_second_attempt),
            (0.03, self._comes_back),
            (0.04, self._is_unavailable),
            (0.04, self._is_cancelled),
            (0.02, self._is_lost),
        ]
        weights, branches = zip(*ways, strict=True)
        self._dice.choices(branches, weights)[0](order, promised)

    def _arrives(self, order: str, promised: int) -> None:
        self._go_out(order)
        self._wait(1.5, promised - 3)
        shortfall = [{"kind": "quality", "verdict": "partly_kept"}] if self._chance(0.05) else []
        self._report(order, "order_delivered", shortfalls=shortfall)

    def _arrives_late(self, order: str, promised: int) -> None:
        self._go_out(order)
        self._wait(promised, promised + 5)
        self._report(order, "order_delivered")

    def _is_rescheduled(self, order: str, promised: int) -> None:
        self._go_out(order)
        self._wait(1, 3)
        day = (self._now + timedelta(days=promised + 4)).astimezone(_zone(self._region)).date()
        self._report(order, "delivery_rescheduled", promised_on=day.isoformat())
        self._wait(promised - 2, promised + 2)
        self._report(order, "order_delivered")

    def _arrives_at_second_attempt(self, order: str, promised: int) -> None:
        self._go_out(order)
        self._wait(1.5, 3)
        self._report(order, "delivery_attempt_failed", reason="nobody-home")
        self._wait(1, 1.5)
        if self._chance(0.3):
            self._report(order, "delivery_attempt_failed", reason="nobody-home")
            self._wait(1, 2)
        self._report(order, "order_delivered")

    def _comes_back(self, order: str, promised: int) -> None:
        self._go_out(order)
        self._wait(2, promised)
        self._report(order, "order_returned", reason="address-unknown")

    def _is_unavailable(self, order: str, promised: int) -> None:
        self._wait(1, 3)
        self._report(order, "order_unavailable", alternative="desk lamp, next model")

    def _is_cancelled(self, order: str, promised: int) -> None:
        self._wait(0.2, 2)
        self._report(order, "order_cancelled", reason="changed-mind")

    def _is_lost(self, order: str, promised: int) -> None:
        """Nothing is heard of it again."""
        self._go_out(order)
        self._wait(promised, promised + 2)

    def _go_out(self, order: str) -> None:
        self._wait(0.1, 1)
        self._report(order, "order_approved")
        self._wait(0.3, 1.5)
        carrier = self._dice.choice(_CARRIERS)
        tracking = f"{self._dice.randrange(10**9):09}"
        self._report(order, "order_dispatched", carrier=carrier, tracking=tracking)

    # --- small words -------------------------------------------------------------------------

    @property
    def _now(self) -> datetime:
        return self._begins_at + timedelta(days=self._at)

    def _chance(self, probability: float) -> bool:
        return self._dice.random() < probability

    def _wait(self, least: float, most: float) -> None:
        self._at += self._dice.uniform(least, max(most, least + 0.5))

    def _say(self, kind: str, **fields: Any) -> None:
        """Something the customer, or somebody about him, reports."""
        self._facts += 1
        key = f"{self._customer}/{kind}/{self._facts}"
        self._add(Entry(self._now, self._customer, kind, key, self._now, fields))

    def _report(self, order: str, kind: str, **fields: Any) -> None:
        self._facts += 1
        key = f"{order}/{kind}/{self._facts}"
        self._add(Entry(self._now, self._customer, kind, key, self._now, fields, order))

    def _add(self, entry: Entry) -> None:
        if self._at <= self._days:
            self.entries.append(entry)


def _zone(region: Region) -> ZoneInfo:
    return ZoneInfo(region.zone)
