"""`python -m tests.support.stand_in_server SECONDS`: a server whose videos take that long."""

from __future__ import annotations

import sys

from experiments.serving import logs
from experiments.serving.engine import Engine
from experiments.serving.running import run_server
from experiments.serving.settings import Settings
from tests.support.serving import StandIn, quick

if __name__ == "__main__":
    logs.set_up()
    options = {"wait_s": float(sys.argv[1])}
    run_server(Engine(Settings(), lambda: [StandIn()], quick, options=options))
