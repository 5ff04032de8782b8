"""Only the links of others are counted, and a mail with them is otherwise the same."""

import re
from html import unescape
from uuid import UUID, uuid4

import pytest

from domain.messages import Channel, Purpose
from domain.tokens import TokenPurpose, parse_click_value, verify
from messaging.links import Links
from messaging.tracking import tracked

KEY = b"k" * 32
LINKS = Links("https://crm.example.com", KEY, "example.com")
PAGE = '<html><body><p>Hi</p><a class="b" href="{}" style="x">go</a></body></html>'


def target_of(html: str, message: UUID) -> str | None:
    """Where the counted link of a mail leads; None when it isn't counted."""
    [href] = re.findall(r'<a [^>]*href="([^"]*)"', html)
    token = unescape(href).removeprefix("https://crm.example.com/c/")
    value = verify(KEY, TokenPurpose.CLICK, token)
    if value is None:
        return None
    of, target = parse_click_value(value)
    assert of == message
    return target


@pytest.mark.parametrize(
    "target",
    [
        "https://shop.example.com/",
        "https://shop.example.com/a?b=1&c=%20d#e",
        "https://crm.example.com.evil.example/",
        "https://shop.example.com/café",
    ],
)
def test_a_link_of_others_leads_over_ours_to_the_same_page(target: str) -> None:
    message = uuid4()
    html = PAGE.format(target.replace("&", "&amp;"))
    counted = tracked(html, message, LINKS)
    assert target_of(counted, message) == target
    image = f'<img src="{LINKS.opened(message)}" width="1"'
    assert counted.index(image) < counted.index("</body>")


@pytest.mark.parametrize(
    "target",
    [
        LINKS.unsubscribe(uuid4(), Channel.EMAIL, Purpose.MARKETING),
        LINKS.survey("1") + "?score=5",
        "mailto:ada@example.com",
        "tel:+4930123456",
        "http://shop.example.com/",
        "javascript:alert(1)",
        "#top",
        "https://shop.example.com/" + "x" * 1000,
    ],
)
def test_ours_and_what_is_no_page_stay_as_they_are(target: str) -> None:
    message = uuid4()
    html = PAGE.format(target)
    assert target_of(tracked(html, message, LINKS), message) is None
    assert f'href="{target}"' in tracked(html, message, LINKS)
