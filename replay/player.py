"""Plays a history through the public API: each entry at its moment, each customer's in their order.

Servers may be killed on the way: what is not answered is sent again with the same event id, for
minutes, and the customer's next entry waits for it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2

from domain.clock import Clock
from replay.history import CUSTOMER, Entry
from replay.instance import CONNECTIONS
from supervisor.errors import Refused

DAY = 86_400.0
_FASTEST = 10_000_000.0  # seconds a second; the API's limit
_GIVE_UP = 600.0  # seconds without an answer to one entry
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_FAULTS = 20  # answers 500 to one entry, after which it counts as refused
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class World:
    """A simulation of the instance, and how a history's ids are called in it."""

    id: UUID
    clock: Clock

    @property
    def event_id_prefix(self) -> str:
        return f"{self.id}/"

    def event_id(self, entry: Entry) -> str:
        return self.event_id_prefix + entry.key

    def customer(self, customer: str) -> str:
        return f"{self.id}:{customer}"

    @property
    def source(self) -> str:
        """What the instance takes the reporting system to be; order ids follow from it."""
        return str(self.id)

    def machine(self, moment: datetime) -> datetime:
        return self.clock.machine(moment)

    @property
    def now(self) -> datetime:
        """Business time."""
        return self.clock.business(datetime.now(UTC))

    def request(self, entry: Entry) -> tuple[str, str, dict[str, Any]]:
        """Method, path and body of an entry's call."""
        if entry.kind == CUSTOMER:
            path = "/api/v1/customers/by-reference/" + quote(self.customer(entry.customer), safe="")
            return "PUT", path, {**entry.fields, "simulation_id": str(self.id)}
        body: dict[str, Any] = {
            "event_id": self.event_id(entry),
            "source": self.source,
            "occurred_at": entry.occurred_at.isoformat(),
            "kind": entry.kind,
            **entry.fields,
        }
        if entry.order is not None:
            body["order_reference"] = entry.order
        if entry.order is None or entry.kind == "order_placed":
            body["customer_reference"] = self.customer(entry.customer)
        return "POST", "/api/v1/events", body


@dataclass
class Tally:
    """What became of the entries."""

    total: int = 0
    accepted: set[str] = field(default_factory=set)  # event ids
    customers: int = 0  # entries that made or updated a customer
    refused: list[str] = field(default_factory=list)  # sentences
    repeated: int = 0  # tries after the first
    lags: list[float] = field(default_factory=list)  # seconds from an entry's moment to its answer

    @property
    def answered(self) -> int:
        return len(self.accepted) + self.customers + len(self.refused)

    def lag(self, share: float) -> float:
        """The lag that this share of the entries did not exceed."""
        if not self.lags:
            return 0.0
        ordered = sorted(self.lags)
        return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3)


async def begin_world(
    http: httpx2.AsyncClient, name: str, origin: datetime, seconds_per_day: float
) -> World:
    """Start a clock at `origin` under which a day lasts the given time."""
    speed = DAY / seconds_per_day
    if speed > _FASTEST:
        raise Refused(f"a day can't be shorter than {DAY / _FASTEST * 1000:.2f} ms: choose --day")
    body = {"name": name, "business_origin": origin.isoformat(), "speed": speed}
    headers = {"Idempotency-Key": str(uuid4())}
    answer = await Caller(http).call("POST", "/api/v1/simulations", body, headers)
    if answer.is_error:
        raise Refused(f"the API does not start a simulation: {detail_of(answer)}")
    made = answer.json()
    clock = Clock(
        machine_origin=datetime.fromisoformat(made["machine_origin"]),
        business_origin=datetime.fromisoformat(made["business_origin"]),
        speed=made["speed"],
    )
    return World(UUID(made["id"]), clock)


