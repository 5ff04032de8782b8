"""The dispatch of messages, and the intake of what comes back.

Each is one process that never ends, around one activity that runs for long.
"""

from temporalio import workflow

from activities.messages import MessageActivities
from activities.received import ReceivedActivities
from domain.messages import DispatchInput, IntakeInput
from workflows.options import DISPATCH


@workflow.defn
class MessageDispatch:
    """Runs as DISPATCH_WORKFLOW_ID on the messaging queue, where its activity runs too."""

    @workflow.run
    async def run(self, dispatch: DispatchInput) -> None:
        counts = dispatch.so_far
        for _ in range(dispatch.rounds):
            workflow.set_current_details(_in_words(dispatch.model_copy(update={"so_far": counts})))
            round_ = await workflow.execute_activity_method(
                MessageActivities.deliver_queued,
                dispatch.round,
                **DISPATCH,
                summary="Deliver the messages that processes queued",
            )
            counts = counts.plus(round_)
            if workflow.info().is_continue_as_new_suggested():
                break
        workflow.continue_as_new(dispatch.model_copy(update={"so_far": counts}))


def _in_words(dispatch: DispatchInput) -> str:
    so_far = dispatch.so_far
    return (
        f"Accepted by providers: {so_far.accepted}. Not sent, as nobody may: {so_far.suppressed}."
        f" Held back: {so_far.held}. Too late: {so_far.cancelled}."
        f" To be tried again: {so_far.retried}. Failed: {so_far.failed}."
        f" Left behind and settled: {so_far.recovered}. Unknown: {so_far.unknown}."
    )


@workflow.defn
class MessageIntake:
    """Runs as INTAKE_WORKFLOW_ID on the messaging queue."""

    @workflow.run
    async def run(self, intake: IntakeInput) -> None:
        counts = intake.so_far
        for _ in range(intake.rounds):
            workflow.set_current_details(
                f"Reports taken in: {counts.reports}. Delivered: {counts.delivered}."
                f" Bounced: {counts.bounced}. Complained about: {counts.complained}."
                f" Mails taken in: {counts.mails}. Text messages: {counts.texts}."
            )
            round_ = await workflow.execute_activity_method(
                ReceivedActivities.take_in,
                intake.round,
                **DISPATCH,
                summary="Take in what came back about messages",
            )
            counts = counts.plus(round_)
            if workflow.info().is_continue_as_new_suggested():
                break
        workflow.continue_as_new(intake.model_copy(update={"so_far": counts}))
