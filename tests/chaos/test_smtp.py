"""The fault runs of SMTP at a small size; `make chaos` runs them at full size."""

import pytest

from chaos.ground import Ground
from chaos.random_kills import kill_at_random
from chaos.smtp_crashes import Point, crash_dispatchers
from chaos.smtp_faults import meet_faults

SIZE = 7


@pytest.mark.parametrize("evidence", [True, False], ids=["with-evidence", "without"])
async def test_a_dispatcher_killed_at_any_point_loses_nothing_and_counts_what_it_can_not_know(
    ground: Ground, evidence: bool
) -> None:
    table = await crash_dispatchers(ground, SIZE, evidence=evidence)
    assert table.wrong == [], str(table)
    assert [row[:3] for row in table.rows] == [[point, SIZE, 1] for point in Point]


async def test_dispatchers_killed_at_random_moments_send_each_message_once(ground: Ground) -> None:
    table = await kill_at_random(ground, size=150)
    assert table.wrong == [], str(table)
    [(_, messages, kills, found, again, *_)] = table.rows
    assert messages == 150
    assert int(kills) > 1, str(table)
    assert int(found) + int(again) > 0, "the kills hit something"


async def test_each_fault_of_a_mail_server_ends_in_its_state_and_is_retried_on_schedule(
    ground: Ground,
) -> None:
    table = await meet_faults(ground, size=5)
    assert table.wrong == [], str(table)
    assert len(table.rows) == 10
