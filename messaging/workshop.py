"""What an editor of templates needs: the files as a start, a check, a look, samples."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from domain.messages import Channel, Template
from domain.templates import Preview, TemplateSources, Verdict
from messaging.render import FILES, TEMPLATES, Rendered, Renderer, sample_context
from messaging.render_process import RenderProcess
from messaging.staff_wording import CheckJob, RenderJob

_FRAME = re.compile(
    r'\{% extends "[^"]+" %\}\n\{% block body %\}\n(?P<body>.*)\{% endblock %\}\n?', re.DOTALL
)
_INCLUDE = re.compile(r'\{% include "(?P<path>[^"]+)" %\}\n?')


@dataclass(frozen=True)
class Workshop:
    """Given to the API by its composition root."""

    company: str
    process: RenderProcess = field(default_factory=RenderProcess)

    def default(self, template: Template, locale: str) -> TemplateSources:
        """The wording of the files, written as staff writes: without its frame."""
        found = {
            part: _inside(path.read_text())
            for part, name in FILES.items()
            if (path := TEMPLATES / template / locale / name).exists()
        }
        return TemplateSources.model_validate(found)

    async def check(self, template: Template, locale: str, sources: TemplateSources) -> Verdict:
        return await self.process.check(
            CheckJob(template=template, sources=sources, wording=locale)
        )

    async def preview(
        self,
        template: Template,
        wording: str,
        sources: TemplateSources,
        *,
        reader: Mapping[str, str],
        locale: str,
        zone: str,
        claims: Mapping[str, str],
    ) -> Preview:
        """What a reader would get; what a process would know is a sample. Raises NotRendered.

        Its links are samples too: nobody opts a customer out by looking.
        """

        async def rendered(channel: Channel) -> Rendered:
            return await self.process.render(
                RenderJob(
                    company=self.company,
                    template=template,
                    sources=sources,
                    wording=wording,
                    locale=locale,
                    channel=channel,
                    context={**self.samples(template), **reader},
                    claims=claims,
                    zone=zone,
                )
            )

        mail = await rendered(Channel.EMAIL)
        sms = None if sources.sms is None else (await rendered(Channel.SMS)).text.strip()
        return Preview(mail.subject, mail.text, mail.html or "", sms)

    def preview_file(
        self, template: Template, *, reader: Mapping[str, str], locale: str, zone: str
    ) -> Preview:
        """The same of the files, which are ours: as messages are rendered. Raises NotRendered."""
        context = {**self.samples(template), **reader}

        def rendered(channel: Channel) -> Rendered:
            return self._renderer.render(template, channel, locale, context, zone=zone)

        mail = rendered(Channel.EMAIL)
        has_sms = self._renderer.has_wording(template, Channel.SMS, locale)
        sms = rendered(Channel.SMS).text.strip() if has_sms else None
        return Preview(mail.subject, mail.text, mail.html or "", sms)

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.company)

    def samples(self, template: Template) -> dict[str, str]:
        return sample_context(template)

    async def close(self) -> None:
        await self.process.close()


def _inside(source: str) -> str:
    framed = _FRAME.fullmatch(source)
    body = framed["body"] if framed else source
    return _INCLUDE.sub(lambda found: (TEMPLATES / found["path"]).read_text(), body)
