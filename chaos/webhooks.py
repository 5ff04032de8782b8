"""F9: a provider's events, each many times over and in any order, at a real API in this process."""

import secrets
from base64 import b64encode

from pydantic import SecretStr

from chaos.ground import Ground, Table
from settings import Settings
from tests.api.conftest import calling, running_app
from tests.api.webhook_storm import storm

_SEED = 9


async def weather_storm(ground: Ground, size: int) -> Table:
    """`size` events, 1 to 46 deliveries of each."""
    secret = secrets.token_bytes(32)
    known = Settings(
        _env_file=None,
        data_dir=ground.directory,
        database_url=SecretStr(ground.database_url),
        temporal_address=ground.client.service_client.config.target_host,
        resend_webhook_secret=SecretStr("whsec_" + b64encode(secret).decode()),
    )
    async with running_app(known) as app, calling(app, key=None) as provider:
        result = await storm(
            *(provider, ground.sessions, ground.client, secret), events=size, seed=_SEED
        )
    columns = ("storm", "events", "deliveries", "before our own commit", "answered as duplicates")
    row = ("Resend", result.events, result.deliveries, result.early, result.duplicates)
    return Table("F9 webhook storm", columns, [row], result.wrong)
