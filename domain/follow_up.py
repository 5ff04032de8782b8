"""Follow-up: thanks and a survey at the right moment, and the loop closed with the answer."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.payload import Payload
from domain.policies import FollowUpPolicy, SurveyScale, Terms
from domain.processes import Fact, Step


class Verdict(StrEnum):
    PROMOTER = "promoter"
    PASSIVE = "passive"
    DETRACTOR = "detractor"


class Expectation(StrEnum):
    """Was it what you expected? (features.md A2)"""

    BELOW = "below"
    MET = "met"
    EXCEEDED = "exceeded"


SCORES = {SurveyScale.STARS: range(1, 6), SurveyScale.NPS: range(11)}


def verdict(scale: SurveyScale, score: int) -> Verdict:
    """What a score says. Stars: 5 promotes, 1-2 is a disappointment. NPS: 9-10 and 0-6 (Reichheld).

    Raises ValueError for a score the scale doesn't have.
    """
    if score not in SCORES[scale]:
        raise ValueError(f"{score} is not on the scale {scale}")
    promoter, detractor = (5, 2) if scale is SurveyScale.STARS else (9, 6)
    if score >= promoter:
        return Verdict.PROMOTER
    return Verdict.DETRACTOR if score <= detractor else Verdict.PASSIVE


class FollowUpOutcome(StrEnum):
    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    ALREADY_ANSWERED = "already_answered"
    REOPENED = "reopened"


class FollowUpInput(Payload):
    """About an order or a case. Started without `asked` by a review nobody asked for."""

    customer_id: UUID
    about_id: UUID
    about: str = "order"  # order, case
    since: datetime  # the delivery, or the resolution
    asks: bool = True


class FollowUpTerms(Terms[FollowUpPolicy]):
    already_answered: bool = False
    survey_id: UUID | None = None


def survey_at(policy: FollowUpPolicy, about: str, since: datetime) -> datetime:
    """The policy's moment to ask about a delivery or a case that ended at `since`."""
    return since + (policy.after_delivery if about == "order" else policy.after_case)


class FeedbackReceived(Fact):
    """A survey answered or a review written; the comment is in PostgreSQL under the event's id.

    An answer carries its `survey_id`: a second one changes the first. A review stands by itself.
    """

    customer_id: UUID
    score: int
    scale: SurveyScale = SurveyScale.STARS
    order_id: UUID | None = None
    case_id: UUID | None = None
    survey_id: UUID | None = None
    expectation: Expectation | None = None


class NeedStated(Fact):
    """The customer needs something; the words are in PostgreSQL under the need's id."""

    need_id: UUID


class FollowUpStep(Step):
    about_id: UUID
    about: str = "order"


class FollowUpOpenedStep(FollowUpStep):
    since: datetime
    asks: bool = True


class AskStep(FollowUpStep):
    survey_id: UUID
    scale: SurveyScale
    reminder: bool = False


class FeedbackStep(FollowUpStep):
    feedback: FeedbackReceived
    feedback_id: UUID
    verdict: Verdict
    recovery_case_id: UUID | None = None


class FollowUpEndStep(FollowUpStep):
    outcome: FollowUpOutcome
