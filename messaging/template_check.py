"""What staff may write in a template: an allow-list, read before anything is compiled.

The sandbox of Jinja has been left more than once (CVE-2019-10906, CVE-2024-56326, CVE-2025-27516),
each time through an attribute, a filter or a call that we have no use for.
"""

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import chain

from jinja2 import Environment, TemplateSyntaxError, nodes

from domain.messages import Channel
from domain.opt_out_words import Wish, wish_of
from domain.templates import LARGEST_SOURCE, ClaimMade, Fault, Part
from messaging.filters import FILTERS

_PLAIN: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.If, nodes.CondExpr),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Add, nodes.Sub),
)
_TESTS = ("defined", "none")
_OF_LOOP = ("first", "last", "index", "index0", "length")
_MOST_LOOPS = 2  # one inside the other

# Stand for what a template puts in, where only the markup around it is looked at. They are of the
# private use area: a source that has them is refused.
_OWN_LINK, _VALUE, _TAG = "\ue000", "\ue001", "\ue002"
_LINKS = ("survey_url", "unsubscribe_url")
_LEXER = Environment()  # it renders nothing
_MJML = frozenset({"mj-text", "mj-button", "mj-image", "mj-divider", "mj-spacer", "mj-table"})
_HTML = frozenset(
    [
        *("a", "b", "strong", "i", "em", "u", "s", "small", "sub", "sup", "br", "hr", "p", "div"),
        *("span", "blockquote", "h1", "h2", "h3", "h4", "ul", "ol", "li", "img"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    ]
)
_EMPTY = frozenset({"br", "hr", "img"})
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_FETCHES = re.compile(r"://|url\(|\\", re.IGNORECASE)  # CSS can write url( with a backslash
_SPOKEN = ("alt", "title")
_NO_WAY_OUT = (
    "does not say to everybody how to stop it: {{ unsubscribe_url }}, or a word to answer: STOP"
)
_KEYWORD = re.compile(r"(?<![\w-])[A-Z]{3,}(?![\w-])")
_OTHER_SCHEME = re.compile(r"\b(?!https\b)[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass
class Checked:
    faults: list[Fault] = field(default_factory=list)
    claims: list[ClaimMade] = field(default_factory=list)


def check_part(part: Part, source: str, names: Set[str], *, sells: bool) -> Checked:
    """Everything wrong with a source; `names` are the variables it may use.

    What sells may make claims, and by text message says how to stop it: a mail's frame does.
    """
    refused = list(_unreadable(source))
    if refused:
        return Checked([Fault(part=part, line=line, says=says) for line, says in refused])
    reader = _Reader(names, may_claim=sells)
    try:
        tree = _LEXER.parse(source)
        reader.read(tree, names, loops=0)
        skeleton = _skeleton(source)
        refused += reader.refused
        refused += _Markup(skeleton).refused if part is Part.BODY_MJML else _plain_links(skeleton)
        if part is Part.SMS and sells and not _says_how_to_stop(tree):
            refused.append((None, _NO_WAY_OUT))
    except TemplateSyntaxError as problem:
        refused = [(problem.lineno, problem.message or "cannot be read")]
    except RecursionError:
        refused = [(None, "is nested too deeply")]
    faults = [Fault(part=part, line=line, says=says) for line, says in refused]
    claims = [ClaimMade(id=one, part=part, line=line) for one, line in reader.claimed]
    return Checked(faults, claims)


def _says_how_to_stop(tree: nodes.Template) -> bool:
    """Whether it names the link, or in capitals a word that we obey; to whoever reads it, so in no
    condition and no loop.
    """
    always = (node for node in tree.body if isinstance(node, nodes.Output))
    for piece in chain.from_iterable(node.nodes for node in always):
        match piece:
            case nodes.Name(name="unsubscribe_url"):
                return True
            case nodes.TemplateData(data=words):
                # As in a mail: CANCEL and END are obeyed too, and are said of much else.
                wishes = (wish_of(word, Channel.EMAIL) for word in _KEYWORD.findall(words))
                if Wish.STOP in wishes:
                    return True
    return False


def _unreadable(source: str) -> Iterator[tuple[int | None, str]]:
    if not source.strip():
        yield None, "is empty"
    if len(source) > LARGEST_SOURCE:
        yield None, f"is longer than {LARGEST_SOURCE} characters"
    for number, line in enumerate(source.split("\n"), 1):
        if any(mark in line for mark in (_OWN_LINK, _VALUE, _TAG)):
            yield number, "has a character of the private use area"


class _Reader:
    """Walks the tree and refuses every node that is not allowed, with its line."""

    def __init__(self, names: Set[str], *, may_claim: bool) -> None:
        self.refused: list[tuple[int | None, str]] = []
        self.claimed: list[tuple[str, int]] = []
        self._may_claim = may_claim
        self._known = ", ".join(sorted(names))

    def read(self, node: nodes.Node, names: Set[str], loops: int) -> None:
        match node:
            case nodes.Name(name=name) if name not in names:
                self._refuse(node, f"there is no variable {name[:60]!a}; known: {self._known}")
            case nodes.Name():
                pass
            case nodes.Getattr():
                self._read_attribute(node, loops)
            case nodes.For():
                self._read_loop(node, names, loops)
            case nodes.Filter():
                self._read_filter(node, names, loops)
            case nodes.Test():
                self._read_test(node, names, loops)
            case _ if isinstance(node, _PLAIN):
                for child in node.iter_child_nodes():
                    self.read(child, names, loops)
            case nodes.Call():
                self._refuse(node, "nothing can be called here")
            case _:
                self._refuse(node, f"{type(node).__name__} is not allowed here")

    def _read_attribute(self, node: nodes.Getattr, loops: int) -> None:
        match node.node:
            case nodes.Name(name="loop") if loops:
                if node.attr not in _OF_LOOP:
                    self._refuse(node, f"of loop there is only {', '.join(_OF_LOOP)}")
            case nodes.Name(name="claims") if self._may_claim:
                self.claimed.append((node.attr, node.lineno))
            case nodes.Name(name="claims"):
                self._refuse(node, "only a marketing message makes claims")
            case _:
                self._refuse(node, f"the attribute {node.attr[:60]!a} is not allowed here")

    def _read_loop(self, node: nodes.For, names: Set[str], loops: int) -> None:
        if loops == _MOST_LOOPS:
            self._refuse(node, f"loops may be nested {_MOST_LOOPS} deep")
        if node.recursive or not isinstance(node.target, nodes.Name):
            self._refuse(node, "a loop is written as {% for line in lines %}")
            return
        self.read(node.iter, names, loops)
        inside = names | {node.target.name}
        if node.test is not None:
            self.read(node.test, inside, loops)
        for child in node.body:
            self.read(child, inside, loops + 1)
        for child in node.else_:
            self.read(child, names, loops)

    def _read_filter(self, node: nodes.Filter, names: Set[str], loops: int) -> None:
        if node.name not in FILTERS:
            self._refuse(node, f"there is no filter {node.name[:60]!a}; known: {_known(FILTERS)}")
        if node.node is None or node.args or node.kwargs or node.dyn_args or node.dyn_kwargs:
            self._refuse(node, "a filter takes no arguments")
        if node.node is not None:
            self.read(node.node, names, loops)

    def _read_test(self, node: nodes.Test, names: Set[str], loops: int) -> None:
        if node.name not in _TESTS or node.args or node.kwargs:
            self._refuse(node, f"the only tests are: {', '.join(_TESTS)}")
        self.read(node.node, names, loops)

    def _refuse(self, node: nodes.Node, says: str) -> None:
        self.refused.append((node.lineno, says))


def _known(filters: Mapping[str, object]) -> str:
    return ", ".join(sorted(filters))


def _skeleton(source: str) -> str:
    """The source line by line, with a mark for whatever the template puts in."""
    pieces: list[str] = []
    line = 1
    expression: list[str] | None = None
    for number, kind, text in _LEXER.lex(source):
        pieces.append("\n" * (number - line))
        line = max(line, number)
        if kind == "variable_begin":
            expression = []
        elif kind == "variable_end" and expression is not None:
            word = "".join(expression).strip()
            pieces.append(_OWN_LINK if word in _LINKS else _VALUE)
            expression = None
        elif expression is not None:
            expression.append(text)
        elif kind == "block_begin":
            pieces.append(_TAG)
        elif kind == "data":
            pieces.append(text)
            line += text.count("\n")
    return "".join(pieces)


def _plain_links(skeleton: str) -> Iterator[tuple[int | None, str]]:
    for number, line in enumerate(skeleton.split("\n"), 1):
        if _OTHER_SCHEME.search(line):
            yield number, "a link begins with https://"


class _Markup(HTMLParser):
    """Complete elements of a short list, of which none runs anything or fetches by what we know.

    Each branch of a condition is looked at, and a loop once.
    """

    def __init__(self, skeleton: str) -> None:
        super().__init__(convert_charrefs=False)
        self.refused: list[tuple[int | None, str]] = []
        self._open: list[tuple[str, int]] = []
        self.feed(skeleton)
        self.close()
        for tag, line in self._open:
            self.refused.append((line, f"<{tag}> is not closed"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _EMPTY:
            self._open.append((tag, self.getpos()[0]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _MJML | _HTML:
            self._refuse(
                f"<{tag[:60]}> is not allowed; allowed: {', '.join(sorted(_MJML | _HTML))}"
            )
        elif (tag in _MJML) == bool(self._open):
            outside = "must stand by itself" if self._open else "must stand inside of <mj-text>"
            self._refuse(f"<{tag}> {outside}")
        bare = _QUOTED.sub("", self.get_starttag_text() or "")
        if any(mark in bare for mark in (_OWN_LINK, _VALUE)):
            self._refuse("a value stands between quotation marks")
        if _TAG in (self.get_starttag_text() or ""):
            self._refuse("no {% %} inside of a tag: write the tag twice")
        for name, value in attrs:
            self._check_attribute(name, value or "")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            self._open.pop()
        else:
            self._refuse(f"</{tag[:60]}> closes nothing")

    def handle_data(self, data: str) -> None:
        if "<" in data:
            self._refuse("write &lt; for a < that begins no tag")
        if not self._open and data.replace(_TAG, "").strip():
            self._refuse("text stands inside of <mj-text>")

    def handle_comment(self, data: str) -> None:
        self._refuse("write {# #} for a comment")

    def handle_decl(self, decl: str) -> None:
        self._refuse("a declaration is not allowed here")

    def unknown_decl(self, data: str) -> None:
        self._refuse("a declaration is not allowed here")

    def handle_pi(self, data: str) -> None:
        self._refuse("an instruction is not allowed here")

    def _check_attribute(self, name: str, value: str) -> None:
        if name == "href":
            if not value.startswith(("https://", _OWN_LINK)):
                self._refuse(
                    "a link begins with https://, {{ survey_url }} or {{ unsubscribe_url }}"
                )
        elif name == "src":
            if not value.startswith("https://") or _VALUE in value or _OWN_LINK in value:
                self._refuse("a picture begins with https:// and has no value in its address")
        elif name.startswith("on") or _FETCHES.search(value):
            self._refuse(f"the attribute {name[:60]!a} is not allowed like this")
        elif name not in _SPOKEN and (_VALUE in value or _OWN_LINK in value):
            self._refuse(f"the attribute {name[:60]!a} holds no value: it would be read as style")

    def _refuse(self, says: str) -> None:
        self.refused.append((self.getpos()[0], says))
