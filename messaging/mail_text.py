"""What a person wrote in an answer, without what the mail program quoted below or above it."""

import re

# "On Monday Ada wrote:" in the languages of common mail programs; it may be broken over two lines.
_ATTRIBUTION = re.compile(
    r"^(?:on|am|le|el|em|il|op|a|no dia|den) .{3,300}?"
    r"(?:wrote|schrieb.{0,100}|a écrit|escribió|escreveu|ha scritto|schreef.{0,100}|skrev)\s?:\s*$",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(
    r"^\s*(?:-{2,}\s*(?:original message|ursprüngliche nachricht|message d'origine|mensaje original"
    r"|mensagem original|forwarded message|reply above this line)\s*-{2,}|_{20,})\s*$",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^\*?(?:from|von|de|da)\s?:\*?\s.+", re.IGNORECASE)
_NEXT_FIELD = re.compile(
    r"^\*?(?:sent|date|to|gesendet|datum|an|envoyé|à|enviado|para|fecha|data|inviato|subject)\s?:",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"^(?:-- ?|sent from my .{1,60}|enviado do meu .{1,60})$", re.IGNORECASE)
_MOST_LINES = 5_000


def unquoted(text: str) -> str:
    """The person's own words; the whole text where nothing else would be left."""
    lines = text.split("\n")[:_MOST_LINES]
    own: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number].rstrip()
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if _SEPARATOR.match(line) or _SIGNATURE.match(line.strip()):
            break
        if _FIELD.match(line) and _NEXT_FIELD.match(following):
            break
        if _is_attribution(line):
            number += 1
        elif following and _is_attribution(f"{line} {following}"):
            number += 2
        else:
            if not line.startswith(">"):
                own.append(line)
            number += 1
    return "\n".join(own).strip() or text.strip()


def _is_attribution(line: str) -> bool:
    return len(line) < 500 and _ATTRIBUTION.match(line.strip()) is not None
