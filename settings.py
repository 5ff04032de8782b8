"""Every environment variable the product reads. Built once, in a composition root."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, FilePath, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from messaging.compose import sender_header


def _one_sender(value: str) -> str:
    sender_header(value)  # raises ValueError
    return value


def _is_here(host: str) -> bool:
    """Whether it is this machine, as far as can be said without asking anybody."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


class Settings(BaseSettings):
    """Read from `CRM_…` variables. Empty addresses mean: the embedded servers of `crm.py up`."""

    # `.env` also holds what only docker-compose.yml reads.
    model_config = SettingsConfigDict(
        env_prefix="CRM_", env_file=".env", extra="ignore", frozen=True
    )

    data_dir: Path = Path("var")

    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=1, le=65535)
    public_url: str = Field("", description="base of links in messages; empty: the API's address")
    api_key_file: Path | None = Field(None, description="default: <data dir>/secrets/api_key")
    signing_key_file: Path | None = Field(
        None, description="default: <data dir>/secrets/signing_key"
    )

    database_url: SecretStr | None = Field(
        None, description="postgresql://…; set it to use an existing server"
    )
    database_pool_size: int = Field(20, ge=2)

    temporal_address: str = Field("", description="host:port; set it to use an existing server")
    temporal_namespace: str = "default"
    temporal_port: int = Field(7233, ge=1, le=65535)
    temporal_ui_port: int = Field(8233, ge=1, le=65535)
    temporal_ui_url: str = Field("", description="where operators find the web UI")
    temporal_api_key: SecretStr | None = None
    temporal_tls: bool = False
    temporal_tls_ca_file: Path | None = None
    temporal_tls_cert_file: Path | None = None
    temporal_tls_key_file: Path | None = None
    temporal_sqlite_synchronous: str = Field(
        "NORMAL",
        pattern="^(FULL|NORMAL)$",
        description="FULL survives a power cut too, at a fraction of the speed; see operations.md",
    )

    smtp_host: str = Field("", description="empty: the local inbox")
    smtp_port: int = Field(1025, ge=1, le=65535)
    smtp_username: str = ""
    smtp_password: SecretStr | None = None
    smtp_starttls: bool = False
    smtp_tls: bool = Field(False, description="TLS from the first byte on, as on port 465")
    smtp_tls_ca_file: FilePath | None = Field(
        None, description="who signed the server's certificate; empty: the system's authorities"
    )
    resend_api_key: SecretStr | None = Field(None, description="of the HTTP e-mail provider")
    resend_url: str = Field("https://api.resend.com", pattern="^https?://", description="its API")
    resend_webhook_secret: SecretStr | None = Field(
        None, description="whsec_…; set it to take delivery reports of Resend"
    )
    twilio_account_sid: str = Field("", description="of the provider of text messages")
    twilio_auth_token: SecretStr | None = Field(
        None, description="set it to send by Twilio, and to take its delivery reports"
    )
    twilio_from: str = Field("", description="number, name, or SID of a messaging service (MG…)")
    twilio_url: str = Field("https://api.twilio.com", pattern="^https?://", description="its API")
    company: str = Field("Perennial", description="the sender's name in messages")
    mail_from: Annotated[str, AfterValidator(_one_sender)] = "Perennial <hello@perennial.example>"
    mail_domain: str = Field(
        "perennial.example",
        pattern=r"^[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*$",
        description="right side of Message-IDs",
    )
    inbound_domain: str = Field(
        "",
        pattern=r"^([a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+)?$",
        description="whose mail comes back to us: bounces and replies; empty: none does",
    )
    inbound_port: int = Field(
        0, ge=0, le=65535, description="where that mail is taken by SMTP on 127.0.0.1; 0: not here"
    )
    admin_email: str = Field(
        "admin@perennial.example", description="of the administrator whom the first start makes"
    )
    staff_digest_to: str = Field("", description="address of the daily digest; empty: none is sent")

    inbox_path: Path | None = Field(None, description="default: <data dir>/inbox.sqlite")
    workers: int = Field(1, ge=1, le=64, description="worker processes of `crm.py up`")
    ready_file: Path | None = Field(None, description="touched by a worker once it polls")
    metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus of the worker; 0: off")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @model_validator(mode="after")
    def _a_password_goes_to_nobody_else(self) -> Self:
        if self.smtp_tls and self.smtp_starttls:
            raise ValueError("choose one of CRM_SMTP_TLS and CRM_SMTP_STARTTLS")
        encrypted = self.smtp_tls or self.smtp_starttls
        if self.smtp_username and not encrypted and not _is_here(self.smtp_host):
            raise ValueError(
                f"CRM_SMTP_USERNAME: the password would go to {self.smtp_host} in the clear;"
                " set CRM_SMTP_STARTTLS=true, or CRM_SMTP_TLS=true where the port is 465"
            )
        return self

    @model_validator(mode="after")
    def _an_account_at_twilio_is_whole(self) -> Self:
        if self.twilio_account_sid and not (self.twilio_auth_token and self.twilio_from):
            raise ValueError(
                "CRM_TWILIO_ACCOUNT_SID needs CRM_TWILIO_AUTH_TOKEN and CRM_TWILIO_FROM"
            )
        return self

    @model_validator(mode="after")
    def _mail_comes_back_to_a_domain(self) -> Self:
        if self.inbound_port and not self.inbound_domain:
            raise ValueError("CRM_INBOUND_PORT needs CRM_INBOUND_DOMAIN: whose mail is taken")
        return self

    @classmethod
    def from_environment(cls) -> Self:
        return cls()

    @property
    def temporal_options(self) -> dict[str, Any]:
        """How `temporal_runtime.connect` proves who we are and that the server is the right one."""
        key = self.temporal_api_key
        return {
            "api_key": key.get_secret_value() if key else None,
            "tls": self.temporal_tls,
            "tls_files": {
                "ca": self.temporal_tls_ca_file,
                "cert": self.temporal_tls_cert_file,
                "key": self.temporal_tls_key_file,
            },
        }

    @property
    def inbox(self) -> Path:
        return self.inbox_path or self.data_dir / "inbox.sqlite"

    @property
    def links_base(self) -> str:
        return (self.public_url or f"http://127.0.0.1:{self.api_port}").rstrip("/")

    @property
    def api_key_path(self) -> Path:
        return self.api_key_file or self.data_dir / "secrets" / "api_key"

    @property
    def signing_key_path(self) -> Path:
        return self.signing_key_file or self.data_dir / "secrets" / "signing_key"
