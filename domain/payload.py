"""Base class of everything that crosses the Temporal boundary."""

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """Stored in workflow histories for years: add fields with defaults, never tighten.

    Carries ids, enumerations, dates and numbers; what a person wrote or is called stays in
    PostgreSQL, because a history can't be edited.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
