"""The words of the timeline: each kind of line as a person would say it on the phone."""

from collections.abc import Mapping

from domain.tasks import TaskKind

_WORDS = {
    "lead_received": "Showed interest",
    "contact_scheduled": "Chosen by the schedule for a first contact",
    "reply_received": "Wrote to us",
    "mail_unclear": "A mail came that may be the customer's: a person is asked",
    "opted_out": "Asked not to be written to any more",
    "risk_noticed": "Something says that the customer may leave",
    "silence_noticed": "Has been silent for longer than usual",
    "need_stated": "Said what is needed next",
    "customer_order_placed": "The relationship: an order was placed",
    "customer_order_delivered": "The relationship: an order was delivered",
    "customer_order_ended": "The relationship: an order ended undelivered",
    "customer_case_opened": "The relationship: a case was opened",
    "customer_case_resolved": "The relationship: a case was resolved",
    "customer_case_closed": "The relationship: a case was closed",
    "message_bounced": "A message came back: the address takes none",
    "message_complained": "Complained about a message",
    "suppression_lifted": "An address of the customer may be written to again",
    "process_ended": "A process ended",
    "process_pause": "Staff paused the process",
    "process_resume": "Staff let the process go on",
    "process_stop": "Staff stopped the process",
    "task_completed": "A person completed a task",
    "marketing_started": "First contact began",
    "marketing_touch": "Wrote a message of the first contact",
    "first_response_missed": "Nobody answered in time: escalated",
    "marketing_ended": "First contact ended",
    "order_placed": "Ordered",
    "order_approved": "The order was approved",
    "order_dispatched": "The order was handed to the carrier",
    "delivery_attempt_failed": "The carrier could not hand the order over",
    "delivery_rescheduled": "The order got a new promised day",
    "order_delivered": "The order was delivered",
    "order_returned": "The order came back",
    "order_unavailable": "The order cannot be delivered",
    "order_cancelled": "The order was cancelled",
    "promise_endangered": "The promised day is in danger",
    "promise_missed": "The promised day passed without a delivery",
    "delivery_ended": "The delivery is over",
    "case_opened": "A case was opened",
    "case_answered": "Staff answered",
    "case_waiting": "We asked the customer and wait",
    "case_updated": "News in the case",
    "case_assigned": "The case got an owner",
    "case_released": "The case went back to its queue",
    "case_escalated": "The case was escalated",
    "case_resolved": "The case was resolved",
    "case_reopened": "The case was reopened",
    "case_closed": "The case was closed",
    "follow_up_started": "Follow-up began",
    "survey_asked": "Thanked, and asked how it went",
    "survey_reminded": "Reminded of the survey",
    "feedback_received": "Said how it went",
    "follow_up_ended": "Follow-up ended",
    "retention_started": "Checked in: we want to keep the customer",
    "save_task_opened": "The account manager was asked to make contact",
    "retention_offer": "An offer was made",
    "customer_lost": "The customer was lost",
    "win_back": "Tried to win the customer back",
    "retention_ended": "The save play ended",
}
_FACTS = {
    "outcome": "{}",
    "promised_on": "promised for {}",
    "carrier": "with {}",
    "reason": "{}",
    "not_started": "not followed up: {}",
    "selling_goes_on_by": "may still be sold to by {}",
    "score": "score {}",
    "owner": "{}",
    "cause": "{}",
    "number": "number {}",
    "campaign": "campaign {}",
}


def words_for(kind: str, facts: Mapping[str, object]) -> str:
    """One line in plain English; a kind nobody put into words is shown as it is."""
    said = _WORDS.get(kind) or _derived(kind)
    more = [form.format(facts[name]) for name, form in _FACTS.items() if facts.get(name)]
    return f"{said} ({', '.join(more).replace('_', ' ')})" if more else said


_CAME = {
    "reply": "Wrote a mail",
    "auto_reply": "A machine answered our mail",
    "bounce": "A mail came back undelivered",
    "complaint": "Called our mail spam",
    "unreadable": "Sent a mail that can't be read",
    "text": "Wrote a text message",
}


def words_for_received(kind: str, outcome: str) -> str:
    """A mail or text message of the customer, and what came of it."""
    return f"{_CAME[kind]} ({outcome.replace('_', ' ')})"


def _derived(kind: str) -> str:
    """Kinds that carry another word in them."""
    first, _, rest = kind.partition("_")
    if first == "asked" and rest in [kind.value for kind in TaskKind]:
        return f"A person was asked: {rest.replace('_', ' ')}"
    if first == "noted":
        return f"Noted without effect: {rest.replace('_', ' ')}"
    return kind.replace("_", " ").capitalize()
