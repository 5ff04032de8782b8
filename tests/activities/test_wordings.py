"""Messages are written from what staff has published, and keep what they were written from."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from activities.message_wordings import Wordings
from activities.messages import MessageActivities
from database.base import Sessions
from database.customers import ContactPoint, Customer
from database.messages import Message
from database.templates import MarketingClaim, TemplateVersion
from domain.contacts import ConsentState
from domain.messages import MESSAGES, Channel, MessageClass, MessageState, Template
from domain.templates import Tone, VersionState
from messaging.render import sample_context
from tests.activities.dispatching import messages, queue, running, simulate, until, until_settled
from tests.messaging.post_office import PostOffice

NOW = datetime.now(UTC)


async def publish(
    sessions: Sessions,
    template: Template,
    number: int = 1,
    *,
    says: str = "staff",
    state: VersionState = VersionState.PUBLISHED,
    **columns: Any,
) -> None:
    """A version whose text says that it is staff's; one in force before it is retired."""
    row: dict[str, Any] = {
        "template": template,
        "number": number,
        "locale": "en",
        "state": state,
        "subject": f"{says} {number}",
        "body_text": f"{says} {number} for {{{{ name }}}}",
        "body_mjml": f"<mj-text>{says} {number} for {{{{ name }}}}</mj-text>",
        "author": "agent-7",
        "published_at": None if state is VersionState.DRAFT else NOW,
        **columns,
    }
    async with sessions.begin() as session:
        await session.execute(
            sa.update(TemplateVersion)
            .filter_by(template=template, locale=row["locale"], state=VersionState.PUBLISHED)
            .where(TemplateVersion.tone == row.get("tone", Tone.NEUTRAL))
            .values(state=VersionState.RETIRED, retired_at=NOW)
        )
        session.add(TemplateVersion(**row))


async def approve(sessions: Sessions, until: date, wordings: dict[str, str] | None = None) -> None:
    async with sessions.begin() as session:
        session.add(
            MarketingClaim(
                id="free_delivery",
                wordings=wordings or {"en": "Delivery is free"},
                evidence="price list",
                approved_by="agent-7",
                expires_on=until,
            )
        )


def versions(found: Sequence[Message]) -> list[str | None]:
    return [message.template_version for message in found]


async def test_a_message_is_written_from_what_is_in_force_and_says_so(
    sessions: Sessions, activities: MessageActivities, post_office: PostOffice
) -> None:
    await queue(sessions, Template.CASE_REPLY)
    async with running(activities):
        await until_settled(sessions)
        await publish(sessions, Template.CASE_REPLY, 1)
        await queue(sessions, Template.CASE_REPLY)
        await until_settled(sessions)
        await publish(sessions, Template.CASE_REPLY, 2)
        await queue(sessions, Template.CASE_REPLY, locale="de")
        found = await until_settled(sessions)
    assert versions(found) == ["file", "1", "2"]
    assert [message.subject for message in found][1:] == ["staff 1", "staff 2"]
    assert "staff 2 for Ada 0" in (found[2].html or "")
    assert "Your team at Perennial" in (found[2].text or "")
    assert await post_office.inbox.count() == 3


@pytest.mark.parametrize("column", ["template", "tone"])
async def test_a_wording_that_only_a_newer_version_knows_stops_nobody(
    sessions: Sessions, activities: MessageActivities, column: str
) -> None:
    await publish(sessions, Template.ORDER_LATE, 1)
    async with sessions.begin() as session:
        await session.execute(sa.text(f"UPDATE template_versions SET {column} = 'of-tomorrow'"))
    await publish(sessions, Template.CASE_REPLY, 2)
    await queue(sessions, Template.CASE_REPLY)
    async with running(activities):
        [message] = await until_settled(sessions)
    assert (message.state, message.template_version) == (MessageState.ACCEPTED, "2")


async def test_the_language_and_then_the_tone_of_the_customer_choose(
    sessions: Sessions, activities: MessageActivities
) -> None:
    late: dict[str, Any] = {"template": Template.ORDER_LATE, "sms": "late"}
    await publish(sessions, **late, number=1, locale="pt", says="tarde")
    await publish(sessions, **late, number=2, tone=Tone.FORMAL, says="formal")
    readers = [
        ("pt-PT", None),
        ("pt-BR", None),
        ("en-GB", None),
        ("en-GB", Tone.FORMAL),
        ("en", Tone.INFORMAL),
    ]
    customers: list[UUID] = []
    for locale, tone in readers:
        customers += await queue(sessions, Template.ORDER_LATE, locale=locale)
        async with sessions.begin() as session:
            await session.execute(sa.update(Customer).filter_by(id=customers[-1]).values(tone=tone))
    async with running(activities):
        found = {message.customer_id: message for message in await until_settled(sessions)}
    assert versions([found[customer] for customer in customers]) == [
        "1",
        "file",
        "file",
        "2",
        "file",
    ]


