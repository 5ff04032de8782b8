"""Which wordings make which marketing claims."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.templates import TemplateVersion
from domain.templates import VersionState


async def uses_of_claims(session: AsyncSession) -> Mapping[str, Sequence[TemplateVersion]]:
    """By claim: the wordings in force and the drafts that make it."""
    found: dict[str, list[TemplateVersion]] = defaultdict(list)
    versions = await session.scalars(
        sa.select(TemplateVersion)
        .where(
            TemplateVersion.state != VersionState.RETIRED,
            sa.func.jsonb_array_length(TemplateVersion.claims) > 0,
        )
        .order_by(TemplateVersion.template, TemplateVersion.number)
    )
    for version in versions:
        for claim in version.claims:
            found[claim].append(version)
    return found
