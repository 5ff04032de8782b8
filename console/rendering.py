"""Jinja for the console: the environment, its words and dates, and the assets' addresses."""

import functools
import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2_fragments import render_block
from markupsafe import Markup

from console.money import money
from console.navigation import entries_for
from console.remedies import remedy

HTML = Path(__file__).with_name("html")
STATIC = Path(__file__).with_name("static")
_UNITS = (  # with their seconds
    *(("year", 31_536_000), ("month", 2_592_000), ("week", 604_800), ("day", 86_400)),
    *(("hour", 3_600), ("minute", 60)),
)
# By their tone, the states that a screen shows; the others are quiet.
_STATES = {
    "good": "delivered kept done resolved completed accepted met published active granted promoter",
    "bad": (
        "failed broken bounced complained unavailable missed late overdue returned detractor"
        " suppressed"
    ),
    "warn": (
        "held escalated unknown partly_kept failed_attempt at_risk paused reopened retracted"
        " withdrawn urgent high"
    ),
    "busy": (
        "running sending open claimed placed confirmed approved dispatched new draft queued"
        " responded waiting_for_customer"
    ),
}
_TONES = {state: tone for tone, states in _STATES.items() for state in states.split()}
_NOBODYS_PAGE = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with none at all a browser sends no Origin that says whose
}


def htmx() -> Path:
    """The script of the installed package. Raises RuntimeError where it isn't."""
    spec = importlib.util.find_spec("js_lib_htmx")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("django-js-lib-htmx is not installed: run `make up`, which installs it")
    return Path(spec.submodule_search_locations[0]) / "static" / "htmx" / "htmx.min.js"


def assets() -> dict[str, Path]:
    """What browsers load, by its name under /console/static."""
    return {**{path.name: path for path in STATIC.iterdir()}, "htmx.min.js": htmx()}


@functools.cache
def asset(name: str) -> str:
    """Its address, with a mark of its content, so that browsers may keep it for ever."""
    mark = hashlib.sha256(assets()[name].read_bytes()).hexdigest()[:12]
    return f"/console/static/{name}?v={mark}"


def words(code: object) -> str:
    """`first_response` as people read it: First response."""
    text = str(code).replace("_", " ").replace("-", " ").strip()
    return text[:1].upper() + text[1:]


def moment(value: object) -> datetime | None:
    """A moment of the API (text) or of the database."""
    if value is None or value == "":
        return None
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


@pass_context
def when(context: Context, value: object, form: str = "minute") -> Markup:
    """A moment in the viewer's zone: `21 Nov 2026, 10:00`; `day`: without the time."""
    at = moment(value)
    if at is None:
        return Markup('<span class="none">none</span>')
    viewer = context.get("viewer")
    zone = ZoneInfo(viewer.zone if viewer else "UTC")
    here = at.astimezone(zone)
    shown = f"{here.day} {here:%b %Y}" if form == "day" else f"{here.day} {here:%b %Y, %H:%M}"
    full = f"{here:%A %d %B %Y, %H:%M:%S %Z}"
    # Put in as it is, here and below: no date holds markup, and `Markup.format` takes ten times as
    # long, of which the page of a list has a hundred.
    return Markup(f'<time datetime="{at.isoformat()}" title="{full}">{shown}</time>')


def day(value: object) -> Markup:
    """A day of the calendar, of the API (text) or the database: `21 Nov 2026`."""
    if value is None or value == "":
        return Markup('<span class="none">none</span>')
    at = value if isinstance(value, date) else date.fromisoformat(str(value))
    return Markup(f'<time datetime="{at.isoformat()}">{at.day} {at:%b %Y}</time>')


def tone(state: object) -> str:
    """`good`, `bad`, `warn`, `busy` or `quiet`."""
    return _TONES.get(str(state), "quiet")


def pairs(codes: Iterable[object]) -> list[tuple[str, str]]:
    """Choices for a select: each code with its words."""
    return [(str(code), words(code)) for code in codes]


def span(value: object) -> str:
    """A duration as people say it: `3 days`, in the largest unit of which it is 1.2 at least."""
    seconds = abs(value.total_seconds() if isinstance(value, timedelta) else float(str(value)))
    unit, length = next((one for one in _UNITS if seconds >= 1.2 * one[1]), ("second", 1))
    count = round(seconds // 1 / length)
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def clock(due: object, now: object = None, speed: float = 1.0) -> Markup:
    """A clock that runs: `in 3 hours`, `2 days late`; a script keeps it going.

    `now` is the customer's time at rendering, and `speed` how fast that runs.
    """
    at = moment(due)
    if at is None:
        return Markup('<span class="none">no clock</span>')
    here = moment(now) or datetime.now(UTC)
    left = (at - here).total_seconds()
    state = "late" if left < 0 else "soon" if left < 4 * 3600 else "calm"
    said = f"{span(left)} late" if left < 0 else f"in {span(left)}"
    mark = {"late": "▲", "soon": "◔", "calm": "○"}[state]
    return Markup(
        f'<time class="clock {state}" datetime="{at.isoformat()}" data-now="{here.isoformat()}"'
        f' data-speed="{float(speed)}" title="due {at.astimezone(UTC):%a %d %b %Y, %H:%M} UTC">'
        f'<span aria-hidden="true">{mark}</span> <span class="left">{said}</span></time>'
    )


def _make() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HTML),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
        auto_reload=False,  # else each page asks the disk of each of its parts
    )
    made.filters.update(words=words, pairs=pairs, when=when, span=span, clock=clock, moment=moment)
    made.filters.update(day=day, money=money, tone=tone, remedy=remedy)
    # A key for each form, made with it: sending it twice does it once.
    made.globals.update(asset=asset, entries_for=entries_for, new_key=lambda: uuid4().hex)
    return made


environment = _make()


def render(template: str, context: Mapping[str, Any], block: str = "") -> str:
    if block:
        return str(render_block(environment, template, block, **context))
    return environment.get_template(template).render(**context)


def page_of_nobody(template: str, context: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """A page before the sign-in."""
    body = environment.get_template(template).render(viewer=None, said=None, **context)
    return HTMLResponse(body, status, _NOBODYS_PAGE)
