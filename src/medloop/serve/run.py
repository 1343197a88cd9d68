"""Starting the service: which bundle, which address, how many processes."""

from __future__ import annotations

import gc
import ipaddress
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.cores import cores
from medloop.errors import UserError
from medloop.feedback import open_feedback
from medloop.feedback.records import now
from medloop.registry.mirror import open_store
from medloop.registry.store import ModelStore
from medloop.serve.champion import Serving, Watcher, load_serving
from medloop.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from medloop.feedback.keys import Keys
    from medloop.serve.service import Service

log = logging.getLogger("medloop.serve")

KEEP_ALIVE_SECONDS = 30
# What a worker may take beyond its drain before it is ended whatever it does.
END_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What each process of the service needs to know."""

    settings: Settings
    folder: Path
    bundle: Path | None

    @property
    def store(self) -> ModelStore:
        """The model store to follow where no bundle is given."""
        return open_store(self.settings, self.folder)


def run_service(
    settings: Settings,
    *,
    folder: Path,
    bundle: Path | None,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    auth: bool | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until interrupted; `say` is told where, port 0 standing for any that is free."""
    given = {"host": host, "port": port, "workers": workers, "auth": auth}
    serve = settings.serve.model_copy(update={name: value for name, value in given.items() if value is not None})
    if not serve.auth:
        check_address(serve.host)
    plan = Plan(settings=settings.model_copy(update={"serve": serve}), folder=folder, bundle=bundle)
    with bind(serve.host, serve.port) as listener:
        app = build_app(plan)
        service: Service = app.state.service
        start_listening(listener)
        say(f"serving {service.serving.predictor.meta['name']} on {address_of(listener)} (/docs; Ctrl-C ends it)")
        if serve.auth:
            _tell_of_keys(service.feedback.keys, say)
        _serve(plan, app, listener)


def _tell_of_keys(keys: Keys, say: Callable[[str], None]) -> None:
    """Make the first key, which nobody could use if the service did not listen by now, or say how to get one."""
    if secret := keys.first_admin():
        say(f"the first admin key, shown this once: {secret}")
        say("in a browser: any name, and the key as the password; more keys: `medloop keys create`")
    elif not any(key.is_valid(at=now()) for key in keys.list()):
        say("no key is valid, so nobody is let in; make one: `medloop keys create NAME --role admin`")


def build_app(plan: Plan) -> FastAPI:
    """The application of one process, its model loaded and tried."""
    import cv2

    # Each worker thread decodes by itself; OpenCV's own threads would stand in their way.
    cv2.setNumThreads(1)
    threads = plan.settings.serve.threads or cores()
    store = plan.store
    watcher = Watcher(store, threads=threads)
    # The model is read while the libraries of the service load.
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(partial(_load, plan.bundle, store, threads) if plan.bundle else watcher.load)
        from medloop.serve.app import create_app
        from medloop.serve.service import Service

        feedback = open_feedback(plan.settings.feedback, root=plan.folder)
        try:
            service = Service(
                plan.settings,
                root=plan.folder,
                serving=loading.result(),
                feedback=feedback,
                store=None if plan.bundle else store,
            )
        except BaseException:
            feedback.close()
            raise
    app = create_app(service, hosts=known_hosts(plan.settings), watcher=None if plan.bundle else watcher)
    # The collector would go through all of this again and again, and every answer would wait for it.
    gc.freeze()
    return app


def _load(bundle: Path, store: ModelStore, threads: int) -> Serving:
    """A bundle that was named, signed where the store demands that."""
    store.check_signed(bundle)
    return load_serving(bundle, threads=threads)


def build_worker(plan: Plan) -> FastAPI:
    """The application of one of several processes."""
    from medloop.serve.logs import log_to_stderr

    log_to_stderr()
    threading.Thread(target=_end_with_parent, args=[plan], name="medloop-parent", daemon=True).start()
    return build_app(plan)


def _end_with_parent(plan: Plan) -> None:
    """Nobody could end or replace a worker whose parent was killed, and it would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    log.error("the parent process has ended, so this one ends, too")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(plan.settings.serve.drain_seconds + END_SECONDS)
    os._exit(1)


def known_hosts(settings: Settings) -> tuple[str, ...] | None:
    """The names by which the service may be called; any where it listens to everybody and none is named."""
    serve = settings.serve
    everybody = serve.host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    return None if everybody and not serve.hosts else ("localhost", serve.host, *serve.hosts)


def _serve(plan: Plan, app: FastAPI, listener: socket.socket) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from medloop.serve.logs import log_to_stderr
    from medloop.serve.measures import sharing
    from medloop.serve.protocol import BACKLOG, GuardedProtocol, room_for
    from medloop.serve.shadowing import Shadowing

    serve = plan.settings.serve
    room = room_for(serve.max_connections, per_address=serve.max_connections_per_address)
    options: dict[str, Any] = {
        "http": partial(GuardedProtocol, room=room, head_seconds=serve.head_seconds, write_seconds=serve.body_seconds),
        "backlog": BACKLOG,
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": serve.drain_seconds,
    }
    log_to_stderr()
    with Shadowing(plan.settings, folder=plan.folder, store=plan.store) if plan.bundle is None else nullcontext():
        if serve.workers == 1:
            uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=[listener])
            return
        # That it was loaded here has shown that every process can load it.
        app.state.service.close()
        factory = partial(build_worker, plan)
        config = uvicorn.Config(factory, factory=True, workers=serve.workers, **options)
        with sharing():
            Multiprocess(config, sockets=[listener]).run()


def bind(host: str, port: int) -> socket.socket:
    """A socket with this address, on which nobody listens yet."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def start_listening(listener: socket.socket) -> None:
    """Take connections from now on."""
    try:
        listener.listen()
    except OSError as error:
        host, port, *_ = listener.getsockname()
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        "the service needs a port that it may listen on",
        found=f"{host} port {port}: {error.strerror}",
        hint="choose another: `medloop serve --port 8001`",
    )


def address_of(listener: socket.socket) -> str:
    """The address to open in a browser."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_address(host: str) -> None:
    """Without access control the service answers this machine alone."""
    loopback = host == "localhost" or _is_loopback(host)
    if not loopback:
        raise UserError(
            "a service without access control must listen on this machine alone",
            found=host,
            hint="leave out --no-auth (serve.auth: false), or use 127.0.0.1",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
