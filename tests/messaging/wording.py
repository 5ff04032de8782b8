"""Wordings of staff to try things with."""

from typing import Any

from domain.messages import Channel, Template
from domain.templates import Fault, Part, TemplateSources
from messaging.render import sample_context
from messaging.staff_wording import CheckJob, RenderJob, check

SOUND = TemplateSources(
    subject="News about {{ case }}",
    body_text="It is about {{ case }}: {{ text }}",
    body_mjml="<mj-text>It is about {{ case }}: {{ text }}</mj-text>",
)


def sources(**parts: str | None) -> TemplateSources:
    return SOUND.model_copy(update=parts)


def job(template: Template = Template.CASE_REPLY, **other: Any) -> RenderJob:
    """A message in English with samples; `other` fields of the job instead."""
    fields: dict[str, Any] = {
        "company": "Perennial",
        "sources": SOUND,
        "wording": "en",
        "locale": "en",
        "channel": Channel.EMAIL,
        "context": sample_context(template),
        **other,
    }
    return RenderJob(template=template, **fields)


def faults(
    template: Template = Template.CASE_REPLY, wording: str = "en", **parts: str | None
) -> list[Fault]:
    return check(CheckJob(template=template, sources=sources(**parts), wording=wording)).faults


def faults_of(source: str, part: Part = Part.BODY_TEXT) -> list[tuple[int | None, str]]:
    """(line, what is wrong) of one part; the others are sound."""
    parts: dict[str, Any] = {part.value: source}
    found = faults(**parts)
    assert all(one.part is part for one in found)
    return [(one.line, one.says) for one in found]
