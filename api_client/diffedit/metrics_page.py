"""The page that Prometheus reads. Needs prometheus-client (extra `metrics`)."""

from http import HTTPStatus

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from diffedit.status_server import Answer, Page

# Without this, each counter and histogram has a second series, `_created`, which no query of ours uses.
disable_created_metrics()  # type: ignore[no-untyped-call]


def metrics_page(registry: CollectorRegistry) -> Page:
    """Return the page of all metrics in the registry, in the text format that the client asks for."""

    def page(accept: str) -> Answer:
        encode, media_type = choose_encoder(accept)
        return Answer(HTTPStatus.OK, encode(registry), media_type)

    return page
