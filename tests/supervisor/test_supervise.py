"""How patient the supervisor is with what keeps dying."""

import re
from pathlib import Path

import pytest

from settings import Settings
from supervisor import supervise
from supervisor.errors import Refused
from supervisor.plan import make_plan
from supervisor.service import Service
from supervisor.supervise import _Supervisor

RESTARTS = 8
GROWING = [0.5, 1, 2, 4, 8, 15, 15, 15]


class WithoutWaiting(_Supervisor):
    """Only time is ours: it passes at once, and ends after so many restarts."""

    def __init__(self, data_dir: Path) -> None:
        self.said: list[str] = []
        super().__init__(make_plan(Settings(data_dir=data_dir)), self.said.append)

    async def _stopped_within(self, seconds: float) -> bool:
        return len(self.delays) >= RESTARTS

    @property
    def delays(self) -> list[float]:
        found = (re.search(r"starts again in (\S+) s", line) for line in self.said)
        return [float(each[1]) for each in found if each]


class Mortal(Service):
    """Dies as soon as it is looked at; or does not start at all."""

    name = "worker"
    title = "the worker"

    def __init__(self, refusal: str = "") -> None:
        super().__init__()
        self._refusal = refusal
        self._looks = 0

    def start(self) -> None:
        if self._refusal:
            raise Refused(self._refusal)
        self._looks = 1

    @property
    def running(self) -> bool:
        self._looks -= 1
        return self._looks >= 0


async def test_whoever_does_not_start_is_tried_ever_more_rarely(tmp_path: Path) -> None:
    supervisor = WithoutWaiting(tmp_path)
    await supervisor._keep(Mortal(refusal="the worker failed (exit code 1): no room"))
    assert supervisor.delays == GROWING
    assert supervisor.said.count("the worker failed (exit code 1): no room") == RESTARTS - 1


@pytest.mark.parametrize(
    ("healthy_after", "delays"),
    [(5.0, GROWING), (-1.0, [0.5] * RESTARTS)],
    ids=["short lives", "long lives"],
)
async def test_whoever_lived_for_a_while_is_started_again_soon(
    healthy_after: float, delays: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "HEALTHY_AFTER", healthy_after)
    supervisor = WithoutWaiting(tmp_path)
    await supervisor._keep(Mortal())
    assert supervisor.delays == delays
