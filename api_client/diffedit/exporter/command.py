"""`diffedit exporter`: the metrics of the fleet, served by this process."""

import logging
import signal
import threading

from prometheus_client import CollectorRegistry, ProcessCollector

from diffedit.exporter.collector import FleetCollector
from diffedit.jobs.backend import redis_backend
from diffedit.logs import log_to_stderr
from diffedit.metrics_page import metrics_page
from diffedit.retries import EXPORTER_REDIS_POLICY
from diffedit.settings import Settings
from diffedit.status_server import StatusServer, text_answer

log = logging.getLogger(__name__)


def run(*, host: str, port: int, owners: int) -> None:
    """Serve `/metrics` until SIGINT or SIGTERM. Redis need not be there yet.

    Raises:
        InvalidRequest: a setting is not valid.
        CannotListen: the port is taken, or the address is not one of this machine.
    """
    settings = Settings.from_env()
    log_to_stderr(settings.log_format)
    backend = redis_backend(settings, policy=EXPORTER_REDIS_POLICY)
    registry = CollectorRegistry()
    registry.register(FleetCollector(backend.census, backend.job_store.usage, owners))
    ProcessCollector(registry=registry)
    # Alive even if Redis is not: another process could not reach it either.
    pages = {"/metrics": metrics_page(registry), "/livez": lambda accept: text_answer("ok")}
    server, stop = StatusServer(pages, host=host, port=port), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    log.info("serving %s on port %d", ", ".join(pages), server.port)
    stop.wait()
    server.stop()
    backend.close()
