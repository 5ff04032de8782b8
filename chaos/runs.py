"""The fault runs by name: what each shows, and its full size. To add one, add a line."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chaos.ground import Ground, Table
from chaos.opt_outs import race
from chaos.random_kills import kill_at_random
from chaos.smtp_crashes import crash_dispatchers
from chaos.smtp_faults import meet_faults
from chaos.webhooks import weather_storm


class Run(NamedTuple):
    """One run, on an empty database of its own."""

    shows: str
    size: int
    run: Callable[[Ground, int], Awaitable[Table]]


RUNS = {
    "crashes": Run(
        "F7: dispatchers killed at 5 points, messages at each; the inbox can be asked",
        200,
        lambda ground, size: crash_dispatchers(ground, size, evidence=True),
    ),
    "crashes-blind": Run(
        "F7 without evidence: what can't be known is counted, and nothing else",
        200,
        lambda ground, size: crash_dispatchers(ground, size, evidence=False),
    ),
    "random-kills": Run(
        "G1: dispatchers killed at random moments, until all messages are settled",
        10_000,
        kill_at_random,
    ),
    "faults": Run("F8: 10 ways a mail server fails, messages of each", 100, meet_faults),
    "webhooks": Run("F9: events of a provider, each delivered 1 to 46 times", 5_000, weather_storm),
    "opt-outs": Run("F10: an opt-out at the moment of the sending", 1_000, race),
}
