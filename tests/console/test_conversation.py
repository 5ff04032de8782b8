"""A case as a conversation: what staff wrote and nothing was made of says so."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from console.conversation import conversation_of
from domain.clock import REAL_TIME


@pytest.mark.parametrize(("age", "is_left"), [(timedelta(0), False), (timedelta(hours=1), True)])
def test_words_without_a_message_are_on_their_way_or_left(age: timedelta, is_left: bool) -> None:
    written = datetime.now(UTC) - age
    text = {"id": str(uuid4()), "by": "agent-1", "text": "Hello", "internal": False}
    case = {
        "opened_at": (written - timedelta(days=1)).isoformat(),
        "text": "Where is it?",
        "replies": [],
        "staff_texts": [{**text, "recorded_at": written.isoformat()}],
    }
    newest, opening = conversation_of(case, [], [], REAL_TIME)
    assert (newest.side, newest.text, newest.is_left) == ("us", "Hello", is_left)
    assert (opening.side, opening.is_left) == ("customer", False)
