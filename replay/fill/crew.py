"""Processes that work on one database at the same time, each over a connection of its own.

What fills a database is as much work for Python as for PostgreSQL: while one process waits for
PostgreSQL another one makes rows.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self, cast

import psycopg

from supervisor.errors import Refused
from supervisor.postgres_url import libpq_url

Job = Callable[[psycopg.Connection], None]  # where there are processes to do it, one of a module

_SPAWN = multiprocessing.get_context("spawn")


class Crew:
    """`count` processes, or this one alone where `count` is 1.

    Whoever leaves the context by an error, or by Ctrl-C, ends them at once: PostgreSQL rolls back
    what they had not committed. When this process is killed they end with the job they are at.
    """

    def __init__(self, url: str, count: int) -> None:
        self._url, self._count = url, count
        self._processes: list[SpawnProcess] = []
        self._pipes: list[Connection] = []

    def __enter__(self) -> Self:
        if self._count == 1:
            return self
        # Ctrl-C goes to everybody at the terminal and is for us: they inherit that it is blocked.
        # The tracker that the first of them would start lets it through again.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            for _ in range(self._count):
                ours, theirs = _SPAWN.Pipe()
                process = _SPAWN.Process(target=_work, args=(self._url, theirs), daemon=True)
                process.start()
                theirs.close()  # so that the pipe ends with the process
                self._pipes.append(ours)
                self._processes.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None
    ) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.close()  # an idle process ends by that
            if kind is not None:
                process.terminate()
        for process in self._processes:
            process.join()

    def do(self, jobs: Iterable[Job]) -> Iterator[None]:
        """Do all of them, in no order; yields whenever one is done.

        Raises:
            psycopg.Error: PostgreSQL refused one.
            Refused: a process ended early.
        """
        if not self._processes:
            with connected(self._url) as connection:
                for job in jobs:
                    job(connection)
                    yield
            return
        left = iter(jobs)
        try:
            busy = []
            for pipe, job in zip(self._pipes, left, strict=False):
                pipe.send(job)
                busy.append(pipe)
            while busy:
                for pipe in cast(list[Connection], wait(busy)):
                    if (problem := pipe.recv()) is not None:
                        raise problem
                    if (following := next(left, None)) is None:
                        busy.remove(pipe)
                    else:
                        pipe.send(following)
                    yield
        except (EOFError, ConnectionError):
            raise Refused("one of the processes at work on the database ended early") from None


def connected(url: str) -> psycopg.Connection:
    return psycopg.connect(libpq_url(url), autocommit=True)


def _work(url: str, orders: Connection) -> None:
    with suppress(EOFError, ConnectionError):  # nobody is there any more
        try:
            with connected(url) as connection:
                while True:
                    job: Job = orders.recv()
                    job(connection)
                    orders.send(None)
        except psycopg.Error as problem:
            orders.send(problem)
