"""The policies in force, for the steps of processes and for the API."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.policies import PolicyVersion
from domain.policies import POLICIES, Policy, PolicyKind

NEWEST_POLICY = (
    sa.select(PolicyVersion.document, PolicyVersion.version)
    .where(PolicyVersion.kind == sa.bindparam("kind"))
    .order_by(PolicyVersion.version.desc())
    .limit(1)
)


async def current_policy(session: AsyncSession, kind: PolicyKind) -> Policy:
    """The published policy in force, or the defaults."""
    found = (await session.execute(NEWEST_POLICY, {"kind": kind})).one_or_none()
    document = found.document if found is not None else {}
    return POLICIES[kind].model_validate(document)
