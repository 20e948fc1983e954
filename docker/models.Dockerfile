# Image with the models of a profile and nothing else, to be mounted at HF_HOME: deploy/kubernetes/components/model-image.
# It is built from the worker's image. Neither built nor run yet.
#
#   docker build -f docker/models.Dockerfile -t diffedit/models-sd21:0.3.0 --build-arg PROFILE=sd21 .
ARG WORKER=diffedit/worker-cpu:0.3.0
FROM ${WORKER} AS download
ARG PROFILE=sd21
# The volume of the worker's image would lose what is written into it.
ENV HF_HOME=/tmp/models
COPY docker/download_models.py /tmp/
RUN python3 /tmp/download_models.py "${PROFILE}"

FROM scratch
COPY --from=download --chown=10001:10001 /tmp/models /
