"""What a received mail is: a bounce, a complaint, a machine's answer, or a person's.

Pure, and it never raises: whoever sends a mail chooses every byte of it. Nothing in a mail is
believed but what a token of ours says (`tokens`); the caller verifies them.
"""

import re
from collections.abc import Iterator, Sequence
from email.utils import getaddresses
from itertools import chain
from typing import NamedTuple

from domain.messages import Channel
from domain.opt_out_words import Wish, wish_of
from domain.received_mails import MailKind
from domain.tokens import TokenPurpose
from messaging.mail_parts import (
    Attachment,
    Mail,
    attachments_of,
    header,
    is_broken,
    one_line,
    parse,
    parse_headers,
    parts,
    text_of,
)
from messaging.mail_reports import Bounce, complaint_in, standard_bounce_in, unusual_bounce_in
from messaging.mail_text import unquoted

_TOKEN = re.compile(
    rf"\b({TokenPurpose.BOUNCE}|{TokenPurpose.REPLY})\+([a-z2-7]{{42}})@", re.IGNORECASE
)
_MESSAGE_ID = re.compile(r"<([!-;=?-~]{1,250})>")  # printable ASCII
_LONGEST_FIELD = 50_000  # characters: a thousand addresses
_MOST_IDS = 50
_MOST_TOKENS = 20
_MACHINES = re.compile(
    r"^(?:mailer-daemon|postmaster|no-?reply|do-?not-?reply|auto-?reply|bounces?)\b", re.IGNORECASE
)
# How common mail programs begin the subject of an absence, where no header says it.
_ABSENT = re.compile(
    r"^(?:out of (?:the )?office|automatic reply|auto(?:matic)?[- ]?(?:reply|response)|autoreply"
    r"|automatische antwort|abwesenheit|abwesend|nicht im büro"
    r"|réponse automatique|absence du bureau|absent du bureau"
    r"|respuesta automática|fuera de (?:la )?oficina|ausente"
    r"|resposta automática|fora do escritório|ausência)\b",
    re.IGNORECASE,
)


class Token(NamedTuple):
    """Looks like a token of ours; whether it is one is not verified here."""

    purpose: TokenPurpose
    token: str


class ReadMail(NamedTuple):
    kind: MailKind
    because: str  # what it was recognised by; no address in it
    sender: str = ""  # the one address of From, in lower case; anybody can write it there
    subject: str = ""
    message_id: str = ""
    answers: tuple[str, ...] = ()  # Message-IDs, the nearest first
    tokens: tuple[Token, ...] = ()
    bounce: Bounce | None = None
    text: str = ""  # without what it quotes
    whole_text: str = ""
    attachments: tuple[Attachment, ...] = ()
    left_out: int = 0  # attachments beyond the limits
    wants_to_stop: bool = False
    is_broken: bool = False  # its words may be others than were written

    @property
    def is_empty(self) -> bool:
        """There is nothing in it that anybody could answer."""
        return not (self.whole_text or self.subject or self.attachments or self.left_out)


def read_mail(raw: bytes, mail_from: str | None, rcpt_to: Sequence[str]) -> ReadMail:
    """`mail_from` is the envelope's sender: empty for the null return path, None when not known."""
    mail = parse(raw)
    if mail is None:
        return _only_its_headers(raw, "it can't be taken apart")
    try:
        return _read(mail, mail_from, rcpt_to)
    except Exception as problem:  # the standard library trusts what it has parsed
        return _only_its_headers(raw, f"it can't be read: {type(problem).__name__}")


def _only_its_headers(raw: bytes, why: str) -> ReadMail:
    try:
        mail = parse_headers(raw)
        return ReadMail(MailKind.UNREADABLE, why, _sender(mail), header(mail, "Subject"))
    except Exception:
        return ReadMail(MailKind.UNREADABLE, why)


