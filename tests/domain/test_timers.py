"""Every timer that a process starts says what follows."""

import re
from pathlib import Path

import pytest

import workflows
from domain.timers import what_follows

_WAITS = re.compile(r'"((?:until|while|listening|an answer to) [a-z][^"]*)"')


def _started() -> set[str]:
    files = Path(workflows.__path__[0]).glob("*.py")
    return {words for file in files for words in _WAITS.findall(file.read_text())}


def test_timers_are_found() -> None:
    assert "until the win-back" in _started()
    assert len(_started()) > 20


@pytest.mark.parametrize("words", sorted(_started()))
def test_a_timer_says_what_follows(words: str) -> None:
    assert what_follows(words).endswith(".")


def test_touches_are_counted() -> None:
    assert "next message" in what_follows("until touch 3")
    assert what_follows("") == ""
