"""What follows when a process's timer rings, for whoever looks at it while it runs."""

# By the words a timer is started with (the summary that Temporal keeps with it).
_FOLLOWS = {
    "until the order should be approved": (
        "If the order is not approved by then, a person is asked to approve it."
    ),
    "until the customer must be warned about the promised day": (
        "If nothing says by then that the promised day will be kept, the customer is warned."
    ),
    "until the promised day has passed": (
        "If it is not delivered by then, the customer is told and a person looks into it."
    ),
    "until a person looks at the late order once more": (
        "If there is no news by then, a person is asked to chase the order."
    ),
    "until another attempt should have been heard of": (
        "If nothing is heard of another attempt by then, a support case is opened."
    ),
    "listening after the last touch": (
        "If the customer neither answers nor orders by then, the first contact ends."
    ),
    "until the first response is due": "If nobody has answered by then, it is escalated.",
    "until the survey": "Then the customer is thanked and asked how it went.",
    "until the one reminder": "If the customer has not answered by then, one reminder goes.",
    "until the survey is closed": "If no answer came by then, the follow-up ends.",
    "until the answer is final": "Until then the answer can be changed; then the follow-up ends.",
    "until silence would mean something": (
        "If nothing is heard of the customer by then, we check in, to keep the customer."
    ),
    "until a person takes over": (
        "If the customer has not answered by then, the account manager is asked to make contact."
    ),
    "until the account manager should have made contact": (
        "If the account manager has not decided by then, an offer goes to the customer."
    ),
    "while the offer stands": "If no answer came by then, the customer counts as lost.",
    "until the win-back": "Then one more message tries to win the customer back.",
    "an answer to the win-back": "If no answer came by then, it ends.",
    "until the acknowledgement should have been accepted": (
        "If no provider has taken the acknowledgement by then, the case is escalated."
    ),
    "until the resolution is due": "If the case is not resolved by then, it is escalated.",
    "until the customer is reminded": "If the customer does not answer by then, a reminder goes.",
    "until we stop waiting for the customer": (
        "If the customer does not answer by then, the case is resolved without an answer."
    ),
    "while a reply reopens the case": "Until then a reply reopens the case; then it is closed.",
}


def what_follows(waits: str) -> str:
    """A sentence for the words of a timer; empty where nobody wrote one."""
    if waits.startswith("until touch "):
        return "If the customer neither answers nor orders by then, the next message goes."
    return _FOLLOWS.get(waits, "")
