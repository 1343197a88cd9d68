"""Start the service: bind the address, load the model, run one or several processes."""

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
from medloop.registry.follow import ChampionWatcher, LoadedModel, load_model
from medloop.registry.mirror import open_store
from medloop.registry.store import ModelStore
from medloop.settings import Settings
from medloop.times import utc_now

if TYPE_CHECKING:
    from fastapi import FastAPI

    from medloop.feedback.keys import Keys
    from medloop.serve.service import Service

log = logging.getLogger("medloop.serve")

KEEP_ALIVE_SECONDS = 30
# How long a worker may take beyond serve.drain_seconds before it is killed.
KILL_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What each process of the service needs."""

    settings: Settings
    folder: Path
    bundle: Path | None

    @property
    def store(self) -> ModelStore:
        """Return the model store to follow if no bundle is given."""
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
    """Serve until interrupted; `say` receives the address, and port 0 means any free port."""
    options = {"host": host, "port": port, "workers": workers, "auth": auth}
    serve = settings.serve.model_copy(update={name: value for name, value in options.items() if value is not None})
    if not serve.auth:
        check_is_local(serve.host)
    plan = Plan(settings=settings.model_copy(update={"serve": serve}), folder=folder, bundle=bundle)
    with bind(serve.host, serve.port) as listener:
        app = build_app(plan)
        service: Service = app.state.service
        start_listening(listener)
        say(
            f"Serving {service.serving.predictor.meta['name']} on {address_of(listener)} (see /docs; stop with Ctrl-C)."
        )
        if serve.auth:
            _announce_keys(service.feedback.keys, say)
        _serve(plan, app, listener)


def _announce_keys(keys: Keys, say: Callable[[str], None]) -> None:
    """Create and show the first admin key, now that the service listens, or say how to create one."""
    if secret := keys.first_admin():
        say(f"First admin key, shown only once: {secret}")
        say("In a browser, enter any user name and the key as the password. More keys: `medloop keys create`.")
    elif not any(key.is_valid(at=utc_now()) for key in keys.list()):
        say("No key is valid. Create one: `medloop keys create NAME --role admin`.")


def build_app(plan: Plan) -> FastAPI:
    """Return the application of one process, with its model loaded and tested."""
    import cv2

    # Each thread decodes an image of its own; OpenCV's threads would compete with them.
    cv2.setNumThreads(1)
    threads = plan.settings.serve.threads or cores()
    store = plan.store
    watcher = ChampionWatcher(store, threads=threads)
    # The model is loaded while the libraries of the service are imported.
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(partial(_load, plan.bundle, store, threads) if plan.bundle else watcher.load)
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
    # The garbage collector would traverse all of this regularly, while requests wait.
    gc.freeze()
    return app


def _load(bundle: Path, store: ModelStore, threads: int) -> LoadedModel:
    """Load a given bundle, after checking its signature if the store requires one."""
    store.check_signed(bundle)
    return load_model(bundle, threads=threads)


def build_worker(plan: Plan) -> FastAPI:
    """Return the application of one of several processes."""
    from medloop.serve.telemetry.logs import log_to_stderr

    log_to_stderr()
    threading.Thread(target=_stop_with_parent, args=[plan], name="medloop-parent", daemon=True).start()
    return build_app(plan)


def _stop_with_parent(plan: Plan) -> None:
    """Stop this worker when its parent has ended, since nothing else would, and it would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    log.error("the parent process has ended; stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(plan.settings.serve.drain_seconds + KILL_SECONDS)
    os._exit(1)


def known_hosts(settings: Settings) -> tuple[str, ...] | None:
    """Return the accepted host names; None means any: all addresses are listened on and no name is configured."""
    serve = settings.serve
    is_public = serve.host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    return None if is_public and not serve.hosts else ("localhost", serve.host, *serve.hosts)


def _serve(plan: Plan, app: FastAPI, listener: socket.socket) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from medloop.serve.http.protocol import BACKLOG, GuardedProtocol, limit_connections
    from medloop.serve.shadow.supervisor import ShadowSupervisor
    from medloop.serve.telemetry.logs import log_to_stderr
    from medloop.serve.telemetry.metrics import shared_metrics

    serve = plan.settings.serve
    connections = limit_connections(serve.max_connections, per_address=serve.max_connections_per_address)
    http = partial(
        GuardedProtocol,
        connections=connections,
        head_seconds=serve.head_seconds,
        write_seconds=serve.body_seconds,
    )
    options: dict[str, Any] = {
        "http": http,
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
    has_store = plan.bundle is None
    with ShadowSupervisor(plan.settings, folder=plan.folder, store=plan.store) if has_store else nullcontext():
        if serve.workers == 1:
            uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=[listener])
            return
        # It was loaded here to find errors before the workers start.
        app.state.service.close()
        factory = partial(build_worker, plan)
        config = uvicorn.Config(factory, factory=True, workers=serve.workers, **options)
        with shared_metrics():
            Multiprocess(config, sockets=[listener]).run()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to this address that does not listen yet."""
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
    """Start to accept connections."""
    try:
        listener.listen()
    except OSError as error:
        host, port, *_ = listener.getsockname()
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        f"Cannot listen on {host} port {port} ({error.strerror}).", "Choose another port: `medloop serve --port 8001`."
    )


def address_of(listener: socket.socket) -> str:
    """Return the address to open in a browser."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_is_local(host: str) -> None:
    """Refuse to serve without access control on an address that other machines can reach."""
    loopback = host == "localhost" or _is_loopback(host)
    if not loopback:
        raise UserError(
            f"A service without access control cannot listen on {host or 'all addresses'}, which others can reach.",
            "Remove --no-auth (serve.auth: false), or use 127.0.0.1.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
