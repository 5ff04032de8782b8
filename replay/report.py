"""Prints what a replay came to."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from replay.reconciliation import Reconciliation

_SHOWN = 20


def print_reconciliation(console: Console, result: Reconciliation) -> None:
    console.print(_orders(result))
    console.print(_facts(result))
    console.print(_nested("Messages", ("template", "state"), result.messages))
    console.print(_nested("Processes", ("kind", "state"), result.processes))
    _list(console, "Assumed, as the files do not say it", result.assumptions, "dim")
    _list(console, "Rows left out", result.skipped_rows, "yellow")
    if result.agrees:
        console.print(
            "[bold green]✓[/] agrees with the file; "
            "nothing lost, nothing twice, nothing unexplained"
        )
    else:
        _list(console, "Disagreements", result.disagreements, "red")
        console.print(
            f"[bold red]✗[/] {len(result.disagreements)} disagreements, {result.duplicates} "
            f"duplicates, {result.lost} lost, {result.unexplained} unexplained"
        )


def _orders(result: Reconciliation) -> Table:
    table = Table("state", title="Orders", title_justify="left")
    table.add_column("file", justify="right")
    table.add_column("product", justify="right")
    file, product = result.orders["file"], result.orders["product"]
    for state in [*file, *(state for state in product if state not in file)]:
        said, found = file.get(state, 0), product.get(state, 0)
        style = "" if said == found else "red"
        table.add_row(state, f"{said:,}", f"{found:,}", style=style)
    table.add_section()
    table.add_row("all", f"{sum(file.values()):,}", f"{sum(product.values()):,}")
    return table


def _facts(result: Reconciliation) -> Table:
    late, overdue, surveys = result.late, result.overdue, result.surveys
    table = Table("", "", title="What came of them", title_justify="left", show_header=False)
    rows: list[tuple[str, str]] = [
        ("delivered late (file)", f"{late['file']:,}"),
        ("  noticed, the customer told", f"{late['noticed']:,}"),
        ("  told before the day had passed", f"{late['told_before']:,}"),
        ("  told only after", f"{late['told_after']:,}"),
        ("  told of a delay that was none", f"{late['false_alarms']:,}"),
        ("overdue at the end (file)", f"{overdue['file']:,}"),
        ("  noticed, the customer told", f"{overdue['noticed']:,}"),
        ("promised days", _counts(result.promises)),
        ("surveys asked / reminded", f"{surveys['asked']:,} / {surveys['reminded']:,}"),
        (
            "  answered by link / by a review",
            f"{surveys['answered_by_link']:,} / {surveys['answered_by_review']:,}",
        ),
        ("reviews of 1 or 2 (file)", f"{result.reviews_1_2:,}"),
        ("  recovery cases", f"{result.recovery_cases:,}"),
        ("  slowest, from review to case", f"{result.recovery_slowest_s:.1f} s"),
        ("customers / events", f"{result.customers:,} / {result.events:,}"),
        ("requests sent again", f"{result.repeated_requests:,}"),
        ("took", f"{result.elapsed_s:,.0f} s"),
        ("behind, half / 99 % / most", _shares(result.lag_s)),
        ("  processes, from event to step", _shares(result.processes_lag_s)),
        ("  at most, in business days", f"{result.processes_lag_days:,.1f}"),
        ("duplicates", f"{result.duplicates:,}"),
        ("lost", f"{result.lost:,}"),
        ("unexplained", f"{result.unexplained:,}"),
    ]
    for what, value in rows:
        table.add_row(what, value)
    return table


def _nested(title: str, headers: tuple[str, str], nested: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(headers[0], title=title, title_justify="left")
    inner = sorted({state for states in nested.values() for state in states})
    for state in inner:
        table.add_column(state, justify="right")
    for name, states in nested.items():
        table.add_row(name, *(f"{states[one]:,}" if one in states else "" for one in inner))
    return table


def _shares(lag: Mapping[str, float]) -> str:
    return " / ".join(f"{lag[share]:.2f} s" for share in ("p50", "p99", "max"))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "-"


def _list(console: Console, title: str, lines: list[str], style: str) -> None:
    if not lines:
        return
    console.print(f"{title}:", style=style)
    for line in lines[:_SHOWN]:
        console.print(f"  {line}", style=style, markup=False, highlight=False, soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"  and {len(lines) - _SHOWN:,} more", style=style)
