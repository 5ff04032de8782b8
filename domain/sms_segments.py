"""How a text message is cut and billed: GSM 03.38 or UCS-2, in one segment or in several.

3GPP TS 23.038 §6.2.1 has the alphabets, 3GPP TS 23.040 §9.2.3.24.1 the header of a text in several
segments, which takes 7 septets or 3 code units of each.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION = frozenset("\f^{}\\[~]|€")  # an escape and a character: two septets


class SmsEncoding(StrEnum):
    GSM_7 = "gsm-7"
    UCS_2 = "ucs-2"


_ALONE = {SmsEncoding.GSM_7: 160, SmsEncoding.UCS_2: 70}
_JOINED = {SmsEncoding.GSM_7: 153, SmsEncoding.UCS_2: 67}


class SmsSize(NamedTuple):
    encoding: SmsEncoding
    units: int  # septets of GSM-7, 16-bit code units of UCS-2
    segments: int  # what a carrier bills; 0 of an empty text


def sms_size(text: str) -> SmsSize:
    """One character outside GSM-7 makes the whole text UCS-2.

    Neither an escaped character nor a surrogate pair is cut in two: a segment may end one unit
    early.
    """
    if _GSM.union(_GSM_EXTENSION).issuperset(text):
        encoding = SmsEncoding.GSM_7
        widths = [2 if character in _GSM_EXTENSION else 1 for character in text]
    else:
        encoding = SmsEncoding.UCS_2
        widths = [2 if ord(character) > 0xFFFF else 1 for character in text]
    units = sum(widths)
    if units <= _ALONE[encoding]:
        return SmsSize(encoding, units, min(units, 1))
    return SmsSize(encoding, units, _segments(widths, _JOINED[encoding]))


def _segments(widths: Iterable[int], most: int) -> int:
    segments, filled = 1, 0
    for width in widths:
        if filled + width > most:
            segments, filled = segments + 1, 0
        filled += width
    return segments
