"""The `diffedit` command, one module for each group of subcommands.

`--json` prints one JSON value on stdout; an error is then one line of JSON, the last one on stderr. The exit codes are
listed in `exit_codes.EXIT_CODES`.
"""

# isort: off
from diffedit.cli import (
    edit,
    batch,
    sweep,
    jobs,
    operations,
    admin,
    admin_jobs,
    probes,
    restoring,
    services,
    web,
)  # Registers the subcommands, in this order.

# isort: on
from diffedit.cli.main import app

__all__ = [
    "admin",
    "admin_jobs",
    "app",
    "batch",
    "edit",
    "jobs",
    "operations",
    "probes",
    "restoring",
    "services",
    "sweep",
    "web",
]
