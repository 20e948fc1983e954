"""A DAG of Apache Airflow 3 that edits the pictures of a manifest every night.

Put it into the folder of the DAGs. The workers of Airflow need `pip install diffedit-service` and the variables of the
client, such as DIFFEDIT_REDIS_URL. A task that Airflow tries again goes on where the last one was killed: the state of
the batch is beside the results.
"""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

COMMAND = [sys.executable, "-c", "from diffedit.cli import app; app()", "batch"]
"""`diffedit batch`, also where the script of that name is not on the path."""
SOME_ROWS_FAILED = 1


def edit_manifest(manifest: str, out: str, *options: str) -> dict[str, Any]:
    """Edit all rows of a manifest and return how many are done. Rows that fail do not fail the task."""
    done = subprocess.run([*COMMAND, manifest, "--out", out, "--json", *options], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, SOME_ROWS_FAILED) or not done.stdout:
        raise RuntimeError(f"diffedit batch ended with exit code {done.returncode}; its message is in the log")
    return json.loads(done.stdout)


def nightly_edits() -> Any:
    """Return the DAG."""
    from airflow.sdk import dag, task

    @dag(schedule="0 2 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1)
    def nightly_edits() -> None:
        @task(retries=3, retry_delay=timedelta(minutes=5))
        def edit(ds: str = "") -> dict[str, Any]:
            out = f"s3://pictures/edited/{ds}"
            return edit_manifest(f"/data/{ds}.csv", out, "--state", f"/data/{ds}.sqlite", "--report")

        @task
        def complain(summary: dict[str, Any]) -> None:
            if summary["failed"]:
                raise RuntimeError(f"{summary['failed']} rows failed: {summary['codes']}; see {summary['files']}")

        complain(edit())

    return nightly_edits()


try:
    nightly_dag = nightly_edits()  # Airflow finds DAGs among the variables of a module
except ImportError:
    if __name__ == "__main__":
        print("this is a DAG; it needs Apache Airflow", file=sys.stderr)
