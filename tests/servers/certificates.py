"""Throw-away certificates for the servers of one test run, made by the openssl command."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import unavailable


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. `server` holds key and certificate (127.0.0.1 and localhost); `stranger` is an authority nobody uses."""

    ca: Path
    server: Path
    client: Path
    client_key: Path
    stranger: Path


def make_certificates(folder: Path) -> Certificates:
    if shutil.which("openssl") is None:
        unavailable("no openssl command to make certificates with")
    _authority(folder, "ca")
    _authority(folder, "stranger")
    _signed(folder, "server", "/CN=localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    _signed(folder, "client", "/CN=client", "extendedKeyUsage=clientAuth")
    server = folder / "server.pem"
    server.write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    return Certificates(
        ca=folder / "ca.crt",
        server=server,
        client=folder / "client.crt",
        client_key=folder / "client.key",
        stranger=folder / "stranger.crt",
    )


def _authority(folder: Path, name: str) -> None:
    _openssl(folder, f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.crt")


def _signed(folder: Path, name: str, subject: str, extension: str) -> None:
    (folder / f"{name}.ext").write_text(extension + "\n")
    _openssl(folder, f"req -newkey rsa:2048 -nodes -subj {subject} -keyout {name}.key -out {name}.csr")
    _sign(folder, name, name, days=2)


def _sign(folder: Path, request: str, name: str, *, days: int) -> None:
    _openssl(
        folder,
        f"x509 -req -days {days} -in {request}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile {request}.ext "
        f"-out {name}.crt",
    )


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True, timeout=120)


def expired(made: Certificates) -> Path:
    """Key and certificate of `server`, as they would be a day after their end."""
    folder = made.ca.parent
    _sign(folder, "server", "expired", days=-1)
    pem = folder / "expired.pem"
    pem.write_text((folder / "server.key").read_text() + (folder / "expired.crt").read_text())
    return pem