@pytest.mark.parametrize(("sms", "channel"), [("by text", Channel.SMS), (None, Channel.EMAIL)])
async def test_a_wording_for_text_messages_opens_that_way(
    sessions: Sessions, activities: MessageActivities, sms: str | None, channel: Channel
) -> None:
    """The file of a reply has none."""
    await publish(sessions, Template.CASE_REPLY, sms=sms)
    noon = await simulate(sessions, datetime(2026, 3, 2, 15, tzinfo=UTC))
    (customer,) = await queue(sessions, Template.CASE_REPLY, simulation_id=noon.id)
    async with sessions.begin() as session:
        await session.execute(sa.update(Customer).values(preferred_channel=Channel.SMS))
        phone = {"channel": Channel.SMS, "address": "+5511987654321"}
        session.add(ContactPoint(customer_id=customer, **phone))
    async with running(activities):
        (message,) = await until_settled(sessions)
    assert (message.channel, message.template_version) == (channel, "1")
    assert (message.html is None) is (channel is Channel.SMS)


async def test_what_is_sent_again_says_the_same(
    sessions: Sessions, activities: MessageActivities, post_office: PostOffice
) -> None:
    await publish(sessions, Template.CASE_REPLY, 1)
    await post_office.shut()
    await queue(sessions, Template.CASE_REPLY, address="customer{}@example.com")
    async with running(activities):
        await until(sessions, lambda found: found[0].template_version == "1")
        await publish(sessions, Template.CASE_REPLY, 2)
        await post_office.open()
        (message,) = await until_settled(sessions)
    assert (message.template_version, message.subject) == ("1", "staff 1")


async def test_a_wording_that_cannot_be_rendered_holds_up_no_other(
    sessions: Sessions, activities: MessageActivities
) -> None:
    """Nobody published it: it got into the table past the check."""
    await publish(
        sessions, Template.CASE_REPLY, body_text="{{ name.__class__ }}", body_mjml="<mj-raw/>"
    )
    # Loops over a text of 10,000 characters, one inside of the other, for ever and for nothing.
    endless = "{% for a in text %}{% for b in text %}{% endfor %}{% endfor %}"
    await publish(sessions, Template.CASE_WAITING, body_text=endless)
    await queue(sessions, Template.CASE_REPLY, customers=2)
    await queue(sessions, Template.CASE_WAITING, customers=2)
    async with sessions.begin() as session:
        text = {**sample_context(Template.CASE_WAITING), "text": "x" * 20_000}
        await session.execute(
            sa.update(Message).filter_by(template=Template.CASE_WAITING).values(context=text)
        )
    await queue(sessions, Template.ORDER_CONFIRMED, customers=5)
    async with running(activities):
        found = await until(
            sessions,
            lambda all_: all(
                m.provider_answer if m.template is not Template.ORDER_CONFIRMED else m.accepted_at
                for m in all_
            ),
        )
    unfit = [m for m in found if m.template is not Template.ORDER_CONFIRMED]
    assert all(m.state is MessageState.QUEUED and m.template_version is None for m in unfit)
    assert all((m.provider_answer or "").startswith("not rendered: ") for m in unfit)


@pytest.mark.parametrize(
    ("last_day", "outcome"),
    [
        (date(2026, 3, 1), "expired on 2026-03-01"),
        (None, "is not approved"),
        (date(2026, 3, 2), ""),
    ],
    ids=["expired", "unknown", "its last day"],
)
async def test_an_expired_claim_cancels_what_makes_it_and_says_which(
    sessions: Sessions, activities: MessageActivities, last_day: date | None, outcome: str
) -> None:
    """By the customer's own time."""
    if last_day is not None:
        await approve(sessions, last_day)
    says = "Good: {{ claims.free_delivery }}"
    await publish(sessions, Template.WIN_BACK, body_text=says, claims=["free_delivery"])
    clock = await simulate(sessions, datetime(2026, 3, 2, 12, tzinfo=UTC))
    granted = ConsentState.GRANTED
    await queue(sessions, Template.WIN_BACK, consent=granted, simulation_id=clock.id)
    async with running(activities):
        (message,) = await until_settled(sessions)
    assert message.decision is not None
    if outcome:
        assert message.state is MessageState.CANCELLED
        assert message.decision["decided_by"] == "claims"
        assert message.decision["because"] == f"the claim free_delivery {outcome}"
    else:
        assert message.state is MessageState.ACCEPTED
        assert "Good: Delivery is free" in (message.text or "")


