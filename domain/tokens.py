"""Signed tokens for links in messages: whoever holds one may do the one thing it is for.

A token carries its value readably and a MAC over purpose and value. It needs no table, no login
and never expires: a link in an old message must still unsubscribe. What may be done for a while
only has its end in the value.
"""

import hmac
from base64 import b32decode, b32encode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotEncoded
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from domain.messages import Channel, Purpose

_MAC_BYTES = 16
LONGEST = 1_000  # characters of a token
_MAIL_MAC_BYTES = 10
_MAIL_TOKEN = 42  # characters


class TokenPurpose(StrEnum):
    SURVEY = "survey"  # value: the survey's id; path /s/<token>
    UNSUBSCRIBE = "unsubscribe"  # value: unsubscribe_value(...); path /u/<token>
    PREFERENCES = "preferences"  # value: preferences_value(...); path /p/<token>
    CONFIRM = "confirm"  # value: confirmation_value(...); path /v/<token>
    CLICK = "click"  # value: click_value(...); path /c/<token>
    OPEN = "open"  # value: the message's id; path /o/<token>
    BOUNCE = "bounce"  # of a message row; bounce+<token>@ is the envelope's sender (VERP)
    REPLY = "reply"  # of a message row; reply+<token>@ is its Reply-To


def sign(key: bytes, purpose: str, value: str) -> str:
    """A token that `verify` turns back into `value` for this purpose only. Safe in a URL path."""
    mac = hmac.digest(key, f"{purpose}\n{value}".encode(), sha256)[:_MAC_BYTES]
    return f"{_encoded(value.encode())}.{_encoded(mac)}"


def verify(key: bytes, purpose: str, token: str) -> str | None:
    """The value of a token of ours for this purpose; None for anything else."""
    if len(token) > LONGEST or not token.isascii():
        return None
    encoded = token.partition(".")[0]
    try:
        value = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (NotEncoded, UnicodeDecodeError):
        return None
    # Compared as a whole, so that there is one way only to write a token.
    return value if hmac.compare_digest(sign(key, purpose, value), token) else None


def sign_for_mail(key: bytes, purpose: str, message_id: UUID) -> str:
    """A token for the local part of an address, which has 64 octets (RFC 5321, 4.5.3.1.1).

    Base32, since there are relays that change the case of an address.
    """
    mac = hmac.digest(key, f"{purpose}\n{message_id}".encode(), sha256)[:_MAIL_MAC_BYTES]
    return b32encode(message_id.bytes + mac).decode().rstrip("=").lower()


def verify_from_mail(key: bytes, purpose: str, token: str) -> UUID | None:
    """The id of the message row that a token of ours for this purpose names, else None."""
    if len(token) != _MAIL_TOKEN or not token.isascii():
        return None
    try:
        message_id = UUID(bytes=b32decode(token.upper() + "=" * (-len(token) % 8))[:16])
    except NotEncoded:
        return None
    signed = sign_for_mail(key, purpose, message_id)
    return message_id if hmac.compare_digest(signed, token.lower()) else None


def unsubscribe_value(customer_id: UUID, channel: Channel, purpose: Purpose) -> str:
    return f"{customer_id}:{channel}:{purpose}"


def parse_unsubscribe_value(value: str) -> tuple[UUID, Channel, Purpose]:
    """What a verified token of TokenPurpose.UNSUBSCRIBE is about."""
    customer_id, channel, purpose = value.split(":")
    return UUID(customer_id), Channel(channel), Purpose(purpose)


def preferences_value(customer_id: UUID, channel: Channel) -> str:
    """`channel` is the one the link was sent by: whoever holds it reads what is sent there."""
    return f"{customer_id}:{channel}"


def parse_preferences_value(value: str) -> tuple[UUID, Channel]:
    """What a verified token of TokenPurpose.PREFERENCES is about."""
    customer_id, channel = value.split(":")
    return UUID(customer_id), Channel(channel)


class Confirmation(NamedTuple):
    """Who confirms marketing on which channel; until when, in business time; at which address."""

    customer_id: UUID
    channel: Channel
    until: datetime
    address: str  # address_mark(...) of the address the link was sent to

    def is_of(self, address: str) -> bool:
        return hmac.compare_digest(self.address, address_mark(address))


def address_mark(address: str) -> str:
    """Tells one address from another without showing it."""
    return sha256(address.lower().encode()).hexdigest()[:16]


def confirmation_value(asked: Confirmation) -> str:
    until = int(asked.until.timestamp())
    return f"{asked.customer_id}:{asked.channel}:{until}:{asked.address}"


def parse_confirmation_value(value: str) -> Confirmation:
    """What a verified token of TokenPurpose.CONFIRM is about."""
    customer_id, channel, until, address = value.split(":")
    moment = datetime.fromtimestamp(int(until), UTC)
    return Confirmation(UUID(customer_id), Channel(channel), moment, address)


def click_value(message_id: UUID, target: str) -> str:
    return f"{message_id}:{target}"


def parse_click_value(value: str) -> tuple[UUID, str]:
    """What a verified token of TokenPurpose.CLICK is about: the message, and where it leads."""
    message_id, _, target = value.partition(":")
    return UUID(message_id), target


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
