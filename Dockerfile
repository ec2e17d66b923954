# syntax=docker/dockerfile:1
# The gateway with everything `serve` needs, training included. The README shows how to build and run it.

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /build
# Third-party packages first and by hash: this layer changes only with the lock.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /build/tools \
    && /build/tools/bin/pip install --only-binary=:all: --require-hashes -r requirements/build.txt \
    && python -m venv /opt/gateway \
    && /opt/gateway/bin/pip install --only-binary=:all: --require-hashes -r requirements/runtime.txt
# The build tool is in its own environment and so not in the image; --no-index: nothing unpinned is fetched for the build.
COPY pyproject.toml README.md LICENSE ./
COPY gateway/ gateway/
RUN /build/tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir wheels . \
    && /opt/gateway/bin/pip install --no-index --no-deps wheels/*.whl \
    && /opt/gateway/bin/pip check \
    && /opt/gateway/bin/pip uninstall --yes pip

FROM python:3.12-slim
# A fixed uid, so that the owner of a mounted folder can be set: chown -R 10001:10001 data
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin gateway \
    && install -d -o 10001 -g 10001 /data /models /router_config
COPY --from=build /opt/gateway /opt/gateway
# The recipes and policies of this repository are the defaults; mount your own over them.
COPY --chown=10001:10001 models/ /models/
COPY --chown=10001:10001 router_config/ /router_config/
# Settings come from the environment, so that `docker run ... serve --workers 4` keeps them. Beyond loopback the admin
# port answers only to tokens; the first one is written to /data/admin-token at the first start.
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY_DATA=/data \
    GATEWAY_MODELS=/models \
    GATEWAY_CONFIG=/router_config \
    GATEWAY_LISTEN=0.0.0.0:8080 \
    GATEWAY_ADMIN_LISTEN=0.0.0.0:8081
USER 10001:10001
WORKDIR /
VOLUME ["/data", "/models", "/router_config"]
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
