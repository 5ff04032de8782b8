"""Links carry what they are for, and nobody else can make one."""

from base64 import urlsafe_b64encode
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.messages import Channel, Purpose
from domain.tokens import TokenPurpose, parse_unsubscribe_value, sign, verify, verify_from_mail
from messaging.links import Links

KEY = b"k" * 32


@given(st.text(max_size=200).filter(lambda value: value.isprintable()), st.binary(min_size=1))
def test_a_token_gives_its_value_back_to_its_key_and_purpose_only(value: str, key: bytes) -> None:
    token = sign(key, TokenPurpose.SURVEY, value)
    assert verify(key, TokenPurpose.SURVEY, token) == value
    assert verify(key, TokenPurpose.UNSUBSCRIBE, token) is None
    assert verify(key + b"x", TokenPurpose.SURVEY, token) is None


@given(st.text(max_size=100))
def test_any_other_text_is_no_token(text: str) -> None:
    assert verify(KEY, TokenPurpose.SURVEY, text) is None


@pytest.mark.parametrize("change", ["{}=", "{}.", " {}", "{}\n", "{}A"])
def test_there_is_one_way_to_write_a_token(change: str) -> None:
    assert verify(KEY, "survey", change.format(sign(KEY, "survey", "value"))) is None


def test_a_value_can_not_be_exchanged_under_its_signature() -> None:
    mac = sign(KEY, "survey", "mine").partition(".")[2]
    other = urlsafe_b64encode(b"yours").decode().rstrip("=")
    assert verify(KEY, "survey", f"{other}.{mac}") is None


def test_a_link_to_unsubscribe_names_customer_channel_and_purpose() -> None:
    links = Links("https://crm.example.com", KEY, "example.com")
    customer = uuid4()
    link = links.unsubscribe(customer, Channel.EMAIL, Purpose.MARKETING)
    value = verify(KEY, TokenPurpose.UNSUBSCRIBE, link.removeprefix("https://crm.example.com/u/"))
    assert value is not None
    expected = (customer, Channel.EMAIL, Purpose.MARKETING)
    assert parse_unsubscribe_value(value) == expected


def test_a_message_has_the_same_message_id_on_every_attempt_and_no_other_has_it() -> None:
    links = Links("https://crm.example.com", KEY, "example.com")
    first = links.message_id("delivery/1/order_late/1")
    assert first == links.message_id("delivery/1/order_late/1")
    assert first != links.message_id("delivery/1/order_late/2")
    name, _, domain = first.partition("@")
    assert (len(name), domain) == (32, "example.com")


def test_return_addresses_are_given_only_where_mail_comes_back() -> None:
    message = uuid4()
    silent = Links("https://crm.example.com", KEY, "example.com")
    assert (silent.return_path(message), silent.reply_to(message)) == ("", "")
    links = Links("https://crm.example.com", KEY, "example.com", "mail.example.com")
    for address, purpose in (
        (links.return_path(message), TokenPurpose.BOUNCE),
        (links.reply_to(message), TokenPurpose.REPLY),
    ):
        local, _, domain = address.partition("@")
        word, _, token = local.partition("+")
        assert (word, domain) == (purpose, "mail.example.com")
        assert verify_from_mail(KEY, purpose, token) == message
