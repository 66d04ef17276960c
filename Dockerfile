# The node as a container image: docs/containers.md tells how to build and run it.
#
# BASE is any Debian-like image with Python 3.11 or newer. Both stages start from it, so that what was built fits.

ARG BASE=python:3.13-slim

# ---- build: everything that a compiler is needed for; nothing of this stage but /opt/yggpy stays ---------------------
FROM ${BASE} AS build
RUN python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "BASE has a Python older than 3.11")'
# Debian's own Python comes without headers and venv; one in /usr/local, as in the official images, has both.
RUN packages="gcc libc6-dev libssl-dev" \
 && if [ "$(command -v python3)" = /usr/bin/python3 ]; then packages="$packages python3-dev python3-venv"; fi \
 && apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $packages
RUN python3 -m venv /build \
 && /build/bin/pip install -q --disable-pip-version-check --no-cache-dir cmake ninja scikit-build-core \
 && python3 -m venv --without-pip /opt/yggpy
WORKDIR /src
# The libraries come first, so that a change of the program does not fetch them again.
COPY pyproject.toml ./
RUN python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        >requirements.txt \
 && /build/bin/pip --python /opt/yggpy/bin/python3 install -q --disable-pip-version-check --no-cache-dir -r requirements.txt
# Then the engine in C, with a package of nothing around it: the build that follows finds it made.
COPY README.md LICENSE ./
COPY native native
COPY yggpy/version.py yggpy/version.py
ENV YGGPY_NATIVE=require PATH=/build/bin:$PATH
RUN touch yggpy/__init__.py \
 && pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --config-settings=build-dir=/src/build -w /nothing .
COPY yggpy yggpy
RUN pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --config-settings=build-dir=/src/build -w /wheel . \
 && pip --python /opt/yggpy/bin/python3 install -q --disable-pip-version-check --no-cache-dir --no-deps /wheel/*.whl

# ---- the image -------------------------------------------------------------------------------------------------------
FROM ${BASE}
LABEL org.opencontainers.image.title="yggpy" \
      org.opencontainers.image.description="A Yggdrasil mesh node" \
      org.opencontainers.image.licenses="MPL-2.0"
# The number of the user is fixed: volumes keep it.
RUN if ! command -v ping >/dev/null; then \
        apt-get -q update \
     && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends iputils-ping \
     && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; \
    fi \
 && groupadd --gid 10001 yggpy \
 && useradd --uid 10001 --gid yggpy --home-dir /var/lib/yggpy --no-create-home --shell /usr/sbin/nologin yggpy \
 && install -d -m 0700 -o yggpy -g yggpy /var/lib/yggpy
COPY --from=build /opt/yggpy /opt/yggpy
ENV PATH=/opt/yggpy/bin:$PATH \
    YGG_STATE_DIR=/var/lib/yggpy \
    YGG_USER=yggpy
# Loads all that a node loads: it must be there, and a Python whose own library comes uncompiled starts quicker after this.
RUN python3 -c 'import yggpy.admin.server, yggpy.admin.upkeep, yggpy.cli.daemon, yggpy.cli.statedir, yggpy.ctl.main, \
yggpy.ctl.health, yggpy.datapath.native, yggpy.monitoring.endpoint, yggpy.multicast.service' && yggpy-node -genconf >/dev/null
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s CMD ["yggpy-ctl", "health"]
ENTRYPOINT ["yggpy-node"]
CMD ["-autoconf"]
