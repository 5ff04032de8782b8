"""Chromium without a window, driven by Playwright: for the pictures and the browser tests."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import playwright.sync_api as playwright

Scheme = Literal["light", "dark"]
WIDTH = 1280
PATIENCE = 40.0  # seconds for a page to show what we wait for
# Chromium's own sandbox needs rights that root in a container does not have.
FLAGS = [*([] if os.geteuid() else ["--no-sandbox"]), "--hide-scrollbars", "--lang=en-GB"]


class NoPicture(Exception):
    """What was to be seen can't be shown, with the reason."""


def chromium() -> str:
    """The program: the system's, or the one that `playwright install --only-shell` has fetched.

    The headless shell is the same engine without the windows, toolbars and extensions that a whole
    Chromium keeps up for nobody to see: a new page takes a quarter of the processor's time.
    """
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache/ms-playwright"))
    shell, whole = "chrome-headless-shell", ("chromium", "chromium-browser", "google-chrome")
    found = [
        shutil.which("chromium-headless-shell"),
        *sorted(cache.glob(f"chromium_headless_shell-*/{shell}-linux*/{shell}"), reverse=True),
        *map(shutil.which, whole),
        *sorted(cache.glob("chromium-*/chrome-linux*/chrome"), reverse=True),
    ]
    for program in filter(None, found):
        return str(program)
    raise NoPicture(
        "chromium is not installed: `apt-get install chromium-headless-shell`, then try again"
    )


@contextlib.contextmanager
def opened_browser() -> Iterator[playwright.Browser]:
    """A browser with empty profiles; nothing of it stays."""
    program = chromium()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Page:
    """One page of a browser, as a picture is taken of it."""

    def __init__(self, browser: playwright.Browser, *, scheme: Scheme = "light") -> None:
        self._context = browser.new_context(color_scheme=scheme, locale="en-GB")
        self._context.set_default_timeout(PATIENCE * 1000)
        self._page = self._context.new_page()

    def sign_in(self, console: str, email: str, password: str) -> None:
        """To the console; the cookie stays for all that is opened then."""
        self._page.goto(f"{console}/sign-in")
        self._page.get_by_label("E-mail").fill(email)
        self._page.get_by_label("Password").fill(password)
        self._page.get_by_role("button", name="Sign in").click()
        self._page.get_by_role("navigation", name="Screens").wait_for()

    def open(self, url: str, *, showing: str, height: int, width: int = WIDTH) -> None:
        """Go to `url` and wait until its text has `showing`."""
        self._page.set_viewport_size({"width": width, "height": height})
        self._page.goto(url)
        try:
            self._page.get_by_text(showing).first.wait_for()
        except playwright.TimeoutError:
            seen = self._page.inner_text("body")[:300]
            raise NoPicture(f"{url} never shows {showing!r}; it says {seen!r}") from None

    def visit(self, url: str, *, width: int = WIDTH, height: int = 720) -> None:
        """Go to `url`, whatever it shows. Raises NoPicture for a page that is a failure."""
        self._page.set_viewport_size({"width": width, "height": height})
        answer = self._page.goto(url)
        if answer is None or answer.status >= 400:
            raise NoPicture(f"{url} answers {answer.status if answer else 'nothing'}")

    def links(self) -> list[str]:
        """Where the page leads to, without the origin."""
        hrefs: list[str] = self.run(
            "[...document.querySelectorAll('main a[href]')].map(a => a.getAttribute('href'))"
        )
        return hrefs

    def press(self, label: str) -> None:
        """The button with that text, once it is there."""
        self._page.get_by_role("button", name=label, exact=True).first.click()

    def scroll_down(self) -> None:
        """To the end of whatever scrolls."""
        self.run("document.querySelectorAll('*').forEach(e => { e.scrollTop = 1e6 })")

    def run(self, script: str) -> Any:
        return self._page.evaluate(script)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, or the `whole` page as far as it scrolls."""
        self._page.wait_for_timeout(700)  # what fades in has done so
        self._page.screenshot(path=path, full_page=whole, scale="css")

    def close(self) -> None:
        self._context.close()
