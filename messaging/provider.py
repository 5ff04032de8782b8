"""The edge to providers: what they are handed, how they answer, and where evidence is found."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

# RFC 3834 section 5: of itself; in answer to one mail; by a person.
AutoSubmitted = Literal["auto-generated", "auto-replied", ""]


class OutgoingMessage(NamedTuple):
    """One message to one person, ready to be handed over."""

    effect: str  # our row's id: the same on every attempt, so that a duplicate can be seen
    message_id: str  # <32 hex>@<our domain>, without the angle brackets
    address: str
    name: str
    subject: str
    text: str
    html: str | None = None
    unsubscribe_url: str = ""  # of marketing: one click, RFC 8058
    sender: str = ""  # Name <address> of its stream; empty: the account's
    return_path: str = ""  # of a mail, where bounces come back to; empty: the sender
    reply_to: str = ""  # address for answers; empty: the sender's
    key: str = ""  # what a provider that knows keys knows the request by, when asked again too
    thread: tuple[str, ...] = ()  # Message-IDs of mails it continues; the last one it answers
    urgent: bool = True  # all but selling: some connections are kept for it
    auto_submitted: AutoSubmitted = "auto-generated"
    still_ours: Callable[[], bool] = lambda: True  # asked last, before the text leaves us


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    TRANSIENT = "transient"  # certainly not taken; may be tried again
    PERMANENT = "permanent"  # certainly not taken; trying again is useless
    UNKNOWN = "unknown"  # perhaps taken: never to be tried again without evidence


class Answer(NamedTuple):
    """What a provider made of a message.

    `nobody` says that the refusal isn't about this message: no other would get through either.
    `bad_address` says that the address doesn't exist or takes no mail: a hard bounce.
    """

    outcome: Outcome
    said: str
    retry_after: timedelta | None = None
    nobody: bool = False
    bad_address: bool = False


class Provider(Protocol):
    """Sends one message. An answer, never an exception, for everything that can go wrong outside.

    Cancelling `send` between the end of the data and the answer leaves the outcome unknown.
    """

    name: str

    @property
    def repeat_within(self) -> timedelta | None:
        """For how long it knows a message by its key, so that asking again sends nothing twice."""
        ...

    async def send(self, message: OutgoingMessage) -> Answer: ...

    async def reachable(self) -> bool:
        """Whether it answers now."""
        ...

    async def close(self) -> None: ...


class Evidence(Protocol):
    """Knows what a provider has really taken; the local inbox does."""

    async def by_message_id(self, message_ids: Collection[str]) -> Mapping[str, datetime]:
        """When each of those it knows was taken.

        Raises OSError when nothing can be said now, which is something else than no evidence.
        """
        ...
