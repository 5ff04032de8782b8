"""Turns a wording and what is known into a message; a missing variable is an error.

What a template may use: the variables that domain/messages.py lists for it, and those of
`COMMON`. Values are plain text; dates are ISO and amounts are `<minor units> <currency>`, both
written out in the reader's locale by the filters (messaging/filters.py).
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import jinja2
import mrml
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS

from domain.follow_up import SCORES
from domain.messages import MESSAGES, Channel, MessageClass, Template
from domain.policies import SurveyScale
from domain.templates import DEFAULT_LOCALE, Part, nearest_locale
from domain.templates import NotRendered as NotRendered
from messaging.filters import FILTERS, formats_of

TEMPLATES = Path(__file__).parents[1] / "templates"
COMMON = (
    *("name", "company", "reference"),
    *("unsubscribe_url", "survey_url", "preferences_url", "confirm_url"),
)
FILES = {
    Part.SUBJECT: "subject.txt",
    Part.BODY_TEXT: "body.txt",
    Part.BODY_MJML: "body.mjml",
    Part.SMS: "sms.txt",
}

# All that a template and a context that don't fit can raise: one bad message stops no other.
FAULTS = (
    *(TemplateError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
    OSError,  # of the MJML parser
)
_LONGEST = 500_000
_GAPS = re.compile(r"\n{3,}")
# A string in a template can write them as escapes; PostgreSQL can't store them, nor mail hold them.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_PARSING = mrml.ParserOptions(include_loader=mrml.noop_loader())  # <mj-include> is an error
_OPTIONS = mrml.RenderOptions(disable_comments=False, fonts={})  # no font is fetched from anywhere


class Rendered(NamedTuple):
    locale: str  # of the wording, which may be another than the reader's
    subject: str
    text: str
    html: str | None


class Renderer:
    """Renders messages from the files of one directory, compiled once: they are ours."""

    def __init__(self, company: str, templates: Path = TEMPLATES) -> None:
        self.company = company
        self._environment = environment_of(templates)
        self._locales = {
            template: tuple(sorted(folder.name for folder in (templates / template).iterdir()))
            for template in Template
        }
        self._files = frozenset(self._environment.list_templates())

    def render(
        self,
        template: Template,
        channel: Channel,
        locale: str,
        context: Mapping[str, str],
        *,
        zone: str = "UTC",
    ) -> Rendered:
        """The message in the reader's language where we have it, else in English.

        Raises NotRendered.
        """
        wording = nearest_locale(self._locales[template], locale) or DEFAULT_LOCALE
        folder = f"{template}/{wording}"

        def compiled(part: Part) -> jinja2.Template:
            return self._environment.get_template(f"{folder}/{FILES[part]}")

        try:
            values = values_of(self.company, wording, locale, context, zone)
            return written(wording, channel, compiled, values)
        except FAULTS as problem:
            raise NotRendered(f"{folder}: {problem}") from problem

    def has_wording(self, template: Template, channel: Channel, locale: str) -> bool:
        """Whether the message can go by the channel: mails all can, text messages some."""
        if channel is Channel.EMAIL:
            return True
        wording = nearest_locale(self._locales[template], locale) or DEFAULT_LOCALE
        return f"{template}/{wording}/{FILES[Part.SMS]}" in self._files


def written(
    wording: str,
    channel: Channel,
    compiled: Callable[[Part], jinja2.Template],
    values: dict[str, Any],
) -> Rendered:
    """Every part that the channel takes. Raises one of FAULTS."""
    subject = _one_line(_filled(compiled(Part.SUBJECT), values))
    if channel is Channel.SMS:
        return Rendered(wording, subject, _filled(compiled(Part.SMS), values), None)
    values["subject"] = subject
    text = _filled(compiled(Part.BODY_TEXT), values)
    mjml = _filled(compiled(Part.BODY_MJML), values)
    return Rendered(wording, subject, text, mrml.to_html(mjml, _PARSING, _OPTIONS).content)


def values_of(
    company: str, wording: str, locale: str, context: Mapping[str, str], zone: str
) -> dict[str, Any]:
    """What a template sees: plain text, and what the filters and the frame need to know."""
    values: dict[str, Any] = {name: "" for name in COMMON}
    values |= {name: _clean(str(value)) for name, value in context.items()}
    return values | {
        "company": company,
        "language": wording,
        "locale": formats_of(locale, wording),
        "zone": ZoneInfo(zone),
        "scores": _scores(context.get("scale")),
    }


def _filled(template: jinja2.Template, values: Mapping[str, Any]) -> str:
    """Given up as soon as it gets too long, or holds what no message can."""
    pieces, length = [], 0
    for piece in template.generate(values):
        pieces.append(piece)
        length += len(piece)
        if length > _LONGEST:
            raise ValueError(f"longer than {_LONGEST} characters")
        if _UNFIT.search(piece):
            raise ValueError("it writes control characters")
    return _GAPS.sub("\n\n", "".join(pieces).strip()) + "\n"


class _NothingIsCalled(ImmutableSandboxedEnvironment):
    def is_safe_callable(self, obj: object) -> bool:
        return False


def environment_of(templates: Path = TEMPLATES) -> ImmutableSandboxedEnvironment:
    environment = _NothingIsCalled(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        autoescape=lambda name: name is None or name.endswith(".mjml"),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.globals.clear()
    environment.filters = dict(FILTERS)
    environment.tests = {name: TESTS[name] for name in ("defined", "none")}
    return environment


def _scores(scale: str | None) -> list[int]:
    return list(SCORES[SurveyScale(scale)]) if scale else []


def _clean(value: str) -> str:
    """Without control characters, which neither a header nor XML can hold."""
    if value.isprintable():
        return value
    return "".join(c for c in value if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def _one_line(subject: str) -> str:
    line = " ".join(subject.split())  # also on U+0085, U+2028 and their like
    if not line or any(unicodedata.category(c) == "Cc" for c in line):
        raise ValueError("the subject is empty or has control characters")
    return line


_SAMPLES: Mapping[str, str] = {
    "order": "A-1001",
    "lines": "2 x Coffee, 250 g\n1 x Filter holder",
    "total": "129900 BRL",
    "promised_on": "2026-06-12",
    "previously_promised_on": "2026-06-10",
    "delivered_on": "2026-06-12T14:30:00+00:00",
    "late": "yes",
    "carrier": "Correios",
    "tracking": "BR123456789",
    "refund": "4500 BRL",
    "alternative": "the same in blue",
    "about": "order A-1001",
    "survey_id": "0b6f5c3e-0000-5000-8000-000000000001",
    "scale": "stars",
    "contact_by": "2026-06-12T14:30:00+00:00",
    "respond_by": "2026-06-12T14:30:00+00:00",
    "text": "We looked into it.\nA new one is on its way.",
    "case": "C-2001",
    "offer_until": "2026-06-30",
    "day": "2026-06-12",
    "confirm_until": "2026-06-12T14:30:00+00:00",
}

_COMMON_SAMPLES: Mapping[str, Callable[[Template], str]] = {
    "name": lambda _: "Ada Lovelace",
    "reference": lambda _: "K-1",
    "unsubscribe_url": lambda template: (
        "https://example.com/u/token" if MESSAGES[template].message_class == "marketing" else ""
    ),
    "survey_url": lambda _: "https://example.com/s/token",
    "preferences_url": lambda template: (
        "https://example.com/p/token"
        if MESSAGES[template].message_class in (MessageClass.MARKETING, MessageClass.SERVICE)
        else ""
    ),
    "confirm_url": lambda _: "https://example.com/v/token",
}


def sample_context(template: Template, *, empty: bool = False) -> dict[str, str]:
    """Every variable the template may use; `empty` leaves out what a process may not know."""
    known = ("order", "case", "about", "survey_id", "scale", "promised_on", "day", "confirm_until")
    values = {
        name: "" if empty and name not in known else _SAMPLES[name]
        for name in MESSAGES[template].variables
    }
    return values | {name: sample(template) for name, sample in _COMMON_SAMPLES.items()}
