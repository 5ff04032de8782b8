"""Wordings of staff, compiled and rendered; runs where it can be killed (render_process.py)."""

import itertools
import traceback
from collections.abc import Mapping, Set
from functools import lru_cache
from types import SimpleNamespace
from typing import Literal

import jinja2
from pydantic import BaseModel, ConfigDict

from domain.messages import Channel, Template
from domain.templates import (
    DEFAULT_LOCALE,
    ClaimMade,
    Fault,
    NotRendered,
    Part,
    TemplateSources,
    Verdict,
    may_claim,
    names_in,
    nearest_locale,
)
from messaging.render import (
    FAULTS,
    FILES,
    TEMPLATES,
    Rendered,
    environment_of,
    sample_context,
    values_of,
    written,
)
from messaging.template_check import check_part

_PLAIN = environment_of().overlay(autoescape=False)
_MARKUP = environment_of().overlay(autoescape=True)
_FRAMES = {Part.BODY_TEXT: "body.txt", Part.BODY_MJML: "email.mjml"}
FRAME_LOCALES = tuple(sorted(path.parent.name for path in TEMPLATES.glob("_layout/*/email.mjml")))


class RenderJob(BaseModel):
    """One message of a wording of staff."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["render"] = "render"
    company: str
    template: Template
    sources: TemplateSources
    wording: str  # its locale
    locale: str  # the reader's
    channel: Channel
    context: Mapping[str, str]
    claims: Mapping[str, str] = {}
    zone: str = "UTC"


class CheckJob(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: Literal["check"] = "check"
    template: Template
    sources: TemplateSources
    wording: str


class _Unfit(NotRendered):
    """With the place, for whoever checks a version."""

    def __init__(self, says: str, part: Part, line: int | None) -> None:
        super().__init__(says)
        self.part = part
        self.line = line


def render(job: RenderJob) -> Rendered:
    """Raises NotRendered."""
    at = Part.SUBJECT

    def compiled(part: Part) -> jinja2.Template:
        nonlocal at
        at = part
        source = getattr(job.sources, part)
        if source is None:
            raise ValueError(f"it has no wording for {job.channel}")
        return _compiled(part, source, job.template, job.wording)

    try:
        values = values_of(job.company, job.wording, job.locale, job.context, job.zone)
        values["claims"] = SimpleNamespace(**job.claims)
        return written(job.wording, job.channel, compiled, values)
    except (*FAULTS, MemoryError, RecursionError) as problem:
        # Neither the source nor what was put in: the reason ends up in rows and logs.
        says = problem.message if isinstance(problem, jinja2.TemplateError) else ""
        says = says or f"{type(problem).__name__} in its wording"
        raise _Unfit(says, at, _line_of(problem, at)) from problem


def _line_of(problem: BaseException, part: Part) -> int | None:
    """Where in the source it happened: Jinja rewrites the traceback to the lines of templates."""
    lines = [
        number
        for frame, number in traceback.walk_tb(problem.__traceback__)
        if frame.f_code.co_filename == "<template>"
    ]
    return lines[-1] - (part in _FRAMES) if lines else None


@lru_cache(maxsize=500)
def _compiled(part: Part, source: str, template: Template, wording: str) -> jinja2.Template:
    """Checked once more: a row in the database proves nothing about what is in it."""
    checked = check_part(part, source, names_in(template), sells=may_claim(template))
    if checked.faults:
        first = checked.faults[0]
        raise jinja2.TemplateSyntaxError(f"{part}: {first.says}", first.line or 1)
    environment = _MARKUP if part is Part.BODY_MJML else _PLAIN
    return environment.from_string(_framed(part, source, wording))


def check(job: CheckJob) -> Verdict:
    """Everything that is wrong with a version: its syntax first, then what samples show."""
    faults: list[Fault] = []
    claims: list[ClaimMade] = []
    for part in Part:
        source = getattr(job.sources, part)
        if source is None:
            if _is_sent_by_sms(job.template):
                faults.append(Fault(part=part, says="is missing: the message goes by SMS too"))
            continue
        names, sells = names_in(job.template), may_claim(job.template)
        checked = check_part(part, source, names, sells=sells)
        faults += checked.faults
        claims += checked.claims
    if nearest_locale(FRAME_LOCALES, job.wording, default=False) is None:
        known = ", ".join(FRAME_LOCALES)
        says = f"there is no frame in the language {job.wording}; there are: {known}"
        faults.append(Fault(part=Part.BODY_TEXT, says=says))
    if not faults:
        faults = _faults_of_samples(job, {claim.id for claim in claims})
    return Verdict(faults=faults, claims=claims)


def _faults_of_samples(job: CheckJob, claims: Set[str]) -> list[Fault]:
    """With all that may be known, and with the least."""
    channels = [Channel.EMAIL] if job.sources.sms is None else list(Channel)
    for channel, empty in itertools.product(channels, (False, True)):
        sample = RenderJob(
            company="Perennial",
            template=job.template,
            sources=job.sources,
            wording=job.wording,
            locale=job.wording,
            channel=channel,
            context=sample_context(job.template, empty=empty),
            claims=dict.fromkeys(claims, "a claim"),
        )
        try:
            render(sample)
        except _Unfit as problem:
            known = "where little is known" if empty else "with a sample"
            says = f"cannot be rendered {known}: {problem.__cause__ or problem}"
            return [Fault(part=problem.part, line=problem.line, says=says)]
    return []


def _is_sent_by_sms(template: Template) -> bool:
    return any(TEMPLATES.glob(f"{template}/*/{FILES[Part.SMS]}"))


def _framed(part: Part, source: str, wording: str) -> str:
    """A source that was read by itself has no {% endblock %} to leave its frame with."""
    if part not in _FRAMES:
        return source
    frame = nearest_locale(FRAME_LOCALES, wording) or DEFAULT_LOCALE
    layout = f"_layout/{frame}/{_FRAMES[part]}"
    return f'{{% extends "{layout}" %}}{{% block body %}}\n{source}\n{{% endblock %}}'
