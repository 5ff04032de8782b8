"""Pictures of every screen of the console, light and dark, wide and narrow.

`make screenshots ARGS=--console` against a running demo; they go to <data dir>/screens, to be
looked at. The few that the README shows are taken by `docs/screenshots.py`.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser

from console.navigation import GROUPS
from docs.browser import Page, Scheme
from domain.tasks import Role
from replay.staff import demo_staff
from supervisor.run_file import RunFile

_SCHEMES: tuple[Scheme, ...] = ("light", "dark")
_SIZES = {"wide": (1280, 720), "narrow": (390, 780)}
_ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"
# What a list leads to: the first of each kind is looked at as well.
_DETAILS = (
    rf"/console/(?:customers|orders|cases|tasks|messages|received-mails|received-texts|suppressions)/{_ID}",
    rf"/console/processes/(?:[a-z-]+/){_ID}[^\"?#]*",
    r"/console/processes/kinds/[a-z_]+",
    r"/console/(?:templates|policies|schedules|staff|claims)/[\w-]+",
)
_OF_A_CUSTOMER = ("/eye", "/journey", "/consents")
# Beside the screens of the navigation.
_ALSO = (
    *("/console/received-texts", "/console/delivery-reports", "/console/surveys"),
    *("/console/approve-claim", "/console/search?q=a", "/console/keys", "/console/account"),
)


def addresses(page: Page, origin: str) -> list[str]:
    """Every screen, and the first record that each list leads to."""
    found = [entry.path for _, entries in GROUPS for entry in entries]
    for path in list(found):
        page.visit(origin + path)
        links = page.links()
        for pattern in _DETAILS:
            first = next((link for link in links if re.fullmatch(pattern, link)), None)
            if first is not None and first not in found:
                found.append(first)
    customers = [one for one in found if re.fullmatch(rf"/console/customers/{_ID}", one)]
    found += [one + tab for one in customers[:1] for tab in _OF_A_CUSTOMER]
    return [*found, *_ALSO]


def take_all(run: RunFile, browser: Browser, directory: Path) -> int:
    """Into `directory`; how many were taken."""
    staff = demo_staff(run)
    parts = urlsplit(run.addresses.console)
    origin = f"{parts.scheme}://{parts.netloc}"
    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    screens: list[str] = []
    for scheme in _SCHEMES:
        page = Page(browser, scheme=scheme)
        page.sign_in(run.addresses.console, staff.emails[Role.ADMIN], staff.password)
        screens = screens or addresses(page, origin)
        for size, (width, height) in _SIZES.items():
            for path in screens:
                page.visit(origin + path, width=width, height=height)
                name = re.sub(_ID, "one", path.removeprefix("/console").strip("/"))
                name = re.sub(r"[^\w-]+", "-", name).strip("-") or "home"
                page.picture(directory / f"{name}.{scheme}.{size}.png", whole=True)
                count += 1
        page.close()
    return count
