"""What was done about a silence."""

from datetime import timedelta
from uuid import UUID

from domain.messages import Template
from domain.processes import ProcessKind, retention_workflow_id
from domain.tasks import Role, TaskKind
from replay.fill.life import Life

_LASTS = timedelta(days=30)
_CALL_AFTER = timedelta(days=3)


def win_back(life: Life) -> None:
    at = life.draw_moment(life.came + (life.now - life.came) / 2)
    workflow_id = retention_workflow_id(UUID(life.id), f"silence-{at:%Y%m%d}")
    life.add_line(at, life.workflow_id, "silence_noticed", "after")
    life.add_line(at, workflow_id, "retention_started", "after")
    life.add_message(at, workflow_id, Template.RETENTION_CHECK_IN, "{}")
    ends = at + _LASTS
    outcome = life.dice.choice(["saved: order", "lost: no answer"])
    life.add_process(
        *(workflow_id, ProcessKind.RETENTION, at, "checked in with the customer"),
        "an answer or an order",
        ends,
        outcome if ends < life.now else "",
    )
    if life.dice.random() < 0.3:
        due = at + _CALL_AFTER
        life.add_task(workflow_id, TaskKind.SAVE_CUSTOMER, Role.ACCOUNT_MANAGER, due)
