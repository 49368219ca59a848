# The images of duovec. By target: gateway (no torch, no compiler), trainer (exports and trains), triton (serves).
#
#   docker build --target gateway --tag duovec-gateway .
#   docker build --target trainer --tag duovec-trainer --build-arg TORCH=cuda .
#   docker build --target triton --tag duovec-triton .
#
# Every package comes by version and hash from requirements/. Built nowhere yet: see README, "What was run".

FROM python:3.11-slim-bookworm AS python
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# Builds one wheel; what the other stages install of duovec itself.
FROM python AS wheel
WORKDIR /source
COPY requirements/build.txt /requirements/
RUN pip install --only-binary :all: --require-hashes --requirement /requirements/build.txt
COPY pyproject.toml README.md ./
COPY gateway gateway
COPY protos protos
COPY export export
COPY training training
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python AS gateway-packages
COPY requirements/gateway.txt requirements/otel.txt /requirements/
RUN python -m venv --without-pip /opt/duovec \
    && pip --python /opt/duovec/bin/python install --only-binary :all: --require-hashes \
        --requirement /requirements/gateway.txt --requirement /requirements/otel.txt
COPY --from=wheel /wheels /wheels
# The gateway never imports export or training: what is not there cannot be attacked.
RUN pip --python /opt/duovec/bin/python install --no-deps --no-index /wheels/*.whl \
    && rm -r /opt/duovec/lib/python3.11/site-packages/export /opt/duovec/lib/python3.11/site-packages/training \
    && rm /opt/duovec/bin/duovec-export /opt/duovec/bin/duovec-train \
    && /opt/duovec/bin/python -m compileall -q /opt/duovec

FROM python AS gateway
COPY --from=gateway-packages /opt/duovec /opt/duovec
# Health is asked on a socket of the container's own, which no certificate is needed for.
ENV PATH=/opt/duovec/bin:$PATH \
    DUOVEC_LISTEN=0.0.0.0:50051 \
    DUOVEC_HTTP_LISTEN=0.0.0.0:8080 \
    DUOVEC_OWN_LISTEN=unix-abstract:duovec \
    DUOVEC_MODEL_REPOSITORY=/models
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 8080
HEALTHCHECK --interval=10s --timeout=8s --start-period=120s --retries=3 \
    CMD ["duovec", "health", "--endpoint", "unix-abstract:duovec"]
CMD ["python", "-m", "gateway.server"]

FROM python AS trainer
# cpu, or cuda for the wheels of PyPI, which carry CUDA and need only the driver of the machine.
ARG TORCH=cpu
# PyPI has no torch for CPUs alone.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Mining reads the history of repositories.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/torch-cpu.txt requirements/torch-cuda.txt requirements/training.txt /requirements/
RUN if [ "$TORCH" = cpu ]; then \
        pip install --index-url "$TORCH_INDEX" --no-deps --require-hashes --requirement /requirements/torch-cpu.txt; \
    else \
        pip install --require-hashes --requirement "/requirements/torch-$TORCH.txt"; \
    fi \
    && pip install --require-hashes --requirement /requirements/training.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --no-index /wheels/*.whl \
    && install --directory --owner 10001 --group 10001 /models /work /cache
# OpenMP's threads mostly wait for each other where torch trains on a CPU.
ENV HOME=/work HF_HOME=/cache/huggingface OMP_NUM_THREADS=1
USER 10001:10001
WORKDIR /work
CMD ["duovec-train", "worker", "--work-dir", "/work", "--repository", "/models"]

# Triton with what model.py of the compact pair hosts. The full pair runs on the image as it is.
FROM nvcr.io/nvidia/tritonserver:26.07-py3 AS triton
COPY requirements/triton.txt /requirements/
RUN pip install --no-cache-dir --only-binary :all: --require-hashes --requirement /requirements/triton.txt
USER 10001:10001
