"""Which wording a message gets: the versions that staff has published, kept between batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.base import is_known
from database.templates import MarketingClaim, TemplateVersion
from domain.messages import MESSAGES, Template
from domain.templates import (
    FILE,
    ApprovedClaim,
    TemplateSources,
    Tone,
    VersionState,
    best_wording,
    nearest_locale,
)

_PUBLISHED = sa.select(TemplateVersion.id).where(
    TemplateVersion.state == VersionState.PUBLISHED, is_known(*TemplateVersion.__table__.c)
)


@dataclass(frozen=True)
class Wording:
    """A version of staff, or the file of a locale (without sources)."""

    version: str
    locale: str
    tone: Tone = Tone.NEUTRAL
    sources: TemplateSources | None = None
    makes: tuple[str, ...] = ()  # the ids of its claims
    claims: Mapping[str, ApprovedClaim | None] = field(default_factory=dict)  # None: not approved


class Wordings:
    """A published version never changes, so knowing which ones are published is knowing all."""

    def __init__(self) -> None:
        self._versions: dict[UUID, tuple[Template, Wording]] = {}
        self._published: dict[Template, list[Wording]] = {}
        self._kept: dict[tuple[Template, str], Wording] = {}  # of messages that have their version
        self._claims: Mapping[str, Any] = {}

    async def refresh(self, session: AsyncSession, due: Iterable[Any]) -> None:
        """Bring it up to what is published now, and to what the messages of a batch keep."""
        await self._read_published(session)
        kept = {(row.template, row.template_version) for row in due if row.template_version}
        self._kept = await _read_kept(session, kept) if kept else {}
        wordings = [one for _, one in self._versions.values()] + [*self._kept.values()]
        named = {claim for one in wordings for claim in one.makes}
        self._claims = await _read_claims(session, named) if named else {}

    async def _read_published(self, session: AsyncSession) -> None:
        ids = set(await session.scalars(_PUBLISHED))
        if ids == self._versions.keys():
            return
        known = dict(self._versions)
        if missing := ids - known.keys():
            rows = sa.select(TemplateVersion).where(TemplateVersion.id.in_(missing))
            found = await session.scalars(rows)
            known |= {row.id: (row.template, _wording(row)) for row in found}
        self._versions = {one: known[one] for one in ids}
        self._published = {}
        for template, wording in self._versions.values():
            self._published.setdefault(template, []).append(wording)

    def choose(self, due: Any, locale: str, tone: Tone | None) -> Wording | None:
        """The one it was rendered from before, else the best for the reader; with its claims.

        None: the version that it keeps is gone, as a draft may be.
        """
        wording = self._choose(due, locale, tone)
        if wording is None or not wording.makes:
            return wording
        claims = {name: _claim(self._claims.get(name), wording.locale) for name in wording.makes}
        return replace(wording, claims=claims)

    def _choose(self, due: Any, locale: str, tone: Tone | None) -> Wording | None:
        if due.template_version not in (None, FILE):
            return self._kept.get((due.template, due.template_version))
        published = [] if due.template_version else self._published.get(due.template, [])
        files = [Wording(FILE, known) for known in MESSAGES[Template(due.template)].locales]
        return best_wording([*published, *files], locale, tone)


def _claim(row: Any, locale: str) -> ApprovedClaim | None:
    """In the language of the wording; None where it is not approved in it."""
    if row is None:
        return None
    language = nearest_locale(row.wordings, locale, default=False)
    return None if language is None else ApprovedClaim(row.wordings[language], row.expires_on)


def _wording(row: TemplateVersion) -> Wording:
    sources = TemplateSources(
        subject=row.subject, body_text=row.body_text, body_mjml=row.body_mjml, sms=row.sms
    )
    return Wording(str(row.number), row.locale, row.tone, sources, tuple(row.claims))


async def _read_kept(
    session: AsyncSession, kept: Iterable[tuple[Template, str]]
) -> dict[tuple[Template, str], Wording]:
    numbers = [(template, int(version)) for template, version in kept if version != FILE]
    if not numbers:
        return {}
    key = sa.tuple_(TemplateVersion.template, TemplateVersion.number)
    known = is_known(*TemplateVersion.__table__.c)
    found = await session.scalars(sa.select(TemplateVersion).where(key.in_(numbers), known))
    return {(row.template, str(row.number)): _wording(row) for row in found}


async def _read_claims(session: AsyncSession, ids: Iterable[str]) -> dict[str, Any]:
    wanted = (MarketingClaim.id, MarketingClaim.wordings, MarketingClaim.expires_on)
    found = await session.execute(sa.select(*wanted).where(MarketingClaim.id.in_(ids)))
    return {row.id: row for row in found}
