"""Every screen, for whoever may open it: accessible (WCAG 2.2 AA, by axe), in both schemes."""

import pytest
from axe_playwright_python.async_playwright import Axe
from fastapi import FastAPI
from playwright.async_api import Page

from console.navigation import GROUPS
from database.base import Sessions
from domain.staff import PERMISSIONS
from domain.tasks import Role
from tests.console.conftest import SignIn, calling_as

_ENTRIES = [entry for _, entries in GROUPS for entry in entries]
_OTHERS = (
    *("/console/account", "/console/keys", "/console/search?q=ada", "/console/password"),
    *("/console/delivery-reports", "/console/approve-claim"),
)
_RULES: dict[str, object] = {
    "resultTypes": ["violations"],  # where the others are takes longer to write down than to check
    "preload": False,  # of films and style sheets of other sites, of which there are none
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    },
}
# Of those, what depends on colours, which is all that another scheme changes.
_OF_COLOURS: dict[str, object] = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}
_LARGEST_FIRST_PAGE = 150_000  # bytes, with what it loads


@pytest.fixture
async def page(sign_in: SignIn, customer: object) -> Page:
    """Of somebody who may see all, where a customer is known."""
    return await sign_in(Role.ADMIN)


async def faults_of(page: Page, rules: dict[str, object] = _RULES) -> list[str]:
    """What axe finds on a page."""
    there = await page.evaluate("'axe' in window")  # half a megabyte, read once for each page
    result = await (Axe("") if there else Axe()).run(page, options=rules)
    return [
        f"{one['id']} {node['target']} {node['failureSummary']}"
        for one in result.response["violations"]
        for node in one["nodes"]
    ]


async def test_screens_are_accessible_and_fit(page: Page) -> None:
    found = []
    for path in (*(entry.path for entry in _ENTRIES), *_OTHERS):
        answer = await page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        found += [f"{path}: {fault}" for fault in await faults_of(page)]
        await page.emulate_media(color_scheme="dark")
        found += [f"{path} (dark): {fault}" for fault in await faults_of(page, _OF_COLOURS)]
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size({"width": 390, "height": 780})
        wide = await page.evaluate("document.documentElement.scrollWidth")
        if wide > 390:
            found.append(f"{path}: {wide} pixels wide on a phone")
        await page.set_viewport_size({"width": 1280, "height": 720})
    assert not found, "\n".join(found)


async def test_the_first_page_is_light(page: Page) -> None:
    sizes: dict[str, int] = {}

    async def weigh(path: str) -> int:
        sizes.clear()
        await page.goto(path, wait_until="networkidle")
        return int(
            await page.evaluate(
                "[...performance.getEntriesByType('navigation'),"
                " ...performance.getEntriesByType('resource')]"
                ".reduce((sum, one) => sum + one.encodedBodySize, 0)"
            )
        )

    assert await weigh("/console") <= _LARGEST_FIRST_PAGE


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_sees_what_it_may_open_and_opens_what_it_sees(
    app: FastAPI, sessions: Sessions, role: Role
) -> None:
    async with calling_as(app, sessions, role) as client:
        home = (await client.get("/console")).text
        for entry in _ENTRIES:
            may = entry.permission in PERMISSIONS[role]
            assert (f'href="{entry.path}"' in home) is may, entry.path
            answer = await client.get(entry.path)
            assert answer.status_code == (200 if may else 403), (entry.path, answer.text[:500])
            assert answer.headers["content-type"].startswith("text/html")
