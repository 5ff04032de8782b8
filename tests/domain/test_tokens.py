"""Signed links: whoever holds one may do the one thing it is for, and nobody else."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from hypothesis import assume, given
from hypothesis import strategies as st

from domain.messages import Channel, Purpose
from domain.tokens import (
    Confirmation,
    TokenPurpose,
    address_mark,
    click_value,
    confirmation_value,
    parse_click_value,
    parse_confirmation_value,
    parse_preferences_value,
    parse_unsubscribe_value,
    preferences_value,
    sign,
    sign_for_mail,
    unsubscribe_value,
    verify,
    verify_from_mail,
)

KEYS = st.binary(min_size=16, max_size=64)
VALUES = st.text(max_size=100)


@given(KEYS, st.sampled_from(TokenPurpose), VALUES)
def test_a_token_says_what_was_signed_and_fits_into_an_address(
    key: bytes, purpose: TokenPurpose, value: str
) -> None:
    token = sign(key, purpose, value)
    assert verify(key, purpose, token) == value
    assert all(letter.isalnum() or letter in "-_." for letter in token)


@given(KEYS, KEYS, VALUES)
def test_another_key_or_purpose_opens_nothing(key: bytes, other: bytes, value: str) -> None:
    assume(key != other)
    token = sign(key, TokenPurpose.SURVEY, value)
    assert verify(other, TokenPurpose.SURVEY, token) is None
    assert verify(key, TokenPurpose.UNSUBSCRIBE, token) is None


@given(KEYS, VALUES, st.integers(0, 200), st.characters())
def test_a_changed_letter_opens_nothing(key: bytes, value: str, at: int, letter: str) -> None:
    token = sign(key, TokenPurpose.SURVEY, value)
    at %= len(token)
    changed = token[:at] + letter + token[at + 1 :]
    assume(changed != token)
    assert verify(key, TokenPurpose.SURVEY, changed) is None


@given(KEYS, st.text())
def test_anything_else_is_no_token(key: bytes, anything: str) -> None:
    assert verify(key, TokenPurpose.SURVEY, anything) is None


@given(st.uuids(), st.sampled_from(Channel))
def test_a_link_to_the_choices_names_the_customer_and_the_channel_it_was_sent_by(
    customer_id: UUID, channel: Channel
) -> None:
    value = preferences_value(customer_id, channel)
    assert parse_preferences_value(value) == (customer_id, channel)


@given(
    st.uuids(),
    st.sampled_from(Channel),
    st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 made aware by `timezones`
    st.emails(),
)
def test_a_link_to_confirm_knows_its_address_and_does_not_show_it(
    customer_id: UUID, channel: Channel, until: datetime, address: str
) -> None:
    asked = Confirmation(customer_id, channel, until.replace(microsecond=0), address_mark(address))
    value = confirmation_value(asked)
    assert parse_confirmation_value(value) == asked
    assert asked.is_of(address.upper())
    assert not asked.is_of(f"x{address}")
    assert "@" not in value


@given(st.uuids(), st.text(max_size=300))
def test_a_link_that_is_counted_leads_where_it_was_signed_to(message_id: UUID, target: str) -> None:
    assert parse_click_value(click_value(message_id, target)) == (message_id, target)


@given(st.uuids(), st.sampled_from(Channel), st.sampled_from(Purpose))
def test_an_unsubscribe_link_names_the_customer_and_what_he_no_longer_wants(
    customer_id: UUID, channel: Channel, purpose: Purpose
) -> None:
    value = unsubscribe_value(customer_id, channel, purpose)
    assert parse_unsubscribe_value(value) == (customer_id, channel, purpose)


@given(KEYS, st.uuids(), st.booleans())
def test_a_token_for_mail_fits_a_local_part_and_survives_a_change_of_case(
    key: bytes, message_id: UUID, upper: bool
) -> None:
    token = sign_for_mail(key, TokenPurpose.BOUNCE, message_id)
    assert len(f"{TokenPurpose.BOUNCE}+{token}") <= 64
    assert token.isalnum()
    carried = token.upper() if upper else token
    assert verify_from_mail(key, TokenPurpose.BOUNCE, carried) == message_id
    assert verify_from_mail(key, TokenPurpose.REPLY, carried) is None
    assert verify_from_mail(key + b"x", TokenPurpose.BOUNCE, carried) is None


@given(KEYS, st.one_of(st.text(max_size=60), st.text("abcdefgh234567", min_size=42, max_size=42)))
def test_any_other_local_part_is_no_token_for_mail(key: bytes, text: str) -> None:
    assert verify_from_mail(key, TokenPurpose.BOUNCE, text) is None


def test_a_token_for_mail_can_not_be_moved_to_another_message() -> None:
    key, mine, yours = b"k" * 32, uuid4(), uuid4()
    signed = sign_for_mail(key, TokenPurpose.BOUNCE, mine)
    other = sign_for_mail(key, TokenPurpose.BOUNCE, yours)
    assert verify_from_mail(key, TokenPurpose.BOUNCE, other[:26] + signed[26:]) is None
