"""F10: customers opt out at the very moment in which they are written to; who was first, wins."""

from dataclasses import replace

from chaos.ground import Ground, Table
from tests.activities.dispatching import dispatcher
from tests.activities.opt_out_race import race_opt_outs, settings_for
from tests.messaging.post_office import PostOffice, free_port

_BATCH = 5  # small, so that claims and opt-outs take turns


async def race(ground: Ground, size: int) -> Table:
    """`size` customers, each with one marketing message."""
    directory = ground.directory / "race"
    directory.mkdir()
    office = PostOffice(directory / "inbox.sqlite", free_port())
    await office.open()
    activities = dispatcher(ground.sessions, ground.client, office.port, office.path)
    patient = replace(activities, rules=replace(activities.rules, batch=_BATCH))
    address = ground.client.service_client.config.target_host
    settings = settings_for(ground.database_url, address, directory)
    try:
        found = await race_opt_outs(patient, ground.sessions, settings, size)
        arrived = await office.inbox.count()
    finally:
        await office.close()
    columns = ("race", "times", "opted out first", "sent first", "sent after opting out", "arrived")
    table = Table("F10 opt-out race", columns, [("opt-out", size, *found, arrived)])
    table.expect("sent after opting out", found.sent_after_opting_out, 0)
    table.expect("arrived", arrived, found.sent_first)
    return table
