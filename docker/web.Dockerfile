# Image of the HTTP API, of the sender of webhooks and of the exporter: no torch, no models. Written without a container engine
# at hand: neither built nor run yet.
#
#   docker build -f docker/web.Dockerfile -t diffedit/web:0.3.0 .
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv --without-pip /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY api_client api_client
COPY worker worker
COPY web web
RUN pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt '.[web,metrics,otel]'

FROM ${BASE}
RUN useradd --no-create-home --home-dir /tmp --uid 10001 diffedit
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001
EXPOSE 8000
# The page asks neither Redis nor S3. The other commands of this image need a check of their own (compose.yaml).
HEALTHCHECK --start-period=30s --interval=30s --timeout=5s --retries=4 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/', timeout=4)"]
CMD ["diffedit", "serve", "--host", "0.0.0.0", "--no-links"]
