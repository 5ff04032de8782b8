"""Customers: made, found, changed; one at a time or in bulk, by our id or the other system's."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Session
from api.errors import Code, FieldError, Problem, ProblemBody, as_dict, field_errors, invalid_field
from api.errors import not_found as no_such
from api.etags import IfMatch, changed_meanwhile, etag, expected_version
from api.fields import (
    Body,
    Email,
    Flag,
    Instant,
    Line,
    LocaleTag,
    Phone,
    Prose,
    Reference,
    Word,
    Zone,
    example,
)
from api.intake import refuse_future
from api.paging import Key, Page, Paging, order_by, read_page
from api.routing import ApiRoute, needs, note_change, requires_key
from database.customers import (
    BUSINESS_NOW,
    READING_LOCALE,
    ContactPoint,
    Customer,
    CustomerKind,
    Simulation,
)
from database.processes import Lifecycle
from database.queries.customers import (
    CustomerWrite,
    Grant,
    Written,
    addresses_of,
    clocks_of,
    customers_with_stage,
    holds_consent,
    write_customers,
)
from database.queries.search import customers_like
from domain.clock import REAL_TIME, Clock
from domain.messages import Channel, Purpose
from domain.processes import Stage
from domain.staff import Permission
from domain.templates import Tone

router = APIRouter(prefix="/customers", tags=["customers"], route_class=ApiRoute)

_BULK = 200
_CLEARABLE = ("preferred_channel", "tone")
_ORDERS: Mapping[str, Sequence[Key]] = {
    "recorded_at": [Customer.id],  # a version 7
    "name": [Customer.folded_name, Customer.id],
    "updated_at": [Customer.updated_at, Customer.id],
    "stage_since": [Lifecycle.stage_since, Lifecycle.customer_id],
    "last_heard_at": [Lifecycle.last_heard_at, Lifecycle.customer_id],
    "silence_due_at": [Lifecycle.silence_due_at, Lifecycle.customer_id],
}
Sort = Literal[
    "recorded_at",
    "-recorded_at",
    "name",
    "-name",
    "updated_at",
    "-updated_at",
    "stage_since",
    "-stage_since",
    "last_heard_at",
    "-last_heard_at",
    "silence_due_at",
    "-silence_due_at",
]


class GrantBody(Body):
    """A consent the customer gave elsewhere. Withdrawals go to /customers/{id}/consents."""

    channel: Channel
    purpose: Purpose
    source: Word = Field(examples=["newsletter-form"])
    wording: Prose | None = None
    occurred_at: Instant | None = Field(
        None, description="null: now, and only if nothing is known about this purpose yet"
    )
    confirmed: Flag = Field(
        False, description="true: confirmed where it was given, so no link to confirm is sent"
    )


class CustomerFields(Body):
    """What is known of a customer. An address is added; none is taken away."""

    kind: CustomerKind = CustomerKind.PERSON
    name: Line = Field(examples=["Ada Lovelace"])
    locale: LocaleTag = "en"
    zone: Zone = "UTC"
    email: Email | None = None
    phone: Phone | None = None
    consents: list[GrantBody] = Field([], max_length=20)
    simulation_id: UUID | None = Field(None, description="the clock it lives by; kept for ever")


class NewCustomer(CustomerFields):
    reference: Reference | None = Field(None, description="null: one is made")


class CustomerByReference(CustomerFields):
    reference: Reference


class CustomerChange(Body):
    """RFC 7396: only what is there changes."""

    model_config = example(name="Ada King", locale="en")

    kind: CustomerKind | None = None
    name: Line | None = None
    locale: LocaleTag | None = Field(None, description="also over what the customer has chosen")
    zone: Zone | None = None
    tone: Tone | None = Field(None, description="how to speak to this customer; null: as to all")
    preferred_channel: Channel | None = Field(None, description="null: none is preferred")


class AddressView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    channel: Channel
    address: str
    locale: str | None
    recorded_at: datetime


class CustomerView(BaseModel):
    """A customer with the stage of the relationship; `contact_points[0]` of a channel is used."""

    id: UUID
    reference: str
    kind: CustomerKind
    name: str
    locale: str
    zone: str
    tone: Tone | None = Field(description="how to speak to this customer; null: as to all")
    chosen_locale: str | None = Field(description="by the customer; goes before `locale`")
    preferred_channel: Channel | None
    marketing_paused_until: datetime | None = Field(description="by the customer; business time")
    simulation_id: UUID | None
    stage: Stage | None = Field(description="null: nothing has happened yet")
    stage_reason: str
    stage_since: datetime | None
    last_heard_at: datetime | None
    silence_due_at: datetime | None
    contact_points: list[AddressView]
    version: int
    recorded_at: datetime
    updated_at: datetime


class WrittenCustomer(BaseModel):
    id: UUID
    reference: str
    created: bool


class BulkCustomers(Body):
    """Up to 200 customers; each is judged by itself."""

    model_config = example(
        items=[{"reference": "C-1001", "name": "Ada Lovelace", "email": "ada@example.com"}]
    )

    items: list[Any] = Field(min_length=1, max_length=_BULK)


class BulkResult(BaseModel):
    index: int
    status: Literal[200, 201, 422]
    id: UUID | None = None
    problem: ProblemBody | None = None


class BulkResults(BaseModel):
    items: list[BulkResult]
    written: int
    refused: int


@router.post("", status_code=201)
@needs(Permission.EDIT_CUSTOMERS)
async def create_customer(body: NewCustomer, session: Session, response: Response) -> CustomerView:
    """Make a customer. A reference that is taken is refused; PUT by reference updates instead."""
    reference = body.reference or f"C-{secrets.token_hex(6)}"
    written = await write_one(session, reference, body)
    if not written.created:  # what was written over is rolled back with this
        raise Problem(
            Code.CONFLICT,
            f"the reference {reference} is taken",
            errors=[FieldError(pointer="/reference", code="taken", detail="is another customer's")],
        )
    view = await view_of(session, written.id)
    response.headers["Location"] = f"/api/v1/customers/{written.id}"
    response.headers["ETag"] = etag(view.version)
    return view


@router.put(
    "/by-reference/{reference}",
    responses={201: {"model": WrittenCustomer, "description": "A new customer was made"}},
)
@needs(Permission.EDIT_CUSTOMERS)
async def upsert_customer(
    reference: Annotated[Reference, Path()],
    body: CustomerFields,
    session: Session,
    response: Response,
) -> WrittenCustomer:
    """Make the customer of that reference, or bring it up to date. 201 when it is new."""
    written = await write_one(session, reference, body)
    response.status_code = 201 if written.created else 200
    response.headers["Location"] = f"/api/v1/customers/{written.id}"
    return WrittenCustomer(id=written.id, reference=reference, created=written.created)


@router.post("/bulk")
@requires_key
async def upsert_customers(body: BulkCustomers, request: Request, session: Session) -> BulkResults:
    """Up to 200 upserts by reference. A bad item is refused by itself; the good ones are written.

    Each item has the fields of `CustomerByReference`.
    """
    good, problems = _judge(body.items)
    clocks = await clocks_of(
        session, {c.simulation_id for c in good.values() if c.simulation_id is not None}
    )
    for index, customer in list(good.items()):
        try:
            _refuse_unfit(customer, clocks)
        except Problem as problem:
            problems[index] = problem
            del good[index]
    written: Mapping[str, Written] = {}
    if good:
        writes = [as_write(customer.reference, customer) for customer in good.values()]
        written = await write_customers(session, writes, clocks, datetime.now(UTC))
    instance, request_id = request.url.path, str(request.state.request_id)
    results = []
    for index in range(len(body.items)):
        if (refusal := problems.get(index)) is not None:
            told = ProblemBody.model_validate(as_dict(refusal, instance, request_id))
            results.append(BulkResult(index=index, status=422, problem=told))
        else:
            found = written[good[index].reference]
            status: Literal[200, 201] = 201 if found.created else 200
            results.append(BulkResult(index=index, status=status, id=found.id))
    return BulkResults(items=results, written=len(good), refused=len(problems))


def _judge(items: Sequence[Any]) -> tuple[dict[int, CustomerByReference], dict[int, Problem]]:
    good: dict[int, CustomerByReference] = {}
    problems: dict[int, Problem] = {}
    seen: set[str] = set()
    for index, item in enumerate(items):
        try:
            customer = CustomerByReference.model_validate(item)
        except ValidationError as error:
            told = field_errors(error.errors(include_url=False, include_input=False), item)
            problems[index] = Problem(
                Code.INVALID_REQUEST, f"{told[0].pointer}: {told[0].detail}", errors=told
            )
            continue
        if customer.reference in seen:
            problems[index] = invalid_field("/reference", "is there twice in this request")
            continue
        seen.add(customer.reference)
        good[index] = customer
    return good, problems


@router.get("")
async def list_customers(
    session: Session,
    paging: Paging,
    q: Annotated[
        Line | None,
        Query(
            description="part of the name or reference, the beginning of an address, or digits of"
            " a phone number; where nobody fits, names that are like it"
        ),
    ] = None,
    reference: Annotated[Reference | None, Query()] = None,
    kind: Annotated[CustomerKind | None, Query()] = None,
    stage: Annotated[Stage | None, Query()] = None,
    locale: Annotated[
        LocaleTag | None, Query(description="in which the customer is written to")
    ] = None,
    consent: Annotated[
        str | None,
        Query(
            pattern=rf"^({'|'.join(Channel)})/({'|'.join(Purpose)})$",
            description="channel/purpose: only who agrees to it now",
            examples=["email/marketing"],
        ),
    ] = None,
    silence_due_before: Annotated[Instant | None, Query(description="business time")] = None,
    silent: Annotated[
        bool | None, Query(description="true: for longer than usual, by the customer's own clock")
    ] = None,
    simulation_id: Annotated[UUID | None, Query()] = None,
    sort: Annotated[
        Sort, Query(description="with a minus the greatest first; who has no such date is left out")
    ] = "-recorded_at",
) -> Page[CustomerView]:
    """Customers, the newest first if not sorted otherwise."""
    statement = customers_with_stage()
    filters = {
        Customer.reference: reference,
        Customer.kind: kind,
        Lifecycle.stage: stage,
        READING_LOCALE: locale,
        Customer.simulation_id: simulation_id,
    }
    statement = statement.where(
        *(column == value for column, value in filters.items() if value is not None)
    )
    if consent is not None:
        channel, _, purpose = consent.partition("/")
        statement = statement.where(holds_consent(Channel(channel), Purpose(purpose)))
    if silence_due_before is not None:
        statement = statement.where(Lifecycle.silence_due_at < silence_due_before)
    if silent is not None:
        is_silent = Lifecycle.silence_due_at < BUSINESS_NOW
        statement = statement.outerjoin(Simulation, Simulation.id == Customer.simulation_id).where(
            is_silent if silent else is_silent.is_not(sa.true())
        )
    if q is not None:
        statement = statement.where(await customers_like(session, q))
    keys, descending = order_by(sort, _ORDERS)
    page = await read_page(
        session,
        statement.where(keys[0].is_not(None)),
        keys,
        paging,
        lambda row: (row[0], row[1]),
        descending=descending,
    )
    addresses = await addresses_of(session, [customer.id for customer, _ in page.items])
    views = [_view(customer, stands, addresses[customer.id]) for customer, stands in page.items]
    return Page(**{**dict(page), "items": views})


@router.get("/{customer_id}", responses={304: {"description": "Not changed since that ETag"}})
async def show_customer(
    customer_id: UUID,
    session: Session,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
) -> CustomerView:
    """One customer; the ETag is what PATCH needs."""
    view = await view_of(session, customer_id)
    response.headers["ETag"] = etag(view.version)
    if if_none_match is not None and if_none_match.strip() == etag(view.version):
        response.status_code = 304
    return view


@router.patch("/{customer_id}")
@needs(Permission.EDIT_CUSTOMERS)
async def change_customer(
    customer_id: UUID,
    body: CustomerChange,
    request: Request,
    session: Session,
    response: Response,
    if_match: IfMatch = None,
) -> CustomerView:
    """Change a customer (RFC 7396), if nobody else did meanwhile."""
    expected = expected_version(if_match)
    values = body.model_dump(exclude_unset=True)
    for name, value in values.items():
        if value is None and name not in _CLEARABLE:
            raise invalid_field(f"/{name}", "cannot be cleared")
    if "locale" in values:
        values["chosen_locale"] = None
    before = await view_of(session, customer_id)
    unchanged = sa.true() if expected is None else Customer.version == expected
    changed = await session.scalar(
        sa.update(Customer)
        .where(Customer.id == customer_id, unchanged)
        .values(**values, version=Customer.version + 1, updated_at=sa.func.now())
        .returning(Customer.id)
    )
    view = await view_of(session, customer_id)
    response.headers["ETag"] = etag(view.version)
    if changed is None:
        raise changed_meanwhile("customer", view.version, view)
    told = before.model_dump(mode="json", include=set(values))
    note_change(request, before=told)
    return view


def _refuse_unfit(body: CustomerFields, clocks: Mapping[UUID, Clock]) -> None:
    """What only the clocks tell."""
    clock = REAL_TIME
    if body.simulation_id is not None:
        if body.simulation_id not in clocks:
            raise invalid_field("/simulation_id", "there is no such simulation")
        clock = clocks[body.simulation_id]
    for index, grant in enumerate(body.consents):
        if grant.occurred_at is not None:
            refuse_future(grant.occurred_at, clock, f"/consents/{index}/occurred_at")


def as_write(reference: str, body: CustomerFields) -> CustomerWrite:
    given = {Channel.EMAIL: body.email, Channel.SMS: body.phone}
    return CustomerWrite(
        reference=reference,
        kind=body.kind,
        name=body.name,
        locale=body.locale,
        zone=body.zone,
        simulation_id=body.simulation_id,
        addresses={channel: address for channel, address in given.items() if address},
        grants=[
            Grant(g.channel, g.purpose, g.source, g.wording or "", g.occurred_at, g.confirmed)
            for g in body.consents
        ],
    )


async def write_one(session: AsyncSession, reference: str, body: CustomerFields) -> Written:
    wanted = {body.simulation_id} if body.simulation_id is not None else set()
    clocks = await clocks_of(session, wanted)
    _refuse_unfit(body, clocks)
    write = as_write(reference, body)
    return (await write_customers(session, [write], clocks, datetime.now(UTC)))[reference]


async def view_of(session: AsyncSession, customer_id: UUID) -> CustomerView:
    """Raises the 404 problem."""
    statement = customers_with_stage().where(Customer.id == customer_id)
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise no_such("customer", customer_id)
    addresses = await addresses_of(session, [customer_id])
    return _view(row[0], row[1], addresses[customer_id])


def _view(
    customer: Customer, stands: Lifecycle | None, addresses: Sequence[ContactPoint]
) -> CustomerView:
    return CustomerView(
        id=customer.id,
        reference=customer.reference,
        kind=customer.kind,
        name=customer.name,
        locale=customer.locale,
        zone=customer.zone,
        tone=customer.tone,
        chosen_locale=customer.chosen_locale,
        preferred_channel=customer.preferred_channel,
        marketing_paused_until=customer.marketing_paused_until,
        simulation_id=customer.simulation_id,
        stage=stands.stage if stands else None,
        stage_reason=stands.stage_reason if stands else "",
        stage_since=stands.stage_since if stands else None,
        last_heard_at=stands.last_heard_at if stands else None,
        silence_due_at=stands.silence_due_at if stands else None,
        contact_points=[AddressView.model_validate(point) for point in addresses],
        version=customer.version,
        recorded_at=customer.recorded_at,
        updated_at=customer.updated_at,
    )
