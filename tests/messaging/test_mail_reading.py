"""What came back is understood for what it is, whoever wrote it and whatever he put in."""

import io
import zipfile
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.received_mails import MailKind
from domain.tokens import TokenPurpose
from messaging.links import Links
from messaging.mail_parts import LARGEST_ATTACHMENT, MOST_ATTACHMENTS
from messaging.mail_reading import ReadMail, Token, read_mail
from messaging.mail_reports import Fate
from tests.messaging.received import answer, bounce, complaint, qmail_bounce

LINKS = Links("https://crm.example.com", b"k" * 32, "perennial.example", "mail.example")
MESSAGE = UUID(int=1)
RETURN_PATH, REPLY_TO = LINKS.return_path(MESSAGE), LINKS.reply_to(MESSAGE)


def read(raw: bytes, *to: str, mail_from: str | None = "ada@example.com") -> ReadMail:
    return read_mail(raw, mail_from, to or ("hello@perennial.example",))


def token_in(address: str) -> Token:
    word, _, token = address.partition("@")[0].partition("+")
    return Token(TokenPurpose(word), token)


# --- bounces and complaints ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "status", "diagnostic", "fate"),
    [
        ("failed", "5.1.1", "smtp; 550 5.1.1 user unknown", Fate.HARD),
        ("failed", "5.0.0", "smtp; 550 no such user", Fate.HARD),
        ("failed", "", "smtp; 550 no such user", Fate.HARD),
        ("Failed", "5.0.0", "smtp; 550 5.7.1 rejected by policy", Fate.REFUSED),
        ("failed", "5.6.0", "smtp; 554 5.6.0 malformed", Fate.REFUSED),
        ("failed", "4.4.7", "X-Postfix; delivery time expired", Fate.SOFT),
        ("delayed", "4.2.2", "smtp; 452 4.2.2 mailbox full", Fate.DELAYED),
        ("delivered", "2.1.5", "smtp; 250 2.1.5 ok", Fate.DELIVERED),
    ],
)
def test_a_bounce_says_what_became_of_the_message(
    action: str, status: str, diagnostic: str, fate: Fate
) -> None:
    raw = bounce(RETURN_PATH, action=action, status=status, diagnostic=diagnostic)
    found = read(raw, RETURN_PATH, mail_from="")
    assert found.kind is MailKind.BOUNCE
    assert found.bounce is not None
    assert found.bounce.fate is fate
    assert found.tokens == (token_in(RETURN_PATH),)


def test_what_the_server_said_is_kept_without_the_address() -> None:
    found = read(bounce(RETURN_PATH), RETURN_PATH, mail_from="")
    assert found.bounce is not None
    assert "550 5.1.1" in found.bounce.said
    assert "User unknown" in found.bounce.said
    assert "@" not in found.bounce.said


def test_a_relayed_message_is_no_bounce() -> None:
    raw = bounce(RETURN_PATH, action="relayed", status="2.0.0", diagnostic="smtp; 250 ok")
    assert read(raw, RETURN_PATH, mail_from="").kind is MailKind.AUTO_REPLY


def test_a_bounce_of_no_standard_counts_at_the_address_of_bounces_only() -> None:
    found = read(qmail_bounce(RETURN_PATH), RETURN_PATH, mail_from="")
    assert (found.kind, found.bounce and found.bounce.fate) == (MailKind.BOUNCE, Fate.HARD)
    elsewhere = read(qmail_bounce("hello@perennial.example"), mail_from="")
    assert elsewhere.kind is MailKind.AUTO_REPLY


def test_a_bounce_sent_elsewhere_is_known_by_the_mail_it_encloses() -> None:
    raw = complaint(RETURN_PATH)
    found = read(raw, "fbl@perennial.example", mail_from="abuse@isp.example")
    assert found.kind is MailKind.COMPLAINT
    assert found.tokens == (token_in(RETURN_PATH),)
    assert read(complaint(RETURN_PATH, "not-spam")).kind is not MailKind.COMPLAINT


# --- machines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto_Submitted": "auto-replied"},
        {"Auto_Submitted": "auto-generated; x=y"},
        {"Precedence": "bulk"},
        {"List_Id": "<news.example.com>"},
        {"X_Auto_Response_Suppress": "All"},
        {"X_Autoreply": "yes"},
        {"sender": "MAILER-DAEMON@example.com"},
        {"sender": "No-Reply <noreply@example.com>"},
        {"subject": "Out of Office: back on Monday"},
        {"subject": "Automatische Antwort: Ihre Bestellung"},
        {"subject": "Réponse automatique : votre commande"},
        {"subject": "Respuesta automática: su pedido"},
        {"subject": "Resposta automática: o seu pedido"},
    ],
)
def test_what_a_machine_wrote_is_known(headers: dict[str, str]) -> None:
    found = read(answer("I am away.", **headers), REPLY_TO)
    assert found.kind is MailKind.AUTO_REPLY
    assert found.because
    assert found.text == "I am away."


