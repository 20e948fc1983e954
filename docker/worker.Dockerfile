# Image of a worker, for CPUs or for NVIDIA's GPUs. Written without a container engine at hand: neither built nor run yet.
#
#   docker build -f docker/worker.Dockerfile -t diffedit/worker-cpu:0.3.0 .
#   docker build -f docker/worker.Dockerfile -t diffedit/worker-cuda:0.3.0 --build-arg TORCH_INDEX= .
#
# TORCH_INDEX is where pip finds torch: by default the index of the wheels for CPUs. Empty is pip's default index, whose wheels
# for Linux contain CUDA, so the same base serves GPU machines with NVIDIA's container runtime.
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
# Without pip, which nothing needs later.
RUN python3 -m venv --without-pip /opt/venv
COPY constraints.txt ./
# The largest part by far: its layer is kept until the constraints change.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt \
    ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch
COPY pyproject.toml README.md LICENSE ./
COPY api_client api_client
COPY worker worker
COPY web web
RUN pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt '.[worker,otel]'

FROM ${BASE}
RUN useradd --no-create-home --home-dir /tmp --uid 10001 diffedit \
    # The models of the Hub. A volume that is made from this directory belongs to the worker's user, too.
    && install -d -o 10001 -g 10001 /models
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp HF_HOME=/models DIFFEDIT_HEARTBEAT_FILE=/tmp/heartbeat
VOLUME /models
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# The models may have to be downloaded first, so the start may take an hour.
HEALTHCHECK --start-period=60m --interval=30s --timeout=5s --retries=4 CMD ["diffedit", "alive"]
# On SIGTERM a worker requeues its jobs within one denoising step. If it is killed before, other workers rescue them.
CMD ["diffedit", "worker", "--preload"]
