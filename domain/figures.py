"""Statistics of the figures: shares with how far they can be trusted."""

from math import sqrt
from typing import NamedTuple

_Z_95 = 1.959964  # quantile of the normal distribution for a two-sided 95 %


class Share(NamedTuple):
    """`low` and `high` bound the 95 % interval; all between 0 and 1."""

    part: int
    of: int
    share: float
    low: float
    high: float


def share_of(count: int, of: int) -> Share | None:
    """A share with its Wilson score interval, which holds for small numbers too; None of nothing.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22
    (1927). Raises ValueError for a count that isn't within `of`.
    """
    if not 0 <= count <= of:
        raise ValueError(f"{count} is no part of {of}")
    if of == 0:
        return None
    share, z2 = count / of, _Z_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z_95 / (1 + z2 / of) * sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    # At the ends they are exact: rounding must not leave a share outside its own interval.
    return Share(count, of, share, min(low, share), max(high, share))
