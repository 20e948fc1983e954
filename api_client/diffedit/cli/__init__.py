"""The `diffedit` command, one module for each group of subcommands.

`--json` prints one JSON value on stdout; an error is then one line of JSON, the last one on stderr. The exit codes are
listed in `exit_codes.EXIT_CODES`.
"""

from diffedit.cli import batch, edit, jobs, operations, services, web  # Registers the subcommands, in this order.
from diffedit.cli.main import app

__all__ = ["app", "batch", "edit", "jobs", "operations", "services", "web"]
