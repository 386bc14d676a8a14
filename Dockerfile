# Give the digest too where builds must repeat: --build-arg BASE=docker.io/library/python:3.13-slim@sha256:...
# Any Debian with a python3 from 3.11 on will do.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /src
RUN python3 -m venv /opt/build \
 && python3 -m venv --without-pip /opt/lineage-collector
# Wheels only, each held to its hash: nothing is compiled, so no compiler is needed.
COPY requirements.txt requirements-build.txt ./
RUN /opt/build/bin/pip --python /opt/lineage-collector/bin/python3 install --only-binary :all: --require-hashes -r requirements.txt \
 && /opt/build/bin/pip install --only-binary :all: --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY collector collector
COPY exporters exporters
COPY config config
# Parts of libraries that nothing here imports: dialects, brokers and lexers of others, and what tests and compiles them.
RUN find /opt/lineage-collector/lib -depth \( -path '*/sqlalchemy/testing' -o -path '*/sqlalchemy/dialects/m*sql' -o -path '*/sqlalchemy/dialects/oracle' \
      -o -path '*/alembic/testing' -o -path '*/sqlglot/executor' \
      -o -path '*/faststream/confluent' -o -path '*/faststream/mqtt' -o -path '*/faststream/nats' -o -path '*/faststream/rabbit' -o -path '*/faststream/redis' \
      -o -path '*/pygments/lexers/[a-oq-z]*.py' -o -path '*/pygments/lexers/p[a-xz]*.py' -o -path '*/pygments/lexers/_*_builtins.py' \
      -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.c' -o -name '*.h' \) -exec rm -rf {} +
# The root file system is read-only later, so bytecode is made now, and believed without looking at times.
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /tmp/wheel . \
 && /opt/build/bin/pip --python /opt/lineage-collector/bin/python3 install --no-index --no-deps /tmp/wheel/*.whl \
 && /opt/lineage-collector/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/lineage-collector/lib


# The simulated platforms and the demo come on top, for the image target `simulators` alone.
FROM build AS build-simulators
COPY simulators simulators
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /tmp/simulators ./simulators \
 && /opt/build/bin/pip --python /opt/lineage-collector/bin/python3 install --no-index --no-deps /tmp/simulators/*.whl \
 && /opt/lineage-collector/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/lineage-collector/lib


FROM ${BASE} AS base
# What installs packages goes, but for dpkg's list of them, which scanners for vulnerabilities read.
RUN groupadd --gid 10001 lineage \
 && useradd --no-log-init --uid 10001 --gid lineage --no-create-home --home-dir /var/lib/lineage-collector --shell /usr/sbin/nologin lineage \
 && install --directory --owner lineage --group lineage --mode 0750 /var/lib/lineage-collector \
 && find /usr -depth \( -path '*/python3*/pip' -o -path '*/python3*/pip-*' -o -path '*/python3*/setuptools*' -o -path '*/python3*/wheel*' \
      -o -path '*/python3*/ensurepip' -o -path '*/bin/pip*' -o -path '*/share/python-wheels' \) -exec rm -rf {} + \
 && rm -rf /var/lib/apt /var/cache/apt /var/cache/debconf /var/log/apt /var/log/dpkg.log
ENV PATH=/opt/lineage-collector/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LINEAGE_COLLECTOR_CONFIG=/etc/lineage-collector/config.yaml
# A ledger with a relative path lies on the volume.
WORKDIR /var/lib/lineage-collector
USER 10001:10001
EXPOSE 17817

ARG VERSION=0.1.0
ARG REVISION=
ENV LINEAGE_COLLECTOR_REVISION=${REVISION}
LABEL org.opencontainers.image.title="lineage-collector" \
      org.opencontainers.image.description="Watches runs on managed transformation platforms and delivers OpenLineage run events to Marquez and Kafka, in order and through crashes." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/lineage-collector/lineage-collector" \
      org.opencontainers.image.documentation="https://github.com/lineage-collector/lineage-collector/blob/main/docs/quickstart.md" \
      org.opencontainers.image.licenses="Apache-2.0"

# No shell between the kernel and the program: SIGTERM reaches it. Health is asked over HTTP, by whoever runs this.
ENTRYPOINT ["lineage-collector"]
CMD ["run"]


# With `simulate` and `demo`: `docker build --target simulators .`; compose.yaml uses it.
FROM base AS simulators
COPY --from=build-simulators /opt/lineage-collector /opt/lineage-collector


# The image of production, the default target.
FROM base
USER 0:0
COPY --from=build /opt/lineage-collector /opt/lineage-collector
# The official Python comes without its own bytecode, which would cost each start 0.8 s: this makes what is needed of it.
RUN ["/opt/lineage-collector/bin/python3", "-c", "import sys; sys.dont_write_bytecode = False; import collector.app.service, collector.app.check, exporters.sinks.kafka.sink, exporters.sinks.marquez.sink, jinja2, alembic.command"]
USER 10001:10001
