"""A whole filled life, from the customer's first day until now."""

from datetime import datetime, timedelta
from uuid import UUID

from domain.messages import Channel, Purpose
from domain.policies import CaseKind
from domain.processes import ProcessKind, Stage
from replay.fill import names
from replay.fill.delivery import deliver_order
from replay.fill.life import PREFIX, Life, Share
from replay.fill.marketing import win_customer
from replay.fill.retention import win_back
from replay.fill.support import open_case

_HOSTS = ("example.com", "example.org", "example.net")  # RFC 2606
_SILENCE = timedelta(days=90)
_STAGES = {  # by what is open; the first counts
    ProcessKind.SUPPORT: Stage.SUPPORT,
    ProcessKind.DELIVERY: Stage.DELIVERY,
    ProcessKind.RETENTION: Stage.RETENTION,
    ProcessKind.MARKETING: Stage.MARKETING,
    ProcessKind.FOLLOW_UP: Stage.FOLLOW_UP,
}


def live(number: int, share: Share, *, seed: int, simulation: UUID, now: datetime) -> Life:
    """Everything the lists and the customer's page read of customer number `number`."""
    life = Life(number, share, seed=seed, simulation=simulation, now=now)
    _add_customer(life)
    win_customer(life)
    moments = sorted(life.draw_moment(life.came) for _ in range(share.orders))
    for nth, placed in enumerate(moments, 1):
        deliver_order(life, nth, placed)
    if life.dice.random() < 0.25:
        open_case(life, life.draw_moment(life.came), CaseKind.REQUEST)
    if life.dice.random() < 0.08:
        win_back(life)
    _add_lifecycle(life)
    life.write_lines()
    return life


def _add_customer(life: Life) -> None:
    dice, home, came = life.dice, life.home, str(life.came)
    organisation = dice.random() < 0.15
    name = names.name(dice, home, organisation=organisation)
    life.add(
        "customers",
        id=life.id,
        reference=f"{PREFIX}{life.number:06}",
        kind="organisation" if organisation else "person",
        name=name,
        locale=home.locale,
        zone=home.zone,
        tone=dice.choice([None, None, None, "informal", "formal"]),
        simulation_id=life.simulation,
        chosen_locale="en" if home.locale != "en" and dice.random() < 0.05 else None,
        preferred_channel=dice.choice([None, None, None, "email", "sms"]),
        version=1,
        recorded_at=came,
        updated_at=came,
    )
    box = names.mailbox(name) or "customer"
    life.email = f"{box}.{life.number}@{dice.choice(_HOSTS)}"
    _add_address(life, Channel.EMAIL, life.email)
    if dice.random() < 0.6:
        _add_address(life, Channel.SMS, _phone(life))
    for purpose in (Purpose.MARKETING, Purpose.TRACKING):
        if (luck := dice.random()) < 0.7:
            _add_consent(life, purpose, "withdrawn" if luck < 0.1 else "granted")
    if dice.random() < 0.1:
        life.add(
            "preferences",
            id=life.draw_id(life.came),
            customer_id=life.id,
            name="delivery-day",
            value=dice.choice(["Saturday", "Monday", "after 17:00"]),
            source="staff",
            recorded_at=came,
        )


def _phone(life: Life) -> str:
    """Of the numbers set aside for fiction (Ofcom; NANP 555-0100 to 555-0199)."""
    if life.dice.random() < 0.5:
        return f"+447700900{life.dice.randrange(1000):03}"
    return f"+1{life.dice.randrange(201, 990)}55501{life.dice.randrange(100):02}"


def _add_address(life: Life, channel: Channel, address: str) -> None:
    life.add(
        "contact_points",
        id=life.draw_id(life.came),
        customer_id=life.id,
        channel=channel,
        address=address,
        recorded_at=life.came,
    )


def _add_consent(life: Life, purpose: Purpose, state: str) -> None:
    life.add(
        "consents",
        id=life.draw_id(life.came),
        customer_id=life.id,
        channel=Channel.EMAIL,
        purpose=purpose,
        state=state,
        source="newsletter-form",
        wording="",
        occurred_at=life.came,
        recorded_at=life.came,
    )


def _add_lifecycle(life: Life) -> None:
    """Its stage follows from what is open."""
    rest = Stage.LOST if life.dice.random() < 0.05 else Stage.QUIET
    stage = next((stage for kind, stage in _STAGES.items() if kind in life.open), rest)
    heard = str(life.heard)
    silence = life.heard + _SILENCE
    silence += max((life.now - silence) // _SILENCE + 1, 0) * _SILENCE
    life.add(
        "lifecycles",
        customer_id=life.id,
        stage=stage,
        stage_reason=f"{stage.value} since the last news",
        stage_since=heard,
        last_heard_at=heard,
        silence_due_at=silence,
        updated_at=heard,
    )
    life.add_process(
        life.workflow_id, ProcessKind.LIFECYCLE, life.came, stage.value, "", silence, ""
    )
