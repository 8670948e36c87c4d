# l2t-ray with CUDA, for Kubernetes (clusters/kuberay.yaml) or one machine. Linted but never built:
# no Docker daemon was at hand.
#   docker build --tag l2t-ray:0.2.0 .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" --env HOME=/home/l2t/study --volume "$PWD:/home/l2t/study" \
#     l2t-ray:0.2.0 python -m l2t_ray.sweep sweeps/quickstart.yaml
# With --user the container can write into your folder, and what it writes is yours. Ray writes its
# token (.ray/) into HOME.
FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04

# KubeRay's probes need wget; git tells the commit, which every result records. Ubuntu's archives
# keep one version, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git python3 python3-venv tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1001 --shell /bin/bash l2t

ENV PATH=/opt/l2t/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    MLFLOW_DISABLE_TELEMETRY=true

WORKDIR /opt/src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY l2t_ray l2t_ray
COPY analysis analysis
COPY l2t l2t
COPY sweeps sweeps
RUN python3 -m venv /opt/l2t \
    && pip install --no-cache-dir --constraint constraints.txt '.[cluster]'

COPY --chown=l2t:l2t sweeps /home/l2t/study/sweeps
RUN chown l2t:l2t /home/l2t/study
USER 1001
WORKDIR /home/l2t/study
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "l2t_ray.sweep", "--help"]
