"""Who asks to be left alone is understood, and who writes about something else is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.messages import Channel
from domain.opt_out_words import Wish, wish_of

BOTH = [
    "STOP",
    "stop.",
    "Stop please!",
    "please stop",
    "Stop it",
    "StopAll",
    "UNSUBSCRIBE",
    "opt-out",
]
BOTH += ["STOP please", "please stop sending me these messages", "stop texting me", "remove me"]
BOTH += ["Parar", "SAIR", "parar por favor", "unsubscribe me from this list", " stop\n\n"]
BY_TEXT = ["CANCEL", "End", "quit", "cancelar", "please cancel", "revoke"]
NEITHER = [
    "",
    "don't stop",
    "stop by the shop tomorrow",
    "where is my order?",
    "I can't stop smiling",
]
NEITHER += ["cancel my order please", "the end of the belt is torn", "non-stop", "🛑", "STOP " * 40]


@pytest.mark.parametrize("text", BOTH)
@pytest.mark.parametrize("channel", Channel)
def test_to_stop_is_understood_in_any_words(text: str, channel: Channel) -> None:
    assert wish_of(text, channel) is Wish.STOP


@pytest.mark.parametrize("text", BY_TEXT)
def test_the_keywords_of_text_messages_mean_something_else_in_a_mail(text: str) -> None:
    assert wish_of(text, Channel.SMS) is Wish.STOP
    assert wish_of(text, Channel.EMAIL) is None


@pytest.mark.parametrize("text", NEITHER)
@pytest.mark.parametrize("channel", Channel)
def test_a_sentence_about_something_else_asks_for_nothing(text: str, channel: Channel) -> None:
    assert wish_of(text, channel) is None


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        *((word, Wish.START) for word in ("START", "unstop", "Yes!", "sim")),
        *((word, Wish.HELP) for word in ("HELP", "help?", "Ajuda")),
        ("yes, on Monday", None),
    ],
)
def test_start_and_help_are_words_of_text_messages(text: str, wish: Wish | None) -> None:
    assert wish_of(text, Channel.SMS) is wish
    assert wish_of(text, Channel.EMAIL) is None


@given(st.text(), st.sampled_from(Channel))
def test_any_text_can_be_asked(text: str, channel: Channel) -> None:
    wish_of(text, channel)