def test_the_null_return_path_is_a_machines() -> None:
    assert read(answer(), mail_from="").kind is MailKind.AUTO_REPLY
    posted = b"Return-Path: <>\n" + answer()
    assert read(posted, mail_from=None).kind is MailKind.AUTO_REPLY
    assert read(answer(), mail_from=None).kind is MailKind.REPLY


@pytest.mark.parametrize(
    "headers", [{"Auto_Submitted": "no"}, {"subject": "Re: Out of office chairs in stock?"}]
)
def test_a_person_is_taken_for_one(headers: dict[str, str]) -> None:
    assert read(answer(**headers)).kind is MailKind.REPLY


# --- what a person wrote -------------------------------------------------------------------------

QUOTING = {
    "outlook": "Yes.\n\n-----Original Message-----\nFrom: us\nIs it so?",
    "gmail": "Yes.\n\nOn Mon, 2 Nov 2026 at 10:00, Perennial <a@b.example> wrote:\n> Is it so?",
    "two lines": "Yes.\n\nOn Mon, 2 Nov 2026 at 10:00, Perennial\n<a@b.example> wrote:\n> Is it?",
    "german": "Yes.\n\nAm 02.11.26 um 10:00 schrieb Perennial:\n> Ist es so?",
    "portuguese": "Yes.\n\nEm seg., 2 de nov. de 2026, Perennial escreveu:\n> É isso?",
    "outlook block": "Yes.\n\nFrom: Perennial <a@b.example>\nSent: Monday\nTo: Ada\n\nIs it so?",
    "underneath": "On Monday, Perennial wrote:\n> Is it so?\n\nYes.",
    "signature": "Yes.\n\n-- \nAda Lovelace\nCountess",
    "phone": "Yes.\n\nSent from my iPhone\n\n> Is it so?",
}


@pytest.mark.parametrize("text", QUOTING.values(), ids=list(QUOTING))
def test_what_is_quoted_is_left_out_and_kept_beside_it(text: str) -> None:
    found = read(answer(text))
    assert found.text == "Yes."
    assert found.whole_text == text.strip()


def test_where_all_is_quoted_all_is_shown() -> None:
    assert read(answer("> Is it so?")).text == "> Is it so?"


def test_the_chain_of_headers_is_read_from_its_nearest_end() -> None:
    found = read(answer(in_reply_to="<3@x>", references="<1@x> <2@x> <3@x> <>"))
    assert found.answers == ("3@x", "2@x", "1@x")
    assert read(answer(in_reply_to="", references="<>")).answers == ()


def test_only_one_address_is_a_sender() -> None:
    assert read(answer(sender='"x, y" <Ada@Example.com>')).sender == "ada@example.com"
    encoded = answer().replace(b"Ada Lovelace", b"=?utf-8?q?eve=40example=2Ecom=2C?=")
    assert read(encoded).sender == "ada@example.com"
    assert read(answer(sender="ada@example.com, eve@example.com")).sender == ""
    assert read(b"From: eve@example.com\n" + answer()).sender == ""


def test_html_is_read_as_text() -> None:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "ada@example.com", "Olá"
    mail.set_content("<p>Where is <b>my order</b>?</p><script>x()</script>", subtype="html")
    found = read(mail.as_bytes())
    assert found.text == "Where is my order?"


@pytest.mark.parametrize("text", ["STOP please", "Unsubscribe.", "stop\n\n> Buy our belts"])
def test_stop_as_the_whole_text_is_an_opt_out(text: str) -> None:
    assert read(answer(text)).wants_to_stop


@pytest.mark.parametrize("text", ["cancel", "please stop by", "Please stop my order from leaving"])
def test_an_answer_that_has_such_a_word_is_not(text: str) -> None:
    assert not read(answer(text)).wants_to_stop


# --- attachments ---------------------------------------------------------------------------------


def with_files(*files: tuple[str, bytes]) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "ada@example.com", "Photos"
    mail.set_content("See the photos.")
    for name, content in files:
        mail.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return mail.as_bytes()


def test_attachments_are_kept_as_they_came_under_a_harmless_name() -> None:
    found = read(with_files(("../../etc/cron.d/x", b"\x00\x01"), ("a\u202egpj.exe", b"MZ")))
    assert [(one.name, one.content) for one in found.attachments] == [
        ("etc-cron.d-x", b"\x00\x01"),
        ("agpj.exe", b"MZ"),
    ]
    assert found.text == "See the photos."


def test_attachments_beyond_the_limits_are_counted_and_left_out() -> None:
    found = read(with_files(*((f"{n}.bin", b"x") for n in range(MOST_ATTACHMENTS + 3))))
    assert (len(found.attachments), found.left_out) == (MOST_ATTACHMENTS, 3)
    found = read(with_files(("big", b"x" * (LARGEST_ATTACHMENT + 1)), ("small", b"x")))
    assert ([one.name for one in found.attachments], found.left_out) == (["small"], 1)


def test_an_archive_is_not_unpacked() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 50_000_000)
    [kept] = read(with_files(("bomb.zip", packed.getvalue()))).attachments
    assert kept.content == packed.getvalue()


