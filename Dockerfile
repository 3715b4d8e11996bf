# The server of docs/serve.md. Build arguments: TORCH=cpu (default), or a CUDA release such as cu130.
# Run with a run folder at /runs/model; nothing but /var/lib/forgery is written to.

FROM python:3.12-slim AS build
ARG TORCH=cpu
RUN pip install --no-cache-dir uv && python -m venv /venv
# torch first, and alone: the largest layer stays as it is when the project changes
RUN uv pip install --no-cache --python /venv/bin/python --torch-backend="$TORCH" torch torchvision
WORKDIR /app
COPY . .
RUN uv pip install --no-cache --python /venv/bin/python --torch-backend="$TORCH" -e '.[serve]' \
 && /venv/bin/python -m weights.catalog --strict
# a read-only file system takes no caches later
RUN /venv/bin/python -m compileall -q /app

FROM python:3.12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libseccomp2 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin forgery \
 && install -d -o forgery -m 700 /var/lib/forgery
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    FORGERY_HOST=0.0.0.0 \
    FORGERY_PORT=8000 \
    FORGERY_STATE_DIR=/var/lib/forgery
USER 10001
VOLUME /var/lib/forgery
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['FORGERY_PORT']}/healthcheck\", timeout=4)"]
# SIGTERM drains for 60 s unless told otherwise: stop with `docker stop --time 70`
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "experiments.serve"]
CMD ["--run", "/runs/model"]
