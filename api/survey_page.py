"""The survey behind a signed link: one click answers, a second click changes the answer."""

from typing import Annotated, Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, Problem
from api.event_bodies import SurveyAnsweredEvent
from api.fields import Prose
from api.intake import accept, now_on
from api.pages import PageRoute, form_fields, note_reader, page, page_locale
from database.customers import READING_LOCALE, Customer
from database.events import Event
from database.feedback import Survey
from database.queries.customers import clock_of
from domain.clock import REAL_TIME
from domain.follow_up import SCORES, Expectation
from domain.tokens import TokenPurpose, verify

router = APIRouter(
    prefix="/s", tags=["pages"], route_class=PageRoute, default_response_class=HTMLResponse
)

Token = Annotated[str, Path(max_length=1000)]
_COMMENT: TypeAdapter[str] = TypeAdapter(Prose)
_LONGEST_COMMENT = 5000
_TRIES = 5


class Answer(NamedTuple):
    score: int
    expectation: Expectation | None = None
    comment: str | None = None


@router.api_route("/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def open_survey(
    token: Token,
    request: Request,
    session: Session,
    held: Held,
    score: Annotated[int | None, Query()] = None,
) -> HTMLResponse:
    """With a score: take it as the answer. Without, or for HEAD: only show the survey."""
    survey, locale = await _survey(session, held, token)
    note_reader(request, locale)
    given = await _last_answer(session, survey)
    if score is not None and request.method == "GET":
        answer = given[1] if given else Answer(score)
        given = await _take(session, held, survey, answer._replace(score=score))
    return _page(token, survey, locale, given[1] if given else None, said=False)


@router.post("/{token}", include_in_schema=False)
async def answer_survey(
    token: Token, request: Request, session: Session, held: Held
) -> HTMLResponse:
    """The form below the scores: expectation and comment."""
    survey, locale = await _survey(session, held, token)
    note_reader(request, locale)
    answer = _read_form(await request.body())
    given = await _take(session, held, survey, answer)
    return _page(token, survey, locale, given[1], said=True)


async def _survey(session: AsyncSession, held: Resources, token: str) -> tuple[Survey, str]:
    value = verify(held.signing_key.encode(), TokenPurpose.SURVEY, token)
    if value is None:
        raise Problem(Code.INVALID_LINK, "the token was not made here")
    found = (
        await session.execute(
            sa.select(Survey, READING_LOCALE)
            .join(Customer, Customer.id == Survey.customer_id)
            .where(Survey.id == UUID(value))
        )
    ).one_or_none()
    if found is None:
        raise Problem(Code.INVALID_LINK, "the survey is not there")
    return found[0], found[1]


async def _last_answer(session: AsyncSession, survey: Survey) -> tuple[int, Answer] | None:
    """How many answers were given, and the last."""
    found = (
        await session.execute(
            sa.select(Event.event_id, Event.body)
            .where(
                Event.customer_id == survey.customer_id,  # indexed
                Event.event_id.startswith(f"survey/{survey.id}/", autoescape=True),
            )
            .order_by(sa.func.length(Event.event_id).desc(), Event.event_id.desc())
            .limit(1)
        )
    ).one_or_none()
    if found is None:
        return None
    body: dict[str, Any] = found.body
    expectation = body.get("expectation")
    answer = Answer(
        body["score"], Expectation(expectation) if expectation else None, body.get("comment")
    )
    return int(found.event_id.rpartition("/")[2]), answer


async def _take(
    session: AsyncSession, held: Resources, survey: Survey, answer: Answer
) -> tuple[int, Answer]:
    """Tell the follow-up, unless nothing changed. Two clicks at once are taken in some order."""
    if answer.score not in SCORES[survey.scale]:
        raise Problem(Code.INVALID_LINK, f"{answer.score} is not on the scale")
    clock = await clock_of(session, survey.customer_id)
    for _ in range(_TRIES):
        given = await _last_answer(session, survey)
        if given is not None and given[1] == answer:
            return given
        number = given[0] + 1 if given else 1
        event = SurveyAnsweredEvent(
            kind="survey_answered",
            event_id=f"survey/{survey.id}/{number}",
            source="survey",
            occurred_at=now_on(clock or REAL_TIME),
            customer_id=survey.customer_id,
            survey_id=survey.id,
            scale=survey.scale,
            score=answer.score,
            expectation=answer.expectation,
            comment=answer.comment,
            order_id=survey.order_id,
            case_id=survey.case_id,
        )
        try:
            accepted = await accept(session, held, "survey link", event)
        except Problem as problem:
            if problem.code is not Code.EVENT_CONFLICT:
                raise
        else:
            if not accepted.duplicate:
                return number, answer
    raise Problem(Code.CONFLICT, "too many answers at once")


def _read_form(body: bytes) -> Answer:
    """Raises the problem for a form that isn't ours. An empty comment is none."""
    try:
        fields = form_fields(body)
        expectation = fields.get("expectation", [""])[0]
        comment = fields.get("comment", [""])[0].strip()[:_LONGEST_COMMENT]
        return Answer(
            int(fields["score"][0]),
            Expectation(expectation) if expectation else None,
            _COMMENT.validate_python(comment) if comment else None,
        )
    except (ValueError, KeyError, ValidationError):
        raise Problem(Code.INVALID_REQUEST, "the form cannot be read") from None


def _page(
    token: str, survey: Survey, locale: str, answer: Answer | None, *, said: bool
) -> HTMLResponse:
    lang = page_locale(locale)
    context = {
        "token": token,
        "scores": list(SCORES[survey.scale]),
        "answer": answer,
        "said": said,
    }
    return page(f"{lang}/survey.html", context, lang=lang)
