"""Text messages are cut as carriers cut them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sms_segments import SmsEncoding, sms_size

GSM, UCS = SmsEncoding.GSM_7, SmsEncoding.UCS_2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", (GSM, 0, 0)),
        ("a", (GSM, 1, 1)),
        ("a" * 160, (GSM, 160, 1)),
        ("a" * 161, (GSM, 161, 2)),
        ("a" * 306, (GSM, 306, 2)),
        ("a" * 307, (GSM, 307, 3)),
        ("@£$¥èéùìòÇ\nΔ_ÄÖÑÜ§¿äöñüà", (GSM, 24, 1)),
        ("€" * 80, (GSM, 160, 1)),
        ("€" * 81, (GSM, 162, 2)),
        ("[]{}~|^\\\f", (GSM, 18, 1)),
        # The escaped character would be cut in two: 153 + 153 septets take three segments.
        ("a" * 152 + "€" + "a" * 152, (GSM, 306, 3)),
        ("ç", (UCS, 1, 1)),  # only the capital is in the alphabet
        ("`", (UCS, 1, 1)),
        ("ж" * 70, (UCS, 70, 1)),
        ("ж" * 71, (UCS, 71, 2)),
        ("ж" * 134, (UCS, 134, 2)),
        ("ж" * 135, (UCS, 135, 3)),
        ("a" * 69 + "😀", (UCS, 71, 2)),
        ("😀" * 35, (UCS, 70, 1)),
        ("😀" * 36, (UCS, 72, 2)),
        ("😀" * 67, (UCS, 134, 3)),  # 33 whole pairs in each
        ("👩‍👩‍👧", (UCS, 8, 1)),
    ],
)
def test_known_texts(text: str, size: tuple[SmsEncoding, int, int]) -> None:
    assert sms_size(text) == size


@given(st.text(max_size=500))
def test_a_text_takes_no_fewer_segments_than_its_units_and_hardly_more(text: str) -> None:
    encoding, units, segments = sms_size(text)
    alone, joined = (160, 153) if encoding is GSM else (70, 67)
    if units <= alone:
        assert segments == (1 if text else 0)
    else:
        # Of each segment one unit at most stays empty.
        assert math.ceil(units / joined) <= segments <= math.ceil(units / (joined - 1))


@given(st.text(max_size=400))
def test_ucs_2_counts_what_utf_16_has(text: str) -> None:
    encoding, units, _ = sms_size(text + "ж")
    assert encoding is UCS
    assert units == len((text + "ж").encode("utf-16-le", "surrogatepass")) // 2


@given(st.text(alphabet="abc €[", min_size=1, max_size=600), st.sampled_from("a€"))
def test_a_longer_text_never_takes_fewer_segments(text: str, more: str) -> None:
    assert sms_size(text + more).segments >= sms_size(text).segments