async def test_a_claim_is_made_in_the_language_of_the_wording_or_not_at_all(
    sessions: Sessions, activities: MessageActivities
) -> None:
    await approve(sessions, date(2200, 1, 1), {"pt-BR": "Frete grátis"})
    wording: dict[str, Any] = {
        "body_text": "{{ claims.free_delivery }}",
        "claims": ["free_delivery"],
    }
    await publish(sessions, Template.REFERRAL_REQUEST, 1, **wording)
    await publish(sessions, Template.REFERRAL_REQUEST, 2, locale="pt", **wording)
    for locale in ("en", "pt-PT"):
        await queue(
            sessions, Template.REFERRAL_REQUEST, locale=locale, consent=ConsentState.GRANTED
        )
    async with running(activities):
        english, portuguese = await until_settled(sessions)
    assert english.state is MessageState.CANCELLED
    assert "Frete grátis" in (portuguese.text or "")


@pytest.mark.parametrize("version", ["file", "1"])
async def test_a_test_goes_to_staff_and_says_that_it_is_one(
    sessions: Sessions, activities: MessageActivities, version: str
) -> None:
    """Also of a draft, which no customer gets."""
    await publish(sessions, Template.WIN_BACK, state=VersionState.DRAFT)
    await queue(sessions, Template.WIN_BACK, consent=ConsentState.GRANTED)
    async with sessions.begin() as session:
        session.add(
            Message(
                key="templates/win_back/win_back/test-1",
                workflow_id="templates/win_back",
                step="test send by agent-7",
                template=Template.WIN_BACK,
                template_version=version,
                message_class=MessageClass.STAFF,
                purpose=MESSAGES[Template.WIN_BACK].purpose,
                channel=Channel.EMAIL,
                context={
                    **sample_context(Template.WIN_BACK),
                    **{"to": "staff@example.com", "locale": "pt-BR", "test": "yes"},
                },
                asked_at=NOW,
            )
        )
    async with running(activities):
        found = await until_settled(sessions)
    test = next(message for message in found if message.customer_id is None)
    assert (test.state, test.address) == (MessageState.ACCEPTED, "staff@example.com")
    assert (test.subject or "").startswith("[Test] ")
    assert test.template_version == version
    assert "https://example.com/u/token" in (test.text or "")
    assert versions([message for message in found if message.customer_id]) == ["file"]


async def test_a_test_of_a_version_that_is_gone_is_no_message(
    sessions: Sessions, activities: MessageActivities
) -> None:
    await queue(sessions, Template.CASE_REPLY)
    async with sessions.begin() as session:
        await session.execute(sa.update(Message).values(template_version="7"))
    async with running(activities):
        (message,) = await until(sessions, lambda found: bool(found[0].provider_answer))
    assert message.provider_answer == "not rendered: case_reply: version 7 is gone"


async def test_published_versions_are_read_once(sessions: Sessions) -> None:
    await publish(sessions, Template.CASE_REPLY, 1)
    wordings = Wordings()
    statements: list[str] = []
    engine = sessions.kw["bind"].sync_engine

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    async def refresh() -> int:
        statements.clear()
        async with sessions() as session:
            await wordings.refresh(session, [])
        return len(statements)

    assert await refresh() == 2
    assert await refresh() == 1
    await publish(sessions, Template.CASE_REPLY, 2)
    assert await refresh() == 2
    async with sessions.begin() as session:
        retired = {"state": VersionState.RETIRED, "retired_at": NOW + timedelta(seconds=1)}
        await session.execute(sa.update(TemplateVersion).values(retired))
    assert await refresh() == 1
    row = Message(template=Template.CASE_REPLY, template_version=None)
    chosen = wordings.choose(row, "en", None)
    assert chosen is not None
    assert chosen.version == "file"
    assert await messages(sessions) == []
