"""Bounces and complaints in received mail: RFC 3464, RFC 5965, and the bounces of no standard."""

import re
from collections.abc import Iterator
from email.message import Message
from enum import StrEnum
from typing import NamedTuple

from flufl.bounce import all_failures

from domain.delivery_reports import without_addresses
from messaging.mail_parts import Mail, header

_ENHANCED = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")  # RFC 3463
_BASIC = re.compile(r"\b([45])\d\d\b")
_ABOUT_THE_MESSAGE = ("6", "7")  # its content, a policy: the address may be a good one
_ABUSE = ("abuse", "fraud", "opt-out")  # of the types of feedback; not-spam is none


class Fate(StrEnum):
    """What a bounce says became of the message."""

    HARD = "hard"  # the address takes no mail
    SOFT = "soft"  # given up: a mailbox that stayed full, a server that never answered
    REFUSED = "refused"  # this message, for what it is or whom it is from
    DELAYED = "delayed"  # not yet, and still being tried
    DELIVERED = "delivered"


class Bounce(NamedTuple):
    fate: Fate
    said: str  # no address in it


def complaint_in(mail: Mail) -> str | None:
    """The kind of abuse that was reported (RFC 5965), or None."""
    if not _is_report(mail, "feedback-report"):
        return None
    for part in _reports(mail, "message/feedback-report"):
        kind = header(part, "Feedback-Type").lower()
        if kind in _ABUSE:
            return kind
    return None


def standard_bounce_in(mail: Mail) -> Bounce | None:
    """What a delivery status notification says (RFC 3464) of the recipient that fared worst."""
    if not _is_report(mail, "delivery-status"):
        return None
    found = [
        bounce
        for part in _reports(mail, "message/delivery-status")
        if (bounce := _fate_of_recipient(part)) is not None
    ]
    worst_first = list(Fate)
    return min(found, key=lambda bounce: worst_first.index(bounce.fate), default=None)


def unusual_bounce_in(mail: Mail) -> Bounce | None:
    """What Mailman's detectors make of a mail from a machine that follows no standard."""
    try:
        temporary, permanent = all_failures(mail)
    except Exception:  # its detectors trust the mail's structure
        return None
    if permanent:
        return Bounce(Fate.HARD, "a bounce in no standard form: permanent")
    if temporary:
        return Bounce(Fate.DELAYED, "a bounce in no standard form: for now")
    return None


def _is_report(mail: Mail, kind: str) -> bool:
    said = mail.get_param("report-type")
    return mail.get_content_type() == "multipart/report" and str(said).lower() == kind


def _reports(mail: Mail, media_type: str) -> Iterator[Mail]:
    """The blocks of fields in the report's own parts; the parser reads each as a mail's headers."""
    inner = mail.get_payload()
    for part in inner[:10] if isinstance(inner, list) else []:
        if isinstance(part, Message) and part.get_content_type() == media_type:
            blocks = part.get_payload()
            if isinstance(blocks, list):
                yield from (block for block in blocks[:50] if isinstance(block, Message))


def _fate_of_recipient(block: Mail) -> Bounce | None:
    action = header(block, "Action").lower()
    status, diagnostic = header(block, "Status"), header(block, "Diagnostic-Code")
    # Many servers put 5.0.0 there and say what they mean in the words of the other server.
    codes = _ENHANCED.findall(status) + _ENHANCED.findall(diagnostic)
    telling = [code for code in codes if code[1:] != ("0", "0")] or codes
    basic = _BASIC.search(diagnostic)
    kind = telling[0][0] if telling else basic[1] if basic else ""
    said = without_addresses(f"{status} {diagnostic}")
    match action:
        case "delivered":
            return Bounce(Fate.DELIVERED, said)
        case "delayed":
            return Bounce(Fate.DELAYED, said)
        case "failed" if kind == "4":
            return Bounce(Fate.SOFT, said)
        case "failed" if telling and telling[0][1] in _ABOUT_THE_MESSAGE:
            return Bounce(Fate.REFUSED, said)
        case "failed":
            return Bounce(Fate.HARD, said)
    return None
