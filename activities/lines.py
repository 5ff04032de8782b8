"""The way to one provider: whether anybody gets through, and how many may at its rate."""

import math
from dataclasses import dataclass, field
from datetime import timedelta

from domain.fairness import Room

_DAY = 86_400.0
_LONGEST_ASKED = 900.0  # seconds until a provider that asks for more is tried again


@dataclass
class Bucket:
    """Tokens that come in at `rate` a second; 0: there is no limit. Times are monotonic seconds."""

    rate: float = 0.0
    level: float = 1.0
    at: float = 0.0

    @property
    def size(self) -> float:
        """What a second brings; two at least, since one of them is kept."""
        return max(self.rate, 2.0)

    def refill(self, now: float, rate: float) -> None:
        self.level = min(self.level + self.rate * (now - self.at), self.size)
        self.at, self.rate = now, rate

    def take(self) -> None:
        """May leave a debt, of a day at most."""
        self.level = max(self.level - 1, -self.rate * _DAY)

    def left(self, kept: float = 0.0) -> float:
        return max(self.level - kept, 0.0) if self.rate else math.inf


@dataclass
class Line:
    """The state of a provider account. It outlasts the rounds of the dispatcher that holds it."""

    pause: float = 0.0
    paused_until: float = 0.0
    doubtful: bool = False  # one message goes ahead before the others
    nobody_since: float | None = None
    everything: Bucket = field(default_factory=Bucket)
    warm_up: Bucket = field(default_factory=Bucket)  # of selling; what is urgent counts too

    def nobody_gets_through(
        self, now: float, longest: timedelta, retry_after: timedelta | None
    ) -> None:
        """Pause for longer each time, or for as long as the provider says."""
        if now < self.paused_until:
            return  # another message has said so already
        self.doubtful = True
        if self.nobody_since is None:
            self.nobody_since = now
        self.pause = min(self.pause * 2 or 0.5, longest.total_seconds())
        asked = retry_after.total_seconds() if retry_after else 0.0
        self.paused_until = now + max(self.pause, min(asked, _LONGEST_ASKED))

    def somebody_gets_through(self) -> None:
        self.doubtful, self.pause, self.paused_until, self.nobody_since = False, 0.0, 0.0, None

    def is_passed_over(self, now: float, after: timedelta) -> bool:
        """Whether new messages go to the next provider; one now and then still tries this one."""
        return self.nobody_since is not None and now - self.nobody_since > after.total_seconds()

    def set_rates(self, now: float, per_second: float, selling_per_second: float) -> None:
        self.everything.refill(now, per_second)
        self.warm_up.refill(now, selling_per_second)

    def room(self, now: float, urgent: int, selling: int, batch: int) -> Room:
        """For how many more, with so many of each under way.

        A fifth of the tokens, and one at least, is kept for what is urgent.
        """
        if now < self.paused_until or (self.doubtful and urgent + selling):
            return Room(0, 0)
        most = 1 if self.doubtful else batch
        kept = max(1.0, self.everything.size / 5)
        for_all = min(self.everything.left(), most) if urgent < batch else 0
        for_selling = min(self.everything.left(kept), self.warm_up.left(), most)
        return Room(int(for_all), int(for_selling) if selling < batch else 0)

    def take(self) -> None:
        self.everything.take()
        self.warm_up.take()
