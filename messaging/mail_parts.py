"""A received mail taken apart: headers as one clean line each, parts, text, attachments.

Whoever sends a mail chooses every byte of it. Nothing here raises for what a mail holds, unpacks
an archive, or takes long: what is nested too deeply, too long or too much is left out.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from typing import NamedTuple

from inscriptis import get_text  # type: ignore[import-untyped]  # it has no types

from domain.plain_text import clean

MOST_ATTACHMENTS = 20
LARGEST_ATTACHMENT = 5 * 1024 * 1024  # bytes
LARGEST_ATTACHMENTS = 10 * 1024 * 1024  # together
LONGEST_TEXT = 100_000  # characters
_LONGEST_HTML = 500_000
_LONGEST_HEADER = 1_000
_LONGEST_HEADERS = 200_000  # bytes, of a mail that is not read otherwise
_LONGEST_PARAMETERS = 10_000
_LONGEST_NAME = 100
_DEEPEST = 20
_MOST_PARTS = 200
_MOST_WORK = 4_000_000  # lines times boundaries: the parser compares each with each
_FOR_DOMAINS = ("punycode", "idna")  # codecs: they take minutes for a text

_NOT_IN_A_NAME = re.compile(r'[\\/:*?"<>|]+')

Mail = Message


class Attachment(NamedTuple):
    """A file as it came; never unpacked, never run."""

    name: str
    media_type: str
    content: bytes


def parse(raw: bytes) -> Mail | None:
    """The mail; None for one that can't be taken apart in a reasonable time."""
    boundaries = raw.lower().count(b"boundary")
    if raw.count(b"\n") * (boundaries + 1) > _MOST_WORK:
        return None
    try:
        mail = message_from_bytes(raw)
        for part in mail.walk():
            _shorten(part)
        return mail
    except Exception:  # the parser has known faults, and recurses into what is nested
        return None


def _shorten(part: Mail) -> None:
    """Parameters are decoded by the charset they name, whichever that is."""
    for name in ("Content-Type", "Content-Disposition"):
        if len(str(part.get(name, ""))) > _LONGEST_PARAMETERS:
            del part[name]


def parse_headers(raw: bytes) -> Mail:
    """Only the headers: what is left of a mail that `parse` gave up."""
    return BytesHeaderParser().parsebytes(raw[:_LONGEST_HEADERS])


def header(mail: Mail, name: str) -> str:
    """The header, decoded, as one line of clean text; empty where there is none."""
    return _decoded(mail.get(name))


def _decoded(value: object) -> str:
    text = str(value or "")[:_LONGEST_HEADER]
    with suppress(Exception):  # unknown charsets, broken base64, and what else it stumbles over
        text = str(make_header(decode_header(text)))
    return one_line(text)


def one_line(text: str) -> str:
    return " ".join(clean(text).split())[:_LONGEST_HEADER]


def parts(mail: Mail) -> Iterator[Mail]:
    """Every part that has no parts, the outermost first; not those of an enclosed mail."""
    seen = 0
    waiting = [(mail, 0)]
    while waiting and seen < _MOST_PARTS:
        part, depth = waiting.pop(0)
        seen += 1
        payload = part.get_payload()
        if part.get_content_maintype() != "multipart" or not isinstance(payload, list):
            yield part
        elif depth < _DEEPEST:
            waiting[:0] = [(inner, depth + 1) for inner in payload if isinstance(inner, Message)]


def is_broken(mail: Mail) -> bool:
    """Whether the parser had to guess where parts end, or what the bytes mean of one it decoded."""
    return any(part.defects for part in mail.walk())


def is_attached(part: Mail) -> bool:
    """RFC 2183: to be offered as a file. An enclosed mail or a picture is, whatever it says."""
    return (
        part.get_content_disposition() == "attachment"
        or bool(part.get_filename())
        or part.get_content_maintype() != "text"
    )


def text_of(mail: Mail) -> str:
    """What a reader sees: the plain text, else the HTML without its markup."""
    shown = [part for part in parts(mail) if not is_attached(part)]
    plain = [part for part in shown if part.get_content_subtype() != "html"]
    if any(text := [_text(part) for part in plain]):
        return clean("\n".join(one for one in text if one))[:LONGEST_TEXT].strip()
    pages = [_text(part) for part in shown if part.get_content_subtype() == "html"]
    return clean("\n".join(_without_markup(page) for page in pages))[:LONGEST_TEXT].strip()


def _text(part: Mail) -> str:
    content = content_of(part)[: 4 * _LONGEST_HTML]
    for charset in (part.get_content_charset() or "utf-8", "utf-8"):
        try:
            if codecs.lookup(charset).name in _FOR_DOMAINS:
                continue
            return content.decode(charset)[:_LONGEST_HTML]
        except (LookupError, ValueError):  # of a codec that is none for text, too
            continue
    return content.decode("latin-1")[:_LONGEST_HTML]


def content_of(part: Mail) -> bytes:
    """The bytes of a part; of an enclosed mail its source."""
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else part.as_bytes()


def _without_markup(page: str) -> str:
    try:
        return str(get_text(page))
    except Exception:  # lxml's, for what is no HTML at all
        return re.sub(r"<[^>]{0,200}>", " ", page)


def attachments_of(mail: Mail) -> tuple[list[Attachment], int]:
    """The files within the limits, and how many were left out."""
    kept: list[Attachment] = []
    left_out = size = 0
    for part in parts(mail):
        if not is_attached(part):
            continue
        content = content_of(part)
        fits = len(content) <= min(LARGEST_ATTACHMENT, LARGEST_ATTACHMENTS - size)
        if not fits or len(kept) == MOST_ATTACHMENTS:
            left_out += 1
            continue
        size += len(content)
        name = _file_name(part) or f"attachment-{len(kept) + 1}"
        kept.append(Attachment(name, one_line(part.get_content_type()), content))
    return kept, left_out


def _file_name(part: Mail) -> str:
    """Without a path, and nothing that a file system or a shell would take for more than a name."""
    given = _decoded(part.get_filename())
    return _NOT_IN_A_NAME.sub("-", given).strip(" .-")[-_LONGEST_NAME:]
