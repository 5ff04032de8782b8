"""What a field of a request may hold: strict types whose messages name the remedy.

Nothing is coerced: a number in quotes, a boolean for a number, a date without its zone are refused.
"""

import re
import unicodedata
from base64 import b64decode
from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

import phonenumbers
from babel import Locale, UnknownLocaleError
from babel.numbers import list_currencies
from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from domain.plain_text import clean

EARLIEST_YEAR, LATEST_YEAR = 1990, 2200
LARGEST_AMOUNT = 10**13  # minor units

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<zone>[Zz]|[+-]\d\d:\d\d)?"
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
# Bidirectional controls reorder what a reader sees; separators break lines where we print one.
_DECEIVING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff")


class Body(BaseModel):
    """Base of every request body: an unknown field is refused, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def example(**fields: Any) -> ConfigDict:
    """For bodies whose fields depend on each other: what the API docs show."""
    return ConfigDict(json_schema_extra={"example": fields})


def _line(text: str) -> str:
    _refuse_controls(text, "")
    return _visible(text)


def _prose(text: str) -> str:
    _refuse_controls(text, "\n\r\t")
    return _visible(text.replace("\r\n", "\n").replace("\r", "\n"))


def source_text(text: str) -> str:
    """Of a template: as it was written, but for its line ends."""
    _refuse_controls(text, "\n\r\t")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def _refuse_controls(text: str, allowed: str) -> None:
    for character in text:
        if character in allowed:
            continue
        if character in _DECEIVING or unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(
                f"has a character that is not allowed here (U+{ord(character):04X}): leave it out"
            )


def _visible(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    if text and all(unicodedata.category(c) in ("Cf", "Zs", "Mn") or c.isspace() for c in text):
        raise ValueError("has nothing that can be read")
    return text


def _instant(value: object) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:  # ours: JSON has no such thing
        return value.astimezone(UTC)
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is not a moment: write it as 2026-11-21T10:00:00Z (RFC 3339)")
    if not found["zone"]:
        raise ValueError("has no time zone: add Z or an offset, as in 2026-11-21T10:00:00Z")
    try:
        moment = datetime.fromisoformat(found.group().upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a moment of the calendar") from None
    _possible_year(moment.year)
    return moment


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):  # ours, as above
        return value
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("is not a day: write it as 2026-11-21")
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise ValueError("is not a day of the calendar") from None
    _possible_year(day.year)
    return day


def _possible_year(year: int) -> None:
    if not EARLIEST_YEAR <= year <= LATEST_YEAR:
        raise ValueError(f"is an impossible date: the year must be {EARLIEST_YEAR} or later")


def email_address(text: str) -> str:
    """The normalised address. Raises ValueError for one that can't be."""
    try:
        found = validate_email(text, strict=True, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as problem:
        raise ValueError(f"is not an e-mail address: {str(problem)[:200]}") from None
    # Stored as it goes over the wire: a look-alike domain shows itself as xn--…
    return f"{found.ascii_local_part}@{found.ascii_domain}"


def phone_number(text: str) -> str:
    """The number in E.164. Raises ValueError for one that can't be, or that costs extra."""
    if not re.fullmatch(r"\+[0-9 ()./-]{4,30}", text):
        raise ValueError("is not a phone number: write it with its country, as +4930123456")
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise ValueError("is not a phone number of any country") from None
    if not phonenumbers.is_valid_number(number):
        raise ValueError("is not a phone number of that country")
    if phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.PREMIUM_RATE:
        raise ValueError("is a premium-rate number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(text: str) -> str:
    if text not in _zones():
        raise ValueError("is not a time zone of the IANA database: write it as Europe/Berlin")
    return text


def _locale(text: str) -> str:
    try:
        return str(Locale.parse(text, sep="-")).replace("_", "-")
    except (ValueError, UnknownLocaleError):
        raise ValueError("is not a BCP 47 language tag: write it as en or pt-BR") from None


@cache
def _currencies() -> frozenset[str]:
    return frozenset(list_currencies())


def _decoded(value: object) -> bytes:
    try:
        return b64decode(value if isinstance(value, str) else b"!", validate=True)
    except ValueError:
        raise ValueError("is not base64: encode the bytes as RFC 4648, section 4") from None


def _currency(text: str) -> str:
    if text not in _currencies():
        raise ValueError("is not a currency of ISO 4217: write it as EUR")
    return text


def _no_slash(text: str) -> str:
    if "/" in text or text in (".", ".."):
        raise ValueError("must not have a slash")
    return text


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_line),
]
Prose = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000),
    AfterValidator(_prose),
]
Envelope = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=320), AfterValidator(_line)
]
Written = Annotated[
    str,
    StringConstraints(max_length=10_000),
    AfterValidator(clean),
    Field(description="as a customer wrote it; what can't be stored or shown is left out"),
]
Base64 = Annotated[
    bytes, BeforeValidator(_decoded), _schema(contentEncoding="base64", description="base64")
]
Reference = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_line),
    AfterValidator(_no_slash),
    Field(description="the other system's own id of it", examples=["C-1001"]),
]
Word = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$"),
    Field(description="a code, no personal data", examples=["spring-sale"]),
]
StaffId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"),
    Field(description="id of a member of staff, no name", examples=["agent-7"]),
]
EventId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+~=-]{0,199}$"),
    Field(
        description="yours, unique for ever; a repeat changes nothing", examples=["shop/4711/paid"]
    ),
]
Instant = Annotated[datetime, BeforeValidator(_instant), _schema(format="date-time")]
Day = Annotated[date, BeforeValidator(_day), _schema(format="date")]
Email = Annotated[
    str,
    StringConstraints(max_length=254),
    AfterValidator(email_address),
    _schema(format="email", maxLength=254, examples=["ada@example.com"]),
]
Phone = Annotated[
    str,
    StringConstraints(max_length=40),
    AfterValidator(phone_number),
    _schema(maxLength=40, description="E.164", examples=["+5511961234567"]),
]
Zone = Annotated[
    str, StringConstraints(max_length=60), AfterValidator(_zone), Field(examples=["Europe/Berlin"])
]
LocaleTag = Annotated[
    str, StringConstraints(max_length=35), AfterValidator(_locale), Field(examples=["pt-BR"])
]
Currency = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{3}$"),
    AfterValidator(_currency),
    Field(examples=["EUR"]),
]
Minor = Annotated[
    int, Field(strict=True, ge=0, le=LARGEST_AMOUNT, description="minor units, such as cents")
]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Flag = Annotated[bool, Field(strict=True)]
