"""A page as somebody who reads it without seeing it, or fills in its form, would get it."""

from html.parser import HTMLParser


class ReadPage(HTMLParser):
    """Its language, headings, links, and the fields of its form as a browser would send them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.lang = ""
        self.action = ""
        self.ids: list[str] = []
        self.described_by: list[str] = []
        self.labelled: set[str] = set()
        self.controls: list[str] = []  # ids of what a person operates
        self.links: list[str] = []
        self.fields: list[tuple[str, str]] = []
        self.offers: dict[str, list[str]] = {}  # name -> the values that can be chosen
        self.text = ""
        self._select = ""
        self._invisible = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.described_by += given.get("aria-describedby", "").split()
        if tag in ("style", "title"):
            self._invisible = tag
        elif tag == "html":
            self.lang = given.get("lang", "")
        elif tag == "form":
            self.action = given["action"]
        elif tag == "a":
            self.links.append(given["href"])
        elif tag == "label":
            self.labelled.add(given.get("for", ""))
        elif tag == "select":
            self._select = given["name"]
            self.controls.append(given.get("id", ""))
        elif tag == "option":
            self._offer(self._select, given, chosen="selected" in given)
        elif tag == "input":
            chosen = given["type"] == "hidden" or "checked" in given
            if given["type"] != "hidden":
                self.controls.append(given.get("id", ""))
            self._offer(given["name"], given, chosen=chosen)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._invisible:
            self._invisible = ""

    def handle_data(self, data: str) -> None:
        if not self._invisible:
            self.text += data

    def _offer(self, name: str, given: dict[str, str], *, chosen: bool) -> None:
        self.offers.setdefault(name, []).append(given["value"])
        if chosen:
            self.fields.append((name, given["value"]))

    def filled(
        self, *, on: tuple[str, ...] = (), off: tuple[str, ...] = (), **choices: str
    ) -> dict[str, list[str]]:
        """The form after a person has ticked, unticked and chosen."""
        sent: dict[str, list[str]] = {}
        for name, value in self.fields:
            if not (name == "on" and value in off) and name not in choices:
                sent.setdefault(name, []).append(value)
        sent["on"] = [*sent.get("on", []), *on]
        for name, value in choices.items():
            assert value in self.offers[name], (name, value, self.offers[name])
            sent[name] = [value]
        return sent


def assert_anybody_can_use(page: ReadPage, lang: str) -> None:
    """WCAG 2.2: 3.1.1 language of page, 1.3.1 and 4.1.2 names of controls, unique ids."""
    assert page.lang == lang
    assert set(page.controls) <= page.labelled, set(page.controls) - page.labelled
    assert all(page.controls)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.described_by) <= set(page.ids)
