"""Policies: every duration, count and limit, as JSON that a person can write."""

import re
from datetime import time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.messages import Channel, Purpose
from domain.policies import POLICIES, ContactPolicy, PolicyKind
from domain.quiet_hours import ContactCap, QuietHours

KINDS = st.sampled_from(PolicyKind)
ISO_DURATION = re.compile(r"^P(\d+Y)?(\d+D)?(T(\d+H)?(\d+M)?([\d.]+S)?)?$")


def durations(document: dict[str, Any]) -> dict[str, str]:
    return {
        name: value
        for name, value in document.items()
        if isinstance(value, str) and value.startswith("P")
    }


@pytest.mark.parametrize("kind", PolicyKind)
def test_durations_are_iso_8601_and_come_back_as_they_were(kind: PolicyKind) -> None:
    policy = POLICIES[kind]()
    document = policy.model_dump(mode="json")
    assert durations(document)
    assert all(ISO_DURATION.match(value) for value in durations(document).values())
    assert POLICIES[kind].model_validate(document) == policy
    assert POLICIES[kind].model_validate_json(policy.model_dump_json()) == policy


@given(KINDS, st.timedeltas(timedelta(seconds=1), timedelta(days=3650)), st.data())
def test_any_duration_survives_the_way_through_json(
    kind: PolicyKind, duration: timedelta, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(durations(POLICIES[kind]().model_dump(mode="json")))))
    if name == "staff_actions":  # nobody may shorten the memory of what he did to less than a year
        duration = max(duration, timedelta(days=365))
    policy = POLICIES[kind].model_validate({name: duration})
    again = POLICIES[kind].model_validate_json(policy.model_dump_json())
    assert getattr(again, name) == duration


@pytest.mark.parametrize("kind", PolicyKind)
@pytest.mark.parametrize("bad", ["PT0S", "-P1D", "P11Y", "soon", "-1"])
def test_a_duration_that_cannot_be_is_refused(kind: PolicyKind, bad: str) -> None:
    for name in durations(POLICIES[kind]().model_dump(mode="json")):
        with pytest.raises(ValidationError):
            POLICIES[kind].model_validate({name: bad})


def test_quiet_hours_and_limits_are_of_the_contacts_that_are_named() -> None:
    policy = ContactPolicy(quiet=("sms/marketing",), capped=("email/marketing",), at_most=3)
    night = QuietHours(begins=policy.quiet_from, ends=policy.quiet_until)
    assert policy.quiet_hours(Channel.SMS, Purpose.MARKETING) == night
    assert policy.quiet_hours(Channel.SMS, Purpose.ORDERS) is None
    assert policy.quiet_hours(Channel.EMAIL, Purpose.MARKETING) is None
    assert policy.cap(Channel.EMAIL, Purpose.MARKETING) == ContactCap(
        at_most=3, within=policy.within
    )
    assert policy.cap(Channel.SMS, Purpose.MARKETING) is None


def test_what_is_confirmed_is_consent_to_selling_and_tracking_is_no_message() -> None:
    policy = ContactPolicy(double_opt_in=("sms/marketing",))
    assert policy.confirms(Channel.SMS, Purpose.MARKETING)
    assert not policy.confirms(Channel.EMAIL, Purpose.MARKETING)
    for bad in ("email/tracking", "email/feedback"):
        with pytest.raises(ValidationError):
            ContactPolicy(double_opt_in=(bad,))
    assert not any("tracking" in contact for contact in ContactPolicy().quiet)
    assert not ContactPolicy().track


def test_hours_that_end_when_they_begin_are_none() -> None:
    policy = ContactPolicy(quiet_from=time(8), quiet_until=time(8))
    assert policy.quiet_hours(Channel.SMS, Purpose.MARKETING) is None


@pytest.mark.parametrize("kind", PolicyKind)
def test_an_old_document_is_read_with_the_defaults_of_what_is_new(kind: PolicyKind) -> None:
    document = POLICIES[kind]().model_dump(mode="json")
    document["of_a_later_version"] = "P1D"
    for name in list(document):
        older = {key: value for key, value in document.items() if key != name}
        assert POLICIES[kind].model_validate(older) == POLICIES[kind]()


def test_every_kind_has_a_policy() -> None:
    assert set(POLICIES) == set(PolicyKind)
