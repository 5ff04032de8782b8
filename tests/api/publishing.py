"""A policy that is in force for as long as a test needs it: the database is everybody's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa

from database.base import Sessions
from database.policies import PolicyVersion
from domain.policies import ContactPolicy, PolicyKind

_VERSION = 1_000_000  # after whatever other tests have published


@asynccontextmanager
async def published(sessions: Sessions, policy: ContactPolicy) -> AsyncIterator[None]:
    document = policy.model_dump(mode="json")
    async with sessions.begin() as session:
        session.add(
            PolicyVersion(
                kind=PolicyKind.CONTACT, version=_VERSION, document=document, published_by="test"
            )
        )
    try:
        yield
    finally:
        async with sessions.begin() as session:
            await session.execute(sa.delete(PolicyVersion).where(PolicyVersion.version == _VERSION))
