"""Follow-up: thanks and a survey, one reminder, and the loop closed with the answer."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from database.feedback import Feedback, Survey
from database.staff import Staff
from database.support import Case
from domain.follow_up import FeedbackReceived, FollowUpInput, FollowUpOutcome, Verdict
from domain.policies import CaseKind, FollowUpPolicy, PolicyKind, Priority, SurveyScale
from domain.processes import Fact, support_workflow_id
from domain.support import Assign, Resolve
from domain.tasks import Role, TaskKind
from tests.driving import DAY, HOUR, MINUTE, Drive, Handle
from tests.patience import becomes
from workflows.follow_up import FollowUp
from workflows.support import SupportCase

POLICY = FollowUpPolicy()


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    return await drive.customer()


@pytest.fixture
async def order_id(drive: Drive, customer: UUID) -> UUID:
    """Of a delivered order."""
    return uuid4()


@pytest.fixture
async def process(drive: Drive, customer: UUID, order_id: UUID) -> Handle:
    return (await drive.follow_up(customer, about_id=order_id))[1]


@pytest.fixture
def answer(drive: Drive, customer: UUID, order_id: UUID, process: Handle) -> Any:
    """Answers the survey, as the signed link does; without a survey it is a review."""

    async def answer(score: int, **fields: Any) -> FeedbackReceived:
        survey = await survey_of(drive, order_id)
        feedback = FeedbackReceived.model_validate(
            {
                "event_id": f"answer-{uuid4()}",
                "occurred_at": await drive.now(process),
                "customer_id": customer,
                "order_id": order_id,
                "score": score,
                "survey_id": survey.id if survey else None,
                **fields,
            }
        )
        await drive.signal(process, FollowUp.feedback_received, feedback)
        return feedback

    return answer


async def survey_of(drive: Drive, order_id: UUID) -> Survey | None:
    found = sa.select(Survey).where(Survey.order_id == order_id).order_by(Survey.asked_at)
    surveys = await drive.rows(found)
    return surveys[-1] if surveys else None


async def feedback_of(drive: Drive, customer: UUID) -> list[Feedback]:
    found = sa.select(Feedback).where(Feedback.customer_id == customer)
    return list(await drive.rows(found.order_by(Feedback.recorded_at)))


async def cases_of(drive: Drive, customer: UUID) -> list[Case]:
    return list(await drive.rows(sa.select(Case).where(Case.customer_id == customer)))


async def case_count(drive: Drive, customer: UUID) -> int:
    return len(await cases_of(drive, customer))


@pytest.mark.history
async def test_the_customer_is_asked_at_the_moment_of_the_policy_reminded_once_and_left_alone(
    drive: Drive, order_id: UUID, process: Handle
) -> None:
    await drive.skip(process, POLICY.after_delivery - HOUR)
    assert await drive.told(process) == []
    await drive.skip(process, 2 * HOUR)
    assert await drive.told(process) == ["survey_request"]
    survey = await survey_of(drive, order_id)
    assert survey is not None
    [message] = await drive.messages(process)
    assert message.context == {"about": "order", "survey_id": str(survey.id), "scale": "stars"}

    await drive.skip(process, POLICY.remind_after - 2 * HOUR)
    assert await drive.told(process) == ["survey_request"]
    await drive.skip(process, 3 * HOUR)
    assert await drive.told(process) == ["survey_request", "survey_reminder"]
    await drive.skip(process, POLICY.close_after + HOUR)
    assert await drive.ends(process) == FollowUpOutcome.NO_ANSWER
    assert await drive.told(process) == ["survey_request", "survey_reminder"]


async def test_a_case_is_asked_about_sooner_than_a_delivery(drive: Drive, customer: UUID) -> None:
    _, process = await drive.follow_up(customer, about="case")
    await drive.skip(process, POLICY.after_case + HOUR)
    [message] = await drive.messages(process)
    assert (message.template, message.context["about"]) == ("survey_request", "case")


@pytest.mark.parametrize("reminded", [False, True])
async def test_an_answer_spares_the_reminder_and_ends_the_follow_up(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, answer: Any, reminded: bool
) -> None:
    await drive.skip(process, POLICY.after_delivery + HOUR)
    if reminded:
        await drive.skip(process, POLICY.remind_after)
    told = await drive.told(process)
    heard = await answer(4)
    await drive.skip(process, POLICY.answer_changeable + HOUR)

    assert await drive.ends(process) == FollowUpOutcome.ANSWERED
    assert await drive.told(process) == told
    [feedback] = await feedback_of(drive, customer)
    survey = await survey_of(drive, order_id)
    assert survey is not None
    assert (feedback.score, feedback.verdict) == (4, Verdict.PASSIVE)
    assert (feedback.survey_id, survey.answered_at) == (survey.id, heard.occurred_at)


@pytest.mark.history
async def test_a_second_answer_changes_the_first(
    drive: Drive, customer: UUID, process: Handle, answer: Any
) -> None:
    await drive.skip(process, POLICY.after_delivery + HOUR)
    await answer(3)
    await drive.skip(process, DAY)
    await answer(4)
    [feedback] = await feedback_of(drive, customer)
    assert (feedback.score, feedback.changes) == (4, 1)
    await drive.skip(process, POLICY.answer_changeable - HOUR)
    assert await drive.is_running(process), "each answer may be changed for as long"
    await drive.skip(process, 2 * HOUR)
    assert await drive.ends(process) == FollowUpOutcome.ANSWERED


async def test_one_click_that_arrives_twice_is_one(
    drive: Drive, customer: UUID, process: Handle, answer: Any
) -> None:
    await drive.skip(process, POLICY.after_delivery + HOUR)
    for _ in range(2):
        await answer(5, event_id="click-1")
    [feedback] = await feedback_of(drive, customer)
    assert feedback.changes == 0


@pytest.mark.history
async def test_an_answer_that_comes_while_the_follow_up_ends_is_heard(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle
) -> None:
    """PostgreSQL is slow to write the end; the answer was told to a process that still ran."""
    now = await drive.now(process)
    async with drive.held_up(process):
        await process.signal(FollowUp.case_reopened, Fact(event_id="reopened", occurred_at=now))
        angry = FeedbackReceived(
            event_id="late", occurred_at=now, customer_id=customer, order_id=order_id, score=1
        )
        await drive.tell_held_up(process, FollowUp.feedback_received, angry)
    await becomes(lambda: case_count(drive, customer), 1)


async def test_a_promoter_is_asked_once_to_recommend_us(
    drive: Drive, process: Handle, answer: Any
) -> None:
    await drive.skip(process, POLICY.after_delivery + HOUR)
    await answer(5)
    await answer(4)
    await answer(5)
    assert await drive.told(process) == ["survey_request", "referral_request"]


# --- disappointment ------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [1, 2])
@pytest.mark.history
async def test_a_disappointed_customer_gets_a_recovery_case_and_its_outcome(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, answer: Any, score: int
) -> None:
    await drive.skip(process, POLICY.after_delivery + HOUR)
    await answer(score)
    await becomes(lambda: case_count(drive, customer), 1)

    [case] = await cases_of(drive, customer)
    [feedback] = await feedback_of(drive, customer)
    assert (case.kind, case.queue, case.priority) == (
        CaseKind.RECOVERY,
        Role.ACCOUNT_MANAGER,
        Priority.HIGH,
    )
    assert (case.order_id, case.feedback_id) == (order_id, feedback.id)
    assert feedback.recovery_case_id == case.id
    assert case.opened_at - feedback.answered_at < MINUTE
    assert case.contact_by == case.opened_at + POLICY.recovery_contact
    recovery = drive.process(support_workflow_id(case.id))
    await drive.quiet(recovery)
    assert case.owner is None, "nobody works the queue"
    assert (await recovery.describe()).search_attributes["Owner"] == [Role.ACCOUNT_MANAGER]
    assert (await drive.task(recovery, TaskKind.CONTACT_DISAPPOINTED)).due_at == case.contact_by
    assert await drive.told(recovery) == ["recovery_started"]

    await drive.command(recovery, SupportCase.resolve, Resolve(by="staff-7"))
    assert await drive.told(recovery) == ["recovery_started", "recovery_outcome"]


@pytest.fixture
async def account_managers(drive: Drive) -> AsyncGenerator[tuple[str, str]]:
    """The one who has a case, and the one who has none; a third has left."""
    names = busy, free, gone = [f"manager-{uuid4()}" for _ in range(3)]
    async with drive.sessions.begin() as session:
        session.add_all(
            Staff(
                id=name,
                email=f"{name}@example.com",
                name="Ana",
                role=Role.ACCOUNT_MANAGER,
                password_hash="none",
                one_time_password=False,
                disabled_at=datetime.now(UTC) if name == gone else None,
            )
            for name in names
        )
    _, request = await drive.open_case(await drive.customer())
    await drive.command(request, SupportCase.assign, Assign(by="staff-7", owner=busy))
    yield busy, free
    async with drive.sessions.begin() as session:
        await session.execute(sa.delete(Staff).where(Staff.id.in_(names)))


@pytest.mark.history
async def test_a_recovery_case_is_from_the_start_whose_who_has_the_fewest(
    drive: Drive, customer: UUID, account_managers: tuple[str, str]
) -> None:
    _, free = account_managers
    case_id, process = await drive.open_case(
        customer, kind=CaseKind.RECOVERY, queue=Role.ACCOUNT_MANAGER
    )
    assert (await drive.row(Case, case_id)).owner == free
    assert (await process.describe()).search_attributes["Owner"] == [free]

    await drive.command(process, SupportCase.assign, Assign(by="staff-7", owner=""))
    assert (await drive.row(Case, case_id)).owner is None
    queue = (await process.describe()).search_attributes["Owner"]
    assert queue == [Role.ACCOUNT_MANAGER], "until somebody takes it"


@pytest.mark.history
async def test_an_answer_that_stays_bad_has_one_recovery_case(
    drive: Drive, customer: UUID, process: Handle, answer: Any
) -> None:
    await drive.skip(process, POLICY.after_delivery + HOUR)
    await answer(2)
    await becomes(lambda: case_count(drive, customer), 1)
    await answer(1)
    await answer(5)
    assert await case_count(drive, customer) == 1
    [feedback] = await feedback_of(drive, customer)
    assert (feedback.score, feedback.changes) == (5, 2)
    assert feedback.recovery_case_id is not None, "it was opened all the same"
    assert (await drive.told(process))[-1] == "referral_request"


async def test_an_answer_that_turns_bad_opens_one(
    drive: Drive, customer: UUID, process: Handle, answer: Any
) -> None:
    await drive.skip(process, POLICY.after_delivery + HOUR)
    await answer(4)
    await answer(1)
    await becomes(lambda: case_count(drive, customer), 1)


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(10, Verdict.PROMOTER), (8, Verdict.PASSIVE), (6, Verdict.DETRACTOR), (0, Verdict.DETRACTOR)],
)
async def test_the_scale_is_of_the_policy(
    drive: Drive, customer: UUID, score: int, verdict: Verdict
) -> None:
    async with drive.policy(PolicyKind.FOLLOW_UP, scale=SurveyScale.NPS):
        order_id, process = await drive.follow_up(customer)
    await drive.skip(process, POLICY.after_delivery + HOUR)
    survey = await survey_of(drive, order_id)
    assert survey is not None
    assert survey.scale is SurveyScale.NPS
    feedback = FeedbackReceived(
        event_id=f"answer-{uuid4()}",
        occurred_at=await drive.now(process),
        customer_id=customer,
        order_id=order_id,
        score=score,
        scale=SurveyScale.NPS,
        survey_id=survey.id,
    )
    await drive.signal(process, FollowUp.feedback_received, feedback)
    [heard] = await feedback_of(drive, customer)
    assert heard.verdict is verdict


# --- reviews nobody asked for --------------------------------------------------------------------


async def test_a_review_before_the_survey_spares_it(
    drive: Drive, customer: UUID, process: Handle, answer: Any
) -> None:
    await answer(4)
    await drive.skip(process, 10 * DAY)
    assert await drive.ends(process) == FollowUpOutcome.ANSWERED
    assert await drive.told(process) == []
    [feedback] = await feedback_of(drive, customer)
    assert feedback.survey_id is None


@pytest.mark.history
async def test_a_review_without_a_follow_up_is_acted_on_and_the_survey_then_spared(
    drive: Drive, customer: UUID, order_id: UUID
) -> None:
    _, review = await drive.follow_up(customer, about_id=order_id, asks=False)
    feedback = FeedbackReceived(
        event_id=f"review-{uuid4()}",
        occurred_at=datetime.now(UTC),
        customer_id=customer,
        order_id=order_id,
        score=5,
    )
    # The API starts it with the review; here it came a moment too late and was over.
    assert await drive.ends(review) == FollowUpOutcome.ALREADY_ANSWERED
    about = FollowUpInput(
        customer_id=customer, about_id=order_id, since=datetime.now(UTC), asks=False
    )
    review = await drive.start(FollowUp, about, review.id, "feedback_received", feedback)
    assert await drive.told(review) == ["referral_request"]
    await drive.skip(review, POLICY.answer_changeable + HOUR)
    assert await drive.ends(review) == FollowUpOutcome.ANSWERED

    _, asked = await drive.follow_up(customer, about_id=order_id)
    assert await drive.ends(asked) == FollowUpOutcome.ALREADY_ANSWERED
    assert await drive.told(asked) == ["referral_request"]


# --- a case that isn't done ----------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True], ids=["before_the_survey", "after_it"])
@pytest.mark.history
async def test_a_reopened_case_is_not_asked_about(
    drive: Drive, customer: UUID, asked: bool
) -> None:
    about, process = await drive.follow_up(customer, about="case")
    if asked:
        await drive.skip(process, POLICY.after_case + HOUR)
    told = await drive.told(process)
    reopened = Fact(event_id="reopened", occurred_at=datetime.now(UTC))
    await drive.signal(process, FollowUp.case_reopened, reopened)
    assert await drive.ends(process) == FollowUpOutcome.REOPENED
    assert await drive.told(process) == told

    # Resolved again, it is asked about again.
    since = datetime.now(UTC) + 5 * DAY
    _, again = await drive.follow_up(customer, about_id=about, about="case", since=since)
    await drive.skip_to(again, since + POLICY.after_case + HOUR)
    assert await drive.told(again) == [*told, "survey_request"]
