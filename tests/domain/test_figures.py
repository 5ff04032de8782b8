"""Shares with their interval."""

import pytest

from domain.figures import share_of


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # R: binom::binom.confint(methods = "wilson")
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (1, 29, 0.0061, 0.1718),  # the same
    ],
)
def test_a_share_has_its_wilson_interval(count: int, of: int, low: float, high: float) -> None:
    share = share_of(count, of)
    assert share is not None
    assert share.low == pytest.approx(low, abs=1e-4)
    assert share.high == pytest.approx(high, abs=1e-4)
    assert share.low <= share.share <= share.high


def test_nothing_has_no_share_and_no_more_than_all() -> None:
    assert share_of(0, 0) is None
    for count, of in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="no part"):
            share_of(count, of)
