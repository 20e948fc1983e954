"""What the dashboard shows: its panels and their queries.

The queries use the metrics themselves and not the recorded ones, so that the dashboard works without the rules.
"""

from dataclasses import dataclass

PROFILE = 'profile=~"$profile"'
QUEUE = "{{profile}} {{group}} {{lane}}"
STAGE = "{{profile}} {{stage}}"


@dataclass(frozen=True)
class Chart:
    """Lines over time. Each query is (PromQL, legend)."""

    title: str
    about: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    stacked: bool = False

    @property
    def all_queries(self) -> list[str]:
        """Each PromQL."""
        return [query for query, _ in self.queries]


@dataclass(frozen=True)
class Number:
    """The last value of a query."""

    title: str
    about: str
    unit: str
    query: str

    @property
    def all_queries(self) -> list[str]:
        return [self.query]


def _queues(metric: str) -> str:
    """Return the query of a number of the exporter. A second exporter says the same and must not be added."""
    return f"max by (profile, group, lane) ({metric}{{{PROFILE}}})"


def _workers(by: str, state: str = ".+") -> str:
    known = f'max by (profile, group, state, version) (diffedit_workers{{{PROFILE}, state=~"{state}"}})'
    return f"sum by ({by}) ({known})" if by else f"sum({known}) or vector(0)"


def _rate(metric: str, by: str, matchers: str = PROFILE) -> str:
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def _increase(metric: str, by: str, matchers: str = PROFILE) -> str:
    return f"sum by ({by}) (increase({metric}{{{matchers}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, matchers: str = PROFILE) -> str:
    buckets = f"sum by ({by}, le) (rate({metric}_bucket{{{matchers}}}[$__rate_interval]))"
    return f"histogram_quantile({share}, {buckets})"


def _outcome(outcome: str) -> str:
    return f'{PROFILE}, outcome="{outcome}"'


