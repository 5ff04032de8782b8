"""An order, from the moment it was placed to its end or to where it stands now."""

import json
import random
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

from domain.delivery import DeliveryState, Effect
from domain.messages import Template
from domain.processes import ProcessKind, delivery_workflow_id
from domain.promises import PromiseKind, PromiseState
from domain.tasks import Role, TaskKind
from replay.fill.follow_up import follow_up
from replay.fill.life import PREFIX, Life, as_json

_CARRIERS = ("ACME Parcel", "Northwind Freight", "Bluebird Post", "Kite Couriers")
_PRODUCTS = ("kettle", "lamp", "bicycle-bell", "rucksack", "oak-table", "headphones", "tea-set")
_GIVEN_UP = (DeliveryState.RETURNED, DeliveryState.UNAVAILABLE, DeliveryState.CANCELLED)
_APPROVAL = timedelta(hours=5)  # after it was placed, as the next
_DISPATCH = timedelta(hours=30)
_SHORTEST_WAY = timedelta(hours=6)
_WARNED_BEFORE = timedelta(days=2)
_HALF_A_DAY = timedelta(hours=12)
_LOOKED_AT_AGAIN = timedelta(hours=3)
_STUCK_AT_MOST = timedelta(days=45)
_PROMISES = {
    DeliveryState.CANCELLED: PromiseState.RELEASED,
    DeliveryState.RETURNED: PromiseState.BROKEN,
    DeliveryState.UNAVAILABLE: PromiseState.BROKEN,
}


class _Order(NamedTuple):
    """What becomes of it, and when, as far as it comes."""

    id: str
    workflow_id: str
    reference: str
    placed: datetime
    approved: datetime
    sent: datetime
    promised: date
    arrives: datetime  # or is given up
    state: DeliveryState
    missed: datetime  # when it is late: the promised day is over
    is_late: bool

    @property
    def shipped(self) -> bool:
        return self.state not in (DeliveryState.PLACED, DeliveryState.APPROVED)

    @property
    def delivered(self) -> bool:
        return self.state is DeliveryState.DELIVERED


def deliver_order(life: Life, nth: int, placed: datetime) -> None:
    """The customer's `nth`."""
    dice = life.dice
    order_id = life.draw_id(placed)
    promised = (placed + timedelta(days=dice.randint(3, 14))).date()
    noon = datetime.combine(promised, time(12), UTC)
    late = dice.random() < 0.12
    arrives = noon + timedelta(days=dice.randint(1, 9) if late else -dice.randint(0, 2))
    approved, sent = placed + _APPROVAL, placed + _DISPATCH
    arrives = max(arrives, sent + _SHORTEST_WAY)
    state = _state(dice, life.now, placed, approved, sent, arrives)
    missed = noon + _HALF_A_DAY
    order = _Order(
        id=order_id,
        workflow_id=delivery_workflow_id(UUID(order_id)),
        reference=f"{PREFIX}O-{life.number:06}-{nth:02}",
        placed=placed,
        approved=approved,
        sent=sent,
        promised=promised,
        arrives=arrives,
        state=state,
        missed=missed,
        is_late=missed < (arrives if state.final else life.now),
    )
    _add_order(life, order, warned=noon - _WARNED_BEFORE)
    _add_milestones(life, order)
    _add_promise(life, order)
    _tell(life, order)
    _add_process(life, order)
    if order.delivered:
        follow_up(life, order_id, arrives)
    elif order.is_late and not state.final:
        task = (order.workflow_id, TaskKind.CHASE_ORDER, Role.OPS, missed)
        life.add_task(*task, order_id=order.id)
    elif state in (DeliveryState.UNAVAILABLE, DeliveryState.CANCELLED):
        task = (order.workflow_id, TaskKind.COMPENSATE, Role.SUPPORT_AGENT, arrives)
        life.add_task(*task, order_id=order.id)


def _state(
    dice: random.Random,
    now: datetime,
    placed: datetime,
    approved: datetime,
    sent: datetime,
    arrives: datetime,
) -> DeliveryState:
    luck = dice.random()
    if now < approved:
        return DeliveryState.PLACED
    if now < sent:
        return DeliveryState.APPROVED
    stuck = luck > 0.97 and now - placed < _STUCK_AT_MOST
    if now < arrives or stuck:
        failed = luck > 0.99 or luck < 0.03
        return DeliveryState.ATTEMPT_FAILED if failed else DeliveryState.DISPATCHED
    if luck < 0.05:
        return dice.choice(_GIVEN_UP)
    return DeliveryState.DELIVERED


