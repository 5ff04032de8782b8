"""The servers somebody else runs, when settings point us to them."""

import psycopg

from settings import Settings
from supervisor.errors import Refused
from supervisor.ports import is_answered
from supervisor.postgres_url import libpq_url


def existing_database_url(settings: Settings) -> str:
    """CRM_DATABASE_URL, with the driver SQLAlchemy shall use."""
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise Refused("CRM_DATABASE_URL must be postgresql://user:password@host/database")
    return f"postgresql+psycopg://{rest}"


def check_existing_servers(settings: Settings) -> None:
    """Refuse when a server we were pointed to does not answer."""
    if settings.database_url:
        try:
            url = libpq_url(existing_database_url(settings))
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.Error as problem:
            reason = str(problem).strip().splitlines()[-1].strip()
            raise Refused(
                f"PostgreSQL of CRM_DATABASE_URL cannot be reached ({reason}): "
                "start it or correct the address"
            ) from None
    if settings.temporal_address:
        _check_reachable(settings.temporal_address, "Temporal", "CRM_TEMPORAL_ADDRESS")
    if settings.smtp_host:
        smtp = f"{settings.smtp_host}:{settings.smtp_port}"
        _check_reachable(smtp, "the mail server", "CRM_SMTP_HOST and CRM_SMTP_PORT")


def _check_reachable(address: str, what: str, variable: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise Refused(f"{variable}={address} is not host:port: correct it")
    if not is_answered(host.strip("[]"), int(port), timeout=5):
        raise Refused(f"{what} at {address} cannot be reached: start it or correct {variable}")
