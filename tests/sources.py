"""What is ours, for the tests that read the code: never what is installed beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BESIDE_THE_PRODUCT = {"tests", "benchmarks", "chaos", "docs"}


def python_files() -> list[Path]:
    """Every module of ours, also those of the tests."""
    rooms = {path.parent for path in ROOT.glob("*/*.py")}
    return sorted([*ROOT.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))])


def product_files() -> list[Path]:
    """Without tests, benchmarks and what draws the documents."""
    return [
        path
        for path in python_files()
        if path.relative_to(ROOT).parts[0] not in _BESIDE_THE_PRODUCT
    ]
