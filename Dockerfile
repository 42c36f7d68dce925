# The service on the CPU: docker build -t qurate . ; docs/service.md says how to run it.
FROM python:3.11-slim AS build
# Options of pip that choose the CPU build of PyTorch, see README, "Which build of PyTorch".
ARG TORCH_OPTIONS=""
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m pip wheel --no-deps -w /wheels .
RUN python -m venv /opt/qurate
RUN /opt/qurate/bin/python -m pip install --no-cache-dir -c constraints.txt $TORCH_OPTIONS torch
RUN /opt/qurate/bin/python -m pip install --no-cache-dir -c constraints.txt /wheels/*.whl

FROM python:3.11-slim AS serve
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin qurate && install -d -o qurate -g qurate /data /model
COPY --from=build /opt/qurate /opt/qurate
ENV PATH=/opt/qurate/bin:$PATH
# /model: a model directory, may be read-only. /data: decisions and events, kept between runs.
VOLUME ["/model", "/data"]
USER qurate
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["qurate", "serve", "/model", "--data", "/data"]
