"""Tasks: what a person has to do, by when, and the outcomes to choose from."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.payload import Payload
from domain.processes import derived_id


class TaskState(StrEnum):
    OPEN = "open"
    CLAIMED = "claimed"
    DONE = "done"
    CANCELLED = "cancelled"  # the process no longer needs it


class Role(StrEnum):
    SALES_REP = "sales_rep"
    SUPPORT_AGENT = "support_agent"
    ACCOUNT_MANAGER = "account_manager"
    OPS = "ops"
    MANAGER = "manager"
    ADMIN = "admin"


class TaskKind(StrEnum):
    ANSWER_REPLY = "answer_reply"
    ANSWER_REPLY_ESCALATED = "answer_reply_escalated"
    APPROVE_ORDER = "approve_order"
    CHASE_ORDER = "chase_order"
    COMPENSATE = "compensate"
    FIRST_RESPONSE = "first_response"
    RESOLVE_CASE = "resolve_case"
    CONTACT_DISAPPOINTED = "contact_disappointed"
    OPPORTUNITY = "opportunity"
    SAVE_CUSTOMER = "save_customer"
    CORRECT_ADDRESS = "correct_address"
    ATTRIBUTE_MAIL = "attribute_mail"


OUTCOMES: dict[TaskKind, tuple[str, ...]] = {
    TaskKind.ANSWER_REPLY: ("answered", "not_interested"),
    TaskKind.ANSWER_REPLY_ESCALATED: ("answered", "not_interested"),
    TaskKind.APPROVE_ORDER: ("done",),
    TaskKind.CHASE_ORDER: ("on_its_way", "lost", "done"),
    TaskKind.COMPENSATE: ("refunded", "replaced", "done"),
    TaskKind.FIRST_RESPONSE: ("answered",),
    TaskKind.RESOLVE_CASE: ("done",),
    TaskKind.CONTACT_DISAPPOINTED: ("contacted", "unreachable"),
    TaskKind.OPPORTUNITY: ("won", "lost", "nothing_there"),
    TaskKind.SAVE_CUSTOMER: ("saved", "lost", "offer"),
    TaskKind.CORRECT_ADDRESS: ("corrected", "not_possible"),
    TaskKind.ATTRIBUTE_MAIL: ("attributed", "not_theirs"),
}


class TaskRequest(Payload):
    """Ask for one task. `key` names it within its process; asking again changes nothing."""

    key: str
    kind: TaskKind
    role: Role
    due_at: datetime  # business time


def task_id_of(workflow_id: str, key: str) -> UUID:
    return derived_id("task", workflow_id, key)
