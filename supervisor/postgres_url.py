"""The address of PostgreSQL as its own clients read it."""


def libpq_url(database_url: str) -> str:
    """Without the driver that SQLAlchemy is told in it."""
    return database_url.replace("+psycopg", "", 1)
