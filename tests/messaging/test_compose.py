"""The short ways of composing write what the standard library would have written."""

from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

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
ATOMS = r"\A[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,9}(\.[a-z0-9+]{1,8}){0,2}\Z"
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)


def by_the_library(name: str, value: str | Address) -> bytes:
    holder = EmailMessage(SMTP.clone(max_line_length=76))
    holder[name] = value
    return holder.as_bytes().removesuffix(b"\r\n")


@given(subject=printable | st.text(st.characters(exclude_categories=["C", "Z"])))
@example(subject="=?utf-8?q?an_encoded_word?=")
@example(subject="x" * 67)
@example(subject="x" * 68)
def test_a_subject(subject: str) -> None:
    mail = compose_email("us@perennial.example", MESSAGE._replace(subject=subject))
    assert b"\r\n" + by_the_library("Subject", subject) + b"Date: " in mail


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


def test_an_encoded_line_break_in_a_name_stays_a_part_of_the_name() -> None:
    name = "Ada%0d%0aBcc: eve@example.com"
    read = message_from_bytes(compose_email("us@perennial.example", MESSAGE._replace(name=name)))
    assert read["Bcc"] is None
    assert read["To"] == f'"{name}" <ada@example.com>'


@given(name=printable, local=st.from_regex(ATOMS))
@example(name='Ada "the first", Countess', local="ada")
def test_a_name_and_an_address(name: str, local: str) -> None:
    message = MESSAGE._replace(name=name, address=f"{local}@example.com")
    mail = compose_email("us@perennial.example", message)
    address = Address(name, addr_spec=message.address)
    assert b"\r\n" + by_the_library("To", address) + b"Subject:" in mail


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
