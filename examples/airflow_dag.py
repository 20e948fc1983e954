"""A DAG of Apache Airflow 3 that edits the pictures of a manifest every night.

Put it into the folder of the DAGs. The workers of Airflow need `pip install diffedit-service`, `diffedit` on their
PATH, and the variables of the client, such as DIFFEDIT_REDIS_URL. A task that Airflow tries again goes on where the
last attempt was killed, because the state of the batch is beside the manifest.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task

# Exit code 1 means that all rows have ended and some have failed: trying again would change nothing.
EDIT = """
cd '{{ params.manifests }}'
out='{{ params.results }}/{{ ds }}'
diffedit batch '{{ ds }}.csv' --out "$out" --state '{{ ds }}.sqlite' --report --json || test $? = 1
"""


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"manifests": "/data/manifests", "results": "s3://pictures/edited"},
)
def nightly_edits() -> None:
    # The operator passes on the last line of the output, and ends the command with the task.
    edit = BashOperator(
        task_id="edit",
        bash_command=EDIT,
        output_processor=json.loads,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )

    @task
    def complain(summary: dict[str, Any]) -> None:
        if summary["failed"]:
            raise RuntimeError(f"{summary['failed']} rows failed: {summary['codes']}; see {summary['files']}")

    complain(edit.output)


nightly_edits()
