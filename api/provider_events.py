"""What the webhooks of all providers share: an event is stored before the answer, acted on later.

A provider has no API key: its signature says who it is. It repeats what we don't answer with a 2xx,
so an event is known by its id, and one that says nothing to us is taken too.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError

from api.errors import Code, Problem, field_errors

PREFIX = "/api/v1/provider-events"


class EventTaken(BaseModel):
    """The event is stored."""

    duplicate: bool = Field(description="true: it was stored before; nothing was done again")


def documented_body(
    media: str, example: dict[str, Any], required: Sequence[str] = ()
) -> dict[str, Any]:
    """For a route that reads its body itself, since the signature covers its bytes."""
    schema: dict[str, Any] = {"type": "object", "examples": [example], "required": list(required)}
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}}}


def not_taken(provider: str, variable: str) -> Problem:
    """While its secret is not set nothing of a provider can be believed."""
    return Problem(
        Code.PROVIDER_EVENTS_OFF,
        f"events of {provider} are not taken here",
        remedy=f"Set {variable} to the secret that {provider} signs its webhooks with.",
    )


def not_signed(why: str) -> Problem:
    return Problem(Code.INVALID_SIGNATURE, why)


def invalid_event(problem: ValidationError, body: Any) -> Problem:
    errors = field_errors(problem.errors(include_url=False), body)
    return Problem(Code.INVALID_REQUEST, f"{errors[0].pointer}: {errors[0].detail}", errors=errors)


def effect_in(text: str | None) -> UUID | None:
    """The id of our message, as it was given to the provider; None where it isn't one."""
    try:
        return UUID(text or "")
    except ValueError:
        return None
