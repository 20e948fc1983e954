"""The `diffedit` command, one module for each group of subcommands.

`--json` prints one JSON value on stdout; an error is then one line of JSON, the last one on stderr. The exit codes are
listed in `exit_codes.EXIT_CODES`.
"""

from diffedit.cli import (  # Registers the subcommands, in this order.
    batch,
    edit,
    jobs,
    operations,
    services,
    sweep,
    web,
)
from diffedit.cli.main import app

__all__ = ["app", "batch", "edit", "jobs", "operations", "services", "sweep", "web"]
