"""What is stored of the workflow histories stays."""

from pathlib import Path

import pytest

from tests.record_histories import add


@pytest.fixture
def rooms(tmp_path: Path) -> tuple[Path, Path]:
    """A recorded history of each of two tests, of which one is stored already."""
    recorded, stored = tmp_path / "recorded", tmp_path / "stored"
    for room, tests in ((recorded, ("one", "two")), (stored, ("one",))):
        (room / "OrderDelivery").mkdir(parents=True)
        for test in tests:
            (room / "OrderDelivery" / f"{test}.json").write_text(room.name)
    return recorded, stored


def test_only_the_histories_of_new_tests_are_added(rooms: tuple[Path, Path]) -> None:
    recorded, stored = rooms
    assert add(recorded, stored, None) == [stored / "OrderDelivery" / "two.json"]
    assert (stored / "OrderDelivery" / "one.json").read_text() == "stored"


def test_a_new_order_of_commands_stands_beside_the_old_one(rooms: tuple[Path, Path]) -> None:
    recorded, stored = rooms
    add(recorded, stored, "refunds-first")
    assert (stored / "OrderDelivery" / "one.json").read_text() == "stored"
    assert (stored / "OrderDelivery" / "one-refunds-first.json").read_text() == "recorded"


def test_a_label_that_is_taken_copies_nothing(rooms: tuple[Path, Path]) -> None:
    recorded, stored = rooms
    (stored / "OrderDelivery" / "two-again.json").write_text("stored")
    with pytest.raises(FileExistsError, match="two-again"):
        add(recorded, stored, "again")
    assert not (stored / "OrderDelivery" / "one-again.json").exists()
