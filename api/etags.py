"""Optimistic concurrency: the ETag of what was read, and If-Match on what changes it (RFC 9110)."""

import re
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel

from api.errors import Code, Problem

IfMatch = Annotated[str | None, Header(description="the ETag that was read")]


def etag(version: int) -> str:
    return f'"v{version}"'


def expected_version(if_match: str | None) -> int | None:
    """The version the caller has read; None: whichever. Raises 428 where the header is missing."""
    if if_match is None:
        raise Problem(Code.PRECONDITION_REQUIRED, "If-Match is missing")
    if if_match.strip() == "*":
        return None
    found = re.fullmatch(r'\s*"v(\d{1,9})"\s*', if_match)
    return int(found[1]) if found else 0  # a version that nothing has


def changed_meanwhile(what: str, version: int, current: BaseModel) -> Problem:
    """The 412, with what is there now."""
    return Problem(
        Code.PRECONDITION_FAILED,
        f"the {what} is now at {etag(version)}",
        headers={"ETag": etag(version)},
        current=current.model_dump(mode="json"),
    )
