"""The page on which a customer chooses what he gets from us, behind a signed link; no login.

The form sends along what it showed, and only what differs from that is a wish: of two tabs, or of
a form sent twice, the last one wins where it says something, and nowhere else.
"""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date
from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, Problem
from api.intake import now_on
from api.pages import LOCALES, PageRoute, form_fields, note_reader, page, page_locale, words
from api.statements import tell_of_opt_out
from database.queries.consents import Statement, ask_to_confirm, contact_policy, state_consent
from database.queries.customers import hold_messages
from database.queries.messages import ask_again
from database.queries.preferences import Standing, note_choice, read_standing
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.policies import ContactPolicy
from domain.preferences import PAUSES, choices, pause_until
from domain.tokens import TokenPurpose, parse_preferences_value, verify

router = APIRouter(
    prefix="/p", tags=["pages"], route_class=PageRoute, default_response_class=HTMLResponse
)

Token = Annotated[str, Path(max_length=1000)]
Contact = tuple[Channel, Purpose]
_SOURCE = "preference-page"
_NEEDS_CONSENT = (Purpose.MARKETING, Purpose.TRACKING)


class Change(NamedTuple):
    """Something that was changed; `kind` and `about` are those of `change` in words.html."""

    kind: str
    about: Any = ""
    statement: Statement | None = None


class _Wishes(NamedTuple):
    """What differs from what the form showed."""

    lang: str  # of the page that was shown
    switched: Mapping[Contact, bool]
    language: str | None
    channel: str | None  # "": none is preferred
    pause: str  # months, "end", or "" to leave it


