"""Chromium without a window, driven over a pipe (the DevTools protocol), for `docs/screenshots.py`.

Its command line takes pictures too, but can't wait for a page that draws itself by script.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTH = 1280
_PATIENCE = 40.0  # seconds for a page to show what we wait for
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--force-color-profile=srgb", "--lang=en-GB"),
)


class NoPicture(Exception):
    """What was to be seen can't be shown, with the reason."""


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise NoPicture("chromium is not installed: `apt-get install chromium`, then try again")


@contextlib.contextmanager
def opened_browser() -> Iterator["Page"]:
    """A browser with one page and an empty profile; nothing of it stays."""
    program = chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        commands, answers = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (commands[0], answers[1])]
        ours = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (commands[1], answers[0])]
        for end in (*commands, *answers):
            os.close(end)
        pid = os.posix_spawn(
            program,
            [program, *_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs[0], 3),  # the two it expects
                (os.POSIX_SPAWN_DUP2, theirs[1], 4),
            ],
            setpgroup=0,
        )
        for end in theirs:
            os.close(end)
        try:
            yield Page(*ours)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for end in ours:
                os.close(end)


class Page:
    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._read = b""
        self._number = 0
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.enable")

    def open(self, url: str, *, showing: str, height: int, width: int = WIDTH) -> None:
        """Go to `url` and wait until its text has `showing`. A wider page is scaled to WIDTH."""
        size = {"width": width, "height": height, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=WIDTH / width)
        self._call("Page.navigate", url=url)
        self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(showing)})")

    def wait_for(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                seen = self.run("document.body ? document.body.innerText.slice(0, 300) : ''")
                raise NoPicture(f"never true: {condition}; the page says {seen!r}")
            time.sleep(0.2)

    def press(self, label: str) -> None:
        """The button with that text, once it is there."""
        buttons = "[...document.querySelectorAll('button')]"
        button = f"{buttons}.find(b => b.innerText.trim() == {json.dumps(label)})"
        self.wait_for(button)
        self.run(f"{button}.click()")

    def scroll_down(self) -> None:
        """To the end of whatever scrolls."""
        down = "document.querySelectorAll('*').forEach(e => { e.scrollTop = 1e6 })"
        self.run(f"{down}; window.scrollTo(0, 1e6)")

    def run(self, script: str) -> Any:
        done = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return done.get("result", {}).get("value")

    def picture(self, path: Path) -> None:
        time.sleep(0.7)  # what fades in has done so
        taken = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        call: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            call["sessionId"] = self._session
        os.write(self._commands, json.dumps(call).encode() + b"\0")
        while True:
            message = json.loads(self._next())
            if message.get("id") == self._number:
                if "error" in message:
                    raise NoPicture(f"chromium refused {method}: {message['error']['message']}")
                result: dict[str, Any] = message["result"]
                return result

    def _next(self) -> bytes:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], _PATIENCE)
            part = os.read(self._answers, 1 << 20) if ready else b""
            if not part:
                raise NoPicture("chromium ended or does not answer")
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        return message
