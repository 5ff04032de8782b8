"""Opting out at the very moment of the sending, so often; at the end, who was first each time."""

import asyncio
import random
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.messages import MessageActivities
from database.base import Sessions
from domain.contacts import ConsentState
from domain.messages import Channel, MessageState, Purpose, Template
from settings import Settings
from tests.activities.dispatching import LINKS, queue, running, until_settled
from tests.api.conftest import calling, running_app

_AT_ONCE = 20
_SPREAD = 0.25  # seconds in which those of a wave opt out

# Which transaction claimed, and which one withdrew: PostgreSQL knows when each was committed.
_NOTE_COMMITS = (
    "CREATE TABLE noted (what text, customer_id uuid, xid xid8)",
    """
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO noted VALUES (TG_TABLE_NAME, NEW.customer_id, pg_current_xact_id());
          RETURN NULL; END $$
    """,
    """
    CREATE TRIGGER note AFTER UPDATE ON messages FOR EACH ROW
    WHEN (OLD.state <> 'sending' AND NEW.state = 'sending') EXECUTE FUNCTION note()
    """,
    """
    CREATE TRIGGER note AFTER INSERT ON consents FOR EACH ROW
    WHEN (NEW.state = 'withdrawn') EXECUTE FUNCTION note()
    """,
)
_ORDER = sa.text(
    """
    SELECT m.state,
           (SELECT pg_xact_commit_timestamp(max(xid)::xid) FROM noted
            WHERE what = 'messages' AND customer_id = m.customer_id) AS claimed,
           (SELECT pg_xact_commit_timestamp(min(xid)::xid) FROM noted
            WHERE what = 'consents' AND customer_id = m.customer_id) AS withdrawn
    FROM messages m
    """
)


class Race(NamedTuple):
    opted_out_first: int  # and nothing was sent
    sent_first: int
    sent_after_opting_out: int  # never


async def race_opt_outs(
    activities: MessageActivities, sessions: Sessions, settings: Settings, times: int, seed: int = 1
) -> Race:
    """`times` customers unsubscribe by the page while the dispatcher sends; judged by the commits.

    Needs an empty database of a server with `track_commit_timestamp`.
    """
    async with sessions.begin() as session:
        connection: AsyncConnection = await session.connection()
        for statement in _NOTE_COMMITS:
            await connection.exec_driver_sql(statement)
    moments = random.Random(seed)
    async with running(activities), running_app(settings) as app, calling(app, None) as client:

        async def unsubscribe(customer: UUID) -> None:
            await asyncio.sleep(moments.uniform(0, _SPREAD))
            link = LINKS.unsubscribe(customer, Channel.EMAIL, Purpose.MARKETING)
            answer = await client.post(link.removeprefix(LINKS.base))
            assert answer.status_code == 200, answer.text

        for wave in range(0, times, _AT_ONCE):
            size = min(_AT_ONCE, times - wave)
            customers = await queue(
                sessions,
                Template.MARKETING_VALUE,
                customers=size,
                address=f"wave{wave}-{{}}@example.com",
                consent=ConsentState.GRANTED,
            )
            await asyncio.gather(*map(unsubscribe, customers))
        await until_settled(sessions)
    async with sessions() as session:
        rows = (await session.execute(_ORDER)).all()
    assert len(rows) == times
    sent = [row for row in rows if row.state != MessageState.SUPPRESSED]
    after = [row for row in sent if row.claimed is None or row.claimed > row.withdrawn]
    return Race(times - len(sent), len(sent) - len(after), len(after))


def settings_for(database_url: str, temporal_address: str, data_dir: Path) -> Settings:
    """Those of an API whose links the dispatcher of the tests makes."""
    secrets = data_dir / "secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "api_key").write_text("crm_key_of_the_race")
    (secrets / "signing_key").write_bytes(LINKS.signing_key)
    return Settings(
        data_dir=data_dir,
        database_url=SecretStr(database_url),
        temporal_address=temporal_address,
        database_pool_size=5,
    )
