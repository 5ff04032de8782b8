"""Staff writes words, not programs: what is not on the list is refused, with its line."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.messages import MESSAGES, Channel, Template
from domain.templates import LARGEST_SOURCE, Part, may_be_changed, names_in
from messaging.render import NotRendered, Renderer, sample_context
from messaging.staff_wording import CheckJob, check, render
from messaging.template_check import check_part
from messaging.workshop import Workshop
from tests.messaging.wording import SOUND, faults, faults_of, job, sources

WORKSHOP = Workshop("Perennial")
RENDERER = Renderer("Perennial")
NAMES = names_in(Template.CASE_REPLY)
CHANGEABLE = [
    (template, locale)
    for template, kind in MESSAGES.items()
    if may_be_changed(template)
    for locale in kind.locales
]

# The ways out of Jinja's sandbox that were found so far, and what leads there.
ESCAPES = {
    "str.format (2.8.1)": "{{ '{0.__class__.__init__.__globals__}'.format(name) }}",
    "format_map, CVE-2019-10906": "{{ '{a.__class__}'.format_map({'a': name}) }}",
    "indirect format, CVE-2024-56326": "{{ ('{0.__class__}'.format | upper)(name) }}",
    "attr, CVE-2025-27516": "{{ '{0.__class__}' | attr('format') }}",
    "xmlattr, CVE-2024-22195": "{{ {'a b': 'c'} | xmlattr }}",
    "classes": "{{ name.__class__.__mro__[1].__subclasses__() }}",
    "classes by item": "{{ name['__class__'] }}",
    "a method": "{{ name.upper }}",
    "globals": "{{ lipsum.__globals__.os.popen('id').read() }}",
    "self": "{{ self._TemplateReference__context }}",
    "context": "{{ context.vars }}",
    "cycler": "{{ cycler.__init__.__globals__ }}",
    "range": "{% for a in range(999999999) %}{% endfor %}",
    "a call": "{{ name() }}",
    "import": "{% import '_layout/en/body.txt' as f %}",
    "from": "{% from '_layout/en/body.txt' import f %}",
    "include": "{% include '../../settings.py' %}",
    "extends": "{% extends '_layout/en/body.txt' %}",
    "out of the frame": "{% endblock %}{% block footer %}nothing{% endblock %}{% block x %}",
    "another block": "{% block footer %}nothing{% endblock %}",
    "macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "call block": "{% call name() %}{% endcall %}",
    "filter block": "{% filter upper %}x{% endfilter %}",
    "set": "{% set name = 'x' %}",
    "set block": "{% set a %}{{ name }}{% endset %}",
    "with": "{% with a = name %}{{ a }}{% endwith %}",
    "do": "{% do name.append(1) %}",
    "multiplication": "{{ 'x' * 1000000000 }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "division": "{{ 1 // 0 }}",
    "concatenation": "{{ name ~ name }}",
    "a list": "{{ [name] }}",
    "a slice": "{{ name[0:5] }}",
    "an unknown filter": "{{ name | tojson }}",
    "a filter's argument": "{{ text | lines(1) }}",
    "an unknown test": "{% if name is callable %}{% endif %}",
    "an unpacking loop": "{% for a, b in text %}{% endfor %}",
    "a recursive loop": "{% for a in text | lines recursive %}{% endfor %}",
    "a third loop": "{% for a in text %}{% for b in text %}{% for c in text %}.{% endfor %}"
    "{% endfor %}{% endfor %}",
    "inside of a loop": "{% for a in text | lines %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "the outer loop": "{{ loop.index }}",
    "another customer": "{{ customer.email }}",
    "another message's": "{{ tracking }}",
    "a secret": "{{ settings.database_url }}",
    "all claims": "{{ claims }}",
    "a claim that is none of its": "{{ claims.free_delivery }}",
    "environment": "{{ ''.__class__.__base__.__subclasses__()[104].load_module('os') }}",
}


@pytest.mark.parametrize("part", [Part.SUBJECT, Part.BODY_TEXT, Part.SMS])
@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_a_way_out_is_refused_at_publishing_and_at_loading(escape: str, part: Part) -> None:
    assert {line for line, _ in faults_of(f"Hello\n{escape}", part)} == {2}
    channel = Channel.SMS if part is Part.SMS else Channel.EMAIL
    wording = sources(**{part.value: f"Hello\n{escape}"})
    with pytest.raises(NotRendered):
        render(job(sources=wording, channel=channel))


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_nor_is_there_one_in_mjml(escape: str) -> None:
    assert (2, "") in [
        (n, "") for n, _ in faults_of(f"<mj-text>\n{escape}</mj-text>", Part.BODY_MJML)
    ]


@pytest.mark.parametrize(
    ("source", "line", "says"),
    [
        ("<mj-text>\n<b>x</mj-text>", 2, "</mj-text> closes nothing"),
        ("<mj-text>a</mj-text>\n\n<mj-text>b", 3, "<mj-text> is not closed"),
        ("<mj-text>a</mj-text>\n</mj-column>", 2, "closes nothing"),
        ("<mj-foo>a</mj-foo>", 1, "<mj-foo> is not allowed"),
        ("<mj-include path='/etc/passwd' />", 1, "<mj-include> is not allowed"),
        ("<mj-include path='https://x.example/a' />", 1, "not allowed"),
        ("<mj-raw><script>1</script></mj-raw>", 1, "<mj-raw> is not allowed"),
        ("<mj-text>\n<script>alert(1)</script></mj-text>", 2, "<script> is not allowed"),
        ("<mj-text><iframe src='https://x.example'></iframe></mj-text>", 1, "<iframe>"),
        ("<mj-text><form action='https://x.example'></form></mj-text>", 1, "<form>"),
        ("<mj-text><mj-text>a</mj-text></mj-text>", 1, "must stand by itself"),
        ("<p>a</p>", 1, "must stand inside"),
        ("a", 1, "text stands inside"),
        ("<mj-text>a < b</mj-text>", 1, "&lt;"),
        ("<mj-text><{{ name }}></mj-text>", 1, "&lt;"),
        ("<mj-text>\n<!-- a --></mj-text>", 2, "{# #}"),
        ("<mj-text><!DOCTYPE x></mj-text>", 1, "declaration"),
        ("<mj-text><?php ?></mj-text>", 1, "instruction"),
        ("<mj-text><![CDATA[x]]></mj-text>", 1, "declaration"),
        ("<mj-text><a href='javascript:alert(1)'>x</a></mj-text>", 1, "https://"),
        ("<mj-text><a href='http://x.example'>x</a></mj-text>", 1, "https://"),
        ("<mj-text><a href='{{ text }}'>x</a></mj-text>", 1, "https://"),
        ("<mj-text><a href=' https://x.example'>x</a></mj-text>", 1, "https://"),
        ("<mj-text><a href=https://x.example/{{ name }}>x</a></mj-text>", 1, "quotation"),
        ("<mj-text><b {{ name }}>x</b></mj-text>", 1, "quotation"),
        (
            "<mj-text><a href='{% if text %}https://x.example{% else %}javascript:1{% endif %}'>"
            "x</a></mj-text>",
            *(1, "inside of a tag"),
        ),
        ("<mj-text><img src='https://x.example/{{ name }}'></mj-text>", 1, "a picture"),
        ("<mj-image src='http://x.example/a.png' />", 1, "a picture"),
        ("<mj-text><b onclick='x()'>x</b></mj-text>", 1, "'onclick'"),
        ("<mj-text background-url='https://x.example/a'>x</mj-text>", 1, "'background-url'"),
        ("<mj-text><b style='background:URL(x)'>x</b></mj-text>", 1, "'style'"),
        ("<mj-text><b style='background:u\\72l(x)'>x</b></mj-text>", 1, "'style'"),
        ("<mj-text color='{{ text }}'>x</mj-text>", 1, "'color' holds no value"),
        ("<mj-text>a\ue000b</mj-text>", 1, "private use"),
        ("<mj-text>{{ case }</mj-text>", 1, "'}'"),
        ("<mj-text>\n\n{% if case %}</mj-text>", 3, "Unexpected end of template"),
    ],
)
def test_broken_mjml_is_refused_with_its_line(source: str, line: int, says: str) -> None:
    found = faults_of(source, Part.BODY_MJML)
    assert any(at == line and says in what for at, what in found), found


@pytest.mark.parametrize(
    ("source", "line", "says"),
    [
        ("", None, "is empty"),
        (" \n\t \n", None, "is empty"),
        ("x" * (LARGEST_SOURCE + 1), None, "longer than"),
        ("Hello\n\n{{ nmae }}", 3, "no variable 'nmae'; known: case, company, name"),
        ("Hello {% if case %}\n{{ text | uper }}{% endif %}", 2, "no filter 'uper'"),
        ("See\nhttp://x.example/a", 2, "https://"),
        ("See javascript://x", 1, "https://"),
        ("Hello\n\n{{ case | date }}", 3, "cannot be rendered with a sample: Invalid isoformat"),
        ('{{ "\\x00" }}', None, "control characters"),
        ('{{ "\\ud800" }}', None, "control characters"),
        ("(" * 200 + "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", None, "nested too deeply"),
    ],
)
def test_faulty_text_is_refused(source: str, line: int | None, says: str) -> None:
    found = faults(body_text=source)
    assert any(one.line == line and says in one.says for one in found), found


def test_what_a_process_may_not_know_is_tried_too() -> None:
    found = faults(
        Template.ORDER_CANCELLED,
        subject="{{ order }}",
        body_text="Hello\n{{ refund | money }} for {{ order }}",
        body_mjml="<mj-text>{{ order }}</mj-text>",
    )
    assert [(one.part, one.line) for one in found] == [(Part.BODY_TEXT, 2)]
    assert found[0].says.startswith("cannot be rendered where little is known: ")


def test_a_message_that_goes_by_sms_has_a_wording_for_it() -> None:
    parts = {"subject": "Late", "body_text": "Late", "body_mjml": "<mj-text>Late</mj-text>"}
    assert [(one.part, one.line) for one in faults(Template.ORDER_LATE, **parts)] == [
        (Part.SMS, None)
    ]
    assert faults(Template.ORDER_LATE, **parts, sms="{{ order }} is late") == []


def test_a_language_without_a_frame_has_no_wordings() -> None:
    assert ["no frame" in one.says for one in faults(wording="de")] == [True]
    assert faults(wording="pt") == []


def test_claims_are_named_with_their_place() -> None:
    sold = sources(
        subject="Good news",
        body_text="Hello\n{{ claims.free_delivery }}",
        body_mjml="<mj-text>{{ claims.free_delivery }}\n{{ claims.five_years }}</mj-text>",
    )
    verdict = check(CheckJob(template=Template.WIN_BACK, sources=sold, wording="en"))
    assert verdict.faults == []
    assert {(claim.id, claim.part, claim.line) for claim in verdict.claims} == {
        ("free_delivery", Part.BODY_TEXT, 2),
        ("free_delivery", Part.BODY_MJML, 1),
        ("five_years", Part.BODY_MJML, 2),
    }
    said = render(
        job(
            Template.WIN_BACK,
            sources=sold,
            claims={"free_delivery": "Free delivery <b>", "five_years": "Five years"},
        )
    )
    assert "Free delivery <b>" in said.text
    assert said.html is not None
    assert "Free delivery &lt;b&gt;" in said.html
    with pytest.raises(NotRendered, match="five_years"):
        render(job(Template.WIN_BACK, sources=sold, claims={"free_delivery": "Free"}))


@pytest.mark.parametrize(("template", "locale"), CHANGEABLE)
def test_every_file_could_have_been_written_by_staff_and_reads_the_same(
    template: Template, locale: str
) -> None:
    file = WORKSHOP.default(template, locale)
    assert check(CheckJob(template=template, sources=file, wording=locale)).faults == []
    for channel in Channel if file.sms else (Channel.EMAIL,):
        context = sample_context(template)
        ours = RENDERER.render(template, channel, locale, context)
        theirs = render(job(template, sources=file, wording=locale, locale=locale, channel=channel))
        assert ours == theirs


def test_the_frame_stays_so_that_marketing_can_be_stopped() -> None:
    parts = {"subject": "Hi", "body_text": "Hi", "body_mjml": "<mj-text>Hi</mj-text>"}
    rendered = render(job(Template.WIN_BACK, sources=sources(**parts)))
    assert rendered.html is not None
    assert "https://example.com/u/token" in rendered.text
    assert "https://example.com/u/token" in rendered.html


@pytest.mark.parametrize(
    ("sms", "refused"),
    [
        ("New coffee!", True),
        ("Don't stop drinking coffee.", True),
        ("NON-STOP coffee!", True),
        ("The SALE must END.", True),
        ("{% if name %}Answer STOP to stop.{% endif %} New coffee!", True),
        ("{# {{ unsubscribe_url }} STOP #}New coffee!", True),
        ("New coffee! STOP: {{ unsubscribe_url }}", False),
        ("{{ unsubscribe_url }}", False),
        ("New coffee! Answer STOP and we stop.", False),
        ("Café novo! Responda SAIR para parar.", False),
    ],
)
def test_selling_by_text_message_says_how_to_stop_it(sms: str, refused: bool) -> None:
    """A mail has it from its frame, a text message has no frame."""
    parts = {"subject": "Hi", "body_text": "Hi", "body_mjml": "<mj-text>Hi</mj-text>", "sms": sms}
    found = [(one.part, one.line) for one in faults(Template.WIN_BACK, **parts)]
    assert found == ([(Part.SMS, None)] if refused else [])
    wording = sources(**parts)
    if refused:  # a row proves nothing about what is in it
        with pytest.raises(NotRendered, match="how to stop it"):
            render(job(Template.WIN_BACK, sources=wording, channel=Channel.SMS))
    else:
        assert render(job(Template.WIN_BACK, sources=wording, channel=Channel.SMS)).text
    assert faults(sms="Your order is late.") == []  # that is no selling


def test_what_people_wrote_is_no_markup_and_no_template() -> None:
    hostile = '<script>alert(1)</script> {{ 7 * 7 }} ${7*7} & "quotes"'
    rendered = render(job(context={**sample_context(Template.CASE_REPLY), "text": hostile}))
    assert rendered.html is not None
    assert "<script" not in rendered.html
    assert hostile in rendered.text


def test_the_subject_stays_one_line() -> None:
    wording = sources(subject="{{ case }}\n\nBcc: x@example.com")
    assert render(job(sources=wording)).subject == "C-2001 Bcc: x@example.com"


def test_too_long_an_output_is_given_up() -> None:
    long = {**sample_context(Template.CASE_REPLY), "text": "a" * 5_000}
    loops = sources(body_text="{% for a in text %}{{ text }}{% endfor %}")
    with pytest.raises(NotRendered):
        render(job(sources=loops, context=long))
    assert render(job(sources=SOUND, context=long)).text.count("a") > 5_000


class _Harmful(HTMLParser):
    """What of a page runs, or leads and fetches from where it shouldn't."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "form", "link", "base"):
            self.found.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (name == "style" and "url(" in (value or "")):
                self.found.append(name)
            if name in ("href", "src") and not (value or "").startswith("https://"):
                self.found.append(f"{name}={value}")


