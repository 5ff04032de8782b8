"""Which provider is asked: as the policy of kind sending says, and who lets anybody through."""

import itertools
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from activities.lines import Line
from activities.message_claims import Via
from domain.fairness import Way
from domain.messages import Channel, MessageClass
from domain.policies import SendingPolicy
from domain.sending import ALWAYS

log = logging.getLogger(__name__)


@dataclass
class Routes:
    """`configured` are the providers that settings give; a policy may name others."""

    configured: Collection[str]
    policy: SendingPolicy = field(default_factory=SendingPolicy)
    _warned: set[tuple[str, str]] = field(default_factory=set)

    def ways(
        self, lines: Mapping[str, Line], now: float
    ) -> dict[tuple[MessageClass, Channel], Way]:
        """For each class and channel the first provider that lets messages through."""
        after = self.policy.fall_back_after
        found = {}
        for message_class in MessageClass:
            for channel in Channel:
                names = self._usable(message_class, channel)
                closed = tuple(
                    itertools.takewhile(lambda name: lines[name].is_passed_over(now, after), names)
                )
                open_ = names[len(closed)] if len(closed) < len(names) else None
                found[message_class, channel] = Way(closed, open_)
        return found

    def via(self, message_class: MessageClass, channel: Channel, provider: str) -> Via:
        stream = self.policy.stream(message_class)
        before = []
        for name in stream.providers(channel):
            if name == provider:
                break
            trouble = "lets nobody through" if name in self.configured else "is not configured"
            before.append(f"{name} {trouble}")
        detour = f"{provider} is asked: {', '.join(before)}" if before else ""
        return Via(provider, stream, detour)

    def again(self, message_class: MessageClass, provider: str) -> Via:
        """To repeat what was asked before, wherever new messages go now."""
        why = f"{provider} is asked again: its answer was lost, and it knows the message's key"
        return Via(provider, self.policy.stream(message_class), why)

    def _usable(self, message_class: MessageClass, channel: Channel) -> list[str]:
        named = self.policy.stream(message_class).providers(channel)
        usable = [str(name) for name in named if name in self.configured]
        instead = usable or [str(ALWAYS[channel])] * (ALWAYS[channel] in self.configured)
        for name in named:
            if name not in self.configured and (message_class, name) not in self._warned:
                self._warned.add((message_class, name))
                log.warning(
                    "%s messages: %s is not configured; asked instead: %s",
                    *(message_class, name, ", ".join(instead) or "nobody"),
                )
        return instead