def _read(mail: Mail, mail_from: str | None, rcpt_to: Sequence[str]) -> ReadMail:
    if mail_from is None:
        path = header(mail, "Return-Path")
        mail_from = path.strip("<> ") if path else None
    to_us = _tokens(chain(rcpt_to, *(_as_sent(mail, name) for name in _ADDRESSED_BY)))
    sender = _sender(mail)
    whole_text = text_of(mail)
    found = ReadMail(
        MailKind.REPLY,
        "a person wrote it",
        sender,
        header(mail, "Subject"),
        next(iter(_MESSAGE_ID.findall(header(mail, "Message-ID"))), ""),
        _answered(mail),
        to_us,
        text=unquoted(whole_text),
        whole_text=whole_text,
        is_broken=is_broken(mail),
    )
    if complaint := complaint_in(mail):
        tokens = to_us or _enclosed_tokens(mail)
        because = f"a complaint: {complaint}"
        return found._replace(kind=MailKind.COMPLAINT, because=because, tokens=tokens)
    if bounce := _bounce_in(mail, mail_from, sender, to_us):
        tokens = to_us or _enclosed_tokens(mail)
        because = f"a bounce: {bounce.fate}"
        return found._replace(kind=MailKind.BOUNCE, because=because, bounce=bounce, tokens=tokens)
    if machine := _written_by_a_machine(mail, mail_from, sender, found.subject):
        return found._replace(kind=MailKind.AUTO_REPLY, because=machine)
    attachments, left_out = attachments_of(mail)
    return found._replace(
        attachments=tuple(attachments),
        left_out=left_out,
        wants_to_stop=wish_of(found.text, Channel.EMAIL) is Wish.STOP,
    )


def _bounce_in(
    mail: Mail, mail_from: str | None, sender: str, to_us: Sequence[Token]
) -> Bounce | None:
    """Guessing is for what a machine sent, or what came to the address of bounces."""
    if bounce := standard_bounce_in(mail):
        return bounce
    to_bounces = any(token.purpose is TokenPurpose.BOUNCE for token in to_us)
    if to_bounces and (mail_from == "" or _MACHINES.match(sender)):
        return unusual_bounce_in(mail)
    return None


def _written_by_a_machine(
    mail: Mail, mail_from: str | None, sender: str, subject: str
) -> str | None:
    """The first sign of it (RFC 3834, and what came before and beside it); None of a person."""
    submitted = header(mail, "Auto-Submitted").lower().partition(";")[0].strip()
    if submitted and submitted != "no":
        return f"Auto-Submitted: {submitted[:40]}"
    if mail_from == "":
        return "its return path is empty"
    for name in ("X-Auto-Response-Suppress", "X-Autoreply", "X-Autorespond", "List-Id"):
        if header(mail, name):
            return f"it has a header {name}"
    precedence = header(mail, "Precedence").lower()
    if precedence in ("bulk", "list", "junk", "auto_reply"):
        return f"Precedence: {precedence}"
    if _MACHINES.match(sender) or _MACHINES.match(mail_from or ""):
        return "its sender is a machine"
    return "its subject says that somebody is away" if _ABSENT.match(subject) else None


def _sender(mail: Mail) -> str:
    """Empty where From names nobody, or several: then it is nobody's word."""
    given = _as_sent(mail, "From")
    found = getaddresses(given) if len(given) == 1 else []
    if len(found) != 1 or "@" not in found[0][1]:
        return ""
    return one_line(found[0][1]).lower()


def _answered(mail: Mail) -> tuple[str, ...]:
    """The chain of mails that it continues: the one it answers, then the thread backwards."""
    answered, thread = (
        _MESSAGE_ID.findall(" ".join(_as_sent(mail, name))[-_LONGEST_FIELD:])
        for name in ("In-Reply-To", "References")
    )
    return tuple(dict.fromkeys([*answered, *reversed(thread)]))[:_MOST_IDS]


def _as_sent(mail: Mail, name: str) -> list[str]:
    """For addresses and ids, which have a syntax of their own: what is encoded isn't part of it."""
    return [str(value)[:_LONGEST_FIELD] for value in mail.get_all(name) or []]


_ADDRESSED_BY = ("Delivered-To", "X-Original-To", "To", "Cc")
_ENCLOSED_FIELDS = ("Return-Path", "Reply-To", "Original-Mail-From")


def _tokens(texts: Iterator[str]) -> tuple[Token, ...]:
    found = dict.fromkeys(
        Token(TokenPurpose(purpose.lower()), token.lower())
        for text in texts
        for purpose, token in _TOKEN.findall(text)
    )
    return tuple(found)[:_MOST_TOKENS]


def _enclosed_tokens(mail: Mail) -> tuple[Token, ...]:
    """Of the mail that a report is about, where the report went to an address without one."""
    fields: list[str] = []
    for part in parts(mail):
        payload = part.get_payload()
        for inner in payload[:10] if isinstance(payload, list) else []:
            if isinstance(inner, Mail):
                fields += chain.from_iterable(_as_sent(inner, name) for name in _ENCLOSED_FIELDS)
    return _tokens(iter(fields))
