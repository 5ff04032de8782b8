"""Composition root of the control API: `uvicorn --factory api.app:create_app`."""

import gc
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr
from temporalio.client import Client

import temporal_runtime
from api import (
    bulk_starts,
    claims,
    confirm_page,
    contacts,
    customers,
    delivery,
    delivery_reports,
    docs,
    errors,
    events,
    follow_up,
    health,
    heard,
    inbox_page,
    marketing,
    messages,
    openapi,
    operations,
    pages,
    policies,
    preferences_page,
    processes,
    promises,
    provider_events,
    publications,
    received_mails,
    received_texts,
    resend_events,
    saved_views,
    schedules,
    search,
    simulations,
    staff,
    support,
    suppressions,
    survey_page,
    tasks,
    template_trials,
    templates,
    timeline,
    tracking_page,
    twilio_events,
    twilio_texts,
    unsubscribe_page,
)
from api.deps import AUTHENTICATED, ProcessEngine, Resources
from api.observed import BodyLimit, Figures, Observed
from api.routing import Beneath
from console import app as console
from database.base import connect
from database.revisions import newest_revisions
from messaging.workshop import Workshop
from settings import Settings

LARGEST_BODY = 1_048_576
_LARGER_BODIES = {f"/api/v1{received_mails.PREFIX}": received_mails.LARGEST_BODY}
_CONNECTION = {
    "options": "-c statement_timeout=10s -c lock_timeout=10s",
    "connect_timeout": "5",
}

# Everything here needs the API key; the routers in PUBLIC and SIGNED are the only ones that don't.
PRIVATE: tuple[APIRouter, ...] = (
    events.router,
    search.router,
    customers.router,
    contacts.router,
    heard.router,
    suppressions.router,
    timeline.router,
    marketing.router,
    delivery.router,
    promises.router,
    support.router,
    tasks.router,
    follow_up.surveys,
    follow_up.feedback,
    messages.router,
    templates.router,
    publications.router,
    template_trials.router,
    claims.router,
    delivery_reports.router,
    received_mails.router,
    received_texts.router,
    operations.router,
    operations.processes,
    bulk_starts.router,
    processes.router,
    schedules.router,
    policies.router,
    simulations.router,
    staff.router,
    staff.actions,
    saved_views.router,
)
PUBLIC: tuple[APIRouter, ...] = (
    health.router,
    docs.router,
    survey_page.router,
    unsubscribe_page.router,
    preferences_page.router,
    confirm_page.router,
    tracking_page.router,
    inbox_page.router,
)
# Providers sign what they tell us.
SIGNED: tuple[APIRouter, ...] = (
    resend_events.router,
    twilio_events.router,
    twilio_texts.router,
)
_PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/metrics"})  # those in the OpenAPI document


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Starts and answers 503 while PostgreSQL or Temporal are away."""
    settings = settings or Settings.from_environment()
    app = FastAPI(
        title="Perennial",
        version="1",
        summary="Customer relationships as durable processes",
        lifespan=_lifespan(settings),
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.figures = Figures()
    v1 = Beneath("/api/v1", prefix="/api/v1", dependencies=[AUTHENTICATED])
    for router in PRIVATE:
        v1.include_router(router)
    app.include_router(v1)
    for router in (*PUBLIC, *SIGNED):
        app.include_router(router)
    app.add_middleware(BodyLimit, most=LARGEST_BODY, larger=_LARGER_BODIES)
    app.add_middleware(Observed, figures=app.state.figures)
    errors.install(app)
    pages.install(app)
    console.install(app)
    openapi.install(app, _PUBLIC_PATHS, provider_events.PREFIX)
    return app


def _lifespan(
    settings: Settings,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        held = _resources(settings)
        app.state.resources = held
        with suppress(errors.Problem):  # answered with 503 until it is there
            async with held.engine.reached():
                pass
        # What was made so far stays: looking for garbage in it would hold up requests for 0.3 s.
        gc.collect()
        gc.freeze()
        yield
        await held.workshop.close()
        await held.sessions.kw["bind"].dispose()

    return lifespan


def _resources(settings: Settings) -> Resources:
    [schema_head] = newest_revisions()
    return Resources(
        sessions=connect(_database_url(settings), settings.database_pool_size),
        engine=ProcessEngine(lambda: _connect(settings)),
        api_key=_secret(settings.api_key_path, "CRM_API_KEY_FILE"),
        signing_key=_secret(settings.signing_key_path, "CRM_SIGNING_KEY_FILE"),
        namespace=settings.temporal_namespace,
        temporal_ui_url=(
            settings.temporal_ui_url or f"http://127.0.0.1:{settings.temporal_ui_port}"
        ).rstrip("/"),
        inbox=settings.inbox,
        schema_head=schema_head,
        workshop=Workshop(settings.company),
        staff_digest_to=settings.staff_digest_to,
        links_base=settings.links_base,
        resend_secret=_resend_secret(settings),
        twilio_token=_revealed(settings.twilio_auth_token),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() or None if secret else None


def _resend_secret(settings: Settings) -> bytes | None:
    """The key of Resend's signatures; it is shown as whsec_<base64>."""
    shown = _revealed(settings.resend_webhook_secret)
    if shown is None:
        return None
    try:
        return b64decode(shown.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise SystemExit(
            "CRM_RESEND_WEBHOOK_SECRET is not what Resend shows: whsec_ and base64"
        ) from None


def _database_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise SystemExit("set CRM_DATABASE_URL, or start everything with `make up`")
    url = sa.make_url(settings.database_url.get_secret_value())
    url = url.set(drivername="postgresql+psycopg").update_query_dict(_CONNECTION)
    return url.render_as_string(hide_password=False)


async def _connect(settings: Settings) -> Client:
    return await temporal_runtime.connect(
        settings.temporal_address or f"127.0.0.1:{settings.temporal_port}",
        settings.temporal_namespace,
        **settings.temporal_options,
    )


def _secret(path: Path, variable: str) -> str:
    try:
        secret = path.read_text().strip()
    except OSError as problem:
        raise SystemExit(
            f"cannot read {path} ({problem.strerror}): `make up` makes it, or set {variable}"
        ) from None
    if len(secret) < 16:
        raise SystemExit(f"the secret in {path} is too short: put at least 16 characters there")
    return secret
