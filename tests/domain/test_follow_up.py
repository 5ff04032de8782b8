"""Follow-up: what a score says, and when a customer is asked for one."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.follow_up import SCORES, Verdict, survey_at, verdict
from domain.policies import FollowUpPolicy, SurveyScale

SCALES = st.sampled_from(SurveyScale)
ORDER = [Verdict.DETRACTOR, Verdict.PASSIVE, Verdict.PROMOTER]


@given(SCALES, st.data())
def test_a_better_score_is_never_a_worse_verdict(scale: SurveyScale, data: st.DataObject) -> None:
    scores = st.sampled_from(SCORES[scale])
    low, high = sorted([data.draw(scores), data.draw(scores)])
    assert ORDER.index(verdict(scale, low)) <= ORDER.index(verdict(scale, high))


@given(SCALES, st.integers(-1_000, 1_000))
def test_a_score_the_scale_does_not_have_is_refused(scale: SurveyScale, score: int) -> None:
    if score in SCORES[scale]:
        verdict(scale, score)
    else:
        with pytest.raises(ValueError, match="not on the scale"):
            verdict(scale, score)


@pytest.mark.parametrize(
    ("scale", "detractors", "promoters"),
    [(SurveyScale.STARS, {1, 2}, {5}), (SurveyScale.NPS, set(range(7)), {9, 10})],
)
def test_the_verdicts_are_those_of_the_field(
    scale: SurveyScale, detractors: set[int], promoters: set[int]
) -> None:
    found = {
        of: {score for score in SCORES[scale] if verdict(scale, score) is of} for of in Verdict
    }
    assert found[Verdict.DETRACTOR] == detractors
    assert found[Verdict.PROMOTER] == promoters


def test_a_delivery_is_asked_about_at_its_moment_and_a_case_at_its_own() -> None:
    policy, since = FollowUpPolicy(), datetime(2026, 5, 4, tzinfo=UTC)
    assert survey_at(policy, "order", since) == since + policy.after_delivery
    assert survey_at(policy, "case", since) == since + policy.after_case
