"""The signed links and return addresses of messages, and the Message-ID: all that needs the key."""

import hmac
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from domain.messages import Channel, Purpose
from domain.tokens import (
    LONGEST,
    Confirmation,
    TokenPurpose,
    address_mark,
    click_value,
    confirmation_value,
    preferences_value,
    sign,
    sign_for_mail,
    unsubscribe_value,
)


@dataclass(frozen=True)
class Links:
    """`base` is the address of the API as customers reach it, without a slash at its end.

    `inbound_domain` is whose mail comes to `messaging/receiver.py`; empty: no mail comes back.
    """

    base: str
    signing_key: bytes
    mail_domain: str
    inbound_domain: str = ""

    def survey(self, survey_id: str) -> str:
        return f"{self.base}/s/{sign(self.signing_key, TokenPurpose.SURVEY, survey_id)}"

    def unsubscribe(self, customer_id: UUID, channel: Channel, purpose: Purpose) -> str:
        value = unsubscribe_value(customer_id, channel, purpose)
        return f"{self.base}/u/{sign(self.signing_key, TokenPurpose.UNSUBSCRIBE, value)}"

    def preferences(self, customer_id: UUID, channel: Channel) -> str:
        value = preferences_value(customer_id, channel)
        return f"{self.base}/p/{sign(self.signing_key, TokenPurpose.PREFERENCES, value)}"

    def confirm(self, customer_id: UUID, channel: Channel, until: datetime, address: str) -> str:
        """`until` is business time; only the address the link is sent to can confirm by it."""
        asked = Confirmation(customer_id, channel, until, address_mark(address))
        value = confirmation_value(asked)
        return f"{self.base}/v/{sign(self.signing_key, TokenPurpose.CONFIRM, value)}"

    def click(self, message: UUID, target: str) -> str | None:
        """None for an address that is too long for a token."""
        token = sign(self.signing_key, TokenPurpose.CLICK, click_value(message, target))
        return f"{self.base}/c/{token}" if len(token) <= LONGEST else None

    def opened(self, message: UUID) -> str:
        return f"{self.base}/o/{sign(self.signing_key, TokenPurpose.OPEN, str(message))}"

    def message_id(self, message_key: str) -> str:
        """The same on every attempt, so that a second copy can be told from a second message."""
        digest = hmac.new(self.signing_key, message_key.encode(), sha256).hexdigest()
        return f"{digest[:32]}@{self.mail_domain}"

    def return_path(self, message_id: UUID) -> str:
        """Where a bounce of the message row comes back to; empty: to the sender."""
        return self._address(TokenPurpose.BOUNCE, message_id)

    def reply_to(self, message_id: UUID) -> str:
        """Where an answer to the message row comes back to; empty: to the sender."""
        return self._address(TokenPurpose.REPLY, message_id)

    def _address(self, purpose: TokenPurpose, message_id: UUID) -> str:
        if not self.inbound_domain:
            return ""
        token = sign_for_mail(self.signing_key, purpose, message_id)
        return f"{purpose}+{token}@{self.inbound_domain}"
