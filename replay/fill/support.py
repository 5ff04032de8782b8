"""A case, from its opening to its end or to where it stands now."""

import json
from datetime import datetime, timedelta
from uuid import UUID

from domain.messages import Template
from domain.policies import CaseKind, Priority
from domain.processes import ProcessKind, support_workflow_id
from domain.support import CaseCause, CaseState
from domain.tasks import Role, TaskKind
from replay.fill.life import AGENTS, PREFIX, Life, as_json

_TROUBLES = (
    "The handle came loose after a day.",
    "Where is my parcel? The tracking has not moved since Monday.",
    "The colour is not the one I ordered.",
    "Could I have the invoice with our VAT number on it?",
    "It makes a noise that it did not make at first.",
    "Two of the six cups arrived broken.",
)
_CONTACT_BY = timedelta(days=1)
_FIRST_RESPONSE = timedelta(hours=8)
_RESOLUTION = timedelta(days=5)
_REOPENING = timedelta(days=7)


def open_case(
    life: Life,
    opened: datetime,
    kind: CaseKind,
    feedback_id: str | None = None,
    order_id: str | None = None,
    event_id: str | None = None,
) -> str:
    """The case's id. What it came of, it says itself when there is no `event_id`."""
    dice = life.dice
    case_id = life.draw_id(opened)
    workflow_id = support_workflow_id(UUID(case_id))
    if kind is CaseKind.REQUEST:
        kind = dice.choice([CaseKind.REQUEST, CaseKind.QUESTION, CaseKind.INCIDENT])
    if event_id is None:
        event_id = f"fill/{case_id}/opened"
        body = {"text": dice.choice(_TROUBLES)}
        life.add_event(event_id, "case_opened", workflow_id, opened, body)
    answered = opened + timedelta(hours=dice.choice([1, 2, 4, 7, 20]))
    resolved = answered + timedelta(days=dice.choice([1, 2, 3, 6]))
    closed = resolved + _REOPENING
    state = _state(life, answered, resolved, closed)
    priority = dice.choices(list(Priority), [1, 6, 2, 1])[0]
    waits = state is CaseState.WAITING_FOR_CUSTOMER
    is_resolved = state in (CaseState.RESOLVED, CaseState.CLOSED)
    first_due, due = opened + _FIRST_RESPONSE, opened + _RESOLUTION
    number = case_id[-8:].upper()
    life.add(
        "cases",
        id=case_id,
        reference=f"{PREFIX}CASE-{opened:%Y}-{number}",
        customer_id=life.id,
        kind=kind,
        state=state,
        priority=priority,
        queue=Role.SUPPORT_AGENT,
        owner=None if state is CaseState.OPEN else dice.choice(AGENTS),
        order_id=order_id,
        feedback_id=feedback_id,
        event_id=event_id,
        opened_at=opened,
        contact_by=opened + _CONTACT_BY if kind is CaseKind.RECOVERY else None,
        first_response_due=first_due,
        first_response_at=None if state is CaseState.OPEN else answered,
        first_response_missed_at=first_due if first_due < min(answered, life.now) else None,
        resolution_due=None if waits else due,
        resolution_missed_at=due if due < min(resolved, life.now) else None,
        resolved_at=resolved if is_resolved else None,
        closed_at=closed if state is CaseState.CLOSED else None,
        reopened=0,
        escalations=int(first_due < min(answered, life.now)),
        cause=dice.choice(list(CaseCause)) if is_resolved else None,
        outcome="resolved" if is_resolved else None,
        recorded_at=opened,
    )
    life.add_line(opened, workflow_id, "case_opened", "after", as_json(kind=kind))
    life.hear(opened)
    if state is not CaseState.OPEN:
        _answer(life, workflow_id, case_id, number, answered)
    if is_resolved:
        facts = as_json(outcome="resolved")
        life.add_line(resolved, workflow_id, "case_resolved", "after", facts)
    task = TaskKind.FIRST_RESPONSE
    if kind is CaseKind.RECOVERY:
        task = TaskKind.CONTACT_DISAPPOINTED
    life.add_task(
        *(workflow_id, task, Role.SUPPORT_AGENT, first_due),
        case_id=case_id,
        ended_at=None if state is CaseState.OPEN else answered,
    )
    life.add_process(
        *(workflow_id, ProcessKind.SUPPORT, opened, state.replace("_", " ")),
        "the customer" if waits else "an agent",
        closed,
        "resolved" if state is CaseState.CLOSED else "",
    )
    return case_id


def _state(life: Life, answered: datetime, resolved: datetime, closed: datetime) -> CaseState:
    if life.now < answered:
        return CaseState.OPEN
    if life.now < resolved or life.dice.random() < 0.01:
        return life.dice.choice([CaseState.IN_PROGRESS, CaseState.WAITING_FOR_CUSTOMER])
    return CaseState.RESOLVED if life.now < closed else CaseState.CLOSED


def _answer(life: Life, workflow_id: str, case_id: str, number: str, at: datetime) -> None:
    text_id = life.draw_id(at)
    life.add(
        "staff_texts",
        id=text_id,
        customer_id=life.id,
        case_id=case_id,
        by=life.dice.choice(AGENTS),
        text="Thank you for writing; we are looking into it.",
        internal=False,
        recorded_at=at,
    )
    life.add_line(at, workflow_id, "case_answered", "after")
    context = json.dumps({"case": f"CASE-{number}"})
    life.add_message(at, workflow_id, Template.CASE_REPLY, context, text_id)
