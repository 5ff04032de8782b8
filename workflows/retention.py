"""Retention: a silent or endangered customer, a save play, saved or lost with a reason."""

from temporalio import workflow

from activities.retention import RetentionActivities
from domain.lifecycle import OptedOut, OrderNews
from domain.marketing import ReplyReceived
from domain.processes import ProcessKind
from domain.retention import (
    OfferStep,
    RetentionEndStep,
    RetentionInput,
    RetentionOutcome,
    RetentionStep,
    RetentionTerms,
    SaveTaskStep,
)
from domain.tasks import Role, TaskKind
from workflows.selling import SellingProcess


@workflow.defn
class RetentionOutreach(SellingProcess):
    kind = ProcessKind.RETENTION

    def __init__(self) -> None:
        super().__init__()
        self._came_back = ""
        self._opted_out = False

    @workflow.run
    async def run(self, risk: RetentionInput) -> str:
        self._customer_id = risk.customer_id
        self._cause = risk.cause
        return await self._steered(self._save())

    async def _save(self) -> str:
        """Check in, ask the account manager, offer; saved, or lost and won back later."""
        await self._check_in()
        outcome, reason = await self._play()
        if outcome is RetentionOutcome.LOST and reason != "opted_out":
            outcome, reason = await self._win_back_later(reason)
        await self._end(outcome, reason)
        return outcome

    @workflow.signal
    def order_placed(self, event: OrderNews) -> None:
        self._came_back = "ordered"

    @workflow.signal
    def reply_received(self, event: ReplyReceived) -> None:
        self._came_back = self._came_back or "answered"

    @workflow.signal
    def opted_out(self, event: OptedOut) -> None:
        self._opted_out = True

    async def _check_in(self) -> None:
        step = self._step("check_in", "checked in with the customer", "an answer or an order")
        self._terms: RetentionTerms = await self._do(
            RetentionActivities.open_retention,
            RetentionStep(**step, cause=self._cause),
            "check in with the customer",
        )
        self._clock = self._terms.clock

    async def _play(self) -> tuple[RetentionOutcome, str]:
        policy = self._terms.policy
        if await self._until(
            self._decided, self._now + policy.answer_within, "until a person takes over"
        ):
            return self._outcome()
        await self._ask_the_account_manager()
        decided = await self._until(
            lambda: self._decided() or "save" in self._outcomes,
            self._now + policy.manager_within,
            "until the account manager should have made contact",
        )
        if decided and self._outcomes.get("save") != "offer":
            return self._outcome()
        await self._until_selling_allowed(self._decided)
        if self._decided():
            return self._outcome()
        await self._offer()
        if await self._until(
            self._decided, self._now + policy.offer_stands, "while the offer stands"
        ):
            return self._outcome()
        return RetentionOutcome.LOST, "no_answer"

    def _decided(self) -> bool:
        settled = self._outcomes.get("save") in ("saved", "lost")
        return bool(self._came_back or self._opted_out or settled)

    def _outcome(self) -> tuple[RetentionOutcome, str]:
        if self._came_back:
            return RetentionOutcome.SAVED, self._came_back
        if self._opted_out:
            return RetentionOutcome.LOST, "opted_out"
        if self._outcomes.get("save") == "saved":
            return RetentionOutcome.SAVED, "account_manager"
        return RetentionOutcome.LOST, "account_manager"

    async def _ask_the_account_manager(self) -> None:
        due_at = self._now + self._terms.policy.manager_within
        task = self._task("save", TaskKind.SAVE_CUSTOMER, Role.ACCOUNT_MANAGER, due_at)
        step = self._step(
            "ask_manager", "with the account manager", "the account manager", until=due_at
        )
        self._show("with the account manager", due_at)
        await self._do(
            RetentionActivities.record_save_task,
            SaveTaskStep(**step, cause=self._cause, task=task),
            "no answer: ask the account manager to make contact",
        )

    async def _offer(self) -> None:
        until = self._now + self._terms.policy.offer_stands
        step = self._step("offer", "offer made", "an answer or an order", until=until)
        await self._do(
            RetentionActivities.record_offer,
            OfferStep(**step, cause=self._cause, offer_until=until),
            "make an offer",
        )

    async def _win_back_later(self, reason: str) -> tuple[RetentionOutcome, str]:
        """Lost; after a while one more message. The customer may come back all the same."""
        again_at = self._now + self._terms.policy.win_back_after
        step = self._step("lost", f"lost: {reason}", "the moment of the win-back", until=again_at)
        self._show("lost")
        await self._do(
            RetentionActivities.record_lost,
            RetentionEndStep(
                **step, cause=self._cause, outcome=RetentionOutcome.LOST, reason=reason
            ),
            f"lost: {reason}",
        )
        if self._came_back and not workflow.patched("who comes back at once has come back"):
            self._came_back = ""
        if await self._until(self._won_back, again_at, "until the win-back"):
            return self._outcome()
        await self._until_selling_allowed(self._won_back)
        if self._won_back():
            return self._outcome()
        until = self._now + self._terms.policy.offer_stands
        step = self._step("win_back", "win-back sent", "an answer or an order", until=until)
        await self._do(
            RetentionActivities.record_win_back,
            RetentionStep(**step, cause=self._cause),
            "try to win the customer back",
        )
        if await self._until(self._won_back, until, "an answer to the win-back"):
            return self._outcome()
        return RetentionOutcome.LOST, reason

    def _won_back(self) -> bool:
        """By himself, or by an account manager who didn't give up."""
        saved = self._outcomes.get("save") == "saved"
        return bool(self._came_back or self._opted_out or saved)

    async def _end(self, outcome: RetentionOutcome, reason: str) -> None:
        step = self._step("ended", f"{outcome}: {reason}", ended=f"{outcome}: {reason}")
        await self._do(
            RetentionActivities.record_retention_ended,
            RetentionEndStep(**step, cause=self._cause, outcome=outcome, reason=reason),
            f"{outcome}: {reason}",
        )
