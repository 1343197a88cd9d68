"""Starting the service: which bundle, which address."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.registry.store import ModelStore
from medloop.settings import Settings


def run_service(
    settings: Settings,
    *,
    folder: Path,
    bundle: Path | None,
    host: str | None = None,
    port: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until interrupted; `say` is told where, port 0 standing for any that is free."""
    import uvicorn

    from medloop.serve.app import create_app

    address = host or settings.serve.host
    check_address(address)
    predictor = load_predictor(bundle, folder / settings.models)
    if predictor.meta["preparer"]["kind"] != "table":
        raise UserError(
            "the service answers for tables so far",
            found="a bundle for images",
            hint="score images with `medloop predict FOLDER --bundle DIR`",
        )
    with listen(address, settings.serve.port if port is None else port) as listener:
        say(f"serving {predictor.meta['name']} on {address_of(listener)} (requests: /docs; Ctrl-C ends it)")
        config = uvicorn.Config(create_app(predictor), log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that nobody else listens on."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            "the service needs a port that it may listen on",
            found=f"{host} port {port}: {error.strerror}",
            hint="choose another: `medloop serve --port 8001`",
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The address to open in a browser."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load_predictor(bundle: Path | None, models: Path) -> Predictor:
    """The bundle in a folder, or the champion of the model store."""
    if bundle is not None:
        return Predictor.load(bundle)
    store = ModelStore(models)
    champion = store.champion()
    if champion is None:
        raise UserError(
            "a model must have been promoted before it can serve",
            found="no champion in the model store",
            hint="run `medloop run`, or serve one bundle: `medloop serve --bundle work/bundle`",
        )
    predictor = Predictor.load(store.version(champion.version).folder / "bundle")
    predictor.version = str(champion.version)
    return predictor


def check_address(host: str) -> None:
    """Without access control the service answers this machine alone."""
    loopback = host == "localhost" or _is_loopback(host)
    if not loopback:
        raise UserError(
            "the service must listen on this machine alone while it has no access control",
            found=host,
            hint="use 127.0.0.1 and put a proxy that asks for credentials in front of it",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
