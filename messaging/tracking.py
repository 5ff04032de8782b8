"""Counts opening and clicking by first-party links, in the HTML of a mail to who consented to it.

The text part is never changed, so that there is always a way to a page that nobody counts.
"""

import re
from html import escape, unescape
from uuid import UUID

from messaging.links import Links

_LINK = re.compile(r'(<a\b[^>]*?\shref=")(https://[^"]*)(")')
_IMAGE = '<img src="{}" width="1" height="1" alt="" style="display:block;border:0" />'


def tracked(html: str, message: UUID, links: Links) -> str:
    """Links of others lead over ours; what is ours already (survey, unsubscribing) stays."""

    def over_ours(found: re.Match[str]) -> str:
        target = unescape(found[2])
        ours = target.startswith(f"{links.base}/")
        link = None if ours else links.click(message, target)
        return found[0] if link is None else f"{found[1]}{escape(link)}{found[3]}"

    counted = _LINK.sub(over_ours, html)
    head, end, rest = counted.rpartition("</body>")
    return f"{head}{_IMAGE.format(escape(links.opened(message)))}{end}{rest}" if end else counted
