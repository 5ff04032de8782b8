"""The supervisor: starts everything, keeps it running, stops it; one readable line per event."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from domain.staff import ONE_TIME_PASSWORD_LASTS
from settings import Settings
from supervisor import refusals
from supervisor.children import bound_log
from supervisor.errors import Refused
from supervisor.existing import check_existing_servers
from supervisor.first_admin import FirstAdmin, first_admin
from supervisor.lock import exclusive
from supervisor.plan import Plan, make_plan
from supervisor.run_file import RunFile, read_run_file, run_file_path, write_run_file
from supervisor.service import Service

FIRST_DELAY, LONGEST_DELAY = 0.5, 15.0
# Who has answered and run that long was killed or crashed; who fails to start keeps backing off.
HEALTHY_AFTER = 5.0
_LOGS_EVERY = 60.0
_STOP_LIMIT = 9.0  # of the 10 s we promise
_LONGEST_STOP = {"api": 2.0, "inbox": 1.0, "mail-in": 1.0, "temporal": 2.5}
_WORKER_STOP = 5.0  # its own patience with activities that are under way
_LEFT_FOR_POSTGRES = 1.5

WhenReady = Callable[[RunFile], Awaitable[None]]
Say = Callable[[str], None]


def say_on_terminal(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more, or the disk is full
        now = datetime.now().astimezone()
        print(f"{now:%H:%M:%S} {text}", flush=True)


def run(
    settings: Settings, when_ready: WhenReady | None = None, say: Say = say_on_terminal
) -> None:
    """Run an installation until SIGINT or SIGTERM. `when_ready` is cancelled by them as well.

    Raises:
        Refused: it can't start or go on; what had been started is stopped again.
    """
    data_dir = settings.data_dir.absolute()
    refusals.check_exposure(settings)
    refusals.check_key_files(settings)
    if settings.database_url is None:
        refusals.check_postgres(data_dir)
    refusals.make_data_dir(data_dir)
    with exclusive(data_dir) as killed:
        if killed:
            say(f"the last instance (pid {killed}) was killed; going on from where it stood")
        refusals.check_ports(refusals.ports(settings), patience=3.0 if killed else 0.0)
        check_existing_servers(settings)
        plan = make_plan(settings)
        asyncio.run(_Supervisor(plan, say).run(when_ready))


class _Supervisor:
    def __init__(self, plan: Plan, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._stop = asyncio.Event()
        self._asked = False
        self._first: FirstAdmin | None = None

    async def run(self, when_ready: WhenReady | None) -> None:
        loop = asyncio.get_running_loop()
        # The kernel ties a child's life to the thread that started it: these threads live as long
        # as the loop, and there is one for each service to start at the same time.
        loop.set_default_executor(ThreadPoolExecutor(len(self._plan.services) + 4))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._ask_to_stop)
        begun = time.monotonic()
        guest: asyncio.Task[None] | None = None
        try:
            await self._start_all()
            self._announce(time.monotonic() - begun)
            if when_ready is not None:
                guest = asyncio.create_task(self._host(when_ready))
            kept = (self._keep(service) for service in self._plan.services)
            await self._together(*kept, self._bound_logs())
        except Refused:
            if not self._asked:  # else it is only the start we were asked to give up
                raise
        finally:
            if guest is not None:
                guest.cancel()
                await asyncio.gather(guest, return_exceptions=True)
            await self._stop_all()

    def _ask_to_stop(self) -> None:
        if self._asked:  # twice: no more patience
            for service in reversed(self._plan.services):
                service.kill()
        self._asked = True
        self._give_up()

    def _give_up(self) -> None:
        """Nothing is cancelled: what is under way in a thread gives up by itself, and soon."""
        self._stop.set()
        for service in (*self._plan.services, self._plan.migrations):
            service.interrupt()

    async def _start_all(self) -> None:
        plan = self._plan
        if plan.postgres is None:
            self._say("PostgreSQL: the existing server of CRM_DATABASE_URL")
        if plan.temporal is None:
            self._say(f"Temporal: the existing server at {plan.settings.temporal_address}")
        if plan.inbox is None:
            self._say(f"mail: goes out through {plan.settings.smtp_host}")
        # The API takes longest to import and answers 503 until what it needs is there.
        alone = (plan.temporal, plan.inbox, plan.api)
        await self._together(
            self._start_database_and_workers(),
            *(self._start(service) for service in alone if service),
        )

    async def _together(self, *work: Awaitable[None]) -> None:
        """All of it at once. The first refusal is the answer, once the others have given up."""
        tasks = [asyncio.ensure_future(each) for each in work]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failure = next((problem for task in done if (problem := task.exception())), None)
        if failure is None:
            return
        self._give_up()
        await asyncio.gather(*pending, return_exceptions=True)
        raise failure

    async def _start_database_and_workers(self) -> None:
        """Workers wait for Temporal by themselves, but must not see an older schema."""
        if self._plan.postgres is not None:
            await self._start(self._plan.postgres)
        await self._start(self._plan.migrations)
        self._first = await asyncio.to_thread(
            first_admin, self._plan.database_url, self._plan.settings.admin_email
        )
        mail_in = [self._plan.mail_in] if self._plan.mail_in else []
        await self._together(*map(self._start, [*self._plan.workers, *mail_in]))

    async def _start(self, service: Service) -> None:
        if self._stop.is_set():
            raise Refused(f"stopped before {service.title} was started")
        begun = time.monotonic()
        try:
            await asyncio.to_thread(service.start)
        except OSError as problem:  # such as a full disk
            raise Refused(f"{service.title} does not start: {problem}") from problem
        self._say(f"{service.name} {service.started} ({time.monotonic() - begun:.1f} s)")

    async def _keep(self, service: Service) -> None:
        """Start a service again whenever it dies; patience grows with every short life."""
        delay = FIRST_DELAY
        while True:
            up_since = time.monotonic()
            while service.running:
                if await self._stopped_within(0.1):
                    return
            if time.monotonic() - up_since > HEALTHY_AFTER:
                delay = FIRST_DELAY
            self._say(f"{service.name} stopped ({service.ending}); starts again in {delay:g} s")
            if await self._stopped_within(delay):
                return
            delay = min(delay * 2, LONGEST_DELAY)
            try:
                await self._start(service)
                write_run_file(self._run_file())
            except (Refused, OSError) as problem:
                self._say(str(problem))

    async def _bound_logs(self) -> None:
        while not await self._stopped_within(_LOGS_EVERY):
            for service in self._plan.services:
                with contextlib.suppress(OSError):  # a full disk: the next turn tries again
                    await asyncio.to_thread(bound_log, service.log)

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self._stop.is_set()

    async def _host(self, when_ready: WhenReady) -> None:
        """Run the caller's part; that it fails is no reason to take the installation down."""
        try:
            await when_ready(self._run_file())
        except Refused as refusal:
            self._say(str(refusal))

    def _run_file(self) -> RunFile:
        plan = self._plan
        pids = {service.name: service.pid for service in plan.services}
        return RunFile(
            addresses=plan.addresses,
            pids={"supervisor": os.getpid(), **{n: pid for n, pid in pids.items() if pid}},
            data_dir=plan.data_dir,
            api_key_file=plan.settings.api_key_file or plan.data_dir / "secrets" / "api_key",
            database_url=plan.database_url,
            temporal_namespace=plan.settings.temporal_namespace,
        )

    def _announce(self, seconds: float) -> None:
        run = self._run_file()
        write_run_file(run)
        for what, address in (
            ("console", run.addresses.console),
            ("API", run.addresses.api),
            ("API docs", run.addresses.docs),
            ("mail inbox", run.addresses.inbox),
            ("Temporal web UI", run.addresses.temporal_ui),
            ("API key", str(run.api_key_file)),
        ):
            self._say(f"  {what:<16} {address or '-'}")
        if self._first is not None:
            self._say(
                f"  sign in to the console as {self._first.email} with {self._first.password} "
                f"(shown this once, good for {ONE_TIME_PASSWORD_LASTS // timedelta(hours=1)} hours;"
                " you choose another then)"
            )
        self._say(f"ready ({seconds:.1f} s); Ctrl-C stops everything")

    async def _stop_all(self) -> None:
        """The callers first, PostgreSQL last, all within the time we promise."""
        if any(service.running for service in self._plan.services):
            self._say("stopping")
        deadline = time.monotonic() + _STOP_LIMIT
        for service in reversed(self._plan.services):
            if service is self._plan.postgres:
                patience = deadline - time.monotonic()
            else:
                left = deadline - _LEFT_FOR_POSTGRES - time.monotonic()
                patience = min(_LONGEST_STOP.get(service.name, _WORKER_STOP), left)
            await asyncio.to_thread(service.stop, max(patience, 0.1))
        if read_run_file(self._plan.data_dir) is not None:
            run_file_path(self._plan.data_dir).unlink(missing_ok=True)
            self._say("stopped")
