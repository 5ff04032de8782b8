"""One order on its way: from placed to delivered, the customer told before a promise slips."""

from datetime import date, datetime
from typing import Any

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from activities.delivery import DeliveryActivities
from domain.delivery import (
    REACHES,
    Concern,
    Deadline,
    DeliveryAttemptFailed,
    DeliveryInput,
    DeliveryRescheduled,
    DeliveryState,
    DeliveryTerms,
    Effect,
    Milestone,
    MilestoneStep,
    OrderApproved,
    OrderCancelled,
    OrderDelivered,
    OrderDispatched,
    OrderPlacedStep,
    OrderReturned,
    OrderStep,
    OrderTaskStep,
    OrderUnavailable,
    PromiseEndangeredStep,
    effect_of,
    next_deadline,
)
from domain.policies import CaseKind, Priority
from domain.processes import LIFECYCLE_QUEUE, ProcessKind, derived_id, support_workflow_id
from domain.support import CaseInput
from domain.tasks import Role, TaskKind
from workflows.process import Process
from workflows.visibility import search_attributes

with workflow.unsafe.imports_passed_through():  # references only; each runs in its own sandbox
    from workflows.support import SupportCase


@workflow.defn
class OrderDelivery(Process):
    kind = ProcessKind.DELIVERY

    def __init__(self) -> None:
        super().__init__()
        self._news: list[Milestone] = []
        self._seen_events: set[str] = set()
        self._dealt_with: set[str] = set()  # deadlines
        self._expected_on: date | None = None  # the carrier's word
        self._failed_attempts = 0
        self._failed_at: datetime | None = None  # an attempt that no news has followed yet

    @workflow.run
    async def run(self, order: DeliveryInput) -> str:
        self._order_id = order.order_id
        self._customer_id = order.customer_id
        return await self._steered(self._deliver(order))

    async def _deliver(self, order: DeliveryInput) -> str:
        await self._open(order)
        await self._until_it_is_over()
        while await self._came_at_the_end(self._news):
            await self._until_it_is_over()
        return self._state

    async def _until_it_is_over(self) -> None:
        while not self._is_over:
            deadline = self._deadline()
            if await self._until(
                lambda: bool(self._news or self._undeliverable or self._is_over),
                deadline and deadline.at,
                _WORDS[deadline.concern] if deadline else "",
            ):
                await self._act_on_news()
            elif deadline:
                await self._act_on_deadline(deadline)
        if not self._standing.state.ended:
            await self._close()

    @property
    def _is_over(self) -> bool:
        """Nothing more will come, and nobody has anything left to do about it."""
        return self._state.final and not self._news and not self._compensating

    @property
    def _compensating(self) -> bool:
        return any(key.startswith("compensate/") for key in self._tasks.values())

    # --- facts, as the shop and the carrier report them --------------------------------------

    @workflow.signal
    def order_approved(self, event: OrderApproved) -> None:
        self._note(event)

    @workflow.signal
    def order_dispatched(self, event: OrderDispatched) -> None:
        self._note(event)

    @workflow.signal
    def delivery_attempt_failed(self, event: DeliveryAttemptFailed) -> None:
        self._note(event)

    @workflow.signal
    def delivery_rescheduled(self, event: DeliveryRescheduled) -> None:
        self._note(event)

    @workflow.signal
    def order_delivered(self, event: OrderDelivered) -> None:
        """Carriers may report one parcel twice; the first report counts."""
        self._note(event)

    @workflow.signal
    def order_returned(self, event: OrderReturned) -> None:
        self._note(event)

    @workflow.signal
    def order_unavailable(self, event: OrderUnavailable) -> None:
        self._note(event)

    @workflow.signal
    def order_cancelled(self, event: OrderCancelled) -> None:
        self._note(event)

    def _note(self, event: Milestone) -> None:
        if event.event_id not in self._seen_events:
            self._seen_events.add(event.event_id)
            self._news.append(event)

    # --- what follows from them --------------------------------------------------------------

    async def _open(self, order: DeliveryInput) -> None:
        """Record the order and confirm it; or, reopened by a late report, find it as it stood."""
        opening = "order_placed" if order.placed else f"reopened/{workflow.info().run_id}"
        step = self._step(
            opening,
            "placed, confirmed to the customer",
            "the approval of the order",
            at=order.placed.occurred_at if order.placed else None,
        )
        self._terms: DeliveryTerms = await self._do(
            DeliveryActivities.open_delivery,
            OrderPlacedStep(**step, order_id=order.order_id, placed=order.placed),
            "record the order and confirm it to the customer",
        )
        self._clock = self._terms.clock
        self._show(self._state, self._next_at())

    async def _act_on_news(self) -> None:
        if not self._news:
            if self._undeliverable:
                await self._ask_for_an_address()
            return
        news = self._news.pop(0)
        if self._failed_at and not workflow.patched("late reports leave the redelivery clock"):
            self._failed_at = None
        if isinstance(news, DeliveryRescheduled):
            await self._reschedule(news)
            return
        reached = REACHES[type(news)]
        effect = self._effect_of(news, reached)
        if effect is not Effect.ADVANCES:
            await self._note_only(news, reached, effect)
            return
        self._terms = self._terms.model_copy(update={"state": reached})
        await self._advance(news)

    def _effect_of(self, news: Milestone, reached: DeliveryState) -> Effect:
        """An order is on its way again only when it left after the attempt that failed."""
        left_before = self._failed_at is not None and news.occurred_at < self._failed_at
        if reached is DeliveryState.DISPATCHED and left_before:
            return Effect.FILLS_IN
        return effect_of(self._state, reached)

    async def _advance(self, news: Milestone) -> None:
        if not isinstance(news, DeliveryAttemptFailed):
            self._failed_at = None
        match news:
            case OrderApproved():
                await self._approved(news)
            case OrderDispatched():
                await self._dispatched(news)
            case DeliveryAttemptFailed():
                await self._attempt_failed(news)
            case OrderDelivered():
                await self._delivered(news)
            case OrderReturned() | OrderUnavailable() | OrderCancelled():
                await self._compensate(news)

    async def _approved(self, news: OrderApproved) -> None:
        withdrawn = self._approval_no_longer_asked()
        step = self._milestone(news, "approved", "the dispatch of the order")
        await self._do(
            DeliveryActivities.record_approved,
            step.model_copy(update={"withdrawn": withdrawn}),
            "order approved",
        )

    async def _dispatched(self, news: OrderDispatched) -> None:
        self._expected_on = news.expected_on
        withdrawn = self._approval_no_longer_asked()
        step = self._milestone(news, "dispatched", "the carrier's delivery").model_copy(
            update={"carrier": news.carrier, "tracking": news.tracking, "withdrawn": withdrawn}
        )
        await self._do(
            DeliveryActivities.record_dispatched, step, "order dispatched; tell the customer"
        )

    async def _attempt_failed(self, news: DeliveryAttemptFailed) -> None:
        """The customer is told; silence, or as many as the policy says, become a support case."""
        self._failed_attempts += 1
        self._failed_at = max(news.occurred_at, self._failed_at or news.occurred_at)
        step = self._milestone(news, "delivery attempt failed", "another attempt")
        await self._do(
            DeliveryActivities.record_attempt_failed, step, "attempt failed; tell the customer"
        )
        if self._failed_attempts == self._terms.policy.failed_attempts:
            words = f"Support case: failed delivery attempts: {self._failed_attempts}"
            await self._open_case(news.event_id, words)

    async def _delivered(self, news: OrderDelivered) -> None:
        step = self._milestone(news, "delivered", ended=DeliveryState.DELIVERED)
        self._tasks.clear()  # the step withdraws them: an order given up may turn up all the same
        self._show(DeliveryState.DELIVERED)
        await self._do(
            DeliveryActivities.record_delivered,
            step.model_copy(update={"shortfalls": news.shortfalls}),
            "order delivered; settle its promises and tell the customer",
        )

    async def _compensate(self, news: OrderReturned | OrderUnavailable | OrderCancelled) -> None:
        """Nothing will arrive: refund, apology with an alternative, and a person to see to it."""
        reached = self._state
        due_at = max(self._now, news.occurred_at) + self._terms.policy.compensation_due
        task = self._task(f"compensate/{reached}", TaskKind.COMPENSATE, Role.OPS, due_at)
        step = self._milestone(
            news, f"{reached}, the customer knows", "a person who sees to the compensation"
        ).model_copy(
            update={
                "tasks": (task,),
                "refund_minor": getattr(news, "refund_minor", None),
                "alternative": getattr(news, "alternative", ""),
                "reason": getattr(news, "reason", ""),
            }
        )
        self._show(reached, due_at)
        await self._do(
            DeliveryActivities.record_compensated,
            step,
            f"order {reached}: refund, apology with an alternative, task for a person",
        )

    async def _reschedule(self, news: DeliveryRescheduled) -> None:
        before = self._terms.promised_on
        if self._state.final or before == news.promised_on:
            await self._note_only(news, None, Effect.REPEATS)
            return
        self._failed_at = None
        self._terms = self._terms.model_copy(update={"promised_on": news.promised_on})
        step = self._milestone(news, "rescheduled", "delivery by the new day").model_copy(
            update={"promised_on": news.promised_on, "previously_promised_on": before}
        )
        await self._do(
            DeliveryActivities.record_rescheduled, step, "new promised day; tell the customer"
        )

    async def _note_only(
        self, news: Milestone, reached: DeliveryState | None, effect: Effect
    ) -> None:
        told: dict[str, Any] = {"reached": reached, "effect": effect}
        if isinstance(news, OrderDispatched) and effect is Effect.FILLS_IN:
            self._expected_on = self._expected_on or news.expected_on
            told |= {"carrier": news.carrier, "tracking": news.tracking}
            told["withdrawn"] = self._approval_no_longer_asked()
        ended = self._state if self._state.final and not self._compensating else ""
        step = self._milestone(
            news, self._standing.step, self._standing.waiting_for, ended=ended
        ).model_copy(update=told)
        await self._do(DeliveryActivities.record_noted, step, f"noted: the report {effect}")

    async def _close(self) -> None:
        """The compensation is done: the order needs nobody any more."""
        step = self._step("closed", f"{self._state}, compensated", ended=self._state)
        await self._do(
            DeliveryActivities.record_delivery_ended,
            OrderStep(**step, order_id=self._order_id),
            "a person has seen to the compensation",
        )

    # --- moments that come when nothing is heard ---------------------------------------------

    async def _act_on_deadline(self, deadline: Deadline) -> None:
        self._dealt_with.add(deadline.key)
        match deadline.concern:
            case Concern.APPROVAL_OVERDUE:
                await self._ask_a_person(
                    deadline, TaskKind.APPROVE_ORDER, "not approved yet", "the approval"
                )
            case Concern.CHASE:
                await self._ask_a_person(
                    deadline, TaskKind.CHASE_ORDER, "late, being chased", "news of the order"
                )
            case Concern.PROMISE_ENDANGERED:
                await self._tell_that_promise_is_at_risk(deadline)
            case Concern.PROMISE_MISSED:
                await self._tell_that_promise_is_missed(deadline)
            case Concern.REDELIVERY_OVERDUE:
                await self._note_that_nobody_came_again(deadline)

    async def _note_that_nobody_came_again(self, deadline: Deadline) -> None:
        words = "no news since the failed attempt"
        step = self._step(deadline.key, words, "news of the order", until=self._next_at())
        await self._do(
            DeliveryActivities.record_redelivery_overdue,
            OrderStep(**step, order_id=self._order_id),
            words,
        )
        await self._open_case(deadline.key, "Support case: nothing after a failed attempt")

    async def _tell_that_promise_is_at_risk(self, deadline: Deadline) -> None:
        step = self._step(
            deadline.key, "at risk, the customer knows", "news of the order", until=self._next_at()
        )
        self._show("at risk", self._next_at())
        await self._do(
            DeliveryActivities.record_endangered,
            self._endangered(step),
            "nothing says the promised day will be kept; tell the customer",
        )

    async def _tell_that_promise_is_missed(self, deadline: Deadline) -> None:
        """The customer is told, and a person looks into it at once."""
        due_at = self._now + self._terms.policy.compensation_due
        task = self._task(deadline.key, TaskKind.CHASE_ORDER, Role.OPS, due_at)
        step = self._step(
            deadline.key, "late, the customer knows", "news of the order", until=self._next_at()
        )
        self._show("late", self._next_at())
        await self._do(
            DeliveryActivities.record_missed,
            self._endangered(step).model_copy(update={"task": task}),
            "the promised day passed; tell the customer and ask a person to look into it",
        )

    def _endangered(self, step: dict[str, Any]) -> PromiseEndangeredStep:
        assert self._terms.promised_on is not None
        return PromiseEndangeredStep(
            **step, order_id=self._order_id, promised_on=self._terms.promised_on
        )

    async def _ask_a_person(
        self, deadline: Deadline, kind: TaskKind, words: str, waiting_for: str
    ) -> None:
        key = "approve" if kind is TaskKind.APPROVE_ORDER else deadline.key
        due_at = self._now + self._terms.policy.compensation_due
        task = self._task(key, kind, Role.OPS, due_at)
        step = self._step(deadline.key, words, waiting_for, until=self._next_at())
        await self._do(
            DeliveryActivities.record_order_task,
            OrderTaskStep(**step, order_id=self._order_id, task=task),
            f"{words}: ask a person",
        )

    async def _ask_for_an_address(self) -> None:
        """A message can't arrive: once, a person is asked to correct the address."""
        self._undeliverable.clear()
        if "address" in self._dealt_with or self._state.final:
            return
        self._dealt_with.add("address")
        due_at = self._now + self._terms.policy.compensation_due
        task = self._task("address", TaskKind.CORRECT_ADDRESS, Role.SUPPORT_AGENT, due_at)
        step = self._step(
            "address", self._standing.step, self._standing.waiting_for, until=self._next_at()
        )
        await self._do(
            DeliveryActivities.record_order_task,
            OrderTaskStep(**step, order_id=self._order_id, task=task),
            "messages can't reach the customer: ask a person for an address",
        )

    async def _open_case(self, because: str, words: str) -> None:
        """One for each order, whatever else goes wrong with its attempts."""
        if "case" in self._dealt_with:
            return
        self._dealt_with.add("case")
        case_id = derived_id("case", self._order_id, because)
        try:
            await workflow.start_child_workflow(
                SupportCase.run,
                CaseInput(
                    case_id=case_id,
                    customer_id=self._customer_id,
                    kind=CaseKind.FAILED_DELIVERY,
                    priority=Priority.HIGH,
                    opened_at=self._now,
                    event_id=because,
                    order_id=self._order_id,
                ),
                id=support_workflow_id(case_id),
                task_queue=LIFECYCLE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                search_attributes=search_attributes(self._customer_id, ProcessKind.SUPPORT),
                static_summary=words,
            )
        except WorkflowAlreadyStartedError:
            # Staff let the process go back to a point before it (a reset): the case is there.
            workflow.logger.info("the case was opened before")

    # --- small words -------------------------------------------------------------------------

    @property
    def _state(self) -> DeliveryState:
        return self._terms.state

    def _deadline(self) -> Deadline | None:
        return next_deadline(self._terms, self._dealt_with, self._expected_on, self._failed_at)

    def _approval_no_longer_asked(self) -> tuple[str, ...]:
        """The keys of the tasks to withdraw, now that the order goes on."""
        asked = "approval" in self._dealt_with
        self._withdraw_task("approve")
        return ("approve",) if asked else ()

    def _next_at(self) -> datetime | None:
        deadline = self._deadline()
        return deadline.at if deadline else None

    def _milestone(
        self, news: Milestone, words: str, waiting_for: str = "", *, ended: str = ""
    ) -> MilestoneStep:
        step = self._step(
            f"{news.event_id}",
            words,
            waiting_for,
            until=None if ended else self._next_at(),
            at=news.occurred_at,
            ended=ended,
        )
        return MilestoneStep(
            **step,
            order_id=self._order_id,
            event_id=news.event_id,
            reached=REACHES.get(type(news)),
            zone=self._terms.zone,
        )


_WORDS = {
    Concern.APPROVAL_OVERDUE: "until the order should be approved",
    Concern.PROMISE_ENDANGERED: "until the customer must be warned about the promised day",
    Concern.PROMISE_MISSED: "until the promised day has passed",
    Concern.CHASE: "until a person looks at the late order once more",
    Concern.REDELIVERY_OVERDUE: "until another attempt should have been heard of",
}
