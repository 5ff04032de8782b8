"""Senders, providers in their order, and how fast an account may be used."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.messages import Channel, MessageClass
from domain.policies import SendingPolicy
from domain.sending import ALWAYS, SENDS, Account, ProviderName, Stream
from messaging.compose import sender_header

FIRST_DAY = date(2026, 3, 1)


def test_unless_told_otherwise_each_channel_has_the_provider_it_always_had() -> None:
    policy = SendingPolicy()
    for message_class in MessageClass:
        for channel in Channel:
            stream = policy.stream(message_class)
            assert stream.providers(channel) == (ALWAYS[channel],)
            assert (stream.sender, stream.reply_to) == ("", "")
    for name in ProviderName:
        assert policy.account(name) == Account()


def test_each_class_of_message_has_its_stream_and_staff_the_one_of_service() -> None:
    streams = [Stream(sender=f"{name}@shop.example") for name in ("orders", "help", "news")]
    policy = SendingPolicy(transactional=streams[0], service=streams[1], marketing=streams[2])
    assert [policy.stream(of) for of in MessageClass] == [*streams, streams[1]]


@pytest.mark.parametrize("name", ProviderName)
def test_a_provider_sends_only_by_its_own_channel(name: ProviderName) -> None:
    other = Channel.SMS if SENDS[name] is Channel.EMAIL else Channel.EMAIL
    assert Stream.model_validate({str(SENDS[name]): [name]})
    wrongs: list[dict[str, list[ProviderName]]] = [
        {str(other): [name]},
        {str(SENDS[name]): [name, name]},
        {str(other): []},
    ]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            Stream.model_validate(wrong)


@pytest.mark.parametrize(
    "sender",
    ["", "hello@shop.example", "The Shop <hello@shop.example>", "Łódź & Söhne <a+b@x.example>"],
)
def test_a_sender_is_one_address_with_a_name_or_without(sender: str) -> None:
    assert Stream(sender=sender).sender == sender


@pytest.mark.parametrize(
    "sender",
    [
        *("hello", "@", "a@", "a@b@c", "a b@c", "a@b, c@d", "A, B <a@b>", "A <a@b> B", "A <a@b"),
        *("A <>", "A\n<a@b>", "A\r\nBcc: c <a@b>", '"A" <a@b>', "A (x) <a@b>", "ä@b", "a@ä"),
        *("A <a@b>\n", "A\u2028 <a@b>", "A\x00 <a@b>", "A" * 200 + " <a@b>"),
    ],
)
def test_what_is_no_sender_is_refused(sender: str) -> None:
    with pytest.raises(ValidationError):
        Stream(sender=sender)


ADDRESSES = st.from_regex(r"[a-c.+'-]{1,5}@[A-C0.-]{1,5}", fullmatch=True)


@given(st.text(max_size=30), ADDRESSES)
def test_whatever_is_taken_for_a_sender_can_be_written_in_a_header(name: str, at: str) -> None:
    for sender in (f"{name} <{at}>", at):
        try:
            taken = Stream(sender=sender).sender
        except ValidationError:
            continue
        header, address = sender_header(taken)
        assert header.isascii()
        assert address == at


@pytest.mark.parametrize(
    "change",
    [
        *({"per_second": "3"}, {"per_second": True}, {"per_second": -1}, {"per_second": 1e9}),
        *({"per_second": float("nan")}, {"warm_up_factor": 0.5}, {"warm_up_factor": 11}),
        *({"warm_up_start": 0}, {"warm_up_from": "tomorrow"}),
    ],
)
def test_a_rate_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Account.model_validate(change)


def test_a_warm_up_doubles_each_day_until_the_full_rate() -> None:
    account = Account(per_second=1.0, warm_up_from=FIRST_DAY, warm_up_start=50)
    per_day = [
        round(account.selling_per_second(FIRST_DAY + timedelta(days=day)) * 86_400)
        for day in range(-1, 13)
    ]
    assert per_day[:5] == [50, 50, 100, 200, 400]
    assert per_day[11:] == [51_200, 0, 0], "102,400 a day is more than one a second: it is over"


@given(
    st.builds(
        Account,
        per_second=st.floats(0, 1000),
        warm_up_from=st.just(FIRST_DAY),
        warm_up_start=st.floats(1, 100_000),
        warm_up_factor=st.floats(1, 10),
    ),
    st.integers(0, 4000),
)
def test_a_warm_up_never_shrinks_never_exceeds_the_rate_and_ends(
    account: Account, day: int
) -> None:
    today, tomorrow = (
        account.selling_per_second(FIRST_DAY + timedelta(days=each)) for each in (day, day + 1)
    )
    assert tomorrow >= today or tomorrow == 0
    assert not account.per_second or today < account.per_second
    assert day < 90 or today == 0
