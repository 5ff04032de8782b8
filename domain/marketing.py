"""Marketing contact: touches until a reply, an order, an opt-out or the end."""

from enum import StrEnum
from uuid import UUID

from domain.messages import Template
from domain.payload import Payload
from domain.policies import MarketingPolicy, Terms
from domain.processes import Fact, Step
from domain.tasks import TaskRequest


class MarketingOutcome(StrEnum):
    ORDERED = "ordered"
    ANSWERED = "answered"
    NOT_INTERESTED = "not_interested"
    OPTED_OUT = "opted_out"
    UNDELIVERABLE = "undeliverable"
    NO_ANSWER = "no_answer"


class MarketingInput(Payload):
    customer_id: UUID
    sequence: int
    cause: str = "lead"  # lead, schedule, staff
    event_id: str = ""


class MarketingTerms(Terms[MarketingPolicy]):
    pass


class TouchStep(Step):
    template: Template
    number: int


class ReplyStep(Step):
    event_id: str
    task: TaskRequest  # due when a person must have answered


class MissedResponseStep(Step):
    task: TaskRequest


class MarketingEndStep(Step):
    outcome: MarketingOutcome


class ReplyReceived(Fact):
    """The customer wrote; the words are in PostgreSQL under the event's id."""

    about_case: UUID | None = None
    answers: str = ""  # workflow id of the process whose message it answers, where that is known