class Caller:
    """Calls the API until it answers; counts how often that took another try."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self.repeated = 0

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Raises Refused when nobody answers for minutes."""
        begun, pause, faults = time.monotonic(), _FIRST_PAUSE, 0
        while True:
            try:
                answer = await self._http.request(method, path, json=body, headers=headers)
            except httpx2.TransportError as problem:
                why = str(problem) or type(problem).__name__
            else:
                faults += answer.status_code == 500
                if not _is_passing(answer) or faults > _FAULTS:
                    return answer
                why = detail_of(answer)
            if time.monotonic() - begun > _GIVE_UP:
                raise Refused(f"the API has not answered for {_GIVE_UP / 60:.0f} minutes ({why})")
            self.repeated += 1
            await asyncio.sleep(pause)
            pause = min(pause * 1.7, _LONGEST_PAUSE)


def _is_passing(answer: httpx2.Response) -> bool:
    if answer.status_code == 409:
        return "retry-after" in answer.headers  # an equal request is under way
    return answer.status_code in _PASSING


def detail_of(answer: httpx2.Response) -> str:
    """What a problem says, in a line."""
    try:
        problem = answer.json()
    except ValueError:
        return f"status {answer.status_code}"
    if not isinstance(problem, dict):
        return f"status {answer.status_code}"
    return str(problem.get("detail") or problem.get("title") or f"status {answer.status_code}")


class Player:
    """Sends entries when their moment has come; a few at a time, one at a time for a customer."""

    def __init__(self, http: httpx2.AsyncClient, world: World, entries: Sequence[Entry]) -> None:
        self.world = world
        self.tally = Tally(total=len(entries))
        self._entries = entries
        self._caller = Caller(http)
        self._waiting: dict[str, deque[Entry]] = {}  # of customers with an entry under way or due
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._left = len(entries)
        self._done = asyncio.Event()

    @property
    def behind(self) -> float:
        """Seconds by which the oldest entry that is due has not been answered yet."""
        oldest = min((queue[0].at for queue in self._waiting.values()), default=None)
        if oldest is None:
            return 0.0
        late = datetime.now(UTC) - self.world.machine(oldest)
        return max(late, timedelta(0)).total_seconds()

    async def play(self) -> Tally:
        """Returns when every entry has been answered. Raises Refused when nobody answers."""
        if not self._entries:
            return self.tally
        try:
            async with asyncio.TaskGroup() as group:
                senders = [group.create_task(self._send_ready()) for _ in range(CONNECTIONS)]
                await self._release_in_time()
                await self._done.wait()
                for sender in senders:
                    sender.cancel()
        except ExceptionGroup as problems:
            raise problems.exceptions[0] from None
        return self.tally

    async def _release_in_time(self) -> None:
        for entry in self._entries:
            left = (self.world.machine(entry.at) - datetime.now(UTC)).total_seconds()
            if left > 0:
                await asyncio.sleep(left)
            if entry.customer in self._waiting:
                self._waiting[entry.customer].append(entry)
            else:
                self._waiting[entry.customer] = deque([entry])
                self._ready.put_nowait(entry.customer)

    async def _send_ready(self) -> None:
        while True:
            customer = await self._ready.get()
            queue = self._waiting[customer]
            await self._send(queue[0])
            queue.popleft()
            if queue:
                self._ready.put_nowait(customer)
            else:
                del self._waiting[customer]
            self._left -= 1
            if not self._left:
                self._done.set()

    async def _send(self, entry: Entry) -> None:
        method, path, body = self.world.request(entry)
        answer = await self._caller.call(method, path, body)
        late = datetime.now(UTC) - self.world.machine(entry.at)
        self.tally.lags.append(max(late.total_seconds(), 0.0))
        self.tally.repeated = self._caller.repeated
        if answer.is_error:
            what = f"{entry.kind} {entry.key}"
            self.tally.refused.append(f"the API refused {what}: {detail_of(answer)}")
        elif entry.kind == CUSTOMER:
            self.tally.customers += 1
        else:
            self.tally.accepted.add(self.world.event_id(entry))
