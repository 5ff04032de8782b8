"""What follows from received mail: a delivery report, a customer's words, a question, or nothing.

Nothing here answers a mail. A case that a mail opens is acknowledged by its process, once a day at
most to the same customer (`activities/support.py`).
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer
from temporalio.client import Client

from activities.attempts import Attempts
from activities.received_words import (
    ask_whose,
    on_his_clock,
    tell_of_opt_out,
    tell_of_reply,
)
from activities.suppressions import suppress
from database.base import Sessions, insert_once
from database.customers import ContactPoint
from database.delivery_reports import keep_report
from database.messages import Message
from database.queries.customers import hold_messages_to
from database.received_mails import ReceivedAttachment, ReceivedMail
from database.support import Case
from domain.delivery_reports import DeliveryReport, ReportKind
from domain.messages import Channel, Purpose
from domain.processes import support_workflow_id
from domain.received_mails import MAIL_EVENT, MailKind, MailOutcome
from domain.tokens import TokenPurpose, verify_from_mail
from messaging.mail_reading import ReadMail, read_mail
from messaging.mail_reports import Fate

_ATTEMPTS = Attempts(ReceivedMail, MailOutcome.FAILED, undefer(ReceivedMail.raw))
_SOURCE = "mail"
_CASE = re.compile(r"\bCASE-\d{4}-[0-9A-F]{8}\b", re.IGNORECASE)
_REPORTED = {
    Fate.HARD: ReportKind.BOUNCED,
    Fate.SOFT: ReportKind.EXPIRED,
    Fate.REFUSED: ReportKind.FAILED,
    Fate.DELAYED: ReportKind.DELAYED,
    Fate.DELIVERED: ReportKind.DELIVERED,
}


async def take_in_mail(sessions: Sessions, client: Client, signing_key: bytes) -> list[MailOutcome]:
    """Act on the next mails, each in a transaction of its own; what came of them.

    May be killed at any moment, or run twice at once: a mail that is locked is left alone. Raises
    while PostgreSQL or Temporal is away. A mail that we stumble over is marked, one whose attempts
    have all ended without an outcome is set aside: neither holds up another.
    """

    async def take_in(session: AsyncSession, row: ReceivedMail) -> MailOutcome:
        return await _Mail(session, client, signing_key, row).take_in()

    return await _ATTEMPTS.take_turn(sessions, take_in)


class _Thread(NamedTuple):
    """What a mail says it is about. `proven`: only who has had a message of ours can say so."""

    customer_id: UUID
    message_id: UUID | None = None
    workflow_id: str = ""
    case_id: UUID | None = None
    proven: bool = True


@dataclass
class _Mail:
    """One mail on its way from raw bytes to its outcome, in one transaction."""

    session: AsyncSession
    client: Client
    signing_key: bytes
    row: ReceivedMail

    async def take_in(self) -> MailOutcome:
        row = self.row
        assert row.raw is not None  # it is deleted only of what was acted upon
        # In a thread: a mail of 10 MB takes a second, and others share the event loop.
        read = await asyncio.to_thread(read_mail, row.raw, row.mail_from, row.rcpt_to)
        row.kind, row.because, row.left_out = read.kind, read.because, read.left_out
        row.sender, row.subject, row.message_id = read.sender, read.subject, read.message_id
        row.thread = [*reversed(read.answers)]
        row.text, row.whole_text = read.text, read.whole_text
        row.event_id = MAIL_EVENT + _essence(row.digest, read)
        await self._keep_attachments(read)
        outcome = await self._act(read)
        if row.customer_id is not None:
            row.happened_at = await on_his_clock(self.session, row.customer_id, row.received_at)
        row.outcome, row.processed_at = outcome, sa.func.now()
        return outcome

    async def _act(self, read: ReadMail) -> MailOutcome:
        match read.kind:
            case MailKind.BOUNCE | MailKind.COMPLAINT:
                return await self._report(read)
            case MailKind.REPLY:
                return await self._reply(read)
            case _:
                await self._note_thread(read)
                return MailOutcome.KEPT

    async def _keep_attachments(self, read: ReadMail) -> None:
        for number, one in enumerate(read.attachments, start=1):
            await insert_once(
                self.session,
                ReceivedAttachment,
                mail_id=self.row.id,
                number=number,
                name=one.name,
                media_type=one.media_type,
                size=len(one.content),
                sha256=hashlib.sha256(one.content).hexdigest(),
                content=one.content,
            )

    # --- bounces and complaints --------------------------------------------------------------

    async def _report(self, read: ReadMail) -> MailOutcome:
        """A delivery report of the message that a token of ours names; else anybody could
        suppress anybody.
        """
        effect = self._named_message(read)
        if effect is None:
            return MailOutcome.UNPROVEN
        message = await self._message(Message.id == effect)
        if message is not None:
            self.row.answers, self.row.customer_id = message.id, message.customer_id
        report = DeliveryReport(
            kind=_REPORTED[read.bounce.fate] if read.bounce else ReportKind.COMPLAINED,
            effect=effect,
            said=read.bounce.said if read.bounce else read.because,
            at=self.row.received_at,
            provider=_SOURCE,
        )
        await keep_report(self.session, _SOURCE, self.row.digest, report)
        return MailOutcome.COUNTED

    def _named_message(self, read: ReadMail, *purposes: TokenPurpose) -> UUID | None:
        found = (
            verify_from_mail(self.signing_key, one.purpose, one.token)
            for one in read.tokens
            if not purposes or one.purpose in purposes
        )
        return next((message_id for message_id in found if message_id is not None), None)

    # --- what a person wrote -----------------------------------------------------------------

    async def _reply(self, read: ReadMail) -> MailOutcome:
        thread = await self._note_thread(read)
        known_as = await self._customers_at(read.sender)
        if read.wants_to_stop and (known_as or (thread is not None and thread.proven)):
            return await self._opt_out(read, thread, known_as)
        if thread is None and len(known_as) == 1:
            thread = _Thread(known_as[0], proven=False)
        if read.is_empty:
            self.row.because = "nothing is in it"
            if thread is not None and thread.customer_id in known_as:
                self.row.customer_id, self.row.case_id = thread.customer_id, thread.case_id
            return MailOutcome.KEPT
        if thread is None:
            return MailOutcome.UNKNOWN_SENDER
        if thread.customer_id not in known_as or read.is_broken:
            self.row.customer_id = thread.customer_id
            if read.is_broken:
                self.row.because = "it is malformed: what is written may not be all"
            await ask_whose(
                self.session,
                self.client,
                thread.customer_id,
                event_id=self._event_id,
                received_at=self.row.received_at,
                mail_id=self.row.id,
            )
            return MailOutcome.ASKED
        return await self._tell_of_reply(read, thread)

    async def _tell_of_reply(self, read: ReadMail, thread: _Thread) -> MailOutcome:
        self.row.customer_id, self.row.case_id = thread.customer_id, thread.case_id
        new = await tell_of_reply(
            self.session,
            self.client,
            thread.customer_id,
            event_id=self._event_id,
            source=_SOURCE,
            received_at=self.row.received_at,
            text=read.text or read.subject or "(no text)",
            case_id=thread.case_id,
            answers=thread.workflow_id,
        )
        return MailOutcome.REPLY_RECEIVED if new else MailOutcome.COPY

    async def _opt_out(
        self, read: ReadMail, thread: _Thread | None, known_as: Sequence[UUID]
    ) -> MailOutcome:
        """Of the one who has the message, as its unsubscribe link would; else of the sender."""
        leaving = [thread.customer_id] if thread is not None and thread.proven else known_as
        if len(leaving) > 1:  # people who share an address leave together
            await hold_messages_to(self.session, Channel.EMAIL, read.sender)
            address = {(Channel.EMAIL, read.sender): "asked by mail to stop"}
            await suppress(self.session, address, Purpose.MARKETING)
            return MailOutcome.OPTED_OUT
        self.row.customer_id = leaving[0]
        new = await tell_of_opt_out(
            self.session,
            self.client,
            leaving[0],
            event_id=self._event_id,
            source=_SOURCE,
            received_at=self.row.received_at,
            channel=Channel.EMAIL,
        )
        return MailOutcome.OPTED_OUT if new else MailOutcome.COPY

    @property
    def _event_id(self) -> str:
        assert self.row.event_id is not None
        return self.row.event_id

    # --- what it is about --------------------------------------------------------------------

    async def _note_thread(self, read: ReadMail) -> _Thread | None:
        """By the header chain, then a signed address, then the subject."""
        thread = await self._by_chain(read) or await self._by_token(read)
        if thread is None and read.kind is MailKind.REPLY:
            thread = await self._by_subject(read)
        if thread is not None:
            self.row.answers = thread.message_id
            if read.kind is not MailKind.REPLY:
                self.row.customer_id, self.row.case_id = thread.customer_id, thread.case_id
        return thread

    async def _by_chain(self, read: ReadMail) -> _Thread | None:
        if not read.answers:
            return None
        nearest = sa.func.array_position(
            sa.cast(list(read.answers), sa.ARRAY(sa.Text)), Message.message_id
        )
        return _thread(await self._message(Message.message_id.in_(read.answers), nearest))

    async def _by_token(self, read: ReadMail) -> _Thread | None:
        message_id = self._named_message(read, TokenPurpose.REPLY) or self._named_message(read)
        if message_id is None:
            return None
        return _thread(await self._message(Message.id == message_id))

    async def _by_subject(self, read: ReadMail) -> _Thread | None:
        """Anybody can write a reference there, so only a known sender is believed."""
        reference = _CASE.search(read.subject)
        if reference is None:
            return None
        found = await self.session.execute(
            sa.select(Case.id, Case.customer_id).where(Case.reference == reference[0].upper())
        )
        case = found.one_or_none()
        if case is None:
            return None
        workflow_id = support_workflow_id(case.id)
        return _Thread(case.customer_id, None, workflow_id, case.id, proven=False)

    async def _message(self, which: sa.ColumnElement[bool], *order: Any) -> Any:
        columns = (Message.id, Message.customer_id, Message.workflow_id)
        statement = sa.select(*columns).where(which).order_by(*order).limit(1)
        return (await self.session.execute(statement)).one_or_none()

    async def _customers_at(self, sender: str) -> Sequence[UUID]:
        """Whose address it is now. At most a few are looked at: more people share no mailbox."""
        if not sender:
            return []
        found = await self.session.scalars(
            sa.select(ContactPoint.customer_id)
            .where(
                sa.func.lower(ContactPoint.address) == sender,
                ContactPoint.channel == Channel.EMAIL,
                ContactPoint.retired_at.is_(None),
            )
            .distinct()
            .limit(100)
        )
        return found.all()


def _thread(message: Any) -> _Thread | None:
    if message is None or message.customer_id is None:
        return None
    kind, _, about = message.workflow_id.partition("/")
    case_id = UUID(about) if kind == "case" else None
    return _Thread(message.customer_id, message.id, message.workflow_id, case_id)


def _essence(digest: str, read: ReadMail) -> str:
    """The same for copies of one mail that came by several ways, to several of our addresses."""
    if not read.message_id:
        return digest
    written = "\n".join((read.message_id, read.sender, read.whole_text))
    return hashlib.sha256(written.encode()).hexdigest()
