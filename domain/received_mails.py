"""Mail that comes back: what kinds there are, and what can come of one."""

from datetime import timedelta
from enum import StrEnum

MAIL_EVENT = "mail/"  # how the ids of events begin that tell of a mail
# To one sender goes one automatic answer in this time (RFC 3834, 2), so that two machines that
# don't know each other for one fall silent.
ONE_ANSWER_IN = timedelta(hours=24)


class MailKind(StrEnum):
    BOUNCE = "bounce"  # it could not be delivered, or not yet (RFC 3464)
    COMPLAINT = "complaint"  # somebody called it spam (RFC 5965)
    AUTO_REPLY = "auto_reply"  # written by a machine: never answered (RFC 3834)
    REPLY = "reply"  # written by a person
    UNREADABLE = "unreadable"


class MailOutcome(StrEnum):
    COUNTED = "counted"  # a bounce or complaint: a delivery report of the message
    UNPROVEN = "unproven"  # the same without a token of ours: changes nothing
    KEPT = "kept"  # nothing follows from it
    REPLY_RECEIVED = "reply_received"  # the customer's relationship was told
    OPTED_OUT = "opted_out"
    ASKED = "asked"  # a person is asked whose it is
    UNKNOWN_SENDER = "unknown_sender"  # and nothing says what it is about
    COPY = "copy"  # of a mail that was acted upon
    ATTRIBUTED = "attributed"  # a person said whose it is
    DISMISSED = "dismissed"  # a person said that nothing follows from it
    FAILED = "failed"  # by a fault of ours; the raw mail is there

    def may_become(self, wanted: "MailOutcome") -> bool:
        """By the word of a person, who gives it to a customer or dismisses it."""
        waits = (MailOutcome.ASKED, MailOutcome.UNKNOWN_SENDER, MailOutcome.FAILED)
        match wanted:
            case MailOutcome.ATTRIBUTED:
                return self in (*waits, MailOutcome.DISMISSED, MailOutcome.KEPT)
            case MailOutcome.DISMISSED:
                return self in waits
            case _:
                return False
