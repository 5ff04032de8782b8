"""One filled life: what its parts know of each other, and the rows that all of them write.

Nothing of it ran: no process is behind these rows, and no message of them waits to be sent.
"""

import json
import random
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple
from uuid import UUID

from domain.messages import MESSAGES, Channel, MessageState, Purpose, Template
from domain.processes import ProcessKind, ProcessState, lifecycle_workflow_id
from domain.tasks import OUTCOMES, Role, TaskKind, TaskState
from replay.fill import names

PREFIX = "FILL-"  # of every reference
AGENTS = tuple(f"agent-{n}" for n in range(1, 25))
_YEARS = timedelta(days=3 * 365)  # how long ago the first customer came
_OPENED_BEFORE = timedelta(hours=8)  # a task, before it is due
_FORGOTTEN = timedelta(days=5)  # after that long a task due is done

Row = dict[str, object]  # what is None is NULL


class Share(NamedTuple):
    """What one customer gets of the whole."""

    orders: int
    lines: int
    age: float  # how long they are here: 0 came now, 1 with the first


class _Line(NamedTuple):
    minor: bool  # left out first where lines are few
    at: datetime
    workflow_id: str
    key: str
    kind: str
    phase: str
    facts: str


class Life:
    """The rows of customer number `number`, by table. The same seed and `now` give the same.

    Ids are text, and so is a moment that a row holds more than once: to make that of a UUID or a
    datetime is what takes longest.
    """

    def __init__(
        self, number: int, share: Share, *, seed: int, simulation: UUID, now: datetime
    ) -> None:
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self.dice = random.Random(f"{seed}/{number}")
        self.number, self.share, self.simulation, self.now = number, share, simulation, now
        self.home = names.region(self.dice)
        self.came = now - _YEARS * share.age**0.7
        self.id = self.draw_id(self.came)
        self.workflow_id = lifecycle_workflow_id(UUID(self.id))
        self.email = ""
        self.heard = self.came  # when the customer was last heard of
        self.open: set[ProcessKind] = set()
        self._lines: list[_Line] = []

    def draw_id(self, at: datetime) -> str:
        """A UUID version 7 (RFC 9562) of that moment."""
        milliseconds = int(at.timestamp() * 1000)
        drawn = self.dice.getrandbits(74)
        high, low = drawn >> 62, drawn & ((1 << 62) - 1)
        digits = f"{milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def draw_moment(self, since: datetime) -> datetime:
        return since + (self.now - since) * self.dice.random()

    def hear(self, at: datetime) -> None:
        self.heard = max(self.heard, at)

    def add(self, table: str, **row: object) -> None:
        self.rows[table].append(row)

    def add_event(
        self, event_id: str, kind: str, workflow_id: str, at: datetime, body: Mapping[str, str]
    ) -> None:
        self.add(
            "events",
            event_id=event_id,
            kind=kind,
            customer_id=self.id,
            workflow_id=workflow_id,
            occurred_at=at,
            body=json.dumps(body),
            fingerprint="",
            accepted_by="fill",
            accepted_at=at,
        )

    def add_process(
        self,
        workflow_id: str,
        kind: ProcessKind,
        began: datetime,
        step: str,
        waiting_for: str,
        next_at: datetime,
        outcome: str,
    ) -> None:
        """It ended at `next_at` if it has an outcome; else that is when its timer fires."""
        if not outcome:
            self.open.add(kind)
        began_at, then = str(began), str(next_at)
        self.add(
            "processes",
            workflow_id=workflow_id,
            kind=kind,
            customer_id=self.id,
            state=ProcessState.COMPLETED if outcome else ProcessState.RUNNING,
            step=step,
            waiting_for="" if outcome else waiting_for,
            next_timer_at=None if outcome else then,
            next_timer_machine_at=None if outcome else then,
            outcome=outcome,
            allowed="[]",
            started_at=began_at,
            ended_at=then if outcome else None,
            recorded_at=began_at,
            updated_at=min(next_at, self.now) if outcome else min(began, self.now),
        )

    def add_task(
        self,
        workflow_id: str,
        kind: TaskKind,
        role: Role,
        due: datetime,
        *,
        order_id: str | None = None,
        case_id: str | None = None,
        ended_at: datetime | None = None,
    ) -> None:
        """Done long ago, or still open when it is not `ended_at` and due of late."""
        if ended_at is None and due < self.now - _FORGOTTEN:
            ended_at = due
        state = self.dice.choice([TaskState.OPEN, TaskState.OPEN, TaskState.CLAIMED])
        if ended_at is not None:
            state = TaskState.DONE
        self.add(
            "tasks",
            id=self.draw_id(due),
            customer_id=self.id,
            workflow_id=workflow_id,
            kind=kind,
            role=role,
            state=state,
            owner=None if state is TaskState.OPEN else self.dice.choice(AGENTS),
            order_id=order_id,
            case_id=case_id,
            opened_at=due - _OPENED_BEFORE,
            due_at=due,
            ended_at=ended_at,
            outcome=OUTCOMES[kind][0] if ended_at else None,
            version=1,
            recorded_at=due - _OPENED_BEFORE,
        )

    def add_message(
        self,
        at: datetime,
        workflow_id: str,
        template: Template,
        context: str,
        text_id: str | None = None,
    ) -> None:
        """Settled, whatever became of it: what waits would be sent."""
        kind = MESSAGES[template]
        luck = self.dice.random()
        state = MessageState.DELIVERED if luck < 0.6 else MessageState.ACCEPTED
        provider_answer: str | None = "250 accepted"
        decision: str | None = None
        if luck > 0.985:
            state, provider_answer = MessageState.BOUNCED, "550 no such mailbox"
        elif luck > 0.95:
            state, provider_answer = MessageState.SUPPRESSED, None
            decision = _SUPPRESSED[kind.purpose is Purpose.MARKETING]
        gone = state is not MessageState.SUPPRESSED
        undelivered = not gone or state is MessageState.BOUNCED
        message_id, then = self.draw_id(at), str(at)
        self.add(
            "messages",
            id=message_id,
            key=f"{workflow_id}/{template}/1",
            customer_id=self.id,
            workflow_id=workflow_id,
            step=template,
            template=template,
            message_class=kind.message_class,
            purpose=kind.purpose,
            channel=Channel.EMAIL,
            context=context,
            text_id=text_id,
            state=state,
            asked_at=then,
            queued_at=then,
            not_before=then,
            due_since=then,
            attempts=int(gone),
            address=self.email if gone else None,
            locale=self.home.locale if gone else None,
            template_version="file" if gone else None,
            message_id=f"<{message_id}@fill.example.com>" if gone else None,
            subject=template.replace("_", " ").capitalize() if gone else None,
            accepted_at=then if gone else None,
            told_at=then if gone else None,
            provider="smtp" if gone else None,
            provider_answer=provider_answer,
            decision=decision,
            possible_duplicate=False,
            process_told_at=then if undelivered else None,
        )

    def add_line(
        self,
        at: datetime,
        workflow_id: str,
        kind: str,
        phase: str,
        facts: str = "{}",
        *,
        minor: bool = False,
    ) -> None:
        """One for the timeline, unless lines are few."""
        key = f"{kind}/{len(self._lines)}"
        at = min(at, self.now)
        self._lines.append(_Line(minor, at, workflow_id, key, kind, phase, facts))

    def write_lines(self) -> None:
        """As many as the share says: those a reader misses least are left out, or mails added."""
        while len(self._lines) < self.share.lines:
            at = self.draw_moment(self.came)
            self.add_line(at, self.workflow_id, "reply_received", "after")
        kept = sorted(self._lines, key=lambda line: line.minor)[: self.share.lines]
        for line in sorted(kept, key=lambda line: line.at):
            then = str(line.at)
            self.add(
                "timeline",
                customer_id=self.id,
                workflow_id=line.workflow_id,
                step_key=line.key,
                kind=line.kind,
                phase=line.phase,
                happened_at=then,
                facts=line.facts,
                recorded_at=then,
            )


@cache
def as_json(**facts: str | int) -> str:
    """What comes again and again."""
    return json.dumps(facts)


def _suppression(because: str) -> str:
    """A decision of `may_send`, as a message keeps it."""
    rule = {"name": "consent", "passed": False, "because": because}
    return json.dumps(
        {"outcome": "suppress", "decided_by": "consent", "because": because, "rules": [rule]}
    )


_SUPPRESSED = {  # by whether it was marketing
    True: _suppression("no consent to marketing by email"),
    False: _suppression("the address is suppressed: hard bounce"),
}
