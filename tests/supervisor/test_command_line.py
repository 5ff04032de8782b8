"""`crm.py` lists what there is, each with its own help, and reads times as people write them."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from crm import app, seconds

PROMISED = {"up", "demo", "replay", "verify", "doctor", "schedules"}


def commands(command: Any, *path: str) -> Iterator[list[str]]:
    """Each command of `crm.py` and each of its own."""
    for name, inner in getattr(command, "commands", {}).items():
        yield [*path, name]
        yield from commands(inner, *path, name)


COMMANDS = list(commands(typer.main.get_command(app)))


def test_help_lists_every_command() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    names = PROMISED | {name for name, *_ in COMMANDS}
    assert [name for name in names if f" {name} " not in listed] == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    explained = CliRunner().invoke(app, [*command, "--help"])
    assert explained.exit_code == 0
    assert "Usage" in explained.output


@pytest.mark.parametrize(
    ("text", "meant"), [("500ms", 0.5), ("1s", 1), ("2m", 120), ("1.5h", 5400), ("1d", 86400)]
)
def test_a_time_has_a_unit(text: str, meant: float) -> None:
    assert seconds(text) == meant


@pytest.mark.parametrize("text", ["", "1", "s", "0s", "-1s", "1 week", "nan s", "1e9s"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="500ms"):
        seconds(text)
