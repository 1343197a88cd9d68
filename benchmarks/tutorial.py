"""How a service that a tutorial would write is run."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI


def answer_with(app: FastAPI) -> None:
    """Print a free port, and answer there until the process ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="error")).run(sockets=[listener])
