"""What stays the same from one run of the embedded services to the next: their ports and their secrets."""

import fcntl
import random
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Self

from diffedit.errors import LocalError
from diffedit.webhooks.signing import new_secret
from diffedit_worker.local.process_group import read_json, write_json

HOST = "127.0.0.1"
WEB_PORTS, VALKEY_PORTS, S3_PORTS = range(18_000, 20_000), range(20_000, 26_000), range(26_000, 32_000)
"""Below the ephemeral ports. On one of those, a client that calls a stopped server may connect to itself."""


@dataclass(frozen=True)
class ServiceState:
    """The state of one directory."""

    valkey_port: int = field(default_factory=lambda: secrets.choice(VALKEY_PORTS))
    s3_port: int = field(default_factory=lambda: secrets.choice(S3_PORTS))
    secret: str = field(default_factory=secrets.token_hex)
    webhook_secret: str = field(default_factory=new_secret)
    profile: str = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the state of the last run, or a new one. Processes that ask at the same time get the same one."""
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = read_json(path)
            known = {each.name for each in fields(cls)}  # another version may have written more, or less
            state = cls(**{name: value for name, value in found.items() if name in known})
            if not known <= found.keys():
                write_json(path, found | asdict(state))
            return state

    def on_free_ports(self) -> Self:
        """Return this state with other ports in the place of those that another process uses."""
        valkey_port, s3_port = free_port(self.valkey_port, VALKEY_PORTS), free_port(self.s3_port, S3_PORTS)
        return replace(self, valkey_port=valkey_port, s3_port=s3_port)


def free_port(preferred: int, others: range) -> int:
    """Return this port, or another one of a range if a process uses it. Raises LocalError."""
    for port in (preferred, *random.sample(others, 100)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise LocalError(f"no free port from {others.start} to {others.stop - 1}")
