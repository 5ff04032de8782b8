"""Turns templates/<message>/<locale>/ into a message; a missing variable is an error.

What a template may use: the variables that domain/messages.py lists for it, and those of
`COMMON`. Values are plain text; dates are ISO and amounts are `<minor units> <currency>`, both
written out in the reader's locale by the filters below.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import mrml
from babel import Locale
from babel.core import UnknownLocaleError
from babel.dates import format_date, format_time
from babel.numbers import format_currency, get_currency_precision
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from domain.follow_up import SCORES
from domain.messages import MESSAGES, Channel, MessageClass, Template
from domain.policies import SurveyScale

TEMPLATES = Path(__file__).parents[1] / "templates"
FALLBACK = "en"
COMMON = (
    *("name", "company", "reference"),
    *("unsubscribe_url", "survey_url", "preferences_url", "confirm_url"),
)

# All that a template and a context that don't fit can raise: one bad message stops no other.
_FAULTS = (
    *(TemplateError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
    OSError,  # of the MJML parser
)
_LONGEST = 500_000
_GAPS = re.compile(r"\n{3,}")
_OPTIONS = mrml.RenderOptions(disable_comments=False, fonts={})  # no font is fetched from anywhere
_ABOUT = {
    "en": {"order": "your order", "case": "your request"},
    "pt": {"order": "o seu pedido", "case": "a sua solicitação"},
}


class NotRendered(Exception):
    """The wording and the context don't fit together; says what is missing, without the values."""


class Rendered(NamedTuple):
    locale: str  # of the wording, which may be another than the reader's
    subject: str
    text: str
    html: str | None


class Renderer:
    """Renders messages from the files of one directory, compiled once."""

    def __init__(self, company: str, templates: Path = TEMPLATES) -> None:
        self._company = company
        self._environment = _environment(templates)
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
        wording = self._wording(template, locale)
        folder = f"{template}/{wording}"
        values: dict[str, Any] = {name: "" for name in COMMON}
        values |= {name: _clean(str(value)) for name, value in context.items()}
        try:
            values |= {
                "company": self._company,
                "language": wording,
                "locale": _formats(locale, wording),
                "zone": ZoneInfo(zone),
                "scores": _scores(context.get("scale")),
            }
            subject = _one_line(self._fill(f"{folder}/subject.txt", values))
            if channel is Channel.SMS:
                return Rendered(wording, subject, self._fill(f"{folder}/sms.txt", values), None)
            values["subject"] = subject
            text = self._fill(f"{folder}/body.txt", values)
            html = mrml.to_html(self._fill(f"{folder}/body.mjml", values), None, _OPTIONS).content
        except _FAULTS as problem:
            raise NotRendered(f"{folder}: {problem}") from problem
        return Rendered(wording, subject, text, html)

    def has_wording(self, template: Template, channel: Channel, locale: str) -> bool:
        """Whether the message can go by the channel: mails all can, text messages some."""
        if channel is Channel.EMAIL:
            return True
        return f"{template}/{self._wording(template, locale)}/sms.txt" in self._files

    def _fill(self, name: str, values: Mapping[str, Any]) -> str:
        filled = self._environment.get_template(name).render(values)
        if len(filled) > _LONGEST:
            raise ValueError(f"longer than {_LONGEST} characters")
        return _GAPS.sub("\n\n", filled.strip()) + "\n"

    def _wording(self, template: Template, locale: str) -> str:
        """pt-BR: itself, then pt, then any other Portuguese, then English."""
        wanted = locale.replace("_", "-").lower()
        language = wanted.partition("-")[0]
        have = self._locales[template]
        best_first = sorted(have, key=lambda known: (known.lower() != wanted, known != language))
        return next((k for k in best_first if k.partition("-")[0] == language), FALLBACK)


def _environment(templates: Path) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        autoescape=lambda name: name is None or name.endswith(".mjml"),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.globals.clear()
    environment.filters = {
        "date": _date,
        "time": _time,
        "money": _money,
        "positive": lambda amount: bool(amount) and int(amount.split()[0]) > 0,
        "lines": lambda text: [line.strip() for line in text.splitlines() if line.strip()],
        "about": _about,
    }
    return environment


@pass_context
def _date(context: Context, value: str) -> str:
    """2026-06-12: Friday, June 12, 2026. A moment is shown as the day it is where the reader is."""
    moment: date = _local(context, value) if "T" in value else date.fromisoformat(value)
    return format_date(moment, "full", locale=context["locale"])


@pass_context
def _time(context: Context, value: str) -> str:
    return format_time(_local(context, value), "short", locale=context["locale"])


def _local(context: Context, value: str) -> datetime:
    zone: ZoneInfo = context["zone"]
    return datetime.fromisoformat(value).astimezone(zone)


@pass_context
def _money(context: Context, value: str) -> str:
    """129900 BRL: R$ 1.299,00"""
    minor, currency = value.split()
    amount = Decimal(int(minor)).scaleb(-get_currency_precision(currency))
    return format_currency(amount, currency, locale=context["locale"])


@pass_context
def _about(context: Context, value: str) -> str:
    """What a survey is about, in words: `order`, `case`, or one of them with its reference."""
    kind, _, reference = value.partition(" ")
    words = _ABOUT.get(context["language"].partition("-")[0], _ABOUT[FALLBACK])
    if kind not in words:
        kind, reference = "order", value
    return f"{words[kind]} {reference}".strip()


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


@cache
def _formats(locale: str, wording: str) -> Locale:
    """Dates as the reader writes them, if that is the language of the wording."""
    theirs = _parsed(locale)
    ours = _parsed(wording)
    assert ours is not None, f"templates in an unknown locale: {wording}"
    return theirs if theirs is not None and theirs.language == ours.language else ours


def _parsed(locale: str) -> Locale | None:
    try:
        return Locale.parse(locale.replace("_", "-"), sep="-")
    except (ValueError, UnknownLocaleError):
        return None


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
