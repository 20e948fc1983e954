"""The HTTP server of a worker, on `DIFFEDIT_METRICS_PORT`: metrics, and whether the worker lives and is ready."""

import logging
from collections.abc import Mapping

from diffedit.status_server import Page, StatusServer
from diffedit_worker.settings import WorkerSettings

log = logging.getLogger(__name__)


def serve_status(settings: WorkerSettings, pages: Mapping[str, Page]) -> StatusServer | None:
    """Serve these pages, by path, if the settings name a port.

    Raises:
        CannotListen: the port is taken, for example by another worker of this machine.
    """
    if settings.metrics_port is None:
        return None
    server = StatusServer(
        pages,
        host=settings.metrics_host,
        port=settings.metrics_port,
        host_setting="DIFFEDIT_METRICS_HOST",
        port_setting="DIFFEDIT_METRICS_PORT",
    )
    server.start()
    log.info("serving %s on port %d", ", ".join(pages), server.port)
    return server
