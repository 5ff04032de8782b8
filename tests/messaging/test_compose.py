"""What comes from outside is text in its own header, and nothing else in the mail."""

from email import message_from_bytes
from email.header import decode_header, make_header
from email.utils import parseaddr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from messaging.compose import BadAddress, compose_email, recipient_of
from messaging.provider import OutgoingMessage

MESSAGE = OutgoingMessage(
    effect="3f0e8a2c-0000-7000-8000-000000000001",
    message_id="0123456789abcdef0123456789abcdef@perennial.example",
    address="ada@example.com",
    name="Ada",
    subject="We have received your order",
    text="hello\n",
)


PIECES = st.sampled_from(
    [
        *(
            "=?utf-8?q?",
            "=?utf-8?b?",
            "=?",
            "?=",
            "=0D=0A",
            "DQpCY2M6IGU=",
            "Bcc:_eve@b.c",
            "Bcc: x",
        ),
        *(" ", "é", "\r\n", "\n", "\x00", "\x85", "\u2028", '"', "<", ">", ",", "\\", "x" * 70),
    ]
)
PLAIN = message_from_bytes(compose_email("us@b.c", MESSAGE))


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=100))
@example("=?utf-8?q?=0D=0ABcc:_eve@example.com?=")
@example("=?utf-8?b?DQoNCmJvZHk=?= é")
@example("50%0d%0aBcc: eve@example.com")
@example("a, b <eve@example.com>, " + "x" * 60)
def test_whatever_a_subject_and_a_name_say_is_text_in_their_own_header(words: str) -> None:
    try:
        subject = compose_email("us@b.c", MESSAGE._replace(subject=words))
        named = compose_email("us@b.c", MESSAGE._replace(name=words))
    except (ValueError, BadAddress):
        return
    for raw in (subject, named):
        assert message_from_bytes(raw).keys() == PLAIN.keys()
        assert max(map(len, raw.split(b"\r\n"))) < 100
    assert _said(message_from_bytes(subject)["Subject"]).split() == words.split()
    name, address = parseaddr(message_from_bytes(named)["To"])
    assert address == MESSAGE.address
    assert _said(name).split() == words.split()


def _said(encoded: str) -> str:
    return str(make_header(decode_header(encoded)))


def test_what_is_plain_stands_as_it_is() -> None:
    headers = message_from_bytes(compose_email("us@b.c", MESSAGE._replace(name="Lovelace, Ada")))
    assert headers["To"] == '"Lovelace, Ada" <ada@example.com>'
    assert headers["Subject"] == MESSAGE.subject


@pytest.mark.parametrize("address", ["=?utf-8?q?=0D=0AX?=@b.c", "a=?@b.c"])
def test_an_address_is_never_decoded(address: str) -> None:
    mail = compose_email("us@b.c", MESSAGE._replace(address=address))
    assert f"<{address}>\r\n".encode() in mail


def test_an_answer_names_the_mail_it_answers_and_its_thread() -> None:
    mail = compose_email("us@perennial.example", MESSAGE._replace(thread=("1@a", "2@b")))
    read = message_from_bytes(mail)
    assert (read["In-Reply-To"], read["References"].split()) == ("<2@b>", ["<1@a>", "<2@b>"])
    assert b"References" not in compose_email("us@perennial.example", MESSAGE)


def test_of_a_long_thread_the_first_mail_and_the_newest_are_named() -> None:
    thread = tuple(f"{number}.{'x' * 60}@mail.example" for number in range(50))
    mail = compose_email("us@perennial.example", MESSAGE._replace(thread=thread))
    ids = message_from_bytes(mail)["References"].split()
    assert ids == [f"<{one}>" for one in (thread[0], *thread[-(len(ids) - 1) :])]
    assert 5 < len(ids) < 20
    assert max(map(len, mail.split(b"\r\n"))) < 100, "an id a line"
    assert len(" ".join(ids)) < 998


def test_the_mail_that_is_answered_is_named_however_long_its_id() -> None:
    thread = ("a@" + "x" * 600, "b@" + "x" * 600)
    mail = compose_email("us@perennial.example", MESSAGE._replace(thread=thread))
    read = message_from_bytes(mail)
    assert read["References"].split()[-1] == read["In-Reply-To"] == f"<{thread[1]}>"


@pytest.mark.parametrize(
    "address",
    [
        *("a..b@example.com", ".a@example.com", "a.@example.com", "a@b..c", "a@.b", "@b", "a@"),
        *(f"a@{'x' * 64}.com", "a@b c", "a@b,c@d", "a@b\n", "a\0@b", "<a@b>"),
    ],
)
def test_what_is_nearly_an_address_is_none(address: str) -> None:
    with pytest.raises(BadAddress):
        recipient_of(MESSAGE._replace(address=address))
