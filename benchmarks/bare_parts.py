"""What the bare twin does: for each process of a life, the commands of the real one in order.

Passed through the sandbox like the product's own payloads; read from the file a worker is given.
"""

import json
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from domain.payload import Payload


class Verb(StrEnum):
    """A wait for something (heard, fired) or a command."""

    HEARD = "heard"
    STEP = "step"
    START_TIMER = "start_timer"
    CANCEL_TIMER = "cancel_timer"
    FIRED = "fired"
    START_CHILD = "start_child"
    SHOW = "show"
    END = "end"


class Move(NamedTuple):
    verb: Verb
    timer: int = 0
    seconds: float = 0.0
    child: str = ""
    tells: tuple[str, ...] = ()  # roles that the step signals

    @property
    def lasts(self) -> timedelta:
        return timedelta(seconds=self.seconds)


class Part(Payload):
    """One process of the twin of one life."""

    life: str
    role: str


class Beat(Payload):
    """One empty step."""

    life: str
    role: str
    number: int
    tells: tuple[str, ...] = ()


class Nudge(Payload):
    """What a signal carries."""

    number: int = 0


PARTS: dict[str, tuple[Move, ...]] = {}


def bare_id(role: str, life: str) -> str:
    return f"bare/{role}/{life}"


def write_script(path: Path, script: dict[str, list[Move]]) -> None:
    path.write_text(json.dumps(script))


def read_script(path: Path) -> None:
    """Fill PARTS; before the worker starts."""
    written: dict[str, list[list[Any]]] = json.loads(path.read_text())
    for role, moves in written.items():
        PARTS[role] = tuple(
            Move(Verb(verb), timer, seconds, child, tuple(tells))
            for verb, timer, seconds, child, tells in moves
        )