# --- what somebody made up -----------------------------------------------------------------------


def nested(levels: int) -> bytes:
    raw = b"Content-Type: text/plain\n\nin the middle"
    for level in range(levels):
        b = b"b%d" % level
        raw = b'Content-Type: multipart/mixed; boundary="%s"\n\n--%s\n%s\n--%s--\n' % (b, b, raw, b)
    return b"From: ada@example.com\nSubject: deep\n" + raw


_SLOW = b"a-" + b"z9" * 500_000
MADE_UP = {
    "nothing": b"",
    "no headers": b"hello",
    "only line ends": b"\r\n" * 1000,
    "no message id": answer().replace(b"Message-ID", b"X-Other"),
    "a thousand recipients": answer(to=", ".join(f"p{n}@example.com" for n in range(1000))),
    "an unknown charset": b"Content-Type: text/plain; charset=klingon\n\nqapl\xe1",
    "a codec that is none of text": b"Content-Type: text/plain; charset=zlib\n\nx",
    "a codec that takes its time": b"Content-Type: text/plain; charset=punycode\n\n" + _SLOW,
    "the same in a parameter": b"Content-Disposition: x; filename*=punycode''" + _SLOW + b"\n\nx",
    "the same in a charset": b"Content-Type: text/plain; charset*=punycode''" + _SLOW + b"\n\nx",
    "broken base64": b"Content-Transfer-Encoding: base64\n\n=a=b===",
    "an unknown charset in a header": b"Subject: =?klingon?q?x?= =?utf-8?b?!!!?=\n\nx",
    "NUL": b"From: a\0b@example.com\nSubject: a\0b\n\nte\0xt \xff\xfe",
    "NUL in an id": b"In-Reply-To: <a\0b@x> <\xff@x>\nMessage-ID: <\0@x>\n\nx",
    "a header of 1 MB": b"Subject: " + b"x" * 1_000_000 + b"\n\nx",
    "ids without an end": b"References: " + b"<x@y> " * 200_000 + b"\n\nx",
    "nested 50 levels": nested(50),
    "nested 2,000 levels": nested(2000),
    "a boundary that is not there": b"Content-Type: multipart/mixed; boundary=x\n\n--y\n\nz",
    "a report without parts": b"Content-Type: multipart/report; report-type=delivery-status\n\nx",
    "a report of itself": bounce(RETURN_PATH).replace(b"delivery-status\n\n", b"rfc822\n\n"),
    "a file name of pieces": b"Content-Disposition: attachment; filename*0*=x'y'%\n\nx",
    "many short lines": b"Content-Type: multipart/mixed; boundary=x\n\n" + b"a\n" * 3_000_000,
    "html without an end": b"Content-Type: text/html\n\n" + b"<div>" * 50_000,
}


@pytest.mark.parametrize("raw", MADE_UP.values(), ids=list(MADE_UP))
@pytest.mark.parametrize("to", [RETURN_PATH, REPLY_TO], ids=["bounce", "reply"])
@pytest.mark.timeout(10)
def test_whatever_somebody_makes_up_is_read_in_time_and_can_be_stored(raw: bytes, to: str) -> None:
    found = read(raw, to, mail_from="")
    for text in (found.because, found.sender, found.subject, found.text, found.whole_text):
        assert "\0" not in text
        text.encode()  # no half of a surrogate pair
    assert len(found.subject) <= 1000


def test_what_is_nested_deeply_is_read_and_what_is_too_deep_is_kept_unread() -> None:
    assert read(nested(15)).text == "in the middle"
    assert read(nested(50)).kind is MailKind.REPLY
    found = read(nested(2000))
    assert (found.kind, found.subject) == (MailKind.UNREADABLE, "deep")


_HEADERS = st.sampled_from(
    [
        *("From", "To", "Subject", "Content-Type", "Content-Transfer-Encoding", "References"),
        *("Content-Disposition", "Return-Path", "Auto-Submitted", "Action", "Status"),
    ]
)
_VALUES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"multipart/report; report-type=delivery-status; boundary=b",
            b"multipart/mixed; boundary=b",
            b"message/delivery-status",
            b"message/rfc822",
            b"text/plain; charset=utf-16",
            b"base64",
            b"quoted-printable",
            b'attachment; filename="=?utf-8?q?=00?="',
            b"=?utf-8?b?/w==?=",
        ]
    ),
)
_LINES = st.lists(
    st.one_of(
        st.tuples(_HEADERS, _VALUES).map(lambda one: one[0].encode() + b": " + one[1]),
        st.sampled_from([b"", b"--b", b"--b--"]),
        st.binary(max_size=80),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=2000), _LINES.map(b"\n".join)), st.sampled_from(["", None]))
def test_any_bytes_are_read(raw: bytes, mail_from: str | None) -> None:
    found = read_mail(raw, mail_from, [RETURN_PATH])
    "".join([found.because, found.sender, found.subject, found.whole_text]).encode()
