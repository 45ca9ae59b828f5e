# An image with everything to train, predict, export and serve. For the CPU; for NVIDIA's: --build-arg DEVICE=cuda.
# docs/containers.md says how to build and use it. Nothing is fetched when it runs.
ARG PYTHON=3.12
ARG DEVICE=cpu
ARG TORCH=2.14.1
ARG TORCHVISION=0.29.1

FROM python:${PYTHON}-slim AS python

FROM python AS empty
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/diffusionmtl
ENV PATH=/opt/diffusionmtl/bin:$PATH

# torch by itself, and first: by far the largest layer, and the one that changes least.
FROM empty AS torch-cpu
ARG TORCH
ARG TORCHVISION
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
    "torch==${TORCH}" "torchvision==${TORCHVISION}"

FROM empty AS torch-cuda
ARG TORCH
ARG TORCHVISION
RUN pip install --no-cache-dir "torch==${TORCH}" "torchvision==${TORCHVISION}"

# One of the two stages above, which have no tags.
# hadolint ignore=DL3006
FROM torch-${DEVICE} AS installed
ARG EXTRAS=train,demo,export,video
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY configs configs
# What is installed is what was copied; pyproject.toml says which versions it works with.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[${EXTRAS}]"

FROM python AS final
# A user without rights. The folder for runs belongs to it, and so does a new volume that is put there.
RUN useradd --uid 1000 --create-home diffusionmtl \
    && install --directory --owner=diffusionmtl --group=diffusionmtl /app /app/runs
COPY --from=installed /opt/diffusionmtl /opt/diffusionmtl
# Caches lie with the runs: whoever uses the image under another number has no home in it.
ENV PATH=/opt/diffusionmtl/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/app/runs/.cache \
    DIFFUSIONMTL_CACHE=/app/runs/.cache/diffusionmtl \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /app
VOLUME /app/runs
EXPOSE 7860
ENTRYPOINT ["diffusionmtl"]
CMD ["--help"]
