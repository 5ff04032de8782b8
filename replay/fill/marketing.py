"""The first contact, of the customers who were won by one."""

from datetime import timedelta
from uuid import UUID

from domain.messages import Template
from domain.processes import ProcessKind, marketing_workflow_id
from replay.fill.life import Life, as_json

_TOUCHES = (Template.MARKETING_WELCOME, Template.MARKETING_VALUE, Template.MARKETING_LAST)
_BETWEEN = timedelta(days=4)
_AFTER_LEAD = timedelta(minutes=2)
_LASTS = timedelta(days=15)


def win_customer(life: Life) -> None:
    life.add_line(life.came, life.workflow_id, "lead_received", "before")
    if life.dice.random() < 0.4:
        return
    workflow_id = marketing_workflow_id(UUID(life.id), 1)
    began = life.came + _AFTER_LEAD
    life.add_line(began, workflow_id, "marketing_started", "before", minor=True)
    for number, template in enumerate(_TOUCHES, 1):
        at = began + (number - 1) * _BETWEEN
        if at > life.now:
            break
        facts = as_json(number=number)
        life.add_line(at, workflow_id, "marketing_touch", "before", facts, minor=number > 1)
        if number == 1:
            life.add_message(at, workflow_id, template, "{}")
    ends = began + _LASTS
    outcome = "" if ends > life.now else "ordered" if life.share.orders else "no_answer"
    step = "touch sent" if not outcome else outcome.replace("_", " ")
    waiting = "an answer or an order"
    life.add_process(workflow_id, ProcessKind.MARKETING, began, step, waiting, ends, outcome)
