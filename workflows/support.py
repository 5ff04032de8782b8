"""A support case: acknowledged, answered, resolved, with clocks that rest while we wait for him."""

from datetime import datetime
from typing import Any

from temporalio import workflow

from activities.support import SupportActivities
from domain.marketing import ReplyReceived
from domain.messages import Template
from domain.processes import Command, ProcessKind, ProcessState
from domain.support import (
    ALLOWED,
    FIRST_TASK,
    Assign,
    CaseAnsweredStep,
    CaseAssignedStep,
    CaseEscalatedStep,
    CaseInput,
    CaseOpenedStep,
    CaseResolvedStep,
    CaseState,
    CaseStep,
    CaseTerms,
    Resolve,
    Respond,
    StopClock,
    WaitForCustomer,
    acknowledge_by,
    first_task,
    outcome_template,
)
from domain.tasks import Role, TaskKind, task_id_of
from workflows.process import Process
from workflows.visibility import OWNER


@workflow.defn
class SupportCase(Process):
    kind = ProcessKind.SUPPORT

    def __init__(self) -> None:
        super().__init__()
        self._state = CaseState.OPEN
        self._requests: list[tuple[str, Command]] = []  # of staff, in order
        self._replies: list[ReplyReceived] = []
        self._seen_events: set[str] = set()
        self._first_response_due: datetime | None = None
        self._acknowledge_by: datetime | None = None
        self._resolution: StopClock | None = None
        self._missed: set[str] = set()  # clocks
        self._reminded = False
        self._waiting_since: datetime | None = None
        self._resolved_at: datetime | None = None
        self._count = self._closings = 0

    @workflow.run
    async def run(self, opened: CaseInput) -> str:
        self._customer_id = opened.customer_id
        self._case = opened
        self._priority = opened.priority
        outcome = await self._steered(self._handle_case())
        if outcome == ProcessState.STOPPED:
            await self._close(outcome)  # nothing may wait for it any more
        return outcome

    async def _handle_case(self) -> str:
        await self._open()
        await self._until_closed()
        while await self._came_at_the_end(self._replies):
            await self._reopen("customer", self._replies.pop(0).event_id)
            await self._until_closed()
        return self._state

    async def _until_closed(self) -> None:
        while self._state is not CaseState.CLOSED:
            moment, what = self._next_moment()
            if await self._until(self._something, moment, _WORDS.get(what, "")):
                await self._act()
            else:
                await self._act_on_moment(what)

    # --- what staff asks for, and what the customer says -------------------------------------

    @workflow.update
    def respond(self, command: Respond) -> None:
        self._requests.append(("respond", command))

    @respond.validator
    def _may_respond(self, command: Respond) -> None:
        self._allow("respond")

    @workflow.update
    def wait_for_customer(self, command: WaitForCustomer) -> None:
        self._requests.append(("wait_for_customer", command))

    @wait_for_customer.validator
    def _may_wait(self, command: WaitForCustomer) -> None:
        self._allow("wait_for_customer")

    @workflow.update
    def resolve(self, command: Resolve) -> None:
        self._requests.append(("resolve", command))

    @resolve.validator
    def _may_resolve(self, command: Resolve) -> None:
        self._allow("resolve")

    @workflow.update
    def reopen(self, command: Command) -> None:
        self._requests.append(("reopen", command))

    @reopen.validator
    def _may_reopen(self, command: Command) -> None:
        self._allow("reopen")

    @workflow.update
    def escalate(self, command: Command) -> None:
        self._requests.append(("escalate", command))

    @escalate.validator
    def _may_escalate(self, command: Command) -> None:
        self._allow("escalate")

    @workflow.update
    def assign(self, command: Assign) -> None:
        self._requests.append(("assign", command))

    @assign.validator
    def _may_assign(self, command: Assign) -> None:
        self._allow("assign")

    @workflow.signal
    def reply_received(self, event: ReplyReceived) -> None:
        if event.event_id not in self._seen_events:
            self._seen_events.add(event.event_id)
            self._replies.append(event)

    def _allowed(self) -> tuple[str, ...]:
        if self._paused:
            return super()._allowed()
        return (*super()._allowed(), *ALLOWED[self._state_after_requests])

    @property
    def _state_after_requests(self) -> CaseState:
        """What the state will be once the accepted requests are carried out: judges the next."""
        state = self._state
        for name, _ in self._requests:
            state = {
                "respond": CaseState.IN_PROGRESS,
                "wait_for_customer": CaseState.WAITING_FOR_CUSTOMER,
                "resolve": CaseState.RESOLVED,
                "reopen": CaseState.IN_PROGRESS,
            }.get(name, state)
        return state

    # --- the clocks --------------------------------------------------------------------------

    def _next_moment(self) -> tuple[datetime | None, str]:
        """The next clock to ring, as the state has it."""
        policy = self._terms.policy
        if self._state is CaseState.RESOLVED:
            assert self._resolved_at is not None
            return self._resolved_at + policy.reopening_window, "close"
        if self._state is CaseState.WAITING_FOR_CUSTOMER:
            assert self._waiting_since is not None
            remind_at = self._waiting_since + policy.remind_waiting_customer
            if not self._reminded:
                return remind_at, "remind"
            return remind_at + policy.give_up_waiting, "give_up"
        clocks = [
            (self._acknowledge_by, "acknowledgement"),
            (self._first_response_due, "first_response"),
            (self._resolution.due_at if self._resolution else None, "resolution"),
        ]
        running = [(at, name) for at, name in clocks if at and name not in self._missed]
        return min(running, default=(None, ""))

    async def _act_on_moment(self, what: str) -> None:
        match what:
            case "acknowledgement":
                await self._check_acknowledged()
            case "first_response" | "resolution":
                self._missed.add(what)
                await self._escalate(Command(by="clock", reason=f"{what} missed"), clock=what)
            case "remind":
                await self._remind()
            case "give_up":
                await self._resolve(Resolve(by="clock"), "unanswered")
            case "close":
                await self._close()

    # --- the steps ---------------------------------------------------------------------------

    async def _open(self) -> None:
        """Record the case, start its clocks, acknowledge it."""
        opened, began_at = self._case, workflow.now()
        # Its completion is accepted, and said to be, from the first step on.
        self._tasks[task_id_of(workflow.info().workflow_id, FIRST_TASK)] = FIRST_TASK
        fields = self._step("opened", "opened, acknowledged", "an agent", at=opened.opened_at)
        self._terms: CaseTerms = await self._do(
            SupportActivities.open_case,
            CaseOpenedStep(
                **fields,
                case_id=opened.case_id,
                case_kind=opened.kind,
                case_state=self._state,
                priority=self._priority,
                opened=opened,
                began_at=began_at,
            ),
            "open the case and acknowledge it",
        )
        self._clock = self._terms.clock
        first = first_task(self._terms.policy, opened)
        self._first_response_due = first.due_at
        self._acknowledge_by = acknowledge_by(self._terms.policy, self._clock, began_at)
        resolution = self._terms.policy.resolution[self._priority]
        self._resolution = StopClock(left=resolution, since=opened.opened_at)
        self._show(CaseState.OPEN, first.due_at)
        if self._terms.owner:
            workflow.upsert_search_attributes([OWNER.value_set(self._terms.owner)])

    async def _check_acknowledged(self) -> None:
        """Nobody has written to him yet: has at least the acknowledgement been handed over?"""
        self._acknowledge_by = None
        fields = self._case_step("acknowledgement", self._standing.step)
        if not await self._do(
            SupportActivities.check_acknowledged,
            CaseStep(**fields),
            "was the acknowledgement accepted in time?",
        ):
            missed = Command(by="clock", reason="acknowledgement missed")
            await self._escalate(missed, clock="acknowledgement")

    def _something(self) -> bool:
        return bool(self._requests or self._replies or self._contacted)

    @property
    def _contacted(self) -> bool:
        """The first-response task was completed by hand (a call, say) rather than by a reply."""
        return self._first_response_due is not None and FIRST_TASK in self._outcomes

    async def _act(self) -> None:
        if self._requests:
            await self._keep_what_was_said()
            await self._act_on_request(*self._requests.pop(0))
        elif self._replies:
            await self._act_on_reply(self._replies.pop(0))
        else:
            await self._first_response_by_hand()

    async def _act_on_request(self, name: str, command: Command) -> None:
        match command:
            case Respond():
                await self._respond(command)
            case WaitForCustomer():
                await self._wait_for_customer(command)
            case Resolve():
                await self._resolve(command, "resolved")
            case Assign():
                await self._assign(command)
            case _ if name == "reopen":
                await self._reopen(command.by, "")
            case _:
                await self._escalate(command)

    async def _respond(self, command: Respond) -> None:
        first = self._first_response_due is not None
        self._work_on_it()
        withdrawn = self._first_response_given()
        fields = self._case_step(self._key("answered"), "answered by staff")
        await self._do(
            SupportActivities.record_case_answered,
            CaseAnsweredStep(
                **fields,
                by=command.by,
                template=Template.CASE_REPLY,
                text_id=command.text_id,
                first=first,
                withdrawn=withdrawn,
            ),
            "staff answers the customer",
        )

    async def _wait_for_customer(self, command: WaitForCustomer) -> None:
        """We asked; until he answers the resolution clock rests."""
        first = self._first_response_due is not None
        self._state = CaseState.WAITING_FOR_CUSTOMER
        self._waiting_since = self._now
        self._reminded = False
        self._rest_clock()
        withdrawn = self._first_response_given()
        fields = self._case_step(
            self._key("waiting"), "waiting for the customer", "the customer's answer"
        )
        self._show(self._state)
        await self._do(
            SupportActivities.record_case_answered,
            CaseAnsweredStep(
                **fields,
                by=command.by,
                template=Template.CASE_WAITING,
                text_id=command.text_id,
                first=first,
                withdrawn=withdrawn,
            ),
            "ask the customer; the resolution clock rests",
        )

    async def _remind(self) -> None:
        self._reminded = True
        fields = self._case_step(
            self._key("reminded"), "customer reminded", "the customer's answer"
        )
        await self._do(
            SupportActivities.record_case_answered,
            CaseAnsweredStep(**fields, template=Template.CASE_WAITING_REMINDER),
            "remind the customer that we wait for an answer",
        )

    async def _act_on_reply(self, reply: ReplyReceived) -> None:
        """He answered: the clock runs again; after a resolution the case reopens."""
        if self._state is CaseState.RESOLVED:
            await self._reopen("customer", reply.event_id)
            return
        self._work_on_it()
        due_at = self._now + self._terms.policy.first_response[self._priority]
        key = f"reply/{reply.event_id}"
        task = self._task(key, TaskKind.FIRST_RESPONSE, self._case.queue, due_at)
        fields = self._case_step(f"customer/{reply.event_id}", "the customer answered")
        await self._do(
            SupportActivities.record_case_noted,
            CaseStep(**fields, event_id=reply.event_id, tasks=(task,)),
            "the customer answered: ask an agent to go on",
        )

    async def _first_response_by_hand(self) -> None:
        self._first_response_due = self._acknowledge_by = None
        self._work_on_it()
        fields = self._case_step(self._key("contacted"), "contacted by staff")
        await self._do(
            SupportActivities.record_case_noted,
            CaseStep(**fields, first=True),
            "the customer was contacted",
        )

    async def _assign(self, command: Assign) -> None:
        fields = self._case_step(self._key("assigned"), self._standing.step)
        owner = command.owner or (self._case.queue if self._terms.owner else "")
        workflow.upsert_search_attributes(
            [OWNER.value_set(owner) if owner else OWNER.value_unset()]
        )
        await self._do(
            SupportActivities.record_case_assigned,
            CaseAssignedStep(**fields, by=command.by, owner=command.owner),
            "assign the case",
        )

    async def _escalate(self, command: Command, clock: str = "") -> None:
        self._priority = self._priority.raised()
        key = self._key("escalated")
        due_at = self._now + self._terms.policy.first_response[self._priority]
        task = self._task(key, TaskKind.RESOLVE_CASE, Role.MANAGER, due_at)
        fields = self._case_step(key, f"escalated: {command.reason or 'by staff'}")
        self._show("escalated", due_at)
        await self._do(
            SupportActivities.record_case_escalated,
            CaseEscalatedStep(
                **fields, by=command.by, reason=command.reason, clock=clock, tasks=(task,)
            ),
            f"escalate: {clock or 'staff'}",
        )

    async def _resolve(self, command: Resolve, outcome: str) -> None:
        self._state = CaseState.RESOLVED
        self._resolved_at = self._now
        self._rest_clock()
        self._first_response_due = self._acknowledge_by = None
        withdrawn = tuple(self._tasks.values())
        self._tasks.clear()
        fields = self._case_step(
            self._key("given_up" if outcome == "unanswered" else "resolved"),
            f"resolved: {outcome}",
            "a reply that would reopen it",
        )
        self._show(self._state)
        await self._do(
            SupportActivities.record_case_resolved,
            CaseResolvedStep(
                **fields,
                by=command.by,
                template=outcome_template(self._case.kind),
                text_id=command.text_id,
                cause=command.cause,
                case_outcome=outcome,
                withdrawn=withdrawn,
            ),
            "resolve the case and tell the customer the outcome",
        )

    async def _reopen(self, by: str, event_id: str) -> None:
        self._work_on_it()
        self._resolved_at = None
        due_at = self._now + self._terms.policy.first_response[self._priority]
        key = self._key("reopened")
        task = self._task(key, TaskKind.FIRST_RESPONSE, self._case.queue, due_at)
        fields = self._case_step(key, "reopened")
        self._show("reopened", due_at)
        await self._do(
            SupportActivities.record_case_reopened,
            CaseStep(**fields, by=by, event_id=event_id, tasks=(task,)),
            "reopen the case",
        )

    async def _close(self, outcome: str = CaseState.CLOSED) -> None:
        self._state = CaseState.CLOSED
        self._first_response_due = self._acknowledge_by = None
        self._rest_clock()
        state = ProcessState.STOPPED if outcome == ProcessState.STOPPED else None
        key = self._key("closed") if self._closings else "closed"
        self._closings += 1
        fields = self._case_step(key, outcome, ended=outcome, state=state)
        await self._do(
            SupportActivities.record_case_closed, CaseStep(**fields), "the case is closed"
        )

    # --- small words -------------------------------------------------------------------------

    def _work_on_it(self) -> None:
        self._state = CaseState.IN_PROGRESS
        if self._resolution is not None:
            self._resolution = self._resolution.started(self._now)

    def _rest_clock(self) -> None:
        if self._resolution is not None:
            self._resolution = self._resolution.rested(self._now)

    def _first_response_given(self) -> tuple[str, ...]:
        """The clocks are met; the tasks that asked for a response are no longer needed."""
        self._first_response_due = self._acknowledge_by = None
        answered = tuple(
            key
            for key in self._tasks.values()
            if key.startswith((FIRST_TASK, "reply/", "reopened/"))
        )
        for key in answered:
            self._withdraw_task(key)
        return answered

    def _key(self, name: str) -> str:
        self._count += 1
        return f"{name}/{self._count}"

    def _case_step(
        self,
        key: str,
        words: str,
        waiting_for: str = "",
        *,
        at: datetime | None = None,
        ended: str = "",
        state: ProcessState | None = None,
    ) -> dict[str, Any]:
        """The fields of a case's step: its state and clocks as they are after it."""
        moment, _ = (None, "") if ended else self._next_moment()
        waiting_for = waiting_for or ("" if ended else "an agent")
        step = self._step(key, words, waiting_for, until=moment, at=at, ended=ended, state=state)
        return {
            **step,
            "case_id": self._case.case_id,
            "case_kind": self._case.kind,
            "case_state": self._state,
            "priority": self._priority,
            "first_response_due": self._first_response_due,
            "resolution_due": self._resolution.due_at if self._resolution else None,
        }


_WORDS = {
    "acknowledgement": "until the acknowledgement should have been accepted",
    "first_response": "until the first response is due",
    "resolution": "until the resolution is due",
    "remind": "until the customer is reminded",
    "give_up": "until we stop waiting for the customer",
    "close": "while a reply reopens the case",
}
