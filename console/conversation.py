"""A case told as a conversation: what the customer wrote, what we wrote and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from console.desk import Json
from console.rendering import moment
from database.messages import Message
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.timeline import words_for

_TOLD = frozenset(
    {
        *("case_assigned", "case_released", "case_escalated"),
        *("case_resolved", "case_reopened", "case_closed"),
        *("process_pause", "process_resume", "process_stop", "task_completed"),
    }
)
_SOON = timedelta(minutes=1)  # by then a command has been carried out, or its answer was lost
Side = Literal["customer", "us", "note", "event"]


@dataclass(frozen=True)
class Entry:
    """`at`: business time. `by`: a staff id; empty for the customer and for what goes by itself."""

    key: str
    side: Side
    at: datetime
    text: str
    by: str = ""
    message: Message | None = None
    received_mail_id: UUID | None = None
    is_left: bool = False  # words that nothing was made of: their command was never carried out


def conversation_of(
    case: Json, messages: Sequence[Message], lines: Sequence[TimelineLine], clock: Clock
) -> list[Entry]:
    """The newest first. `case`: the API's view of it, with its words."""
    by_text = {message.text_id: message for message in messages if message.text_id}
    entries = [Entry("opened", "customer", _at(case["opened_at"]), case["text"])]
    entries += [_reply(reply) for reply in case["replies"]]
    entries += [_ours(text, by_text, clock) for text in case["staff_texts"]]
    entries += [
        Entry(f"message-{message.id}", "us", message.asked_at, message.text or "", message=message)
        for message in messages
        if message.text_id is None
    ]
    entries += [
        Entry(
            f"line-{line.id}",
            "event",
            line.happened_at,
            words_for(line.kind, line.facts),
            by=str(line.facts.get("by") or ""),
        )
        for line in lines
        if line.kind in _TOLD
    ]
    return sorted(entries, key=lambda entry: entry.at)[::-1]  # an answer above what it answers


def _reply(reply: Json) -> Entry:
    mail = reply["received_mail_id"]
    return Entry(
        f"reply-{reply['event_id']}",
        "customer",
        _at(reply["occurred_at"]),
        reply["text"],
        received_mail_id=UUID(mail) if mail else None,
    )


def _ours(text: Json, by_text: dict[UUID, Message], clock: Clock) -> Entry:
    message = by_text.get(UUID(text["id"]))
    at = message.asked_at if message else clock.business(_at(text["recorded_at"]))
    side: Side = "note" if text["internal"] else "us"
    is_left = message is None and datetime.now(UTC) - _at(text["recorded_at"]) > _SOON
    key = f"text-{text['id']}"
    return Entry(key, side, at, text["text"], text["by"], message, is_left=is_left)


def _at(value: Any) -> datetime:
    at = moment(value)
    assert at is not None
    return at
