"""Text messages that customers send: what can come of one."""

from enum import StrEnum


class TextOutcome(StrEnum):
    STOPPED = "stopped"  # the number is suppressed, whoever's it is
    STARTED = "started"  # a suppression that STOP had made is lifted
    HELPED = "helped"  # HELP was answered
    KEPT = "kept"  # HELP was answered to the number not long ago
    REPLY_RECEIVED = "reply_received"  # the customer's relationship was told
    FAILED = "failed"  # by a fault of ours
    UNKNOWN_SENDER = "unknown_sender"  # a number of nobody, or of several
    ATTRIBUTED = "attributed"  # a person said whose it is
    DISMISSED = "dismissed"  # a person said that nothing follows from it

    def may_become(self, wanted: "TextOutcome") -> bool:
        """By the word of a person, who gives it to a customer or dismisses it."""
        waits = (TextOutcome.UNKNOWN_SENDER, TextOutcome.FAILED)
        match wanted:
            case TextOutcome.ATTRIBUTED:
                return self in (*waits, TextOutcome.DISMISSED)
            case TextOutcome.DISMISSED:
                return self in waits
            case _:
                return False
