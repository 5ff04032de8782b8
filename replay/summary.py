"""What happened in a generated world, as a table for whoever watched the demo."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from rich.table import Table

from replay.instance import Instance
from replay.people import People
from replay.player import World

_OF = "JOIN customers c ON c.id = x.customer_id WHERE c.simulation_id = :simulation"
_STAGES = f"SELECT x.stage, count(*) FROM lifecycles x {_OF} GROUP BY 1 ORDER BY 2 DESC"
_ORDERS = f"SELECT x.state, count(*) FROM orders x {_OF} GROUP BY 1 ORDER BY 2 DESC"
_LATE = f"""
    SELECT count(*) FILTER (WHERE x.delivered_late), count(*) FILTER (WHERE x.delivered_late
        AND EXISTS (SELECT FROM messages m WHERE m.workflow_id = 'delivery/' || x.id
                    AND m.template = 'order_at_risk' AND m.state = 'accepted'))
    FROM orders x {_OF}
"""
_PROMISES = f"SELECT x.state, count(*) FROM promises x {_OF} GROUP BY 1 ORDER BY 2 DESC"
_MARKETING = f"""
    SELECT CASE WHEN x.outcome = '' THEN 'running' ELSE x.outcome END, count(*)
    FROM processes x {_OF} AND x.kind = 'marketing' GROUP BY 1 ORDER BY 2 DESC
"""
_RETENTION = _MARKETING.replace("'marketing'", "'retention'")
_CASES = f"SELECT x.kind || ' ' || x.state, count(*) FROM cases x {_OF} GROUP BY 1 ORDER BY 1"
_SURVEYS = f"""
    SELECT count(*), count(x.reminded_at), count(x.answered_at) FROM surveys x {_OF}
"""
_VERDICTS = f"SELECT x.verdict, count(*) FROM feedback x {_OF} GROUP BY 1 ORDER BY 2 DESC"
_TASKS = f"SELECT x.state, count(*) FROM tasks x {_OF} GROUP BY 1 ORDER BY 2 DESC"
_MESSAGES = f"SELECT x.state, count(*) FROM messages x {_OF} GROUP BY 1 ORDER BY 2 DESC"
_STEPS = f"SELECT count(*) FROM timeline x {_OF}"


async def what_happened(instance: Instance, world: World, people: People) -> Table:
    """Counts of this world only, whatever else the instance holds."""
    async with instance.sessions() as session:

        async def rows(sql: str) -> Sequence[Any]:
            return (await session.execute(sa.text(sql), {"simulation": world.id})).all()

        late, warned = (await rows(_LATE))[0]
        asked, reminded, answered = (await rows(_SURVEYS))[0]
        lines = [
            ("customers by stage", _counts(await rows(_STAGES))),
            ("marketing contacts", _counts(await rows(_MARKETING))),
            ("orders", _counts(await rows(_ORDERS))),
            ("delivered late", f"{late}, of which {warned} customers knew before"),
            ("promises", _counts(await rows(_PROMISES))),
            ("surveys", f"{asked} asked, {reminded} reminded, {answered} answered"),
            ("what they said", _counts(await rows(_VERDICTS))),
            ("cases", _counts(await rows(_CASES))),
            ("save plays", _counts(await rows(_RETENTION))),
            ("tasks of staff", _counts(await rows(_TASKS))),
            ("messages", _counts(await rows(_MESSAGES))),
            ("steps of all processes", f"{(await rows(_STEPS))[0][0]:,}"),
        ]
    table = Table("", "", title="What happened", title_justify="left", show_header=False)
    for what, told in lines:
        table.add_row(what, told)
    table.add_row("played by people", ", ".join(f"{n} {did}" for did, n in people.did.items()))
    return table


def _counts(rows: Sequence[Any]) -> str:
    return ", ".join(f"{count:,} {str(name).replace('_', ' ')}" for name, count in rows) or "-"