ROWS: dict[str, tuple[Chart | Number, ...]] = {
    "Now": (
        Number("Jobs waiting", "In all queues", "short", f"sum({_queues('diffedit_jobs_waiting')})"),
        Number("Jobs running", "A worker runs a stage of them", "short", f"sum({_queues('diffedit_jobs_running')})"),
        Number("Oldest waiting", "The longest wait", "s", f"max({_queues('diffedit_oldest_waiting_seconds')})"),
        Number("Work", "What waits and runs", "s", f"sum({_queues('diffedit_work_seconds')})"),
        Number("Workers ready", "Idle or busy", "short", _workers("", "idle|busy")),
        Number("Workers paused", "They take no jobs", "short", _workers("", "paused")),
        Number("Redis", "1: the exporter reaches it", "short", "min(diffedit_redis_up)"),
        Number("Webhook sender", "1: one runs", "short", "max(diffedit_webhook_sender_up)"),
    ),
    "Queues": (
        Chart("Waiting", "Jobs by queue", "short", ((_queues("diffedit_jobs_waiting"), QUEUE),)),
        Chart("Oldest waiting", "By queue", "s", ((_queues("diffedit_oldest_waiting_seconds"), QUEUE),)),
        Chart(
            "Work",
            "Stages that wait and run, times what such a stage takes",
            "s",
            ((_queues("diffedit_work_seconds"), QUEUE),),
        ),
    ),
    "Workers": (
        Chart(
            "Workers by state",
            "A worker counts in each group that it serves",
            "short",
            ((_workers("group, state"), "{{group}} {{state}}"),),
            stacked=True,
        ),
        Chart("Workers by version", "More than one: an upgrade", "short", ((_workers("version"), "{{version}}"),)),
        Chart(
            "Troubles and recoveries",
            "Workers that report a trouble; jobs that were taken from dead workers",
            "short",
            (
                ("max by (kind) (diffedit_worker_troubles)", "trouble: {{kind}}"),
                (_increase("diffedit_recoveries_total", "profile"), "recovered: {{profile}}"),
            ),
        ),
    ),
    "Stages": (
        Chart(
            "Duration",
            "Half of the stages, and 95 of 100, take no longer",
            "s",
            tuple(
                (_quantile(share, "diffedit_stage_duration_seconds", "profile, stage"), f"{STAGE} {name}")
                for share, name in ((0.5, "p50"), (0.95, "p95"))
            ),
        ),
        Chart(
            "Wait before a stage",
            "95 of 100 stages wait no longer",
            "s",
            ((_quantile(0.95, "diffedit_stage_wait_seconds", "profile, stage, lane"), f"{STAGE} {{{{lane}}}}"),),
        ),
        Chart(
            "Throughput",
            "Stages a second by outcome",
            "ops",
            ((_rate("diffedit_stages_total", "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Chart(
            "Failures by code",
            "Stages a second that failed their job",
            "ops",
            ((_rate("diffedit_stages_total", "profile, code", _outcome("failed")), "{{profile}} {{code}}"),),
        ),
        Chart(
            "Refusals by code",
            "Stages a second that a worker gave back, because it could not run them",
            "ops",
            ((_rate("diffedit_stages_total", "profile, code", _outcome("refused")), "{{profile}} {{code}}"),),
        ),
        Chart(
            "Out of memory",
            "Stages that ran out of GPU memory",
            "short",
            ((_increase("diffedit_out_of_memory_total", "profile, stage"), STAGE),),
        ),
    ),
    "S3": (
        Chart(
            "Latency",
            "95 of 100 requests take no longer",
            "s",
            ((_quantile(0.95, "diffedit_store_request_seconds", "operation", ""), "{{operation}}"),),
        ),
        Chart(
            "Requests",
            "A second, by operation",
            "reqps",
            ((_rate("diffedit_store_request_seconds_count", "operation", ""), "{{operation}}"),),
        ),
        Chart(
            "Errors",
            "A second, by operation and code",
            "reqps",
            ((_rate("diffedit_store_errors_total", "operation, code", ""), "{{operation}} {{code}}"),),
        ),
    ),
    "GPUs": (
        Chart(
            "Memory",
            "By device and kind",
            "bytes",
            (("sum by (pod, instance, device, kind) (diffedit_gpu_memory_bytes)", "{{pod}} {{device}} {{kind}}"),),
        ),
        Chart(
            "GPU seconds by owner",
            "GPU seconds a second: how many GPUs an owner uses",
            "short",
            ((_rate("diffedit_gpu_seconds_total", "owner"), "{{owner}}"),),
            stacked=True,
        ),
        Chart(
            "Loading of models",
            "Half of the loads of the workers that live took no longer",
            "s",
            (
                # Not a rate: a process loads a model once, before it is scraped for the second time.
                (
                    "histogram_quantile(0.5, "
                    f"sum by (profile, component, le) (diffedit_model_load_seconds_bucket{{{PROFILE}}}))",
                    "{{profile}} {{component}}",
                ),
            ),
        ),
    ),
    "Webhooks and Redis": (
        Chart(
            "Events of webhooks",
            "Due: to be sent now. Unsent: all that were not taken",
            "short",
            (("max by (state) (diffedit_webhook_events)", "{{state}}"),),
        ),
        Chart(
            "Damaged keys, overdue jobs, paused queues",
            "The first two should be 0, and the third is somebody's intention",
            "short",
            (
                ("max(diffedit_damaged_keys)", "damaged keys"),
                ("max(diffedit_jobs_overdue)", "overdue jobs"),
                (f"sum({_queues('diffedit_queue_paused')})", "paused queues"),
            ),
        ),
        Chart(
            "Jobs by owner",
            "Ended jobs a minute by owner and outcome",
            "short",
            (
                (
                    f"sum by (owner, outcome) (60 * rate(diffedit_usage_jobs_total{{{PROFILE}}}[$__rate_interval]))",
                    "{{owner}} {{outcome}}",
                ),
            ),
        ),
    ),
}
"""The titles of the rows, and the panels of each."""
