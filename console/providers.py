"""The provider accounts as the sending policy has them, and what each has put off."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from domain.messages import Channel, MessageClass
from domain.policies import SendingPolicy


class ProviderLine(NamedTuple):
    """`serves`: its streams, each with its place in their order. Rates: messages a second; 0: none.

    `put_off`: messages it took not and that wait; `tries`: the most of one of them.
    """

    name: str
    serves: Sequence[str]
    per_second: float
    selling_per_second: float
    put_off: int
    tries: int


def provider_lines(
    policy: SendingPolicy, refusing: Sequence[tuple[str, int, int]], today: date
) -> list[ProviderLine]:
    """Those that a stream names; what was put off by one that none names any more, too."""
    serves: dict[str, list[str]] = {name: [] for name, _, _ in refusing}
    for message_class in (
        MessageClass.TRANSACTIONAL,
        MessageClass.SERVICE,
        MessageClass.MARKETING,
    ):
        for channel in Channel:
            named = policy.stream(message_class).providers(channel)
            for place, name in enumerate(named):
                after = f", after {named[place - 1]}" if place else ""
                serves.setdefault(name, []).append(f"{message_class} by {channel}{after}")
    put_off = {name: (number, tries) for name, number, tries in refusing}
    return [
        ProviderLine(
            name,
            streams,
            policy.account(name).per_second,
            policy.account(name).selling_per_second(today),
            *put_off.get(name, (0, 0)),
        )
        for name, streams in serves.items()
    ]
