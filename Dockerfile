# drx-screen on a CPU: docker build -t drx-screen . && docker run --rm -v "$PWD:/data" drx-screen propose --campaign tiny
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY drxnet drxnet
COPY screening screening
COPY campaigns campaigns
COPY configs configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim-bookworm
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt /opt/constraints.txt
# torch for a CPU is a tenth of the size of the one that brings CUDA
RUN pip install --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' /opt/constraints.txt)"
COPY --from=build /wheels /opt/wheels
RUN pip install -c /opt/constraints.txt "drx-screen[fast,server,postgresql] @ file://$(echo /opt/wheels/drx_screen-*.whl)" \
    && rm -r /opt/wheels \
    && useradd --create-home --uid 1000 chemist \
    && mkdir /data \
    && chown chemist:chemist /data
USER 1000
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["drx-screen"]
CMD ["--help"]