@router.api_route("/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def open_preferences(token: Token, session: Session, held: Held) -> HTMLResponse:
    """What holds now; changes nothing."""
    customer_id, _ = _about(held, token)
    return await _page(session, token, customer_id, None)


@router.post("/{token}", include_in_schema=False)
async def change_preferences(
    token: Token, request: Request, session: Session, held: Held
) -> HTMLResponse:
    """Change what the form changed. Committed by itself: it must hold even while Temporal is away.

    A repeat finds nothing left to change.
    """
    customer_id, sent_by = _about(held, token)
    try:
        wishes = _read_form(await request.body())
    except (ValueError, KeyError):
        raise Problem(Code.INVALID_REQUEST, "the form cannot be read") from None
    note_reader(request, wishes.lang)
    async with held.sessions.begin() as own:
        await hold_messages(own, customer_id)
        policy = await contact_policy(own)
        standing = await _standing(own, customer_id)
        about = own, customer_id, standing, wishes
        changes = [change async for change in _switch(*about, policy, sent_by)]
        changes += [change async for change in _choose(*about)]
        if changes:
            await ask_again(own, customer_id)
    for change in changes:
        if change.kind == "refused" and change.about[1] is Purpose.MARKETING:
            assert change.statement is not None
            await tell_of_opt_out(session, held, customer_id, change.about[0], change.statement)
    return await _page(session, token, customer_id, changes)


def _about(held: Resources, token: str) -> tuple[UUID, Channel]:
    value = verify(held.signing_key.encode(), TokenPurpose.PREFERENCES, token)
    if value is None:
        raise Problem(Code.INVALID_LINK, "the token was not made here")
    return parse_preferences_value(value)


async def _standing(session: AsyncSession, customer_id: UUID) -> Standing:
    standing = await read_standing(session, customer_id)
    if standing is None:
        raise Problem(Code.INVALID_LINK, "the customer is not there")
    return standing


def _read_form(body: bytes) -> _Wishes:
    """Raises ValueError or KeyError for a form that isn't ours."""
    fields = form_fields(body)
    on, was_on = fields.get("on", []), fields.get("was_on", [])
    offered = {name: _contact(name) for name in fields.get("offered", [])}
    switched = {
        contact: name in on for name, contact in offered.items() if (name in on) != (name in was_on)
    }
    language, was_language = fields["language"][0], fields["was_language"][0]
    channel, was_channel = fields.get("channel", [""])[0], fields.get("was_channel", [""])[0]
    pause = fields.get("pause", [""])[0]
    known = (
        (language, (*LOCALES, was_language)),
        (channel, ("", *Channel)),
        (pause, ("", "end", *map(str, PAUSES))),
    )
    if any(value not in values for value, values in known):
        raise ValueError("a choice that was not offered")
    return _Wishes(
        lang=page_locale(was_language),
        switched=switched,
        language=language if language != was_language else None,
        channel=channel if channel != was_channel else None,
        pause=pause,
    )


def _contact(name: str) -> Contact:
    channel, purpose = name.split("/")
    return Channel(channel), Purpose(purpose)


async def _switch(
    session: AsyncSession,
    customer_id: UUID,
    standing: Standing,
    wishes: _Wishes,
    policy: ContactPolicy,
    sent_by: Channel,
) -> AsyncGenerator[Change]:
    """The consents. Who holds the link reads what is sent to that channel, and to no other."""
    now = now_on(standing.clock)
    for channel, purpose in _offers(standing, policy):
        wanted = wishes.switched.get((channel, purpose))
        if wanted is None or (wanted and standing.is_suppressed(channel, purpose)):
            continue
        state = ConsentState.GRANTED if wanted else ConsentState.WITHDRAWN
        holds = standing.consents.get(f"{channel}/{purpose}") is ConsentState.GRANTED
        if wanted and not holds and channel is not sent_by and policy.confirms(channel, purpose):
            state = ConsentState.PENDING
        statement = await state_consent(
            session,
            customer_id,
            channel,
            purpose,
            state,
            source=_SOURCE,
            now=now,
            wording=words(wishes.lang, "statement", channel, purpose),
        )
        if state is ConsentState.PENDING:
            await ask_to_confirm(session, customer_id, channel, policy=policy, now=now)
        if statement.new:
            yield Change(_SAID[state], (channel, purpose), statement)


_SAID = {
    ConsentState.GRANTED: "allowed",
    ConsentState.WITHDRAWN: "refused",
    ConsentState.PENDING: "pending",
}


async def _choose(
    session: AsyncSession, customer_id: UUID, standing: Standing, wishes: _Wishes
) -> AsyncGenerator[Change]:
    """Language, channel and pause."""
    language = wishes.language
    if language is not None and language != standing.locale:
        await note_choice(
            session, customer_id, "language", language, _SOURCE, chosen_locale=language
        )
        yield Change("language", _own_name(language))
    if wishes.channel is not None and wishes.channel != (standing.preferred_channel or ""):
        chosen = Channel(wishes.channel) if wishes.channel else None
        value = wishes.channel or "none"
        await note_choice(session, customer_id, "channel", value, _SOURCE, preferred_channel=chosen)
        yield Change("channel", wishes.channel)
    if wishes.pause:
        now = now_on(standing.clock)
        ends = wishes.pause == "end"
        until = None if ends else pause_until(now, int(wishes.pause), standing.zone)
        if until != standing.marketing_paused_until:
            value = until.isoformat() if until else "ended"
            await note_choice(
                session,
                customer_id,
                "marketing-pause",
                value,
                _SOURCE,
                marketing_paused_until=until,
            )
            yield Change("paused", until) if until else Change("resumed")


def _offers(standing: Standing, policy: ContactPolicy) -> list[Contact]:
    """What can be switched. Tracking where there is some, or where it was once allowed."""
    allowed = standing.consents.get(f"{Channel.EMAIL}/{Purpose.TRACKING}")
    tracking = policy.track or allowed is ConsentState.GRANTED
    return choices(standing.channels, tracking=tracking)


async def _page(
    session: AsyncSession, token: str, customer_id: UUID, changes: list[Change] | None
) -> HTMLResponse:
    standing = await _standing(session, customer_id)
    lang = page_locale(standing.locale)
    now = now_on(standing.clock)
    paused = standing.marketing_paused_until
    offers = [_offer(standing, one) for one in _offers(standing, await contact_policy(session))]

    def day(moment: datetime) -> str:
        local = moment.astimezone(ZoneInfo(standing.zone))
        return format_date(local, "long", locale=lang.replace("-", "_"))

    spoken = Locale.parse(standing.locale, sep="-").language
    language = lang if Locale.parse(lang, sep="-").language == spoken else standing.locale
    context = {
        "token": token,
        "changes": None
        if changes is None
        else [(c.kind, day(c.about) if c.kind == "paused" else c.about) for c in changes],
        "channels": [
            (str(channel), [offer for offer in offers if offer["channel"] is channel])
            for channel in standing.channels
        ],
        "language": language,
        "languages": [(one, _own_name(one)) for one in dict.fromkeys((*LOCALES, language))],
        "preferred": str(standing.preferred_channel or ""),
        "paused": day(paused) if paused is not None and paused > now else "",
        "pauses": [(months, day(pause_until(now, months, standing.zone))) for months in PAUSES],
    }
    return page("preferences.html", context, lang=lang)


def _offer(standing: Standing, contact: Contact) -> dict[str, Any]:
    channel, purpose = contact
    name = f"{channel}/{purpose}"
    state = standing.consents.get(name)
    granted, refused = state is ConsentState.GRANTED, state is ConsentState.WITHDRAWN
    return {
        "name": name,
        "channel": channel,
        "purpose": str(purpose),
        "on": granted if purpose in _NEEDS_CONSENT else not refused,
        "pending": state is ConsentState.PENDING,
        "closed": standing.is_suppressed(channel, purpose),
    }


def _own_name(locale: str) -> str:
    return Locale.parse(locale, sep="-").get_display_name() or locale
