"""Mails as they come back: a bounce, a complaint, an absence, an answer."""

from collections.abc import Mapping
from email.message import EmailMessage

DIAGNOSTIC = "smtp; 550 5.1.1 <ada@example.com>: Recipient address rejected: User unknown"


def answer(
    text: str = "Yes, on Saturday please.",
    *,
    sender: str = "Ada Lovelace <ada@example.com>",
    to: str = "hello@perennial.example",
    subject: str = "Re: Your order",
    **headers: str,
) -> bytes:
    """A person's mail; `in_reply_to="<id>"` and the like become headers."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, to, subject
    mail["Message-ID"] = headers.pop("message_id", "<1@mail.example.com>")
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(text)
    return mail.as_bytes()


def bounce(
    to: str,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = DIAGNOSTIC,
    enclosed: Mapping[str, str] | None = None,
) -> bytes:
    """A delivery status notification as Postfix writes it (RFC 3464)."""
    original = "".join(f"{name}: {value}\n" for name, value in (enclosed or {}).items())
    return f"""\
From: MAILER-DAEMON@mx.example.com (Mail Delivery System)
To: {to}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.com.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com
Arrival-Date: Sun, 22 Nov 2026 04:00:00 +0000

Final-Recipient: rfc822; ada@example.com
Action: {action}
Status: {status}
Diagnostic-Code: {diagnostic}

--b
Content-Type: text/rfc822-headers

Subject: Your order
{original}
--b--
""".encode()


def qmail_bounce(to: str) -> bytes:
    """Of no standard."""
    return f"""\
From: MAILER-DAEMON@mx.example.com
To: {to}
Subject: failure notice

Hi. This is the qmail-send program at mx.example.com.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<ada@example.com>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

Return-Path: <{to}>
""".encode()


def complaint(return_path: str, kind: str = "abuse") -> bytes:
    """An ARF report, which goes to an address agreed upon with the reporter (RFC 5965)."""
    return f"""\
From: <abuse@isp.example>
To: <fbl@perennial.example>
Subject: FW: Earn money
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain; charset="US-ASCII"

This is an email abuse report for a message received from 192.0.2.1.

--b
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <{return_path}>

--b
Content-Type: message/rfc822

From: Perennial <hello@perennial.example>
Return-Path: <{return_path}>
Subject: Earn money

Buy!

--b--
""".encode()