PIECES = st.sampled_from(
    [
        *("<mj-text>", "</mj-text>", "<b>", "</b>", "<a href='", "'>", '">', '<a href="', "</a>"),
        *("https://x.example/", "javascript:alert(1)", "{{ name }}", "{{ text }}", "{{ case }}"),
        *("{% if case %}", "{% else %}", "{% endif %}", "{% for a in text %}", "{% endfor %}"),
        *("<script>", "</script>", "<", ">", "'", '"', "/>", " onclick=", " style='", "url(", "="),
        *("&lt;", "&#60;", "<!--", "-->", "<![CDATA[", "]]>", "{#", "#}", "{% raw %}"),
        *("{% endraw %}", "\n", "\x85", "a", "<img src='", "<mj-button href='", "</mj-button>"),
    ]
)
SOUND_PIECES = st.sampled_from(
    [
        *("<b>{{ text }}</b>", "{% if case %}", "{% endif %}", "{{ name }}", "a", "\n", "&#60;"),
        *('<a href="https://x.example/{{ text }}">x</a>', "<br>", "{% raw %}{{{% endraw %}"),
        *("{% for a in text | lines %}", "{% endfor %}", "<p style='color:red'>x</p>"),
        *("<p style='color:{{ text }}'>x</p>", '<span title="{{ text }}">x</span>'),
    ]
)


@given(
    st.lists(PIECES, max_size=25).map("".join)
    | st.lists(SOUND_PIECES, max_size=8).map("".join).map("<mj-text>{}</mj-text>".format)
)
def test_whatever_is_written_is_refused_or_harmless(source: str) -> None:
    hostile = "\"'><script>alert(1)</script><a href='javascript:1' onclick=x style='url(x)'>"
    context = {**sample_context(Template.CASE_REPLY), "text": hostile, "name": hostile}
    wording = sources(body_mjml=source)
    refused = check_part(Part.BODY_MJML, source, NAMES, sells=False).faults
    try:
        html = render(job(sources=wording, context=context)).html
    except NotRendered:
        return
    assert not refused
    assert html is not None
    assert _Harmful(html).found == []
