"""What a page says to do is something that a person at a page can do."""

import re

import pytest

from api.errors import EXPLAINED, Code
from console.remedies import remedy

# Only programs send what meets these.
_FOR_PROGRAMS = {
    Code.MALFORMED_JSON,
    Code.UNAUTHENTICATED,
    Code.INVALID_SIGNATURE,
    Code.PASSWORD_CHANGE_REQUIRED,
    Code.PROVIDER_EVENTS_OFF,
    Code.METHOD_NOT_ALLOWED,
    Code.EVENT_CONFLICT,
    Code.KEY_REQUIRED,
    Code.UNSUPPORTED_MEDIA_TYPE,
}
_PROGRAMMERS_WORDS = re.compile(
    r"/api/|/docs|ETag|`|Retry-After|Idempotency|header|request_id|cursor|parameter| id\b"
)


@pytest.mark.parametrize("code", sorted(set(Code) - _FOR_PROGRAMS - {Code.ONE_TIME_PASSWORD_ENDED}))
def test_a_remedy_speaks_to_who_looks_at_the_page(code: Code) -> None:
    said = remedy({"code": code, "remedy": EXPLAINED[code].remedy})
    assert said
    assert not _PROGRAMMERS_WORDS.search(said)


def test_what_a_screen_says_itself_stands() -> None:
    assert remedy({"remedy": "Type both again."}) == "Type both again."
    assert remedy({"code": "not_found", "remedy": "Look below."}) == "Look below."
