"""The signed links in messages, and the Message-ID: all that needs the signing key."""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from domain.messages import Channel, Purpose
from domain.tokens import TokenPurpose, sign, unsubscribe_value


@dataclass(frozen=True)
class Links:
    """`base` is the address of the API as customers reach it, without a slash at its end."""

    base: str
    signing_key: bytes
    mail_domain: str

    def survey(self, survey_id: str) -> str:
        return f"{self.base}/s/{sign(self.signing_key, TokenPurpose.SURVEY, survey_id)}"

    def unsubscribe(self, customer_id: UUID, channel: Channel, purpose: Purpose) -> str:
        value = unsubscribe_value(customer_id, channel, purpose)
        return f"{self.base}/u/{sign(self.signing_key, TokenPurpose.UNSUBSCRIBE, value)}"

    def message_id(self, message_key: str) -> str:
        """The same on every attempt, so that a second copy can be told from a second message."""
        digest = hmac.new(self.signing_key, message_key.encode(), sha256).hexdigest()
        return f"{digest[:32]}@{self.mail_domain}"
