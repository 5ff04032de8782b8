"""A policy read as a form and sent as one stays what it was; durations are said as people do."""

from datetime import timedelta

import pytest

from api.policies import checked
from console.durations import as_iso, said, understood
from console.policy_form import Unreadable, differences, document_of, leaves, merged, typed_of
from domain.policies import POLICIES, PolicyKind


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_every_policy_goes_through_its_form_unchanged(kind: PolicyKind) -> None:
    document = POLICIES[kind]().model_dump(mode="json")
    again = checked(kind, document_of(kind, typed_of(kind, document)))
    assert again == document
    assert differences(kind, document, again) == []
    assert {leaf.name.partition(".")[0] for leaf in leaves(kind)} == set(document)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("3 days", timedelta(days=3)),
        ("1 day 12 hours", timedelta(hours=36)),
        ("1.5 hours", timedelta(minutes=90)),
        ("2w", timedelta(weeks=2)),
        ("90 MIN", timedelta(minutes=90)),
        ("2 hours and 30 minutes", timedelta(minutes=150)),
        ("P3D", timedelta(days=3)),
        ("PT8H", timedelta(hours=8)),
    ],
)
def test_a_duration_is_understood_as_people_say_it(written: str, means: timedelta) -> None:
    assert understood(written) == means
    assert understood(said(means)) == means
    assert understood(as_iso(means)) == means


@pytest.mark.parametrize(
    ("written", "because"),
    [
        ("", "is empty"),
        ("soon", "write it as 3 days"),
        ("3", "write it as 3 days"),
        ("3 fortnights", "fortnights"),
        ("1 month", "no fixed length"),
        ("P3X", "write it as 3 days"),
        ("3 days <b>", "write it as 3 days"),
        ("9" * 400 + " days", "longer than any calendar"),
    ],
)
def test_what_is_no_duration_says_how_to_write_one(written: str, because: str) -> None:
    with pytest.raises(ValueError, match=because):
        understood(written)


def test_every_fault_is_told_at_its_field() -> None:
    typed = typed_of(PolicyKind.DELIVERY, POLICIES[PolicyKind.DELIVERY]().model_dump(mode="json"))
    with pytest.raises(Unreadable) as refused:
        document_of(PolicyKind.DELIVERY, {**typed, "chases": ["some"], "warn_before": ["soon"]})
    assert set(refused.value.faults) == {"chases", "warn_before"}


def test_my_changes_are_put_into_what_somebody_else_published() -> None:
    base = POLICIES[PolicyKind.SUPPORT]().model_dump(mode="json")
    theirs = {**base, "reopening_window": "P9D", "give_up_waiting": "P2D"}
    mine = {
        **base,
        "give_up_waiting": "P3D",
        "resolution": {**base["resolution"], "low": "P20D"},
    }
    both = merged(PolicyKind.SUPPORT, base, theirs, mine)
    assert both["reopening_window"] == "P9D"
    assert both["give_up_waiting"] == "P3D"
    assert both["resolution"] == {**base["resolution"], "low": "P20D"}
    told = [
        (leaf.name, was, will) for leaf, was, will in differences(PolicyKind.SUPPORT, theirs, both)
    ]
    assert told == [
        ("resolution.low", "10 days", "20 days"),
        ("give_up_waiting", "2 days", "3 days"),
    ]
