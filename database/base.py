"""Declarative base: column types, constraint names, and the one session factory."""

import enum
import functools
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, mapped_column

Sessions = async_sessionmaker[AsyncSession]


def _values(enumeration: type[enum.Enum]) -> list[str]:
    return [member.value for member in enumeration]


class Base(DeclarativeBase):
    type_annotation_map = {
        datetime: sa.DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: JSONB,
        str: sa.Text,
        enum.Enum: sa.Enum(enum.Enum, native_enum=False, length=40, values_callable=_values),
    }
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def uuid_key() -> Any:
    """A time-ordered primary key, made by PostgreSQL."""
    return mapped_column(primary_key=True, server_default=sa.text("uuidv7()"))


def written_now() -> Any:
    """When the row was written, by PostgreSQL's clock."""
    return mapped_column(server_default=sa.func.now())


def customer_key(**options: Any) -> Any:
    return mapped_column(sa.ForeignKey("customers.id"), **options)


def table_of(mapped: type[Base]) -> sa.Table:
    """For statements that are built once and given parameters: the ORM would take an insert with
    parameters for a bulk one, and looks at every other anew. Building costs as much as PostgreSQL.
    """
    return Base.metadata.tables[mapped.__tablename__]


def is_known(
    *columns: sa.ColumnElement[Any] | InstrumentedAttribute[Any],
) -> sa.ColumnElement[bool]:
    """Whether this version knows each value of the enumerations among the columns.

    While a newer version runs beside it a row may hold one that it doesn't: reading that raises
    LookupError, for all rows that are read together.
    """
    return sa.and_(
        sa.true(),
        *(
            sa.or_(column.is_(None), column.in_(list(column.type.enum_class)))
            for column in columns
            if isinstance(column.type, sa.Enum) and column.type.enum_class is not None
        ),
    )


async def insert_once(session: AsyncSession, into: type[Base], **row: Any) -> bool:
    """Insert a row; False when one with the same unique key is there, which stays as it is."""
    return (await session.execute(_insertion(into), row)).first() is not None


@functools.cache
def _insertion(into: type[Base]) -> sa.Executable:
    statement = insert(table_of(into)).on_conflict_do_nothing()
    return statement.returning(sa.literal_column("true"))


def connect(url: str, pool_size: int = 20, *, ping: bool = True) -> Sessions:
    """Sessions on `url`; a plain postgresql:// address gets the psycopg driver.

    `ping` tests a pooled connection before each use. Whoever retries anyway can do without: after
    a restart of PostgreSQL one use fails, and the pool is made anew.

    What only reads, and often, ends with `begin` as well: a ROLLBACK has psycopg forget all that
    the connection has prepared.
    """
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,  # one more for a moment costs more than waiting for one of these
        pool_use_lifo=True,  # few connections that know the statements, rather than all a little
        connect_args={"prepare_threshold": 1},  # what is asked twice is planned once
        pool_pre_ping=ping,
        pool_recycle=1800,
        hide_parameters=True,  # they hold names and addresses, and errors end up in logs
    )
    return async_sessionmaker(engine, expire_on_commit=False)


__all__ = [
    "UUID",
    "Base",
    "Sessions",
    "connect",
    "customer_key",
    "insert_once",
    "is_known",
    "table_of",
    "uuid_key",
    "written_now",
]
