"""Words with which a person asks us to stop, to start again, or for help; the whole text counts.

Text messages: the keywords of the CTIA's Messaging Principles, and what people write instead. In a
mail "cancel" or "end" may well be about an order, so fewer words count there.
"""

import re
import unicodedata
from enum import StrEnum

from domain.messages import Channel


class Wish(StrEnum):
    STOP = "stop"
    START = "start"
    HELP = "help"


_EVERYWHERE = (
    "stop|stopall|stop all|unsubscribe|unsubscribe me|opt out|optout|remove me|take me off"
    "|parar|pare|sair|descadastrar|descadastre me"
)
_BY_TEXT_ONLY = "cancel|end|quit|revoke|cancelar|cancela|fim"
_BEFORE = "(?:please |pls |kindly |por favor |i want to |i said )*"
_AFTER = (
    "(?: please| pls| now| it| this| that| all| everything| thanks| thank you| por favor| agora"
    "| obrigado| obrigada| me| from(?: the| this| your)? list"
    "|(?: texting| messaging| mailing| emailing| writing)(?: me| to me)?"
    "|(?: sending)(?: me)?(?: these| those| your)?(?: texts?| messages?| mails?| emails?)?"
    "|(?: these| those| your)? (?:texts?| messages?| mails?| emails?))*"
)
_STOP = {
    Channel.EMAIL: re.compile(f"{_BEFORE}(?:{_EVERYWHERE}){_AFTER}"),
    Channel.SMS: re.compile(f"{_BEFORE}(?:{_EVERYWHERE}|{_BY_TEXT_ONLY}){_AFTER}"),
}
_WORDS = {
    **dict.fromkeys(("start", "unstop", "yes", "sim", "voltar"), Wish.START),
    **dict.fromkeys(("help", "info", "ajuda"), Wish.HELP),
}
_LONGEST = 100  # characters; more is a letter, not a keyword


def wish_of(text: str, channel: Channel) -> Wish | None:
    """What the text asks for and nothing else; START and HELP are words of text messages only."""
    if len(text) > _LONGEST:
        return None
    plain = unicodedata.normalize("NFKD", text).casefold()
    words = " ".join(re.sub(r"[^a-z0-9]+", " ", re.sub(r"[\u0300-\u036f]", "", plain)).split())
    if _STOP[channel].fullmatch(words):
        return Wish.STOP
    return _WORDS.get(words) if channel is Channel.SMS else None
