"""Who sends for us: senders by stream, providers in their order, and how fast each may go."""

import re
from collections.abc import Callable
from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from domain.messages import Channel
from domain.payload import Payload


class ProviderName(StrEnum):
    SMTP = "smtp"
    RESEND = "resend"
    LOCAL_SMS = "local_sms"
    TWILIO = "twilio"


SENDS: dict[ProviderName, Channel] = {
    ProviderName.SMTP: Channel.EMAIL,
    ProviderName.RESEND: Channel.EMAIL,
    ProviderName.LOCAL_SMS: Channel.SMS,
    ProviderName.TWILIO: Channel.SMS,
}
# Configured in every installation, so that no channel is ever without one.
ALWAYS: dict[Channel, ProviderName] = {
    Channel.EMAIL: ProviderName.SMTP,
    Channel.SMS: ProviderName.LOCAL_SMS,
}
_LONGEST_WARM_UP = 90  # days
_PER_DAY = 86_400


def _of(channel: Channel) -> Callable[[tuple[ProviderName, ...]], tuple[ProviderName, ...]]:
    def checked(names: tuple[ProviderName, ...]) -> tuple[ProviderName, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a provider is named twice")
        for name in names:
            if SENDS[name] is not channel:
                raise ValueError(f"{name} does not send {channel}")
        return names

    return checked


# Dot-atoms, as an address without quoting is made of (RFC 5322, 3.2.3).
_ATOM = r"[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+"
_DOMAIN = r"[-0-9A-Za-z]+(\.[-0-9A-Za-z]+)*"
_ADDRESS = rf"{_ATOM}(\.{_ATOM})*@{_DOMAIN}"
_SENDER = re.compile(rf'({_ADDRESS}|[^<>,;:@"\\()\[\]]+ <{_ADDRESS}>)?')
_REPLY_TO = re.compile(f"({_ADDRESS})?")


def _one_sender(value: str) -> str:
    if not _SENDER.fullmatch(value) or not value.isprintable():
        raise ValueError("write one address: Name <address>")
    return value


def _one_address(value: str) -> str:
    if not _REPLY_TO.fullmatch(value):
        raise ValueError("write one address")
    return value


_Amount = Annotated[float, Field(ge=0, le=100_000, strict=True, allow_inf_nan=False)]


class Stream(Payload):
    """Messages of one kind to readers and mail servers: who they are from, and who sends them.

    Empty: `sender` is the one of the settings, `reply_to` the sender.
    """

    sender: Annotated[str, AfterValidator(_one_sender)] = Field(
        "", max_length=200, description="Name <address>; empty: the one of the settings"
    )
    reply_to: Annotated[str, AfterValidator(_one_address)] = Field(
        "", max_length=200, description="where answers go; empty: to the sender"
    )
    email: Annotated[tuple[ProviderName, ...], AfterValidator(_of(Channel.EMAIL))] = Field(
        (ProviderName.SMTP,), min_length=1, description="who sends mail, in this order"
    )
    sms: Annotated[tuple[ProviderName, ...], AfterValidator(_of(Channel.SMS))] = Field(
        (ProviderName.LOCAL_SMS,), min_length=1, description="who sends texts, in this order"
    )

    def providers(self, channel: Channel) -> tuple[ProviderName, ...]:
        return self.email if channel is Channel.EMAIL else self.sms


class Account(Payload):
    """How fast a provider account may be used. `per_second` 0: as fast as it goes.

    A warm-up lets selling grow from `warm_up_start` messages on the day `warm_up_from`, times
    `warm_up_factor` each day, until the full rate or for 90 days. What is urgent counts for it and
    never waits for it.
    """

    per_second: _Amount = Field(0.0, description="messages a second at most; 0: no limit")
    warm_up_from: date | None = Field(
        None, description="selling begins slowly on this day; empty: no warm-up"
    )
    warm_up_start: Annotated[_Amount, Field(gt=0)] = Field(
        50.0, description="selling messages on the first day of the warm-up"
    )
    warm_up_factor: Annotated[_Amount, Field(ge=1, le=10)] = Field(
        2.0, description="times as many on each day that follows"
    )

    def selling_per_second(self, today: date) -> float:
        """What the warm-up leaves to selling; 0: it is over, or there is none."""
        if self.warm_up_from is None:
            return 0.0
        day = max((today - self.warm_up_from).days, 0)
        if day >= _LONGEST_WARM_UP:
            return 0.0
        rate = self.warm_up_start * self.warm_up_factor**day / _PER_DAY
        return rate if not self.per_second or rate < self.per_second else 0.0
