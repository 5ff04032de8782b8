"""Wordings that staff may change: their parts, their versions, and which one a reader gets."""

from collections.abc import Iterable, Iterator
from datetime import date
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from domain.messages import MESSAGES, MessageClass, Template

DEFAULT_LOCALE = "en"
FILE = "file"  # the version of a message that was written from templates/
LARGEST_SOURCE = 200_000  # characters of one part


class Tone(StrEnum):
    """How a customer likes to be spoken to; a wording is neutral unless it was written for one."""

    NEUTRAL = "neutral"
    FORMAL = "formal"
    INFORMAL = "informal"


class VersionState(StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"
    RETIRED = "retired"


class Part(StrEnum):
    SUBJECT = "subject"
    BODY_TEXT = "body_text"
    BODY_MJML = "body_mjml"
    SMS = "sms"


class TemplateSources(BaseModel):
    """What staff writes. The bodies stand in the frame of templates/_layout/: greeting, signature,
    and why the message comes and how to stop it, which no version can lose.
    """

    model_config = ConfigDict(frozen=True)

    subject: str = ""
    body_text: str = ""
    body_mjml: str = ""
    sms: str | None = None


class Fault(BaseModel):
    """Why a version cannot be published."""

    model_config = ConfigDict(frozen=True)

    part: Part
    line: int | None = None  # counts from 1; None: of the whole part
    says: str


class ClaimMade(BaseModel):
    """Where a wording says {{ claims.<id> }}."""

    model_config = ConfigDict(frozen=True)

    id: str
    part: Part
    line: int


class Verdict(BaseModel):
    """What is wrong with a version, and what it claims."""

    model_config = ConfigDict(frozen=True)

    faults: list[Fault] = []
    claims: list[ClaimMade] = []


class NotRendered(Exception):
    """The wording and the context don't fit together; says what is missing, without the values."""


class Preview(NamedTuple):
    subject: str
    text: str
    html: str
    sms: str | None


class ApprovedClaim(NamedTuple):
    """What marketing may claim, in one language, until the end of a day."""

    wording: str
    expires_on: date


class _Wording(Protocol):
    @property
    def locale(self) -> str: ...
    @property
    def tone(self) -> Tone: ...


W = TypeVar("W", bound=_Wording)


def may_be_changed(template: Template) -> bool:
    """All that customers get, but what a consent is asked with; and what staff gets is ours."""
    if template is Template.CONFIRM_OPT_IN:
        return False
    return MESSAGES[template].message_class is not MessageClass.STAFF


def names_in(template: Template) -> frozenset[str]:
    """The variables that a version of staff may use: those of its process, and who reads it."""
    kind = MESSAGES[template]
    names = {"name", "company", "reference", *kind.variables}
    if kind.message_class is MessageClass.MARKETING:
        names.add("unsubscribe_url")
    if "survey_id" in kind.variables:
        names |= {"survey_url", "scores"}
    return frozenset(names)


def may_claim(template: Template) -> bool:
    """Only what is sold with is bound to approved claims: they must not stop an order's news."""
    return MESSAGES[template].message_class is MessageClass.MARKETING


def best_wording(wordings: Iterable[W], locale: str, tone: Tone | None) -> W | None:
    """The wording for a reader: his language first, then his tone.

    A locale falls back as RFC 4647 §3.4 does (pt-BR, then pt), then to another variety of the
    language, then to English. Within a locale the wording in his tone goes before the neutral one;
    one in another tone is never used. Of equals the first is taken.
    """
    wanted = tone or Tone.NEUTRAL
    fitting = [one for one in wordings if one.tone in (wanted, Tone.NEUTRAL)]
    for known in _chain(locale, sorted({one.locale for one in fitting})):
        found = [one for one in fitting if one.locale == known]
        return min(found, key=lambda one: one.tone is not wanted)
    return None


def nearest_locale(known: Iterable[str], locale: str, *, default: bool = True) -> str | None:
    """The first of the chain that is known; without `default` only one of the same language."""
    return next(_chain(locale, sorted(known), default=default), None)


def _chain(locale: str, known: list[str], *, default: bool = True) -> Iterator[str]:
    subtags = locale.replace("_", "-").lower().split("-")
    shorter = ["-".join(subtags[:length]) for length in range(len(subtags), 0, -1)]
    for wanted in shorter:
        yield from (one for one in known if one.lower() == wanted)
    yield from (one for one in known if one.lower().partition("-")[0] == subtags[0])
    if default:
        yield from (one for one in known if one == DEFAULT_LOCALE)
