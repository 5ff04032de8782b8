"""What each task asks of a person, and what happens on each of its outcomes, in plain words."""

from collections.abc import Mapping

from domain.tasks import TaskKind

ASKS: Mapping[TaskKind, str] = {
    TaskKind.ANSWER_REPLY: "The customer answered our first contact. Write or call before the clock ends; else a manager is asked too.",
    TaskKind.ANSWER_REPLY_ESCALATED: "Nobody answered the customer in time. Answer now, or see that it is done.",
    TaskKind.APPROVE_ORDER: "The order was placed a while ago and nobody approved it. Look into what holds it.",
    TaskKind.CHASE_ORDER: "The promised day has passed and nothing says that the order arrived. Ask the carrier; the customer knows that it is late.",
    TaskKind.COMPENSATE: "The order ended without a delivery. See to the refund or the replacement; the customer was told.",
    TaskKind.FIRST_RESPONSE: "The customer waits for an answer of a person. A reply in the case stops the clock by itself.",
    TaskKind.RESOLVE_CASE: "The case was escalated. See that it gets an owner and an end.",
    TaskKind.CONTACT_DISAPPOINTED: "The customer told us that we disappointed. Call or write in person, listen, and say what will be done.",
    TaskKind.OPPORTUNITY: "The customer said what is needed next. Talk about it while it is fresh.",
    TaskKind.SAVE_CUSTOMER: "The customer may leave and has not answered our message. Make contact yourself.",
    TaskKind.CORRECT_ADDRESS: "Messages about the order can't reach the customer. Find an address that works and enter it with the customer.",
    TaskKind.ATTRIBUTE_MAIL: "A mail came from another address than the ones we know. Say whose it is.",
}

_NOTED = "It is noted in the history."
THEN: Mapping[TaskKind, Mapping[str, str]] = {
    TaskKind.ANSWER_REPLY: {
        "answered": "The first contact ends as answered; no further message of it goes.",
        "not_interested": "The first contact ends; no further message of it goes.",
    },
    TaskKind.ANSWER_REPLY_ESCALATED: {
        "answered": "The first contact ends as answered; no further message of it goes.",
        "not_interested": "The first contact ends; no further message of it goes.",
    },
    TaskKind.APPROVE_ORDER: {
        "done": f"{_NOTED} The delivery goes on when the approval is reported."
    },
    TaskKind.CHASE_ORDER: {
        "on_its_way": f"{_NOTED} If nothing is heard, somebody is asked again.",
        "lost": f"{_NOTED} Report the order as unavailable, and the customer is told and compensated.",
        "done": f"{_NOTED} If nothing is heard, somebody is asked again.",
    },
    TaskKind.COMPENSATE: {
        "refunded": "The delivery is over: the customer has the money back.",
        "replaced": "The delivery is over: the customer gets something else.",
        "done": "The delivery is over.",
    },
    TaskKind.FIRST_RESPONSE: {
        "answered": "The first-response clock stops, as after a call. Nothing is sent; the case stays open."
    },
    TaskKind.RESOLVE_CASE: {"done": f"{_NOTED} The case stays open until somebody resolves it."},
    TaskKind.CONTACT_DISAPPOINTED: {
        "contacted": "The clock of the contact stops. The case goes on until its outcome is told.",
        "unreachable": "The clock of the contact stops. Write in the case what was tried; it stays open.",
    },
    TaskKind.OPPORTUNITY: {
        "won": f"{_NOTED} An order starts its delivery by itself.",
        "lost": _NOTED,
        "nothing_there": _NOTED,
    },
    TaskKind.SAVE_CUSTOMER: {
        "saved": "The save play ends: the customer stays.",
        "lost": "The customer counts as lost; after a while one last message tries to win back.",
        "offer": "The offer is sent now, and stands for the policy's time.",
    },
    TaskKind.CORRECT_ADDRESS: {
        "corrected": f"{_NOTED} Later messages go to the new address.",
        "not_possible": _NOTED,
    },
    TaskKind.ATTRIBUTE_MAIL: {
        "attributed": "The mail was given to a customer: do that on the page of the mail.",
        "not_theirs": "The mail stays without a customer.",
    },
}
