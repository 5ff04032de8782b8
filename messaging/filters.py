"""The filters of templates: dates, times and amounts as the reader writes them.

They take plain text and give plain text, and none takes an argument.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale
from babel.core import UnknownLocaleError
from babel.dates import format_date, format_time
from babel.numbers import format_currency, get_currency_precision
from jinja2 import pass_context
from jinja2.runtime import Context

_ABOUT = {
    "en": {"order": "your order", "case": "your request"},
    "pt": {"order": "o seu pedido", "case": "a sua solicitação"},
}


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
    words = _ABOUT.get(context["language"].partition("-")[0], _ABOUT["en"])
    if kind not in words:
        kind, reference = "order", value
    return f"{words[kind]} {reference}".strip()


@cache
def formats_of(locale: str, wording: str) -> Locale:
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


FILTERS: Mapping[str, Callable[..., Any]] = {
    "date": _date,
    "time": _time,
    "money": _money,
    "positive": lambda amount: bool(amount) and int(amount.split()[0]) > 0,
    "lines": lambda text: [line.strip() for line in text.splitlines() if line.strip()],
    "about": _about,
    "upper": str.upper,
    "lower": str.lower,
}
