"""One filled life at a time: a customer with everything the lists and the customer's page read.

Nothing of it ran: no process is behind these rows, and no message of them waits to be sent.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from domain.delivery import DeliveryState, Effect
from domain.follow_up import verdict
from domain.messages import MESSAGES, Channel, MessageState, Purpose, Template
from domain.policies import CaseKind, Priority, SurveyScale
from domain.processes import (
    ProcessKind,
    ProcessState,
    Stage,
    delivery_workflow_id,
    follow_up_workflow_id,
    lifecycle_workflow_id,
    marketing_workflow_id,
    retention_workflow_id,
    support_workflow_id,
)
from domain.promises import PromiseKind, PromiseState
from domain.support import CaseCause, CaseState
from domain.tasks import OUTCOMES, Role, TaskKind, TaskState
from replay.fill import names

PREFIX = "FILL-"  # of every reference
_YEARS = timedelta(days=3 * 365)  # how long ago the first customer came
_HOSTS = ("example.com", "example.org", "example.net")  # RFC 2606
_CARRIERS = ("ACME Parcel", "Northwind Freight", "Bluebird Post", "Kite Couriers")
_PRODUCTS = ("kettle", "lamp", "bicycle-bell", "rucksack", "oak-table", "headphones", "tea-set")
_AGENTS = tuple(f"agent-{n}" for n in range(1, 25))
_TROUBLES = (
    "The handle came loose after a day.",
    "Where is my parcel? The tracking has not moved since Monday.",
    "The colour is not the one I ordered.",
    "Could I have the invoice with our VAT number on it?",
    "It makes a noise that it did not make at first.",
    "Two of the six cups arrived broken.",
)
_PRAISE = ("Came on the day, well packed.", "Exactly what I expected.", "Thank you, all good!")
_BLAME = ("A week late, and nobody told me.", "Not what the picture shows.", "Still no answer.")
_NEEDS = ("a second battery for the winter", "the same in green", "a service contract")

Row = dict[str, Any]


class Share(NamedTuple):
    """What one customer gets of the whole."""

    orders: int
    lines: int


class _Line(NamedTuple):
    minor: bool  # left out first where lines are few
    at: datetime
    workflow_id: str
    key: str
    kind: str
    phase: str
    facts: Mapping[str, object]


class Life:
    """The rows of customer number `number`, by table. The same seed and `now` give the same."""

    def __init__(
        self, number: int, share: Share, *, seed: int, simulation: UUID, now: datetime
    ) -> None:
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self._dice = random.Random(f"{seed}/{number}")
        self._share, self._simulation, self._now = share, simulation, now
        self._number = number
        self._reference = f"{PREFIX}{number:06}"
        self._home = names.region(self._dice)
        self._came = now - _YEARS * (self._dice.random() ** 0.7)
        self._id = self._uuid(self._came)
        self._email = ""
        self._heard = self._came
        self._lines: list[_Line] = []
        self._open: set[ProcessKind] = set()
        self._live()

    # --- what happened -----------------------------------------------------------------------

    def _live(self) -> None:
        self._add_customer()
        self._contact()
        for moment in sorted(self._moment(self._came) for _ in range(self._share.orders)):
            self._order(moment)
        if self._dice.random() < 0.25:
            self._case(self._moment(self._came), CaseKind.REQUEST)
        if self._dice.random() < 0.08:
            self._retain()
        self._stand()
        self._write_lines()

    def _add_customer(self) -> None:
        dice, home = self._dice, self._home
        organisation = dice.random() < 0.15
        name = names.name(dice, home, organisation=organisation)
        self._add(
            "customers",
            id=self._id,
            reference=self._reference,
            kind="organisation" if organisation else "person",
            name=name,
            locale=home.locale,
            zone=home.zone,
            tone=dice.choice([None, None, None, "informal", "formal"]),
            simulation_id=self._simulation,
            chosen_locale="en" if home.locale != "en" and dice.random() < 0.05 else None,
            preferred_channel=dice.choice([None, None, None, "email", "sms"]),
            version=1,
            recorded_at=self._came,
            updated_at=self._came,
        )
        box = names.mailbox(name) or "customer"
        self._email = f"{box}.{self._number}@{dice.choice(_HOSTS)}"
        self._add_address(Channel.EMAIL, self._email)
        if dice.random() < 0.6:
            self._add_address(Channel.SMS, self._phone())
        for purpose in (Purpose.MARKETING, Purpose.TRACKING):
            if (luck := dice.random()) < 0.7:
                self._consent(purpose, self._came, "withdrawn" if luck < 0.1 else "granted")
        if dice.random() < 0.1:
            self._add(
                "preferences",
                id=self._uuid(self._came),
                customer_id=self._id,
                name="delivery-day",
                value=dice.choice(["Saturday", "Monday", "after 17:00"]),
                source="staff",
                recorded_at=self._came,
            )

    def _phone(self) -> str:
        """Of the numbers set aside for fiction (Ofcom; NANP 555-0100 to 555-0199)."""
        if self._dice.random() < 0.5:
            return f"+447700900{self._dice.randrange(1000):03}"
        return f"+1{self._dice.randrange(201, 990)}55501{self._dice.randrange(100):02}"

    def _add_address(self, channel: Channel, address: str) -> None:
        self._add(
            "contact_points",
            id=self._uuid(self._came),
            customer_id=self._id,
            channel=channel,
            address=address,
            recorded_at=self._came,
        )

    def _consent(self, purpose: Purpose, at: datetime, state: str) -> None:
        self._add(
            "consents",
            id=self._uuid(at),
            customer_id=self._id,
            channel=Channel.EMAIL,
            purpose=purpose,
            state=state,
            source="newsletter-form",
            wording="",
            occurred_at=at,
            recorded_at=at,
        )

    def _contact(self) -> None:
        """The first contact, of the customers who were won by one."""
        workflow_id = marketing_workflow_id(self._id, 1)
        began = self._came + timedelta(minutes=2)
        self._line(self._came, lifecycle_workflow_id(self._id), "lead_received", "before")
        if self._dice.random() < 0.4:
            return
        self._line(began, workflow_id, "marketing_started", "before", minor=True)
        for number, template in enumerate(
            (Template.MARKETING_WELCOME, Template.MARKETING_VALUE, Template.MARKETING_LAST), 1
        ):
            at = began + timedelta(days=4 * (number - 1))
            if at > self._now:
                break
            facts = {"number": number}
            self._line(at, workflow_id, "marketing_touch", "before", facts, minor=number > 1)
            if number == 1:
                self._message(at, workflow_id, template, {})
        ends = began + timedelta(days=15)
        outcome = "" if ends > self._now else "ordered" if self._share.orders else "no_answer"
        step = "touch sent" if not outcome else outcome.replace("_", " ")
        self._process(
            workflow_id, ProcessKind.MARKETING, began, step, "an answer or an order", ends, outcome
        )

    def _order(self, placed: datetime) -> None:
        dice = self._dice
        order_id = self._uuid(placed)
        workflow_id = delivery_workflow_id(order_id)
        promised = (placed + timedelta(days=dice.randint(3, 14))).date()
        end = datetime.combine(promised, time(12), UTC)
        late = dice.random() < 0.12
        arrives = end + timedelta(days=dice.randint(1, 9) if late else -dice.randint(0, 2))
        approved, sent = placed + timedelta(hours=5), placed + timedelta(hours=30)
        arrives = max(arrives, sent + timedelta(hours=6))
        state = self._reached(placed, approved, sent, arrives)
        done = state is DeliveryState.DELIVERED
        ended_at = arrives if state.final and not done else None
        endangered = not state.final and end - timedelta(days=2) < self._now
        missed = end + timedelta(hours=12)
        is_late = missed < (arrives if state.final else self._now)
        total = dice.randrange(900, 90_000)
        reference = f"{PREFIX}O-{self._number:06}-{len(self.rows['orders']) + 1:02}"
        shipped = state not in (DeliveryState.PLACED, DeliveryState.APPROVED)
        product = dice.choice(_PRODUCTS)
        self._add(
            "orders",
            id=order_id,
            customer_id=self._id,
            reference=reference,
            state=state,
            currency=self._home.currency,
            total_minor=total,
            lines=json.dumps([{"product": product, "quantity": 1, "price_minor": total}]),
            promised_on=promised,
            first_promised_on=promised,
            placed_at=placed,
            approved_at=approved if state is not DeliveryState.PLACED else None,
            dispatched_at=sent if shipped else None,
            delivered_at=arrives if done else None,
            ended_at=ended_at,
            carrier=dice.choice(_CARRIERS) if shipped else "",
            tracking=f"T{dice.randrange(10**10):010}" if shipped else "",
            endangered_at=end - timedelta(days=2) if endangered else None,
            late_noticed_at=missed if is_late else None,
            delivered_late=arrives.date() > promised if done else None,
            refund_minor=total if ended_at else None,
            recorded_at=placed,
        )
        self._milestones(order_id, state, (approved, sent, arrives))
        self._promise(order_id, promised, state, arrives, kept=arrives.date() <= promised)
        self._tell_of_order(workflow_id, reference, placed, promised, state, arrives, is_late)
        step = "late" if is_late and not state.final else state.replace("_", " ")
        self._process(
            workflow_id,
            ProcessKind.DELIVERY,
            placed,
            step,
            "news of the order",
            arrives if state.final else max(missed, self._now + timedelta(hours=3)),
            state.value if state.final else "",
        )
        if done:
            self._follow_up(order_id, arrives)
        elif is_late and not state.final:
            self._task(workflow_id, TaskKind.CHASE_ORDER, Role.OPS, missed, order_id=order_id)
        elif state in (DeliveryState.UNAVAILABLE, DeliveryState.CANCELLED):
            self._task(
                *(workflow_id, TaskKind.COMPENSATE, Role.SUPPORT_AGENT, arrives), order_id=order_id
            )

    def _reached(
        self, placed: datetime, approved: datetime, sent: datetime, arrives: datetime
    ) -> DeliveryState:
        luck = self._dice.random()
        if self._now < approved:
            return DeliveryState.PLACED
        if self._now < sent:
            return DeliveryState.APPROVED
        stuck = luck > 0.97 and self._now - placed < timedelta(days=45)
        if self._now < arrives or stuck:
            failed = luck > 0.99 or luck < 0.03
            return DeliveryState.ATTEMPT_FAILED if failed else DeliveryState.DISPATCHED
        if luck < 0.05:
            given_up = [DeliveryState.RETURNED, DeliveryState.UNAVAILABLE, DeliveryState.CANCELLED]
            return self._dice.choice(given_up)
        return DeliveryState.DELIVERED

    def _milestones(
        self, order_id: UUID, state: DeliveryState, moments: Iterable[datetime]
    ) -> None:
        last = f"order_{state.value}" if state.final else "order_delivered"
        kinds = ("order_approved", "order_dispatched", last)
        for kind, at in zip(kinds, moments, strict=True):
            if at <= self._now and (kind is not last or state.final):
                self._add(
                    "order_milestones",
                    order_id=order_id,
                    event_id=f"fill/{order_id}/{kind}",
                    milestone=kind,
                    effect=Effect.ADVANCES,
                    occurred_at=at,
                    recorded_at=at,
                )

    def _promise(
        self, order_id: UUID, day: date, state: DeliveryState, at: datetime, *, kept: bool
    ) -> None:
        verdicts = {
            DeliveryState.DELIVERED: PromiseState.KEPT if kept else PromiseState.BROKEN,
            DeliveryState.CANCELLED: PromiseState.RELEASED,
            DeliveryState.RETURNED: PromiseState.BROKEN,
            DeliveryState.UNAVAILABLE: PromiseState.BROKEN,
        }
        self._add(
            "promises",
            id=self._uuid(at),
            customer_id=self._id,
            order_id=order_id,
            kind=PromiseKind.DATE,
            text=f"delivered on {day}",
            due_on=day,
            state=verdicts.get(state, PromiseState.OPEN),
            source="order",
            settled_at=at if state.final else None,
            recorded_at=at,
        )

    def _tell_of_order(
        self,
        workflow_id: str,
        reference: str,
        placed: datetime,
        promised: date,
        state: DeliveryState,
        arrives: datetime,
        is_late: bool,
    ) -> None:
        about = {"order": reference, "promised_on": str(promised)}
        self._line(placed, workflow_id, "order_placed", "during", {"promised_on": str(promised)})
        if state is not DeliveryState.PLACED:
            at = placed + timedelta(hours=5)
            self._line(at, workflow_id, "order_approved", "during", minor=True)
        if state not in (DeliveryState.PLACED, DeliveryState.APPROVED):
            at = placed + timedelta(hours=30)
            self._line(at, workflow_id, "order_dispatched", "during", minor=True)
        if is_late:
            missed = datetime.combine(promised + timedelta(days=1), time(), UTC)
            self._line(missed, workflow_id, "promise_missed", "during")
            self._message(missed, workflow_id, Template.ORDER_LATE, about)
        else:
            self._message(placed, workflow_id, Template.ORDER_CONFIRMED, about)
        if state.final:
            self._line(arrives, workflow_id, f"order_{state.value}", "during")
            if self._dice.random() < 0.3:
                template = Template(f"order_{state.value}")
                self._message(arrives, workflow_id, template, about)
            self._hear(arrives)

    def _follow_up(self, order_id: UUID, delivered: datetime) -> None:
        dice = self._dice
        asked = delivered + timedelta(days=2)
        ends = asked + timedelta(days=14)
        workflow_id = follow_up_workflow_id(order_id)
        answered = asked + timedelta(hours=dice.randint(1, 90))
        answers = dice.random() < 0.25 and answered < self._now
        outcome = "answered" if answers else "no_answer"
        step = "answered" if answers else "asked" if asked < self._now else "follow-up planned"
        waiting = "the customer's answer" if asked < self._now else "the right moment to ask"
        outcome = outcome if ends < self._now else ""
        self._process(workflow_id, ProcessKind.FOLLOW_UP, delivered, step, waiting, ends, outcome)
        self._line(delivered, workflow_id, "follow_up_started", "after", minor=True)
        if asked > self._now:
            return
        survey_id = self._uuid(asked)
        self._line(asked, workflow_id, "survey_asked", "after", minor=True)
        self._add(
            "surveys",
            id=survey_id,
            customer_id=self._id,
            order_id=order_id,
            workflow_id=workflow_id,
            scale=SurveyScale.STARS,
            asked_at=asked,
            answered_at=answered if answers else None,
            recorded_at=asked,
        )
        if answers:
            self._answer(workflow_id, order_id, survey_id, answered)

    def _answer(self, workflow_id: str, order_id: UUID, survey_id: UUID, at: datetime) -> None:
        dice = self._dice
        score = dice.choices(range(1, 6), [3, 4, 10, 30, 53])[0]
        feedback_id = self._uuid(at)
        event_id = f"fill/{survey_id}/answer"
        comment = dice.choice(_BLAME if score < 3 else _PRAISE) if dice.random() < 0.5 else ""
        found = verdict(SurveyScale.STARS, score)
        recovery = None
        if score < 3:
            recovery = self._case(at, CaseKind.RECOVERY, feedback_id, order_id, event_id)
        self._event(event_id, "feedback_received", workflow_id, at, {"comment": comment})
        self._add(
            "feedback",
            id=feedback_id,
            customer_id=self._id,
            order_id=order_id,
            survey_id=survey_id,
            event_id=event_id,
            scale=SurveyScale.STARS,
            score=score,
            verdict=found,
            expectation=dice.choice([None, "met", "exceeded" if score > 3 else "below"]),
            answered_at=at,
            changes=0,
            recovery_case_id=recovery,
            recorded_at=at,
        )
        facts = {"score": score, "verdict": found}
        self._line(at, workflow_id, "feedback_received", "after", facts)
        self._hear(at)
        if dice.random() < 0.05:
            self._add(
                "needs",
                id=self._uuid(at),
                customer_id=self._id,
                order_id=order_id,
                text=dice.choice(_NEEDS),
                source="staff",
                state="open",
                occurred_at=at,
                recorded_at=at,
            )
            self._line(at, lifecycle_workflow_id(self._id), "need_stated", "after")

    def _case(
        self,
        opened: datetime,
        kind: CaseKind,
        feedback_id: UUID | None = None,
        order_id: UUID | None = None,
        event_id: str | None = None,
    ) -> UUID:
        dice = self._dice
        case_id = self._uuid(opened)
        workflow_id = support_workflow_id(case_id)
        if kind is CaseKind.REQUEST:
            kind = dice.choice([CaseKind.REQUEST, CaseKind.QUESTION, CaseKind.INCIDENT])
        if event_id is None:
            event_id = f"fill/{case_id}/opened"
            text = dice.choice(_TROUBLES)
            self._event(event_id, "case_opened", workflow_id, opened, {"text": text})
        answered = opened + timedelta(hours=dice.choice([1, 2, 4, 7, 20]))
        resolved = answered + timedelta(days=dice.choice([1, 2, 3, 6]))
        closed = resolved + timedelta(days=7)
        state = self._case_state(answered, resolved, closed)
        priority = dice.choices(list(Priority), [1, 6, 2, 1])[0]
        waits = state is CaseState.WAITING_FOR_CUSTOMER
        is_resolved = state in (CaseState.RESOLVED, CaseState.CLOSED)
        first_due, due = opened + timedelta(hours=8), opened + timedelta(days=5)
        self._add(
            "cases",
            id=case_id,
            reference=f"{PREFIX}CASE-{opened:%Y}-{case_id.hex[-8:].upper()}",
            customer_id=self._id,
            kind=kind,
            state=state,
            priority=priority,
            queue=Role.SUPPORT_AGENT,
            owner=None if state is CaseState.OPEN else dice.choice(_AGENTS),
            order_id=order_id,
            feedback_id=feedback_id,
            event_id=event_id,
            opened_at=opened,
            contact_by=opened + timedelta(days=1) if kind is CaseKind.RECOVERY else None,
            first_response_due=first_due,
            first_response_at=None if state is CaseState.OPEN else answered,
            first_response_missed_at=first_due if first_due < min(answered, self._now) else None,
            resolution_due=None if waits else due,
            resolution_missed_at=due if due < min(resolved, self._now) else None,
            resolved_at=resolved if is_resolved else None,
            closed_at=closed if state is CaseState.CLOSED else None,
            reopened=0,
            escalations=int(first_due < min(answered, self._now)),
            cause=dice.choice(list(CaseCause)) if is_resolved else None,
            outcome="resolved" if is_resolved else None,
            recorded_at=opened,
        )
        self._line(opened, workflow_id, "case_opened", "after", {"kind": kind})
        self._hear(opened)
        if state is not CaseState.OPEN:
            self._say(workflow_id, case_id, answered)
        if is_resolved:
            self._line(resolved, workflow_id, "case_resolved", "after", {"outcome": "resolved"})
        task = TaskKind.FIRST_RESPONSE
        if kind is CaseKind.RECOVERY:
            task = TaskKind.CONTACT_DISAPPOINTED
        self._task(
            *(workflow_id, task, Role.SUPPORT_AGENT, first_due),
            case_id=case_id,
            ended_at=None if state is CaseState.OPEN else answered,
        )
        self._process(
            *(workflow_id, ProcessKind.SUPPORT, opened, state.replace("_", " ")),
            "the customer" if waits else "an agent",
            closed,
            "resolved" if state is CaseState.CLOSED else "",
        )
        return case_id

    def _case_state(self, answered: datetime, resolved: datetime, closed: datetime) -> CaseState:
        if self._now < answered:
            return CaseState.OPEN
        if self._now < resolved or self._dice.random() < 0.01:
            return self._dice.choice([CaseState.IN_PROGRESS, CaseState.WAITING_FOR_CUSTOMER])
        return CaseState.RESOLVED if self._now < closed else CaseState.CLOSED

    def _say(self, workflow_id: str, case_id: UUID, at: datetime) -> None:
        text_id = self._uuid(at)
        self._add(
            "staff_texts",
            id=text_id,
            customer_id=self._id,
            case_id=case_id,
            by=self._dice.choice(_AGENTS),
            text="Thank you for writing; we are looking into it.",
            internal=False,
            recorded_at=at,
        )
        self._line(at, workflow_id, "case_answered", "after")
        context = {"case": f"CASE-{case_id.hex[-8:].upper()}"}
        self._message(at, workflow_id, Template.CASE_REPLY, context, text_id)

    def _retain(self) -> None:
        at = self._moment(self._came + (self._now - self._came) / 2)
        workflow_id = retention_workflow_id(self._id, f"silence-{at:%Y%m%d}")
        self._line(at, lifecycle_workflow_id(self._id), "silence_noticed", "after")
        self._line(at, workflow_id, "retention_started", "after")
        self._message(at, workflow_id, Template.RETENTION_CHECK_IN, {})
        ends = at + timedelta(days=30)
        outcome = self._dice.choice(["saved: order", "lost: no answer"])
        self._process(
            *(workflow_id, ProcessKind.RETENTION, at, "checked in with the customer"),
            "an answer or an order",
            ends,
            outcome if ends < self._now else "",
        )
        if self._dice.random() < 0.3:
            due = at + timedelta(days=3)
            self._task(workflow_id, TaskKind.SAVE_CUSTOMER, Role.ACCOUNT_MANAGER, due)

    def _stand(self) -> None:
        """The lifecycle itself: its stage follows from what is open."""
        by_process = {
            ProcessKind.SUPPORT: Stage.SUPPORT,
            ProcessKind.DELIVERY: Stage.DELIVERY,
            ProcessKind.RETENTION: Stage.RETENTION,
            ProcessKind.MARKETING: Stage.MARKETING,
            ProcessKind.FOLLOW_UP: Stage.FOLLOW_UP,
        }
        rest = Stage.LOST if self._dice.random() < 0.05 else Stage.QUIET
        stage = next((by_process[kind] for kind in by_process if kind in self._open), rest)
        silence = self._heard + timedelta(days=90)
        silence += max((self._now - silence) // timedelta(days=90) + 1, 0) * timedelta(days=90)
        self._add(
            "lifecycles",
            customer_id=self._id,
            stage=stage,
            stage_reason=f"{stage.value} since the last news",
            stage_since=self._heard,
            last_heard_at=self._heard,
            silence_due_at=silence,
            updated_at=self._heard,
        )
        workflow_id = lifecycle_workflow_id(self._id)
        self._process(workflow_id, ProcessKind.LIFECYCLE, self._came, stage.value, "", silence, "")

    # --- rows --------------------------------------------------------------------------------

    def _add(self, table: str, **row: Any) -> None:
        self.rows[table].append(row)

    def _uuid(self, at: datetime) -> UUID:
        """A version 7 (RFC 9562) of that moment, drawn by the seed."""
        milliseconds = int(at.timestamp() * 1000)
        drawn = self._dice.getrandbits(74)
        high, low = drawn >> 62, drawn & ((1 << 62) - 1)
        return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)

    def _moment(self, since: datetime) -> datetime:
        return since + (self._now - since) * self._dice.random()

    def _hear(self, at: datetime) -> None:
        self._heard = max(self._heard, at)

    def _event(
        self, event_id: str, kind: str, workflow_id: str, at: datetime, body: Mapping[str, str]
    ) -> None:
        self._add(
            "events",
            event_id=event_id,
            kind=kind,
            customer_id=self._id,
            workflow_id=workflow_id,
            occurred_at=at,
            body=json.dumps(body),
            fingerprint="",
            accepted_by="fill",
            accepted_at=at,
        )

    def _process(
        self,
        workflow_id: str,
        kind: ProcessKind,
        began: datetime,
        step: str,
        waiting_for: str,
        next_at: datetime,
        outcome: str,
    ) -> None:
        ended_at = next_at if outcome else None
        if not outcome:
            self._open.add(kind)
        self._add(
            "processes",
            workflow_id=workflow_id,
            kind=kind,
            customer_id=self._id,
            state=ProcessState.COMPLETED if outcome else ProcessState.RUNNING,
            step=step,
            waiting_for="" if outcome else waiting_for,
            next_timer_at=None if outcome else next_at,
            next_timer_machine_at=None if outcome else next_at,
            outcome=outcome,
            allowed="[]",
            started_at=began,
            ended_at=ended_at,
            recorded_at=began,
            updated_at=min(ended_at or began, self._now),
        )

    def _task(
        self,
        workflow_id: str,
        kind: TaskKind,
        role: Role,
        due: datetime,
        *,
        order_id: UUID | None = None,
        case_id: UUID | None = None,
        ended_at: datetime | None = None,
    ) -> None:
        """Done long ago, or still open when it is not `ended_at` and due of late."""
        if ended_at is None and due < self._now - timedelta(days=5):
            ended_at = due
        state = self._dice.choice([TaskState.OPEN, TaskState.OPEN, TaskState.CLAIMED])
        if ended_at is not None:
            state = TaskState.DONE
        self._add(
            "tasks",
            id=self._uuid(due),
            customer_id=self._id,
            workflow_id=workflow_id,
            kind=kind,
            role=role,
            state=state,
            owner=None if state is TaskState.OPEN else self._dice.choice(_AGENTS),
            order_id=order_id,
            case_id=case_id,
            opened_at=due - timedelta(hours=8),
            due_at=due,
            ended_at=ended_at,
            outcome=OUTCOMES[kind][0] if ended_at else None,
            version=1,
            recorded_at=due - timedelta(hours=8),
        )

    def _message(
        self,
        at: datetime,
        workflow_id: str,
        template: Template,
        context: Mapping[str, str],
        text_id: UUID | None = None,
    ) -> None:
        """Settled, whatever became of it: what waits would be sent."""
        kind = MESSAGES[template]
        luck = self._dice.random()
        state = MessageState.DELIVERED if luck < 0.6 else MessageState.ACCEPTED
        provider_answer: str | None = "250 accepted"
        decision: str | None = None
        if luck > 0.985:
            state, provider_answer = MessageState.BOUNCED, "550 no such mailbox"
        elif luck > 0.95:
            state, provider_answer = MessageState.SUPPRESSED, None
            because = "no consent to marketing by email"
            if kind.purpose is not Purpose.MARKETING:
                because = "the address is suppressed: hard bounce"
            rule = {"name": "consent", "passed": False, "because": because}
            decision = json.dumps(
                {
                    "outcome": "suppress",
                    "decided_by": "consent",
                    "because": because,
                    "rules": [rule],
                }
            )
        gone = state is not MessageState.SUPPRESSED
        undelivered = not gone or state is MessageState.BOUNCED
        message_id = self._uuid(at)
        self._add(
            "messages",
            id=message_id,
            key=f"{workflow_id}/{template}/1",
            customer_id=self._id,
            workflow_id=workflow_id,
            step=template,
            template=template,
            message_class=kind.message_class,
            purpose=kind.purpose,
            channel=Channel.EMAIL,
            context=json.dumps(context),
            text_id=text_id,
            state=state,
            asked_at=at,
            queued_at=at,
            not_before=at,
            due_since=at,
            attempts=int(gone),
            address=self._email if gone else None,
            locale=self._home.locale if gone else None,
            template_version="file" if gone else None,
            message_id=f"<{message_id}@fill.example.com>" if gone else None,
            subject=template.replace("_", " ").capitalize() if gone else None,
            accepted_at=at if gone else None,
            told_at=at if gone else None,
            provider="smtp" if gone else None,
            provider_answer=provider_answer,
            decision=decision,
            possible_duplicate=False,
            process_told_at=at if undelivered else None,
        )

    def _line(
        self,
        at: datetime,
        workflow_id: str,
        kind: str,
        phase: str,
        facts: Mapping[str, object] | None = None,
        *,
        minor: bool = False,
    ) -> None:
        key = f"{kind}/{len(self._lines)}"
        at = min(at, self._now)
        self._lines.append(_Line(minor, at, workflow_id, key, kind, phase, facts or {}))

    def _write_lines(self) -> None:
        """As many as the share says: those a reader misses least are left out, or mails added."""
        lifecycle = lifecycle_workflow_id(self._id)
        while len(self._lines) < self._share.lines:
            self._line(self._moment(self._came), lifecycle, "reply_received", "after")
        kept = sorted(self._lines, key=lambda line: line.minor)[: self._share.lines]
        for line in sorted(kept, key=lambda line: line.at):
            self._add(
                "timeline",
                customer_id=self._id,
                workflow_id=line.workflow_id,
                step_key=line.key,
                kind=line.kind,
                phase=line.phase,
                happened_at=line.at,
                facts=json.dumps(line.facts),
                recorded_at=line.at,
            )
