"""Runs the migrations on CRM_DATABASE_URL, one transaction for all, one runner at a time."""

import sqlalchemy as sa
from alembic import context

from database.tables import Base
from settings import Settings

_ONE_AT_A_TIME = 7233_0001  # key of the advisory lock


def _url() -> str:
    url = Settings.from_environment().database_url
    if url is None:
        raise SystemExit("set CRM_DATABASE_URL to the database to migrate")
    return url.get_secret_value().replace("postgresql://", "postgresql+psycopg://", 1)


def _migrate() -> None:
    if context.is_offline_mode():
        context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = sa.create_engine(_url())
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
        context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
        context.run_migrations()


_migrate()
