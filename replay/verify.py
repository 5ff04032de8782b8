"""`crm.py verify`: the conservation check, run now and printed."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from activities.verify import PATIENCE, Conservation, Verdict, record_verdict
from replay.instance import insist, opened
from supervisor.run_file import RunFile


def run_verify(run: RunFile, *, json_file: Path | None = None) -> int:
    """Exit code 1 when something is lost, twice or stuck."""
    console = Console()
    verdict = asyncio.run(verify(run))
    _print(console, verdict)
    if json_file is not None:
        json_file.write_text(json.dumps(verdict.model_dump(mode="json"), indent=2) + "\n")
    return 0 if verdict.clean else 1


async def verify(run: RunFile, patience: timedelta = PATIENCE) -> Verdict:
    """Check the whole instance and keep the outcome."""
    async with opened(run) as instance:
        check = Conservation(
            instance.sessions, instance.temporal, instance.inbox, patience=patience
        )
        verdict = await insist(check.run)
        await record_verdict(instance.sessions, verdict)
        return verdict


def _print(console: Console, verdict: Verdict) -> None:
    looked_at = ", ".join(f"{count:,} {what}" for what, count in verdict.counts.items())
    console.print(f"looked at {looked_at} in {verdict.seconds:g} s", highlight=False)
    if verdict.clean:
        console.print("[bold green]✓[/] nothing lost, nothing twice, nothing stuck")
        return
    table = Table("what is wrong", "such as")
    for finding in verdict.findings:
        table.add_row(finding.finding, "\n".join(finding.examples))
    console.print(table)
    console.print(f"[bold red]✗[/] {len(verdict.findings)} findings")
