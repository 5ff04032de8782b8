"""Amounts as people write them; the API speaks of minor units, such as cents."""

import re
from decimal import Decimal

from babel.numbers import format_currency, get_currency_precision

_AMOUNT = re.compile(r"\d{1,11}([.,]\d{1,4})?")


def money(minor: int, currency: str) -> str:
    """4990 EUR: `€49.90`."""
    amount = Decimal(minor).scaleb(-get_currency_precision(currency))
    return format_currency(amount, currency, locale="en")


def minor_units(text: str, currency: str) -> int:
    """`49.90` EUR: 4990. Raises ValueError for what is no amount of that currency."""
    if not _AMOUNT.fullmatch(text.strip()):
        raise ValueError("is no amount: write 49.90")
    amount = Decimal(text.strip().replace(",", ".")).scaleb(get_currency_precision(currency))
    if amount != int(amount):
        raise ValueError(f"has more decimals than {currency[:3]} knows")
    return int(amount)
