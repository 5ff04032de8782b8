"""Customers, how to reach them, and what they allowed. Reference data: the API writes it."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, uuid_key, written_now
from database.search import prefixes, trigrams
from domain.clock import REAL_TIME, Clock
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.templates import Tone


class CustomerKind(StrEnum):
    PERSON = "person"
    ORGANISATION = "organisation"


class Simulation(Base):
    """A clock that runs faster, for replays and the demo; real customers have none."""

    __tablename__ = "simulations"

    id: Mapped[UUID] = uuid_key()
    name: Mapped[str]
    machine_origin: Mapped[datetime]
    business_origin: Mapped[datetime]
    speed: Mapped[float]
    # Its rows were written by `crm.py fill`: no process is behind them, and nobody looks for one.
    filled: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (sa.CheckConstraint("speed > 0", name="speed_is_positive"),)

    @property
    def clock(self) -> Clock:
        return clock_in(self)


CLOCK_COLUMNS = (Simulation.machine_origin, Simulation.business_origin, Simulation.speed)


def clock_in(row: Any) -> Clock:
    """The clock of a row with the CLOCK_COLUMNS; they are empty for a real customer."""
    if row.speed is None:
        return REAL_TIME
    return Clock(
        machine_origin=row.machine_origin, business_origin=row.business_origin, speed=row.speed
    )


# What time it is for a customer, joined with his simulation if he has one: `Clock.business`.
BUSINESS_NOW = sa.func.coalesce(
    Simulation.business_origin
    + sa.func.make_interval(
        *(0, 0, 0, 0, 0, 0),
        sa.extract("epoch", sa.func.now() - Simulation.machine_origin) * Simulation.speed,
    ),
    sa.func.now(),
)


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[UUID] = uuid_key()
    reference: Mapped[str] = mapped_column(unique=True)  # the other system's id, or ours
    kind: Mapped[CustomerKind] = mapped_column(default=CustomerKind.PERSON)
    name: Mapped[str]
    folded_name: Mapped[str] = mapped_column(
        sa.Text(collation="C"), sa.Computed("folded(name)", persisted=True), deferred=True
    )
    locale: Mapped[str] = mapped_column(default="en")
    zone: Mapped[str] = mapped_column(default="UTC")
    tone: Mapped[Tone | None]  # how the customer likes to be spoken to
    simulation_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("simulations.id"), index=True)
    chosen_locale: Mapped[str | None]  # by the customer: what other systems report leaves it
    preferred_channel: Mapped[Channel | None]
    marketing_paused_until: Mapped[datetime | None]  # business time
    version: Mapped[int] = mapped_column(default=1)
    recorded_at: Mapped[datetime] = written_now()
    updated_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.CheckConstraint("length(name) between 1 and 200", name="name_has_a_length"),
        # The orders of the list, and what it is searched by.
        sa.Index("ix_customers_folded_name_id", "folded_name", "id"),
        sa.Index("ix_customers_updated_at_id", "updated_at", "id"),
        sa.Index("ix_customers_reading_locale", sa.text("COALESCE(chosen_locale, locale)"), "id"),
        trigrams("ix_customers_name_trigrams", "folded_name"),
        prefixes("ix_customers_reference_prefixes", "lower(reference)"),
        trigrams("ix_customers_reference_trigrams", "lower(reference)"),
    )


READING_LOCALE = sa.func.coalesce(Customer.chosen_locale, Customer.locale)


class ContactPoint(Base):
    """An address of a customer. The newest one of a channel that isn't retired is used."""

    __tablename__ = "contact_points"

    id: Mapped[UUID] = uuid_key()
    customer_id: Mapped[UUID] = customer_key()
    channel: Mapped[Channel]
    address: Mapped[str]
    locale: Mapped[str | None]
    retired_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.UniqueConstraint("customer_id", "channel", "address"),
        prefixes("ix_contact_points_address", "lower(address)"),
        trigrams(
            "ix_contact_points_phone_trigrams",
            "lower(address)",
            postgresql_where=sa.text("channel = 'sms'"),
        ),
    )


class Consent(Base):
    """One statement about one channel and purpose. Append-only: the newest holds."""

    __tablename__ = "consents"

    id: Mapped[UUID] = uuid_key()
    customer_id: Mapped[UUID] = customer_key()
    channel: Mapped[Channel]
    purpose: Mapped[Purpose]
    state: Mapped[ConsentState]
    source: Mapped[str]
    wording: Mapped[str] = mapped_column(default="")
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.Index("ix_consents_newest", "customer_id", "channel", "purpose", "occurred_at"),
        sa.Index("ix_consents_stated", "channel", "purpose", "state", "customer_id"),
    )


# Of several statements about one channel and purpose: the first holds.
NEWEST_STATEMENT = (Consent.occurred_at.desc(), Consent.recorded_at.desc(), Consent.id.desc())


class Preference(Base):
    """A preference or a fact learned about a customer, with its author and source."""

    __tablename__ = "preferences"

    id: Mapped[UUID] = uuid_key()
    customer_id: Mapped[UUID] = customer_key(index=True)
    name: Mapped[str]
    value: Mapped[str]
    source: Mapped[str]
    order_id: Mapped[UUID | None]
    recorded_at: Mapped[datetime] = written_now()


class Suppression(Base):
    """An address we must not write to, until a person lifts it with a reason.

    With a purpose only that is suppressed: a complaint ends the selling, not the receipts.
    """

    __tablename__ = "suppressions"

    id: Mapped[UUID] = uuid_key()
    channel: Mapped[Channel]
    address: Mapped[str]  # lower case
    purpose: Mapped[Purpose | None]  # None: every purpose
    reason: Mapped[str]
    recorded_at: Mapped[datetime] = written_now()
    lifted_at: Mapped[datetime | None]
    lifted_because: Mapped[str | None]

    __table_args__ = (
        sa.Index(
            "uq_suppressions_active",
            "channel",
            "address",
            "purpose",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=sa.text("lifted_at IS NULL"),
        ),
    )
