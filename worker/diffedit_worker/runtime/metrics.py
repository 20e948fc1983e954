"""The metrics of one worker. docs/guides/monitoring.md says what each of them means.

None has a job's id as a label. Names of owners are labels of one metric only, and their number is limited.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric

from diffedit.contract.usage import OTHER_OWNERS
from diffedit.errors import ArtifactMissing, DiffEditError
from diffedit.metrics_page import metrics_page
from diffedit_worker.runtime.stage_report import Outcome, StageReport

if TYPE_CHECKING:
    import torch

STAGE_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
WAIT_SECONDS = (0.01, 0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600)
STORE_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LOAD_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
MAX_OWNERS = 500
"""Owners with a series of their own, in one process. Further ones share that of `OTHER_OWNERS`."""


class WorkerMetrics:
    """What one worker counts and measures. Threads may share it.

    Attributes:
        registry: holds the metrics and nothing else.
        page: returns them all, as Prometheus reads them.
    """

    def __init__(self, profile: str) -> None:
        self._profile = profile
        self._owners: set[str] = set()
        self._has_gpu = False
        self._lock = threading.Lock()
        self.registry = registry = CollectorRegistry()
        self.page = metrics_page(registry)
        where = ("profile", "stage", "lane")
        self._seconds = Histogram(
            "diffedit_stage_duration_seconds",
            "Seconds of stages that made their artifacts, from the start in the record until all is stored.",
            where,
            registry=registry,
            buckets=STAGE_SECONDS,
        )
        self._waits = Histogram(
            "diffedit_stage_wait_seconds",
            "Seconds for which stages waited in their queue before this worker started them.",
            where,
            registry=registry,
            buckets=WAIT_SECONDS,
        )
        self._stages = Counter(
            "diffedit_stages",
            "Stages that this worker started and that are over, by what became of them.",
            (*where, "outcome", "code"),
            registry=registry,
        )
        self._hand_backs = Counter(
            "diffedit_hand_backs",
            "Messages that this worker left to other workers without starting the stage.",
            ("profile",),
            registry=registry,
        )
        self._recoveries = Counter(
            "diffedit_recoveries",
            "Jobs of dead workers that this worker, as the leader, returned to their queues.",
            ("profile",),
            registry=registry,
        )
        self._requests = Histogram(
            "diffedit_store_request_seconds",
            "Seconds of the requests to the object store, with those that failed.",
            ("operation",),
            registry=registry,
            buckets=STORE_SECONDS,
        )
        self._request_errors = Counter(
            "diffedit_store_errors",
            "Requests to the object store that failed. A missing object is no failure.",
            ("operation", "code"),
            registry=registry,
        )
        self._loads = Histogram(
            "diffedit_model_load_seconds",
            "Seconds in which a model was downloaded, if it was not there, loaded and tried once.",
            ("profile", "component"),
            registry=registry,
            buckets=LOAD_SECONDS,
        )
        self._out_of_memory = Counter(
            "diffedit_out_of_memory",
            "How often a stage ran out of memory, also if its second try, in smaller batches, succeeded.",
            ("profile", "stage"),
            registry=registry,
        )
        self._gpu_seconds = Counter(
            "diffedit_gpu_seconds",
            "Seconds of the device, shared among the stages that used it at the same time.",
            ("profile", "owner"),
            registry=registry,
        )
        self._info = Info("diffedit_worker", "What this worker is.", registry=registry)
        ProcessCollector(registry=registry)
        # Known from the start, so that their first increase is seen.
        self._hand_backs.labels(profile)
        self._recoveries.labels(profile)

    def describe(self, *, worker: str, device: str, version: str) -> None:
        """Set what `diffedit_worker_info` says."""
        self._info.info({"worker": worker, "profile": self._profile, "device": device, "version": version})

    def observe_stage(self, report: StageReport) -> None:
        """Count a stage. An observer of the runner."""
        where = (report.profile, report.stage.value, report.lane.value)
        self._stages.labels(*where, report.outcome.value, report.code).inc()
        if report.outcome is Outcome.MADE:
            self._seconds.labels(*where).observe(report.seconds)
        if report.waited is not None:
            self._waits.labels(*where).observe(report.waited)
        if report.out_of_memory:
            self._out_of_memory.labels(report.profile, report.stage.value).inc(report.out_of_memory)
        if report.device_seconds > 0:
            self._gpu_seconds.labels(report.profile, self._owner_label(report.owner)).inc(report.device_seconds)

    def count_hand_back(self) -> None:
        self._hand_backs.labels(self._profile).inc()

    def count_recovery(self, profile: str) -> None:
        self._recoveries.labels(profile).inc()

    def observe_load(self, component: str, seconds: float) -> None:
        self._loads.labels(self._profile, component).observe(seconds)

    @contextmanager
    def measured_request(self, operation: str) -> Iterator[None]:
        """Measure the request to the object store that is made inside the context."""
        started_at = perf_counter()
        try:
            yield
        except ArtifactMissing:
            raise
        except Exception as error:
            self._request_errors.labels(operation, error.code if isinstance(error, DiffEditError) else "internal").inc()
            raise
        finally:
            self._requests.labels(operation).observe(perf_counter() - started_at)

    def add_device(self, device: "torch.device") -> None:
        """Tell the memory of this device as well, if it is one of CUDA. A worker has one device."""
        with self._lock:
            if device.type == "cuda" and not self._has_gpu:
                self._has_gpu = True
                self.registry.register(GpuMemory(device))

    def _owner_label(self, owner: str | None) -> str:
        with self._lock:
            if owner is None or owner in self._owners:
                return owner or ""
            if len(self._owners) >= MAX_OWNERS:
                return OTHER_OWNERS
            self._owners.add(owner)
            return owner


class GpuMemory:
    """A collector that asks a CUDA device for its memory at each scrape. Not tried on a device so far."""

    def __init__(self, device: "torch.device") -> None:
        self._device = device

    def describe(self) -> list[Metric]:
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        import torch

        family, cuda = self._family(), torch.cuda
        readers: dict[str, Callable[[], int]] = {
            "allocated": lambda: cuda.memory_allocated(self._device),
            "reserved": lambda: cuda.memory_reserved(self._device),
            "total": lambda: cuda.mem_get_info(self._device)[1],
        }
        try:
            for kind, read in readers.items():
                family.add_metric([str(self._device), kind], read())
        except RuntimeError:
            # The device has failed, and the worker is about to end.
            return
        yield family

    def _family(self) -> GaugeMetricFamily:
        text = "Memory of the GPU: allocated by tensors, reserved by torch, and all that there is."
        return GaugeMetricFamily("diffedit_gpu_memory_bytes", text, labels=["device", "kind"])
