"""Every message has its wording, in every locale it claims."""

from email.headerregistry import Address
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2.meta import find_undeclared_variables

from domain.messages import MESSAGES, Channel, MessageClass, Template
from messaging.render import TEMPLATES, NotRendered, Renderer, environment_of, sample_context

RENDERER = Renderer("Perennial")
SYNTAX = environment_of()
CLAIMED = [(template, locale) for template, kind in MESSAGES.items() for locale in kind.locales]


class _Elements(HTMLParser):
    """The elements and links of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


@pytest.mark.parametrize("empty", [False, True], ids=["all known", "least known"])
@pytest.mark.parametrize(("template", "locale"), CLAIMED)
def test_every_message_renders_in_every_locale_it_claims(
    template: Template, locale: str, empty: bool
) -> None:
    context = sample_context(template, empty=empty)
    rendered = RENDERER.render(template, Channel.EMAIL, locale, context, zone="America/Sao_Paulo")
    assert rendered.locale == locale
    assert rendered.html is not None
    for part in (rendered.subject, rendered.text, rendered.html):
        assert part.strip()
        assert not any(mark in part for mark in ("{{", "{%", "None", "mj-text"))
    assert "Ada Lovelace" in rendered.text
    assert "Ada Lovelace" in rendered.html


def test_no_template_is_without_a_message_and_no_message_claims_a_locale_it_lacks() -> None:
    found = {
        (folder.parent.name, folder.name)
        for folder in TEMPLATES.glob("*/*/")
        if folder.parent.name != "_layout"
    }
    assert found == {(str(template), locale) for template, locale in CLAIMED}


OFFERED = {locale for kind in MESSAGES.values() for locale in kind.locales}


def _used(path: Path) -> dict[str, set[str]]:
    """The variables of each part of a wording; the frame around it is the same for all."""
    return {
        part.name: find_undeclared_variables(SYNTAX.parse(part.read_text()))
        for part in path.iterdir()
    }


@pytest.mark.parametrize(
    "template", [one for one in Template if MESSAGES[one].message_class is not MessageClass.STAFF]
)
def test_customers_read_the_same_in_every_language_that_is_offered(template: Template) -> None:
    english = _used(TEMPLATES / template / "en")
    assert "pt-BR" in OFFERED
    for locale in OFFERED:
        assert _used(TEMPLATES / template / locale) == english, locale


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*/*/sms.txt")), ids=str)
def test_text_messages_are_short(path: Path) -> None:
    template = Template(path.parent.parent.name)
    rendered = RENDERER.render(template, Channel.SMS, path.parent.name, sample_context(template))
    assert rendered.html is None
    assert 0 < len(rendered.text) <= 160


def test_marketing_can_be_stopped_from_the_message_and_other_messages_say_why_they_come() -> None:
    for template, locale in CLAIMED:
        rendered = RENDERER.render(template, Channel.EMAIL, locale, sample_context(template))
        assert rendered.html is not None
        stoppable = MESSAGES[template].message_class is MessageClass.MARKETING
        assert ("https://example.com/u/token" in rendered.text) is stoppable
        assert ("https://example.com/u/token" in _Elements(rendered.html).links) is stoppable


def test_what_may_be_refused_says_where_and_what_belongs_to_a_contract_does_not() -> None:
    for template, locale in CLAIMED:
        rendered = RENDERER.render(template, Channel.EMAIL, locale, sample_context(template))
        assert rendered.html is not None
        refusable = MESSAGES[template].message_class in (
            MessageClass.MARKETING,
            MessageClass.SERVICE,
        )
        assert ("https://example.com/p/token" in rendered.text) is refusable
        assert ("https://example.com/p/token" in _Elements(rendered.html).links) is refusable


@pytest.mark.parametrize("locale", ["en", "pt-BR"])
@pytest.mark.parametrize("channel", Channel)
def test_who_asks_whether_it_was_meant_brings_the_link_to_say_so(
    channel: Channel, locale: str
) -> None:
    context = sample_context(Template.CONFIRM_OPT_IN)
    rendered = RENDERER.render(Template.CONFIRM_OPT_IN, channel, locale, context)
    assert "https://example.com/v/token" in rendered.text
    assert rendered.html is None or "https://example.com/v/token" in _Elements(rendered.html).links


@pytest.mark.parametrize("locale", ["en", "pt-BR"])
@pytest.mark.parametrize("template", [Template.ORDER_UNAVAILABLE, Template.ORDER_CANCELLED])
def test_who_will_get_nothing_gets_an_apology_the_refund_and_the_alternative(
    template: Template, locale: str
) -> None:
    said = {"en": ("sorry", "49.00"), "pt-BR": ("desculpas", "49,00")}[locale]
    about = {"alternative": "the bigger lamp & its shade", "refund": "4900 EUR"}
    context = {**sample_context(template), **about}
    rendered = RENDERER.render(template, Channel.EMAIL, locale, context)
    assert rendered.html is not None
    for text in (rendered.text, unescape(rendered.html)):
        assert "the bigger lamp & its shade" in text
        assert all(words in text for words in said)


def test_a_message_fetches_nothing_from_anywhere() -> None:
    for template, locale in CLAIMED:
        rendered = RENDERER.render(template, Channel.EMAIL, locale, sample_context(template))
        assert rendered.html is not None
        page = _Elements(rendered.html)
        assert not page.names & {"img", "script", "link", "iframe"}
        assert all(link.startswith("https://example.com/") for link in page.links)


@pytest.mark.parametrize(("scale", "scores"), [("stars", range(1, 6)), ("nps", range(11))])
def test_a_survey_has_a_link_for_each_score(scale: str, scores: range) -> None:
    context = {**sample_context(Template.SURVEY_REQUEST), "scale": scale}
    rendered = RENDERER.render(Template.SURVEY_REQUEST, Channel.EMAIL, "en", context)
    links = [f"https://example.com/s/token?score={score}" for score in scores]
    assert rendered.html is not None
    assert _Elements(rendered.html).links == [*links, "https://example.com/p/token"]
    assert all(f"{link}\n" in rendered.text for link in links)


@pytest.mark.parametrize(
    ("locale", "wording", "day"),
    [
        ("pt-BR", "pt-BR", "sexta-feira, 12 de junho de 2026"),
        ("pt_BR", "pt-BR", "sexta-feira, 12 de junho de 2026"),
        ("pt", "pt-BR", "sexta-feira, 12 de junho de 2026"),
        ("en-GB", "en", "Friday, 12 June 2026"),
        ("de", "en", "Friday, June 12, 2026"),
        ("not a locale", "en", "Friday, June 12, 2026"),
    ],
)
def test_readers_get_their_language_where_we_have_it_else_english(
    locale: str, wording: str, day: str
) -> None:
    context = sample_context(Template.ORDER_LATE)
    rendered = RENDERER.render(Template.ORDER_LATE, Channel.EMAIL, locale, context)
    assert rendered.locale == wording
    assert day in rendered.text


def test_money_and_moments_are_written_as_the_reader_writes_them() -> None:
    order = RENDERER.render(
        Template.ORDER_CONFIRMED, Channel.EMAIL, "pt-BR", sample_context(Template.ORDER_CONFIRMED)
    )
    assert "R$\N{NO-BREAK SPACE}1.299,00" in order.text
    # Half past midnight in London is still the day before in Sao Paulo.
    context = {**sample_context(Template.RECOVERY_STARTED), "contact_by": "2026-06-13T00:30:00Z"}
    recovery = RENDERER.render(
        Template.RECOVERY_STARTED, Channel.EMAIL, "pt-BR", context, zone="America/Sao_Paulo"
    )
    assert "12 de junho de 2026, 21:30" in recovery.text


def test_what_people_wrote_is_text_and_never_markup_or_template() -> None:
    hostile = "<script>alert(1)</script> {{ 7 * 7 }} & \"quotes\" <a href='javascript:1'>"
    context = {**sample_context(Template.CASE_REPLY), "text": hostile, "name": hostile}
    rendered = RENDERER.render(Template.CASE_REPLY, Channel.EMAIL, "en", context)
    assert rendered.html is not None
    page = _Elements(rendered.html)
    assert "script" not in page.names
    assert page.links == ["https://example.com/p/token"]
    assert hostile in rendered.text
    assert "{{ 7 * 7 }}" in rendered.html


def test_control_characters_and_line_breaks_stay_out_of_the_subject() -> None:
    context = {
        **sample_context(Template.ORDER_DISPATCHED),
        "order": "A\r\nBcc: x@example.com\x00\x07\u2028\x85B",
    }
    rendered = RENDERER.render(Template.ORDER_DISPATCHED, Channel.EMAIL, "en", context)
    assert rendered.subject == "Your order A Bcc: x@example.com B is on its way"
    Address(rendered.subject, addr_spec="a@example.com")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"promised_on": None}, "promised_on"),
        ({"promised_on": "soon"}, "soon"),
        ({"total": "12 EUR 3"}, "unpack"),
        ({"total": "all of it"}, ""),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, str | None], says: str) -> None:
    whole = {**sample_context(Template.ORDER_CONFIRMED), **change}
    context = {name: value for name, value in whole.items() if value is not None}
    with pytest.raises(NotRendered, match=f"order_confirmed/en.*{says}"):
        RENDERER.render(Template.ORDER_CONFIRMED, Channel.EMAIL, "en", context)


def test_a_template_is_kept_in_its_sandbox(tmp_path: Path) -> None:
    for template in Template:
        (tmp_path / template / "en").mkdir(parents=True)
    folder = tmp_path / Template.WIN_BACK / "en"
    (folder / "subject.txt").write_text("{{ name.__class__.__mro__ }}")
    renderer = Renderer("Perennial", tmp_path)
    with pytest.raises(NotRendered, match="unsafe"):
        renderer.render(Template.WIN_BACK, Channel.EMAIL, "en", sample_context(Template.WIN_BACK))


@pytest.mark.parametrize("locale", ["en", "pt-BR"])
def test_an_order_whose_total_nobody_told_has_none(locale: str) -> None:
    context = {**sample_context(Template.ORDER_CONFIRMED), "total": "0 EUR"}
    mail = RENDERER.render(Template.ORDER_CONFIRMED, Channel.EMAIL, locale, context)
    assert mail.html is not None
    assert "Total" not in mail.text + mail.html
