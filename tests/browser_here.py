"""Finds the browser of the browser tests, or fetches one: `python -m tests.browser_here`.

`make test` runs it first. Where there is none to be had it says so plainly: those tests skip.
"""

import subprocess
import sys

from docs.browser import NoPicture, chromium

_PATIENCE = 300.0  # seconds for a download


def main() -> None:
    try:
        print(f"browser tests: with {chromium()}")  # noqa: T201
        return
    except NoPicture:
        print("browser tests: no Chromium here, trying to fetch one")  # noqa: T201
    command = [sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]
    try:
        subprocess.run(command, timeout=_PATIENCE, check=True, capture_output=True)
        print(f"browser tests: with {chromium()}")  # noqa: T201
    except (subprocess.SubprocessError, NoPicture):
        print(  # noqa: T201
            "browser tests: SKIPPED, there is no Chromium and none could be fetched; "
            "remedy: apt-get install chromium-headless-shell"
        )


if __name__ == "__main__":
    main()
