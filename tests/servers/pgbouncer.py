"""A pgbouncer in transaction mode before a PostgreSQL: each transaction may be on another connection."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.servers.ports import LOOPBACK, free_port
from tests.servers.processes import ServerProcess, unavailable

_SETTINGS = """\
[databases]
* = host={host} port={server}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = 10
max_client_conn = 200
server_round_robin = 1
query_wait_timeout = 20
server_idle_timeout = 1
"""
"""Round robin: a client meets the connections of others as often as can be."""


def program() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class Bouncer(ServerProcess):
    def __init__(self, folder: Path, server: int, passwords: Mapping[str, str], *, user: int | None) -> None:
        """`server` is the port of PostgreSQL; `user` as of `ServerProcess`, as pgbouncer refuses to run as root."""
        if (found := program()) is None:
            unavailable("pgbouncer is not installed: apt-get install pgbouncer")
        own = folder / "pgbouncer"
        own.mkdir()
        port, users, settings = free_port(), own / "users.txt", own / "pgbouncer.ini"
        users.write_text("".join(f'"{name}" "{password}"\n' for name, password in passwords.items()))
        settings.write_text(_SETTINGS.format(host=LOOPBACK, server=server, port=port, users=users))
        if user is not None:
            for path in (own, users, settings):
                shutil.chown(path, user)
        super().__init__([found, str(settings)], folder=own, port=port, user=user)