def _add_order(life: Life, order: _Order, *, warned: datetime) -> None:
    dice, placed, arrives = life.dice, str(order.placed), str(order.arrives)
    total, product = dice.randrange(900, 90_000), dice.choice(_PRODUCTS)
    ended = order.state.final and not order.delivered
    endangered = not order.state.final and warned < life.now
    late = order.arrives.date() > order.promised
    life.add(
        "orders",
        id=order.id,
        customer_id=life.id,
        reference=order.reference,
        state=order.state,
        currency=life.home.currency,
        total_minor=total,
        lines=json.dumps([{"product": product, "quantity": 1, "price_minor": total}]),
        promised_on=order.promised,
        first_promised_on=order.promised,
        placed_at=placed,
        approved_at=None if order.state is DeliveryState.PLACED else order.approved,
        dispatched_at=order.sent if order.shipped else None,
        delivered_at=arrives if order.delivered else None,
        ended_at=arrives if ended else None,
        carrier=dice.choice(_CARRIERS) if order.shipped else "",
        tracking=f"T{dice.randrange(10**10):010}" if order.shipped else "",
        endangered_at=warned if endangered else None,
        late_noticed_at=order.missed if order.is_late else None,
        delivered_late=late if order.delivered else None,
        refund_minor=total if ended else None,
        recorded_at=placed,
    )


def _add_milestones(life: Life, order: _Order) -> None:
    reached = [("order_approved", order.approved), ("order_dispatched", order.sent)]
    if order.state.final:
        reached.append((f"order_{order.state.value}", order.arrives))
    for kind, at in reached:
        if at <= life.now:
            then = str(at)
            life.add(
                "order_milestones",
                order_id=order.id,
                event_id=f"fill/{order.id}/{kind}",
                milestone=kind,
                effect=Effect.ADVANCES,
                occurred_at=then,
                recorded_at=then,
            )


def _add_promise(life: Life, order: _Order) -> None:
    state = _PROMISES.get(order.state, PromiseState.OPEN)
    if order.delivered:
        kept = order.arrives.date() <= order.promised
        state = PromiseState.KEPT if kept else PromiseState.BROKEN
    arrives = str(order.arrives)
    life.add(
        "promises",
        id=life.draw_id(order.arrives),
        customer_id=life.id,
        order_id=order.id,
        kind=PromiseKind.DATE,
        text=f"delivered on {order.promised}",
        due_on=order.promised,
        state=state,
        source="order",
        settled_at=arrives if order.state.final else None,
        recorded_at=arrives,
    )


def _tell(life: Life, order: _Order) -> None:
    """The order's lines and messages."""
    workflow_id, promised = order.workflow_id, str(order.promised)
    about = json.dumps({"order": order.reference, "promised_on": promised})
    facts = as_json(promised_on=promised)
    life.add_line(order.placed, workflow_id, "order_placed", "during", facts)
    if order.state is not DeliveryState.PLACED:
        life.add_line(order.approved, workflow_id, "order_approved", "during", minor=True)
    if order.shipped:
        life.add_line(order.sent, workflow_id, "order_dispatched", "during", minor=True)
    if order.is_late:
        life.add_line(order.missed, workflow_id, "promise_missed", "during")
        life.add_message(order.missed, workflow_id, Template.ORDER_LATE, about)
    else:
        life.add_message(order.placed, workflow_id, Template.ORDER_CONFIRMED, about)
    if order.state.final:
        news = f"order_{order.state.value}"
        life.add_line(order.arrives, workflow_id, news, "during")
        if life.dice.random() < 0.3:
            life.add_message(order.arrives, workflow_id, Template(news), about)
        life.hear(order.arrives)


def _add_process(life: Life, order: _Order) -> None:
    final = order.state.final
    step = "late" if order.is_late and not final else order.state.replace("_", " ")
    then = order.arrives if final else max(order.missed, life.now + _LOOKED_AT_AGAIN)
    life.add_process(
        *(order.workflow_id, ProcessKind.DELIVERY, order.placed, step),
        "news of the order",
        then,
        order.state.value if final else "",
    )
