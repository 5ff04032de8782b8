"""May we write to this customer? An objection always wins, and every answer explains itself."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.contacts import (
    ChannelFacts,
    ConsentState,
    ContactFacts,
    Outcome,
    Way,
    choose_channel,
    may_send,
)
from domain.messages import Channel, MessageClass, Purpose
from domain.policies import CaseKind
from domain.quiet_hours import ContactCap, QuietHours

MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 9), timezones=st.just(UTC))  # noqa: DTZ001 made aware by `timezones`
FACTS = st.builds(
    ContactFacts,
    at=MOMENTS,
    zone=st.sampled_from(["UTC", "America/Sao_Paulo"]),
    quiet_hours=st.none() | st.just(QuietHours(begins=time(21), ends=time(8))),
    cap=st.none() | st.just(ContactCap(at_most=2, within=timedelta(days=7))),
    sent=st.lists(MOMENTS, max_size=4).map(tuple),
    not_after=st.none() | MOMENTS,
    process_ended=st.booleans(),
    answered=st.booleans(),
    message_class=st.sampled_from(MessageClass),
    purpose=st.sampled_from(Purpose),
    channel=st.sampled_from(Channel),
    address=st.none() | st.just("somebody"),
    consents=st.dictionaries(
        st.builds("{}/{}".format, st.sampled_from(Channel), st.sampled_from(Purpose)),
        st.sampled_from(ConsentState),
    ),
    suppressed_because=st.none() | st.just("hard bounce"),
    open_cases=st.lists(st.sampled_from(CaseKind), max_size=3).map(tuple),
    claims=st.dictionaries(
        st.sampled_from(["free_delivery", "five_years"]),
        st.none() | st.dates(date(2025, 12, 25), date(2026, 1, 15)),
    ),
    marketing_paused_until=st.none() | MOMENTS,
)
WAYS = st.builds(
    Way,
    address=st.none() | st.just("somebody"),
    suppressed_because=st.none() | st.just("hard bounce"),
    worded=st.booleans(),
)
CHANNEL_FACTS = st.builds(
    ChannelFacts,
    asked=st.sampled_from(Channel),
    fixed=st.booleans(),
    preferred=st.none() | st.sampled_from(Channel),
    message_class=st.sampled_from(MessageClass),
    purpose=st.sampled_from(Purpose),
    consents=st.dictionaries(
        st.builds("{}/{}".format, st.sampled_from(Channel), st.sampled_from(Purpose)),
        st.sampled_from(ConsentState),
    ),
    ways=st.dictionaries(st.sampled_from(Channel), WAYS),
)
OPEN = Way("somebody")


def about(facts: ContactFacts, state: ConsentState) -> ContactFacts:
    consents = {**facts.consents, f"{facts.channel}/{facts.purpose}": state}
    return facts.model_copy(update={"consents": consents})


@given(FACTS)
def test_an_opt_out_always_wins_over_selling_and_service(facts: ContactFacts) -> None:
    decision = may_send(about(facts, ConsentState.WITHDRAWN))
    if facts.message_class in (MessageClass.MARKETING, MessageClass.SERVICE):
        assert decision.outcome is Outcome.SUPPRESS


@given(FACTS)
def test_an_opt_out_never_lets_more_through(facts: ContactFacts) -> None:
    if may_send(about(facts, ConsentState.WITHDRAWN)).outcome is Outcome.SEND:
        assert may_send(about(facts, ConsentState.GRANTED)).outcome is Outcome.SEND


@given(FACTS)
def test_nobody_is_sold_to_without_consent_or_while_unhappy(facts: ContactFacts) -> None:
    if facts.message_class is MessageClass.MARKETING and may_send(facts).outcome is Outcome.SEND:
        assert facts.consents[f"{facts.channel}/{facts.purpose}"] is ConsentState.GRANTED
        assert facts.open_cases == ()


@given(FACTS)
def test_nothing_goes_to_an_address_that_is_unknown_or_suppressed(facts: ContactFacts) -> None:
    if facts.address is None or facts.suppressed_because is not None:
        assert may_send(facts).outcome is Outcome.SUPPRESS


@given(FACTS)
def test_the_contract_needs_no_consent(facts: ContactFacts) -> None:
    reachable = facts.address is not None and facts.suppressed_because is None
    if facts.message_class is MessageClass.TRANSACTIONAL and reachable:
        assert may_send(facts).outcome is not Outcome.SUPPRESS


@pytest.mark.parametrize(
    ("is_test", "because"),
    [
        (True, "a test that staff sends: needs no consent"),
        (False, "for our own staff: needs no consent"),
    ],
)
def test_what_goes_to_staff_is_no_part_of_a_contract(is_test: bool, because: str) -> None:
    facts = ContactFacts(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        message_class=MessageClass.STAFF,
        purpose=Purpose.MARKETING,
        channel=Channel.EMAIL,
        address="agent@example.com",
        is_test=is_test,
    )
    decision = may_send(facts)
    assert decision.outcome is Outcome.SEND
    assert {rule.name: rule.because for rule in decision.rules}["consent"] == because


@given(FACTS)
def test_every_answer_explains_itself(facts: ContactFacts) -> None:
    decision = may_send(facts)
    assert decision.because
    assert all(rule.because for rule in decision.rules)
    assert all(rule.passed for rule in decision.rules[:-1])
    assert decision.facts is not None
    assert decision.facts.address_known is (facts.address is not None)
    if facts.address is not None:
        assert facts.address not in decision.facts.model_dump_json()
    if decision.outcome is Outcome.SEND:
        assert decision.rules[-1].passed
        assert decision.decided_by == "all"
    else:
        assert not decision.rules[-1].passed
        assert decision.decided_by == decision.rules[-1].name


@given(FACTS)
def test_holding_back_is_only_for_a_while(facts: ContactFacts) -> None:
    """What is held goes once the cases are closed and its hours and its turn have come."""
    for _ in range(8):
        decision = may_send(facts)
        if decision.outcome is not Outcome.HOLD:
            break
        if decision.until is None:
            facts = facts.model_copy(update={"open_cases": ()})
        else:
            assert decision.until > facts.at
            facts = facts.model_copy(update={"at": decision.until})
    assert decision.outcome in (Outcome.SEND, Outcome.SUPPRESS, Outcome.CANCEL)
    over = facts.process_ended or facts.answered
    if facts.not_after is None and not over and not facts.claims:
        assert decision.outcome is not Outcome.CANCEL


@given(FACTS, st.sampled_from(["process_ended", "answered"]))
def test_nothing_more_goes_of_a_series_that_has_ended_or_was_answered(
    facts: ContactFacts, over: str
) -> None:
    decision = may_send(facts.model_copy(update={over: True}))
    assert decision.outcome in (Outcome.CANCEL, Outcome.SUPPRESS)


@given(FACTS)
def test_nothing_goes_after_its_deadline_and_nothing_waits_for_that(facts: ContactFacts) -> None:
    decision = may_send(facts)
    if facts.not_after is not None and facts.at > facts.not_after:
        assert decision.outcome in (Outcome.CANCEL, Outcome.SUPPRESS)
    if facts.not_after is not None and decision.until is not None:
        assert decision.until <= facts.not_after


@given(FACTS)
def test_nothing_goes_in_quiet_hours_or_above_the_limit(facts: ContactFacts) -> None:
    if may_send(facts).outcome is Outcome.SEND:
        if facts.quiet_hours is not None:
            assert facts.quiet_hours.over_at(facts.at, facts.zone) is None
        if facts.cap is not None:
            assert facts.cap.free_at(facts.at, facts.sent) is None


@given(FACTS)
def test_nothing_is_claimed_after_its_last_day(facts: ContactFacts) -> None:
    decision = may_send(facts)
    expired = [
        name
        for name, last_day in facts.claims.items()
        if last_day is None or last_day < facts.at.date()
    ]
    if expired:
        assert decision.outcome is not Outcome.SEND
    if decision.decided_by == "claims":
        assert decision.outcome is Outcome.CANCEL
        assert expired
        assert all(name in decision.because for name in expired)


def test_a_claim_holds_through_its_last_day() -> None:
    facts = ContactFacts(
        at=datetime(2026, 1, 5, 23, 59, tzinfo=UTC),
        message_class=MessageClass.MARKETING,
        purpose=Purpose.MARKETING,
        channel=Channel.EMAIL,
        address="ada@example.com",
        consents={"email/marketing": ConsentState.GRANTED},
        claims={"free_delivery": date(2026, 1, 5)},
    )
    assert may_send(facts).outcome is Outcome.SEND
    later = may_send(facts.model_copy(update={"at": facts.at + timedelta(minutes=1)}))
    assert (later.outcome, later.decided_by) == (Outcome.CANCEL, "claims")
    assert later.because == "the claim free_delivery expired on 2026-01-05"


@given(FACTS)
def test_nothing_is_sold_during_a_rest_and_everything_else_goes(facts: ContactFacts) -> None:
    paused = facts.model_copy(update={"marketing_paused_until": facts.at + timedelta(days=30)})
    unpaused = facts.model_copy(update={"marketing_paused_until": None})
    if facts.message_class is MessageClass.MARKETING:
        assert may_send(paused).outcome is not Outcome.SEND
    else:
        assert may_send(paused).outcome is may_send(unpaused).outcome


def test_a_consent_that_is_not_confirmed_lets_nothing_through_and_says_so() -> None:
    facts = ContactFacts(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        message_class=MessageClass.MARKETING,
        purpose=Purpose.MARKETING,
        channel=Channel.EMAIL,
        address="somebody",
    )
    decision = may_send(about(facts, ConsentState.PENDING))
    assert decision.outcome is Outcome.SUPPRESS
    assert decision.because == "the consent to marketing by email is not confirmed"


@given(FACTS, st.none() | st.sampled_from(ConsentState))
def test_nobody_is_asked_to_confirm_what_waits_for_no_confirmation(
    facts: ContactFacts, state: ConsentState | None
) -> None:
    consents = {"email/marketing": state} if state else {}
    asks = facts.model_copy(
        update={
            "message_class": MessageClass.TRANSACTIONAL,
            "confirms": "email/marketing",
            "consents": consents,
        }
    )
    if may_send(asks).outcome is Outcome.SEND:
        assert state is ConsentState.PENDING


# --- the channel -------------------------------------------------------------------------------


@given(CHANNEL_FACTS)
def test_the_choice_of_a_channel_never_opens_one_that_is_closed(facts: ChannelFacts) -> None:
    """Where another than the asked one is taken, `may_send` would let it through there."""
    channel, rule = choose_channel(facts)
    if channel is facts.asked:
        return
    assert rule is not None
    assert str(channel) in rule.because
    assert not facts.fixed
    by_any = (MessageClass.TRANSACTIONAL, MessageClass.MARKETING)
    assert channel is facts.preferred or facts.message_class in by_any
    way = facts.ways[channel]
    assert way.worded
    decision = may_send(
        ContactFacts(
            at=datetime(2026, 1, 1, tzinfo=UTC),
            message_class=facts.message_class,
            purpose=facts.purpose,
            channel=channel,
            address=way.address,
            suppressed_because=way.suppressed_because,
            consents=facts.consents,
        )
    )
    assert decision.outcome is Outcome.SEND


@given(CHANNEL_FACTS)
def test_without_a_wish_service_goes_no_other_way_than_asked(facts: ChannelFacts) -> None:
    facts = facts.model_copy(update={"preferred": None, "message_class": MessageClass.SERVICE})
    assert choose_channel(facts) == (facts.asked, None)


@pytest.mark.parametrize(
    ("known", "channel", "because"),
    [
        (
            {"preferred": Channel.SMS, "ways": {Channel.EMAIL: OPEN, Channel.SMS: OPEN}},
            Channel.SMS,
            "asked by email; the customer prefers sms: it goes by sms",
        ),
        (
            {"preferred": Channel.SMS, "ways": {Channel.EMAIL: OPEN}},
            Channel.EMAIL,
            "asked by email; the customer prefers sms, but no address for sms is known: "
            "it goes by email",
        ),
        (
            {
                "preferred": Channel.SMS,
                "ways": {Channel.EMAIL: OPEN, Channel.SMS: Way("somebody", worded=False)},
            },
            Channel.EMAIL,
            "asked by email; the customer prefers sms, but it has no wording for sms: "
            "it goes by email",
        ),
        (
            {"preferred": Channel.SMS, "ways": {Channel.EMAIL: Way("somebody", "hard bounce")}},
            Channel.EMAIL,
            "asked by email; the customer prefers sms, but no address for sms is known, "
            "the address for email is suppressed: no channel is open",
        ),
        (
            {"ways": {Channel.EMAIL: Way("somebody", "hard bounce"), Channel.SMS: OPEN}},
            Channel.SMS,
            "asked by email, but the address for email is suppressed: it goes by sms",
        ),
    ],
)
def test_the_choice_of_a_channel_explains_itself(
    known: dict[str, Any], channel: Channel, because: str
) -> None:
    facts = ChannelFacts(
        asked=Channel.EMAIL,
        message_class=MessageClass.TRANSACTIONAL,
        purpose=Purpose.ORDERS,
        **known,
    )
    chosen, rule = choose_channel(facts)
    assert chosen is channel
    assert rule is not None
    assert rule.because == because


@pytest.mark.parametrize("preferred", [None, Channel.EMAIL])
def test_who_withdraws_one_channel_is_sold_to_on_the_one_he_still_allows(
    preferred: Channel | None,
) -> None:
    facts = ChannelFacts(
        asked=Channel.EMAIL,
        preferred=preferred,
        message_class=MessageClass.MARKETING,
        purpose=Purpose.MARKETING,
        consents={
            "email/marketing": ConsentState.WITHDRAWN,
            "sms/marketing": ConsentState.GRANTED,
        },
        ways={Channel.EMAIL: OPEN, Channel.SMS: OPEN},
    )
    channel, rule = choose_channel(facts)
    assert channel is Channel.SMS
    assert rule is not None
    assert rule.because.endswith("but no consent to marketing by email: it goes by sms")
    refused = facts.model_copy(update={"consents": {"email/marketing": ConsentState.WITHDRAWN}})
    assert choose_channel(refused)[0] is Channel.EMAIL, "where may_send says what is in its way"


def test_selling_by_text_needs_consent_to_that() -> None:
    facts = ChannelFacts(
        asked=Channel.EMAIL,
        preferred=Channel.SMS,
        message_class=MessageClass.MARKETING,
        purpose=Purpose.MARKETING,
        consents={"email/marketing": ConsentState.GRANTED},
        ways={Channel.EMAIL: OPEN, Channel.SMS: OPEN},
    )
    channel, rule = choose_channel(facts)
    assert channel is Channel.EMAIL
    assert rule is not None
    assert "no consent to marketing by sms" in rule.because
