"""The question after a delivery, and its answer where there is one."""

from datetime import datetime, timedelta
from uuid import UUID

from domain.follow_up import verdict
from domain.policies import CaseKind, SurveyScale
from domain.processes import ProcessKind, follow_up_workflow_id
from replay.fill.life import Life, as_json
from replay.fill.support import open_case

_PRAISE = ("Came on the day, well packed.", "Exactly what I expected.", "Thank you, all good!")
_BLAME = ("A week late, and nobody told me.", "Not what the picture shows.", "Still no answer.")
_NEEDS = ("a second battery for the winter", "the same in green", "a service contract")
_ASKED_AFTER = timedelta(days=2)
_LASTS = timedelta(days=14)


def follow_up(life: Life, order_id: str, delivered: datetime) -> None:
    dice = life.dice
    asked = delivered + _ASKED_AFTER
    ends = asked + _LASTS
    workflow_id = follow_up_workflow_id(UUID(order_id))
    answered = asked + timedelta(hours=dice.randint(1, 90))
    answers = dice.random() < 0.25 and answered < life.now
    outcome = "answered" if answers else "no_answer"
    step = "answered" if answers else "asked" if asked < life.now else "follow-up planned"
    waiting = "the customer's answer" if asked < life.now else "the right moment to ask"
    outcome = outcome if ends < life.now else ""
    life.add_process(workflow_id, ProcessKind.FOLLOW_UP, delivered, step, waiting, ends, outcome)
    life.add_line(delivered, workflow_id, "follow_up_started", "after", minor=True)
    if asked > life.now:
        return
    survey_id, then = life.draw_id(asked), str(asked)
    life.add_line(asked, workflow_id, "survey_asked", "after", minor=True)
    life.add(
        "surveys",
        id=survey_id,
        customer_id=life.id,
        order_id=order_id,
        workflow_id=workflow_id,
        scale=SurveyScale.STARS,
        asked_at=then,
        answered_at=answered if answers else None,
        recorded_at=then,
    )
    if answers:
        _answer(life, workflow_id, order_id, survey_id, answered)


def _answer(life: Life, workflow_id: str, order_id: str, survey_id: str, at: datetime) -> None:
    dice = life.dice
    score = dice.choices(range(1, 6), [3, 4, 10, 30, 53])[0]
    feedback_id, then = life.draw_id(at), str(at)
    event_id = f"fill/{survey_id}/answer"
    comment = dice.choice(_BLAME if score < 3 else _PRAISE) if dice.random() < 0.5 else ""
    found = verdict(SurveyScale.STARS, score)
    recovery = None
    if score < 3:
        recovery = open_case(life, at, CaseKind.RECOVERY, feedback_id, order_id, event_id)
    life.add_event(event_id, "feedback_received", workflow_id, at, {"comment": comment})
    life.add(
        "feedback",
        id=feedback_id,
        customer_id=life.id,
        order_id=order_id,
        survey_id=survey_id,
        event_id=event_id,
        scale=SurveyScale.STARS,
        score=score,
        verdict=found,
        expectation=dice.choice([None, "met", "exceeded" if score > 3 else "below"]),
        answered_at=then,
        changes=0,
        recovery_case_id=recovery,
        recorded_at=then,
    )
    facts = as_json(score=score, verdict=found)
    life.add_line(at, workflow_id, "feedback_received", "after", facts)
    life.hear(at)
    if dice.random() < 0.05:
        life.add(
            "needs",
            id=life.draw_id(at),
            customer_id=life.id,
            order_id=order_id,
            text=dice.choice(_NEEDS),
            source="staff",
            state="open",
            occurred_at=then,
            recorded_at=then,
        )
        life.add_line(at, life.workflow_id, "need_stated", "after")
