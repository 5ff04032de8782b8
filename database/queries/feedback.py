"""Answers with what was done about them: the recovery case, and whether the customer was told."""

from typing import Any

import sqlalchemy as sa

from database.customers import CLOCK_COLUMNS, Customer, Simulation
from database.events import Event
from database.feedback import Feedback
from database.messages import Message
from database.support import Case
from domain.messages import Template

# Its outcome as it was last told: a recovery that was taken up again tells it again.
_told = (
    sa.select(
        Message.id.label("outcome_id"),
        Message.state.label("outcome_state"),
        Message.told_at.label("outcome_told_at"),
    )
    .where(
        Message.workflow_id
        == sa.literal("case/").concat(sa.cast(Feedback.recovery_case_id, sa.Text)),
        Message.template == Template.RECOVERY_OUTCOME,
    )
    .order_by(Message.id.desc())
    .limit(1)
    .correlate(Feedback)
    .lateral("told")
)


def feedback_with_recovery() -> sa.Select[*tuple[Any, ...]]:
    """Feedback, its comment, the customer's name, the recovery Case, its outcome, the clock."""
    return (
        sa.select(
            Feedback,
            Event.body["comment"].as_string().label("comment"),
            Customer.name,
            Case,
            *(_told.c.outcome_id, _told.c.outcome_state, _told.c.outcome_told_at),
            *CLOCK_COLUMNS,
        )
        .join(Customer, Customer.id == Feedback.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .outerjoin(Event, Event.event_id == Feedback.event_id)
        .outerjoin(Case, Case.id == Feedback.recovery_case_id)
        .outerjoin(_told, sa.true())
    )
