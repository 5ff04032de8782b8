"""The reader's language first, then the tone he likes."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.messages import MESSAGES, MessageClass, Template
from domain.templates import Tone, best_wording, may_be_changed, names_in, nearest_locale

N, F, I = Tone.NEUTRAL, Tone.FORMAL, Tone.INFORMAL  # noqa: E741  # as in the tables below


class Known(NamedTuple):
    locale: str
    tone: Tone = N
    by: str = "staff"


def chosen(known: list[Known], locale: str, tone: Tone | None = None) -> Known | None:
    return best_wording(known, locale, tone)


@pytest.mark.parametrize(
    ("known", "reader", "gets"),
    [
        (["en", "pt", "pt-BR"], "pt-BR", "pt-BR"),
        (["en", "pt", "pt-PT"], "pt-BR", "pt"),
        (["en", "pt-PT"], "pt-BR", "pt-PT"),
        (["en", "es"], "pt-BR", "en"),
        (["en", "pt-BR"], "PT_br", "pt-BR"),
        (["en", "pt-BR"], "pt", "pt-BR"),
        (["en", "zh", "zh-Hant"], "zh-Hant-TW", "zh-Hant"),
        (["en", "en-GB"], "en-AU", "en"),
        (["en"], "not a locale", "en"),
        (["de"], "fr", None),
    ],
)
def test_a_locale_falls_back_to_its_language_and_then_to_english(
    known: list[str], reader: str, gets: str | None
) -> None:
    found = chosen([Known(locale) for locale in known], reader)
    assert (found.locale if found else None) == gets
    assert nearest_locale(known, reader) == gets


@pytest.mark.parametrize(
    ("known", "tone", "gets"),
    [
        ([Known("pt-BR"), Known("pt-BR", F)], F, Known("pt-BR", F)),
        ([Known("pt-BR"), Known("pt-BR", F)], I, Known("pt-BR")),
        ([Known("pt-BR"), Known("pt-BR", F)], None, Known("pt-BR")),
        ([Known("pt-BR", F), Known("pt")], I, Known("pt")),
        # The language counts for more than the tone.
        ([Known("pt-BR"), Known("pt", F)], F, Known("pt-BR")),
        ([Known("pt-BR", N, "staff"), Known("pt-BR", N, "file")], N, Known("pt-BR", N, "staff")),
        ([Known("pt-BR", F)], I, None),
    ],
)
def test_within_a_locale_the_tone_decides(
    known: list[Known], tone: Tone | None, gets: Known | None
) -> None:
    assert chosen(known, "pt-BR", tone) == gets


LOCALES = st.sampled_from(["en", "en-GB", "pt", "pt-BR", "de", "de-AT"])
KNOWN = st.lists(st.builds(Known, LOCALES, st.sampled_from(Tone)), max_size=8)


@given(KNOWN, LOCALES, st.none() | st.sampled_from(Tone))
def test_nobody_is_spoken_to_in_a_tone_he_does_not_like_nor_left_without_the_english_file(
    known: list[Known], locale: str, tone: Tone | None
) -> None:
    found = chosen([*known, Known("en", N, "file")], locale, tone)
    assert found is not None
    assert found.tone in (tone, N)
    assert found.locale.partition("-")[0] in (locale.partition("-")[0], "en")


def test_a_wording_knows_its_own_message_and_nobody_else() -> None:
    assert names_in(Template.ORDER_LATE) == {"name", "company", "reference", "order", "promised_on"}
    assert {"survey_url", "scores"} < names_in(Template.SURVEY_REQUEST)
    assert "unsubscribe_url" in names_in(Template.WIN_BACK)
    staff = {t for t in Template if MESSAGES[t].message_class is MessageClass.STAFF}
    assert {t for t in Template if not may_be_changed(t)} == {*staff, Template.CONFIRM_OPT_IN}
