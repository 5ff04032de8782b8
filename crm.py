"""The command line: `python crm.py COMMAND`. Each command imports only what it needs."""

# ruff: noqa: PLC0415

import asyncio
import contextlib
import json
import os
import re
import runpy
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from domain.tasks import Role
from settings import Settings
from supervisor.errors import Refused
from supervisor.run_file import RunFile, running_instance

app = typer.Typer(
    help="Perennial: customer relationships as durable processes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
schedules = typer.Typer(help="Look at and steer the schedules of the running instance.")
app.add_typer(schedules, name="schedules", no_args_is_help=True)

staff = typer.Typer(help="Who works here: accounts of the staff console.")
app.add_typer(staff, name="staff", no_args_is_help=True)

_HERE = Path(__file__).resolve()
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """`500ms`, `1s`, `2m` … as seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if found is None or (value := float(found[1]) * _UNITS[found[2]]) <= 0:
        raise typer.BadParameter(f"{text!r} is not a time such as 500ms, 1s or 2m")
    return value


Day = Annotated[str, typer.Option(metavar="TIME", help="How long one day takes.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result here, as JSON.")]


@app.command()
def up() -> None:
    """Start everything and keep it running until Ctrl-C.

    State is under CRM_DATA_DIR (default var/), ports by CRM_API_PORT, CRM_TEMPORAL_PORT,
    CRM_TEMPORAL_UI_PORT and CRM_SMTP_PORT. CRM_DATABASE_URL and CRM_TEMPORAL_ADDRESS point to
    existing servers instead of the embedded ones.
    """
    from supervisor.supervise import run

    run(Settings.from_environment())


@app.command()
def demo(
    customers: Annotated[int, typer.Option(min=1, help="How many lives are played.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed plays the same lives.")] = 1,
    day: Day = "2s",
    running: Annotated[
        bool, typer.Option("--running", help="Play against the running instance; start nothing.")
    ] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="With --running: its people go on until Ctrl-C.")
    ] = False,
) -> None:
    """Start everything, play the lives of synthetic customers, and stay up until Ctrl-C."""
    settings = Settings.from_environment()
    if running:
        from replay.command import run_demo

        raise typer.Exit(
            run_demo(
                instance(settings), customers=customers, seed=seed, day=seconds(day), stay=stay
            )
        )

    from supervisor.children import tied_to_us
    from supervisor.supervise import run

    seconds(day)  # a mistake shows now, not after the start

    async def play(_: RunFile) -> None:
        options = ["--customers", str(customers), "--seed", str(seed), "--day", day]
        command = [sys.executable, str(_HERE), "demo", "--running", "--stay", *options]
        player = await asyncio.create_subprocess_exec(*tied_to_us(command), start_new_session=True)
        try:
            if await player.wait() != 0:
                raise Refused("the demo ended early; the installation stays up until Ctrl-C")
        finally:
            if player.returncode is None:  # Ctrl-C: it gives the terminal back as it was
                player.send_signal(signal.SIGINT)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(player.wait(), 0.7)
            if player.returncode is None:
                player.kill()

    run(settings, when_ready=play)


@app.command()
def replay(
    directory: Annotated[Path, typer.Argument(help="A shop's history, as CSV files.")],
    day: Day = "1s",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N orders by purchase time.")
    ] = None,
    json_file: Json = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 on any disagreement, duplicate or loss.")
    ] = False,
    zone: Annotated[
        str, typer.Option(help="The time zone of the file's local times.")
    ] = "America/Sao_Paulo",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and list them.")
    ] = False,
    kill: Annotated[
        int, typer.Option(min=0, help="Kill worker and Temporal so often on the way.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the moments at which they are killed.")] = 1,
) -> None:
    """Play a shop's real orders through the running instance and reconcile the outcome.

    DIRECTORY holds the CSV files of the Olist public dataset's format. Exit codes: 0; 1 on what
    --check looks for, or when the instance can't be reached; 2 when the files can't be played.
    """
    from replay.command import run_replay

    code = run_replay(
        instance(),
        directory,
        day=seconds(day),
        limit=limit,
        json_file=json_file,
        check=check,
        zone=zone,
        skip_bad_rows=skip_bad_rows,
        kills=kill,
        seed=seed,
    )
    raise typer.Exit(code)


@app.command()
def fill(
    customers: Annotated[int, typer.Option(min=1, help="How many customers.")] = 100_000,
    orders: Annotated[int, typer.Option(min=0, help="How many orders, of all of them.")] = 300_000,
    lines: Annotated[
        int, typer.Option(min=0, help="How many lines all their timelines have together.")
    ] = 1_000_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same customers.")] = 1,
    processes: Annotated[
        int,
        typer.Option(min=1, help="How many write at a time; the rows are the same."),
    ] = min(os.cpu_count() or 1, 8),
    yes: Annotated[
        bool, typer.Option("--yes", help="Also into a database that holds real customers.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take out what was filled, and nothing else.")
    ] = False,
) -> None:
    """Fill the database of the running instance to the size of a large installation.

    For trying lists, search and the customer's page at that size; takes minutes. Ctrl-C stops it,
    and --remove takes out what is there by then. The customers are nobody's: their references begin
    with FILL-, their addresses are of example.com and of numbers set aside for fiction, and they
    belong to a simulation of their own.

    Only rows are written. No process runs behind them, so none can be told anything; no message
    waits, so none is sent; sweeps, the staff digest and `verify` leave them out. Without a running
    instance CRM_DATABASE_URL says which database.
    """
    from replay.fill.command import run_fill, run_remove
    from replay.fill.filling import Size
    from supervisor.existing import existing_database_url

    settings = Settings.from_environment()
    given = settings.database_url is not None
    url = existing_database_url(settings) if given else instance(settings).database_url
    if remove:
        run_remove(url, processes=processes)
    else:
        size = Size(customers, orders, lines)
        run_fill(url, size, seed=seed, processes=processes, yes=yes)


@app.command()
def verify(json_file: Json = None) -> None:
    """Check that nothing is lost, doubled or stuck: PostgreSQL, Temporal and messages agree."""
    from replay.verify import run_verify

    raise typer.Exit(run_verify(instance(), json_file=json_file))


@app.command()
def doctor() -> None:
    """Check this machine and the running instance; exit 1 when something that matters is wrong."""
    from rich.console import Console

    from supervisor.doctor import examine

    console = Console(highlight=False, soft_wrap=True)
    failed = False
    for finding in examine(Settings.from_environment()):
        mark = "[green]✓[/]" if finding.well else "[red]✗[/]" if finding.matters else "[dim]-[/]"
        console.print(mark, finding.what + (f": {finding.remedy}" if finding.remedy else ""))
        failed = failed or (finding.matters and not finding.well)
    # Not by the interpreter's own way out: a thread of Temporal's core may still let go of a lock
    # that is gone by then, and the process would end with SIGABRT.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


@app.command()
def bench() -> None:
    """Measure the speed claims on an installation of its own; also writes var/bench.json."""
    runpy.run_module("benchmarks", run_name="__main__")


@schedules.command("list")
def list_schedules() -> None:
    """Every schedule: its state, when it ran last and when it runs next."""
    from rich.console import Console
    from rich.table import Table

    table = Table("schedule", "state", "last run", "next run", "runs", "missed")
    for row in _ask("GET", "/api/v1/schedules")["items"]:
        recent = [one["started_at"] for one in row["recent_runs"]]
        table.add_row(
            row["name"],
            "paused" if row["paused"] else "active",
            recent[-1] if recent else "-",
            row["next_runs"][0] if row["next_runs"] and not row["paused"] else "-",
            str(row["runs"]),
            str(row["missed"]),
        )
    Console().print(table)


@schedules.command("pause")
def pause_schedule(name: str) -> None:
    """Let a schedule rest until it is resumed."""
    _steer(name, "pause", {})


@schedules.command("resume")
def resume_schedule(name: str) -> None:
    """Let a paused schedule run again."""
    _steer(name, "resume", {})


@schedules.command("trigger")
def trigger_schedule(name: str) -> None:
    """Run a schedule now."""
    _steer(name, "trigger")


@schedules.command("backfill")
def backfill_schedule(
    name: str,
    start: Annotated[datetime, typer.Option(help="From when; your time zone.")],
    end: Annotated[datetime, typer.Option(help="Until when; your time zone.")],
) -> None:
    """Run what a schedule would have run between two moments."""
    body = {"start_at": start.astimezone().isoformat(), "end_at": end.astimezone().isoformat()}
    _steer(name, "backfill", body)


@staff.command("list")
def list_staff() -> None:
    """Everybody who has an account."""
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "e-mail", "role", "state")
    for row in _ask("GET", "/api/v1/staff?limit=200")["items"]:
        state = "closed" if row["disabled_at"] else "new" if row["one_time_password"] else "active"
        table.add_row(row["id"], row["name"], row["email"], row["role"], state)
    Console().print(table)


@staff.command("add")
def add_staff(
    staff_id: Annotated[str, typer.Argument(metavar="ID", help="Stands in logs: agent-7.")],
    email: Annotated[str, typer.Argument(help="What they sign in with.")],
    name: Annotated[str, typer.Option(help="As colleagues see it.")],
    role: Annotated[Role, typer.Option(help="What they may do.")],
) -> None:
    """Make an account and print its password, good for once and for 72 hours."""
    body = {"id": staff_id, "email": email, "name": name, "role": role.value}
    print(_ask("POST", "/api/v1/staff", body)["password"])


@staff.command("reset")
def reset_staff(
    staff_id: Annotated[str, typer.Argument(metavar="ID", help="Of the account, as in the list.")],
) -> None:
    """Print a new password, good for once and for 72 hours; the account's sessions end."""
    print(_ask("POST", f"/api/v1/staff/{staff_id}/password-resets")["password"])


def instance(settings: Settings | None = None) -> RunFile:
    """The running instance on the data directory of these settings."""
    return running_instance((settings or Settings.from_environment()).data_dir.absolute())


def _steer(name: str, verb: str, body: dict[str, str] | None = None) -> None:
    _ask("POST", f"/api/v1/schedules/{name}/{verb}", body)
    print(f"{name}: {verb} accepted")


def _ask(method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """One request to the running instance; a problem becomes one line."""
    import httpx2

    run = instance()
    headers = {"Authorization": f"Bearer {run.api_key}"}
    url = run.addresses.api + path
    try:
        answer = httpx2.request(method, url, json=body, headers=headers, timeout=30)
    except httpx2.HTTPError as problem:
        raise Refused(f"the API at {run.addresses.api} does not answer ({problem})") from None
    if answer.is_error:
        raise Refused(_detail(answer.text) or f"the API answered {answer.status_code}")
    return answer.json() if answer.content else None


def _detail(problem_json: str) -> str:
    try:
        problem = json.loads(problem_json)
    except ValueError:
        return ""
    return str(problem.get("detail") or problem.get("title") or "")


def _settings_problem(problem: ValidationError) -> str:
    named = ((f"CRM_{str(e['loc'][0]).upper()}: " if e["loc"] else "", e) for e in problem.errors())
    return "; ".join(name + e["msg"].removeprefix("Value error, ") for name, e in named)


def main() -> None:
    """Expected failures are one line and exit code 1; anything else is a bug and shows itself."""
    try:
        app()
    except Refused as refusal:
        sys.exit(f"crm: {refusal}")
    except ValidationError as problem:
        if problem.title != Settings.__name__:
            raise
        sys.exit(f"crm: {_settings_problem(problem)}")


if __name__ == "__main__":
    main()
