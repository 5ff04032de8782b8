"""The customer's lifecycle: takes what happens, keeps the stage, starts the stage processes.

It routes; it does not do the stages' work. Rules that cross stages are here: an order ends the
marketing contact, an open recovery case holds back selling, silence starts retention.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from activities.lifecycle import LifecycleActivities
from domain.follow_up import FollowUpInput, NeedStated
from domain.lifecycle import (
    FactRecorded,
    LeadReceived,
    LifecycleInput,
    LifecycleState,
    LifecycleStep,
    MailUnclear,
    OptedOut,
    OrderNews,
    stage_of,
    unclear_mail_key,
)
from domain.marketing import MarketingInput, ReplyReceived
from domain.messages import Channel, Purpose
from domain.policies import CaseKind
from domain.processes import (
    LIFECYCLE_QUEUE,
    SELLING,
    Fact,
    ProcessEnded,
    ProcessKind,
    Stage,
    Standing,
    delivery_workflow_id,
    derived_id,
    follow_up_workflow_id,
    marketing_workflow_id,
    retention_workflow_id,
    support_workflow_id,
)
from domain.retention import RetentionInput, RiskNoticed, silence_after
from domain.support import CaseClosed, CaseInput, CaseOpened, CaseResolved
from domain.tasks import task_id_of
from workflows.process import Process
from workflows.visibility import search_attributes

with workflow.unsafe.imports_passed_through():  # references only; each runs in its own sandbox
    from workflows.follow_up import FollowUp
    from workflows.marketing import MarketingContact
    from workflows.retention import RetentionOutreach
    from workflows.support import SupportCase

_REMEMBERED_EVENTS = 500
_REMEMBERED_ORDERS = 12  # the newest show his rhythm
_REMEMBERED_CASES = 20  # resolved ones, which a reply may be about


@workflow.defn
class CustomerLifecycle(Process):
    kind = ProcessKind.LIFECYCLE

    def __init__(self) -> None:
        super().__init__()
        self._facts: list[tuple[str, Fact]] = []
        self._seen: dict[str, None] = {}
        self._state = LifecycleState()
        self._opened = False

    @workflow.run
    async def run(self, start: LifecycleInput) -> str:
        self._customer_id = start.customer_id
        if start.state is not None:
            self._remember(start.state)
        return await self._steered(self._live())

    async def _live(self) -> str:
        while True:
            if await self._until(
                lambda: bool(self._facts), self._next_look(), "until silence would mean something"
            ):
                await self._act(*self._facts.pop(0))
            elif self._silent:
                await self._act_on_silence()
            if workflow.info().is_continue_as_new_suggested() and not self._unfinished:
                self._begin_a_new_run()

    # --- facts -------------------------------------------------------------------------------

    @workflow.signal
    def lead_received(self, event: LeadReceived) -> None:
        self._note("lead_received", event)

    @workflow.signal
    def reply_received(self, event: ReplyReceived) -> None:
        self._note("reply_received", event)

    @workflow.signal
    def mail_unclear(self, event: MailUnclear) -> None:
        """Somebody whom we don't know wrote about something of the customer's."""
        self._note("mail_unclear", event)

    @workflow.signal
    def opted_out(self, event: OptedOut) -> None:
        self._note("opted_out", event)

    @workflow.signal
    def risk_noticed(self, event: RiskNoticed) -> None:
        self._note("risk_noticed", event)

    @workflow.signal
    def need_stated(self, event: NeedStated) -> None:
        self._note("need_stated", event)

    @workflow.signal
    def order_news(self, event: OrderNews) -> None:
        """From the order's delivery process: placed, delivered, or ended otherwise."""
        self._note(f"customer_order_{event.kind}", event)

    @workflow.signal
    def case_opened(self, event: CaseOpened) -> None:
        self._note("customer_case_opened", event)

    @workflow.signal
    def case_resolved(self, event: CaseResolved) -> None:
        self._note("customer_case_resolved", event)

    @workflow.signal
    def case_closed(self, event: CaseClosed) -> None:
        self._note("customer_case_closed", event)

    @workflow.signal
    def process_ended(self, event: ProcessEnded) -> None:
        self._note("process_ended", event)

    def _note(self, name: str, event: Fact) -> None:
        """Keep a fact for `run`; one that was seen before changes nothing."""
        if event.event_id in self._seen:
            return
        self._seen[event.event_id] = None
        if len(self._seen) > _REMEMBERED_EVENTS:
            del self._seen[next(iter(self._seen))]
        self._facts.append((name, event))

    # --- what follows from them --------------------------------------------------------------

    async def _act(self, name: str, fact: Fact) -> None:
        match fact:
            case LeadReceived():
                await self._lead(fact)
            case ReplyReceived():
                await self._reply(fact)
            case OrderNews():
                await self._order_news(name, fact)
            case CaseOpened():
                await self._case_opened(name, fact)
            case CaseResolved():
                await self._case_resolved(name, fact)
            case CaseClosed():
                await self._case_closed(name, fact)
            case ProcessEnded():
                await self._process_ended(fact)
            case _:
                await self._act_on_the_rest(name, fact)

    async def _act_on_the_rest(self, name: str, fact: Fact) -> None:
        match fact:
            case OptedOut():
                selling = self._open(*SELLING) if fact.purpose is Purpose.MARKETING else ()
                await self._record(
                    name, fact, tell=selling, signal="opted_out", closes=fact.channels
                )
            case RiskNoticed():
                if fact.cause.startswith("silence-"):  # the sweep noticed it before the timer did
                    self._change(silence_handled=True)
                await self._retain(name, fact, fact.cause)
            case NeedStated():
                self._heard(fact.occurred_at)
                key = f"need/{fact.need_id}"
                self._tasks[task_id_of(workflow.info().workflow_id, key)] = key
                await self._record(name, fact, need=fact)
            case MailUnclear():
                key = unclear_mail_key(fact.mail_id)
                self._tasks[task_id_of(workflow.info().workflow_id, key)] = key
                await self._record(name, fact, unclear=fact, facts={"mail": str(fact.mail_id)})

    async def _lead(self, fact: LeadReceived) -> None:
        """A first contact, unless one is running or selling has to wait; only with consent."""
        self._heard(None if fact.by_schedule else fact.occurred_at)
        name = "contact_scheduled" if fact.by_schedule else "lead_received"
        facts = {"source": fact.source, "campaign": fact.campaign}
        if self._open(ProcessKind.MARKETING) or self._recovering:
            why = "a recovery case is open" if self._recovering else "a contact is running already"
            await self._record(name, fact, facts={**facts, "not_started": why})
            return
        answer = await self._record(
            name,
            fact,
            starts=ProcessKind.MARKETING,
            reason="never contacted before" if fact.by_schedule else "a lead came in",
            facts=facts,
        )
        if not answer.allowed:
            return
        # Only now: the first fact of a customer also brings the number of earlier contacts.
        sequence = self._state.marketing_sequence + 1
        self._change(marketing_sequence=sequence)
        contact = MarketingInput(
            customer_id=self._customer_id, sequence=sequence, event_id=fact.event_id
        )
        workflow_id = marketing_workflow_id(self._customer_id, sequence)
        await self._start(
            MarketingContact, contact, workflow_id, ProcessKind.MARKETING, "Marketing contact"
        )

    async def _reply(self, fact: ReplyReceived) -> None:
        """To the case it is about or the contact it answers, else to an open case, to whoever
        writes to him now, or to a new case.
        """
        self._heard(fact.occurred_at)
        state = self._state
        cases = [*state.resolved_cases, *state.open_cases]
        about = fact.about_case if fact.about_case in cases else None
        selling = self._open(*SELLING)
        if about is None and fact.answers in selling:
            selling = (fact.answers,)
        elif about is None and state.open_cases:
            about = list(state.open_cases)[-1]
        listeners = (support_workflow_id(about),) if about is not None else selling
        answer = await self._record("reply_received", fact, tell=listeners, signal="reply_received")
        heard = [one for one in listeners if one not in answer.unheard]
        # Also when whoever wrote has just ended.
        if not heard or (answer.rules and self._nobody_answers(heard)):
            case_id = derived_id("case", fact.event_id)
            opened = CaseInput(
                case_id=case_id,
                customer_id=self._customer_id,
                kind=CaseKind.QUESTION,
                opened_at=max(self._now, fact.occurred_at),
                event_id=fact.event_id,
            )
            await self._start(
                SupportCase,
                opened,
                support_workflow_id(case_id),
                ProcessKind.SUPPORT,
                "Support case: the customer wrote",
            )

    def _nobody_answers(self, heard: list[str]) -> bool:
        """An outreach is content with a reply, but nobody of it answers one."""
        processes = self._state.open_processes
        return all(processes.get(one) is ProcessKind.RETENTION for one in heard)

    async def _order_news(self, name: str, fact: OrderNews) -> None:
        state = self._state
        if fact.kind == "placed":
            self._heard(fact.occurred_at)
            self._change(
                open_orders=(*state.open_orders, fact.order_id),
                ordered_at=(*state.ordered_at, fact.occurred_at)[-_REMEMBERED_ORDERS:],
                lost=False,
            )
            selling = self._open(*SELLING)
            await self._record(
                name, fact, reason="an order was placed", tell=selling, signal="order_placed"
            )
            return
        self._change(open_orders=tuple(one for one in state.open_orders if one != fact.order_id))
        if fact.kind != "delivered":
            await self._record(name, fact, reason="the order ended undelivered")
            return
        self._heard(fact.occurred_at)
        await self._record(
            name, fact, starts=ProcessKind.FOLLOW_UP, reason="the order was delivered"
        )
        about = FollowUpInput(
            customer_id=self._customer_id, about_id=fact.order_id, since=fact.occurred_at
        )
        await self._start(
            FollowUp,
            about,
            follow_up_workflow_id(fact.order_id),
            ProcessKind.FOLLOW_UP,
            "Follow-up of a delivery",
        )

    async def _case_opened(self, name: str, fact: CaseOpened) -> None:
        """A recovery case holds back selling at once."""
        state = self._state
        self._heard(None if fact.kind is CaseKind.FAILED_DELIVERY else fact.occurred_at)
        self._change(
            open_cases={**state.open_cases, fact.case_id: fact.kind},
            resolved_cases=tuple(one for one in state.resolved_cases if one != fact.case_id),
        )
        holds = fact.kind is CaseKind.RECOVERY
        tell = self._open(*SELLING) if holds else ()
        signal = "selling_held"
        if fact.reopened and not tell:
            tell, signal = (follow_up_workflow_id(fact.case_id),), "case_reopened"
        await self._record(name, fact, reason="a case was opened", tell=tell, signal=signal)

    async def _case_resolved(self, name: str, fact: CaseResolved) -> None:
        """Ask how it went; not after a recovery, which was itself the answer to an answer."""
        state = self._state
        self._change(
            open_cases={key: kind for key, kind in state.open_cases.items() if key != fact.case_id},
            resolved_cases=(*state.resolved_cases, fact.case_id)[-_REMEMBERED_CASES:],
        )
        asks = fact.kind in (CaseKind.REQUEST, CaseKind.QUESTION, CaseKind.INCIDENT)
        released = fact.kind is CaseKind.RECOVERY and not self._recovering
        await self._record(
            name,
            fact,
            starts=ProcessKind.FOLLOW_UP if asks else None,
            reason="the case was resolved",
            tell=self._open(*SELLING) if released else (),
            signal="selling_released",
        )
        if asks:
            about = FollowUpInput(
                customer_id=self._customer_id,
                about_id=fact.case_id,
                about="case",
                since=fact.occurred_at,
            )
            await self._start(
                FollowUp,
                about,
                follow_up_workflow_id(fact.case_id),
                ProcessKind.FOLLOW_UP,
                "Follow-up of a case",
            )

    async def _case_closed(self, name: str, fact: CaseClosed) -> None:
        """Mostly long after it was resolved; a case that staff stopped is closed at once."""
        state = self._state
        was_recovering = self._recovering
        self._change(
            open_cases={key: kind for key, kind in state.open_cases.items() if key != fact.case_id},
            resolved_cases=tuple(one for one in state.resolved_cases if one != fact.case_id),
        )
        released = was_recovering and not self._recovering
        await self._record(
            name,
            fact,
            reason="the case was closed",
            tell=self._open(*SELLING) if released else (),
            signal="selling_released",
        )

    async def _process_ended(self, fact: ProcessEnded) -> None:
        still_open = {
            key: kind for key, kind in self._state.open_processes.items() if key != fact.workflow_id
        }
        orders = self._state.open_orders
        self._change(
            open_processes=still_open,
            # Of an order that staff stopped nothing more will be heard.
            open_orders=tuple(o for o in orders if delivery_workflow_id(o) != fact.workflow_id),
        )
        if fact.kind is ProcessKind.RETENTION:
            self._change(lost=fact.outcome.startswith("lost"))
            if fact.outcome.startswith("saved"):
                self._heard(fact.occurred_at)
        facts = {"process": fact.workflow_id, "outcome": fact.outcome}
        await self._record("process_ended", fact, reason=f"{fact.kind} ended", facts=facts)

    async def _act_on_silence(self) -> None:
        """Nothing was heard for longer than this customer's rhythm: try to keep him."""
        now = self._now
        self._change(silence_handled=True)
        fact = Fact(event_id=f"silence/{self._state.last_heard_at:%Y%m%dT%H%M%S}", occurred_at=now)
        await self._retain("silence_noticed", fact, f"silence-{now:%Y%m%d}")

    async def _retain(self, name: str, fact: Fact, cause: str) -> None:
        """Never without consent, never while a recovery case is open, never twice at once."""
        if self._recovering or self._open(ProcessKind.RETENTION):
            why = "a recovery case is open" if self._recovering else "a save play is running"
            await self._record(name, fact, facts={"cause": cause, "not_started": why})
            return
        answer = await self._record(
            name,
            fact,
            starts=ProcessKind.RETENTION,
            reason=f"retention: {cause}",
            facts={"cause": cause},
        )
        if not answer.allowed:
            return
        risk = RetentionInput(customer_id=self._customer_id, cause=cause, event_id=fact.event_id)
        own = fact.event_id if answer.rules else ""
        workflow_id = retention_workflow_id(self._customer_id, cause, own)
        await self._start(
            RetentionOutreach, risk, workflow_id, ProcessKind.RETENTION, "Retention outreach"
        )

    # --- the step ----------------------------------------------------------------------------

    async def _record(
        self,
        name: str,
        fact: Fact,
        *,
        reason: str = "",
        starts: ProcessKind | None = None,
        tell: tuple[str, ...] = (),
        signal: str = "",
        closes: tuple[Channel, ...] = (),
        need: NeedStated | None = None,
        unclear: MailUnclear | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> FactRecorded:
        """Take note of a fact in one step; `starts` names the stage process that should follow."""
        otherwise = stage_of(self._state)
        stage = otherwise if starts is None else stage_of(self._state.with_process("next", starts))
        step = self._step(
            fact.event_id,
            _STAGES[stage],
            "a sign of the customer",
            until=self._silence_at(),
            at=fact.occurred_at,
        )
        answer: FactRecorded = await self._do(
            LifecycleActivities.record_fact,
            LifecycleStep(
                **step,
                fact=name,
                stage=stage,
                stage_otherwise=otherwise,
                stage_reason=reason or name.replace("_", " "),
                last_heard_at=self._state.last_heard_at,
                silence_due_at=self._silence_at(),
                opens=not self._opened,
                starts=starts,
                need=need,
                unclear=unclear,
                tell=tell,
                tell_signal=signal,
                tell_fact=fact.model_dump(mode="json") if tell else {},
                closes=closes if tell else (),
                facts=dict(facts or {}),
            ),
            name.replace("_", " "),
        )
        if answer.terms is not None:
            self._opened = True
            self._clock = answer.terms.clock
            self._change(
                clock=answer.terms.clock,
                policy=answer.terms.policy,
                marketing_sequence=answer.terms.marketing_sequence,
            )
        reached = stage if answer.allowed else otherwise
        if reached is not self._state.stage:
            self._change(stage=reached, stage_since=fact.occurred_at)
            self._show(reached)
        return answer

    async def _start(
        self, process: type[Process], start: Any, workflow_id: str, kind: ProcessKind, words: str
    ) -> None:
        """Start a stage process that lives on by itself and reports its end."""
        self._state = self._state.with_process(workflow_id, kind)
        try:
            await workflow.start_child_workflow(
                process.run,  # type: ignore[attr-defined]  # every process has one
                start,
                id=workflow_id,
                task_queue=LIFECYCLE_QUEUE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                search_attributes=search_attributes(self._customer_id, kind),
                static_summary=words,
            )
        except WorkflowAlreadyStartedError:
            # Staff or a review started it before: it runs, and reports its end like any other.
            workflow.logger.info("%s runs already", workflow_id)

    # --- memory ------------------------------------------------------------------------------

    def _change(self, **fields: Any) -> None:
        self._state = self._state.model_copy(update=fields)

    def _heard(self, at: datetime | None) -> None:
        """The customer gave a sign of life: silence counts from here."""
        last = self._state.last_heard_at
        if at is not None and (last is None or at > last):
            self._change(last_heard_at=at, silence_handled=False)

    def _open(self, *kinds: ProcessKind) -> tuple[str, ...]:
        return tuple(key for key, kind in self._state.open_processes.items() if kind in kinds)

    @property
    def _recovering(self) -> bool:
        return CaseKind.RECOVERY in self._state.open_cases.values()

    def _silence_at(self) -> datetime | None:
        """When the silence would be longer than this customer's rhythm, or the default."""
        state = self._state
        busy = state.open_orders or state.open_cases or state.open_processes
        if state.silence_handled or busy or state.last_heard_at is None:
            return None
        return state.last_heard_at + silence_after(state.policy, state.ordered_at)

    @property
    def _silent(self) -> bool:
        silence_at = self._silence_at()
        return silence_at is not None and silence_at <= self._now

    @property
    def _waits_until(self) -> datetime | None:
        return self._silence_at()  # its timer may ring before that, and for nothing

    def _next_look(self) -> datetime | None:
        """The armed timer stays while it is early enough: re-arming at each fact costs more."""
        silence_at = self._silence_at()
        if self._timer is not None and not self._timer.done() and self._timer_at is not None:
            return self._timer_at if silence_at is None else min(self._timer_at, silence_at)
        return silence_at

    def _remember(self, state: LifecycleState) -> None:
        self._state = state
        self._clock = state.clock
        self._seen = dict.fromkeys(state.seen)
        self._commands_obeyed = state.commands
        self._tasks = dict(state.tasks)
        self._opened = True
        self._standing = Standing(step=_STAGES[state.stage], waiting_for="a sign of the customer")

    @property
    def _unfinished(self) -> bool:
        return bool(self._facts or self._commands or self._to_complete)

    def _begin_a_new_run(self) -> None:
        state = self._state.model_copy(
            update={
                "seen": tuple(self._seen),
                "commands": self._commands_obeyed,
                "tasks": self._tasks,
            }
        )
        workflow.continue_as_new(LifecycleInput(customer_id=self._customer_id, state=state))


_STAGES = {
    Stage.NEW: "new",
    Stage.MARKETING: "in marketing contact",
    Stage.DELIVERY: "an order is on its way",
    Stage.SUPPORT: "in support",
    Stage.FOLLOW_UP: "in follow-up",
    Stage.RETENTION: "in retention",
    Stage.QUIET: "quiet: nothing is owed on either side",
    Stage.LOST: "lost",
}
