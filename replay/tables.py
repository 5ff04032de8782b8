"""Reads CSV files of a shop: every value checked where it stands, every fault with its remedy."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from io import StringIO
from pathlib import Path
from typing import Any

from replay.history import BadInput, BadRow

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?")
_YEARS = range(1990, 2200)  # what the API takes
_LARGEST_FIELD = 16 * 2**20
_LARGEST_AMOUNT = 10**11  # of the currency's main unit; the API takes a hundred times as many minor
_SHOWN = 40


class BadValue(Exception):
    """A value that can't be; carries the field and what is wrong with it."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field, self.what = field, what


@dataclass(frozen=True)
class Row:
    """One row; its readers raise what `Table.read` turns into a BadRow."""

    file: str
    number: int  # the header is row 1
    line: int
    values: dict[str, str]

    def text(self, field: str) -> str:
        """As it stands, without the blanks around it."""
        return self.values[field].strip()

    def id(self, field: str) -> str:
        value = self.text(field)
        if not value:
            raise BadValue(field, "is empty: fill it in or leave the row out")
        if not _ID.fullmatch(value):
            raise BadValue(
                field,
                f"{_shown(value)} is not an id: letters, digits, '.', '_' and '-', at most 60",
            )
        return value

    def moment(self, field: str) -> datetime | None:
        """A local time, naive as in the file; None when empty."""
        value = self.text(field)
        if not value:
            return None
        if not _MOMENT.fullmatch(value):
            raise BadValue(
                field,
                f"{_shown(value)} is not a local time: write it as 2017-07-09 21:57:05",
            )
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise BadValue(field, f"{_shown(value)} is not a day of the calendar") from None
        if moment.year not in _YEARS:
            raise BadValue(
                field,
                f"{_shown(value)} is an impossible date: "
                f"the year must be {_YEARS.start} to {_YEARS.stop - 1}",
            )
        return moment

    def required_moment(self, field: str) -> datetime:
        moment = self.moment(field)
        if moment is None:
            raise BadValue(field, "is empty: fill it in or leave the row out")
        return moment

    def money(self, field: str) -> int:
        """In minor units."""
        value = self.text(field)
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or not 0 <= amount <= _LARGEST_AMOUNT:
            raise BadValue(
                field, f"{_shown(value)} is not an amount: write it as 21.99, not negative"
            )
        return round(amount * 100)

    def whole(self, field: str, allowed: range, meaning: str) -> int:
        value = self.text(field)
        if not re.fullmatch(r"\d{1,6}", value) or int(value) not in allowed:
            raise BadValue(
                field,
                f"{_shown(value)} is not {meaning}: "
                f"a whole number from {allowed.start} to {allowed.stop - 1}",
            )
        return int(value)

    def one_of(self, field: str, allowed: Collection[str]) -> str:
        value = self.text(field)
        if value not in allowed:
            raise BadValue(
                field, f"{_shown(value)} is unknown: one of {', '.join(sorted(allowed))}"
            )
        return value

    def bad(self, error: BadValue) -> BadRow:
        return BadRow(self.file, self.number, self.line, error.field, error.what)


def read_table(
    directory: Path, name: str, columns: Sequence[str]
) -> tuple[list[Row], list[BadRow]]:
    """The good rows of a file and the bad ones.

    Raises BadInput for what makes the whole file unreadable: it is missing, has another encoding
    or lacks a column.
    """
    text = _decoded(directory / name, name)
    csv.field_size_limit(_LARGEST_FIELD)
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    good: list[Row] = []
    bad: list[BadRow] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(name, header, columns)
        for number, line, values in _records(reader):
            problem = _shape_problem(header, values)
            if problem:
                bad.append(BadRow(name, number, line, *problem))
            else:
                good.append(Row(name, number, line, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        what = f"{error}: a quote that is opened must be closed, and doubled inside a text"
        raise BadInput([BadRow(name, None, None, f"line {reader.line_num}", what)]) from None
    return good, bad


def _decoded(path: Path, name: str) -> str:
    """UTF-8, with or without a byte order mark. A byte that isn't stays as a lone surrogate: its
    row is bad, the others can be read."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        what = f"is missing in {path.parent}: all files of the format are needed"
        raise BadInput([BadRow(name, None, None, "", what)]) from None
    except OSError as problem:
        what = f"can't be read ({problem.strerror}): check the path and its permissions"
        raise BadInput([BadRow(name, None, None, "", what)]) from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:200]:
        what = f"is UTF-16, not UTF-8: convert it with `iconv -f utf-16 -t utf-8 {name}`"
        raise BadInput([BadRow(name, None, None, "", what)])
    return raw.decode("utf-8-sig", "surrogateescape")


def _check_header(name: str, header: Sequence[str], columns: Sequence[str]) -> None:
    problems = []
    missing = [column for column in columns if column not in header]
    if missing:
        found = ", ".join(header)[:200] or "nothing"
        what = f"has no column {', '.join(missing)}; it has: {_printable(found)}"
        if any(mark in found for mark in ";\t") and "," not in found:
            what += " (separate the values by commas)"
        problems.append(BadRow(name, 1, 1, "", what))
    twice = {column for column in header if header.count(column) > 1}
    if twice:
        what = f"has the column {', '.join(sorted(twice))} twice: leave one out"
        problems.append(BadRow(name, 1, 1, "", _printable(what)))
    if problems:
        raise BadInput(problems)


def _records(reader: Any) -> Iterator[tuple[int, int, list[str]]]:
    """Number, line and values of each record; empty lines are none."""
    number, line = 1, reader.line_num + 1
    for values in reader:
        if values:
            number += 1
            yield number, line, values
        line = reader.line_num + 1


def _shape_problem(header: Sequence[str], values: Sequence[str]) -> tuple[str, str] | None:
    if len(values) != len(header):
        return "", (
            f"has {len(values)} values for {len(header)} columns: "
            "put a text with a comma or a line break in double quotes"
        )
    for column, value in zip(header, values, strict=True):
        if any("\ud800" <= character <= "\udfff" for character in value):
            return column, (
                "has bytes that are not UTF-8: convert the file, "
                "such as with `iconv -f latin1 -t utf-8`"
            )
        if "\0" in value:
            return column, "has a NUL byte: take it out"
    return None


def _shown(value: str) -> str:
    short = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    return repr(_printable(short))


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
