"""Starting the service: which bundle, which address; and a real one, from its start to its end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from medloop.errors import BrokenBundle, UserError
from medloop.serve.run import address_of, check_address, listen, load_predictor, run_service
from medloop.settings import ServeSettings, Settings

# The command as it is, telling at its end which of the training's libraries it had loaded.
SERVICE = """
import atexit, sys
heavy = {"torch", "torchvision", "sklearn", "scipy", "pandas", "pyarrow", "mlflow", "matplotlib", "onnx", "optuna"}
atexit.register(lambda: print("loaded:", sorted(heavy & set(sys.modules))))
from medloop.__main__ import main
main()
"""


EVERYBODY = "0.0.0.0"  # noqa: S104 - which must be refused


@contextmanager
def serving(bundle: Path, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service on a port of its own, and its address."""
    words = [sys.executable, "-c", SERVICE, "serve", "--bundle", str(bundle), "--port", "0"]
    with subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().split()
            yield process, next(word for word in said if word.startswith("http://"))
        finally:
            process.kill()


def test_a_service_answers_over_a_socket_and_loads_nothing_of_the_training(
    golden: Path, tmp_path: Path, known: list[dict[str, Any]]
) -> None:
    with serving(golden, tmp_path) as (process, address), httpx.Client(base_url=address, trust_env=False) as client:
        body = {"features": list(known[0]["record"].values())}
        answer = client.post("/predict", json=body).json()
        assert answer["probabilities"] == pytest.approx(known[0]["probabilities"], abs=1e-6)
        assert client.post("/predict", json={"features": ["x"]}).status_code == 422
        assert (
            client.get("/readyz").status_code == client.get("/docs").status_code == client.get("/").status_code == 200
        )
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert "loaded: []" in rest
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == []


def test_sigterm_ends_it(golden: Path, tmp_path: Path) -> None:
    with serving(golden, tmp_path) as (process, address):
        assert httpx.get(f"{address}/healthz", trust_env=False).status_code == 200
        process.terminate()
        rest, _ = process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in rest


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_may_listen_to_itself(host: str) -> None:
    check_address(host)


@pytest.mark.parametrize("host", [EVERYBODY, "::", "192.168.1.10", "8.8.8.8", "example.org", "127.0.0.1.nip.io", ""])
def test_others_are_refused_while_there_is_no_access_control(host: str) -> None:
    with pytest.raises(UserError, match="must listen on this machine alone"):
        check_address(host)


def test_the_settings_cannot_open_it_to_others_either(golden: Path, tmp_path: Path) -> None:
    settings = Settings(serve=ServeSettings(host=EVERYBODY))
    with pytest.raises(UserError, match=r"found: 0\.0\.0\.0"):
        run_service(settings, folder=tmp_path, bundle=golden)


def test_a_port_in_use_is_told() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1 port {port}: Address already in use"):
            listen("127.0.0.1", port)


def test_the_address_is_one_that_opens() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_without_a_champion_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found: no champion.*\n  to do: run `medloop run`"):
        load_predictor(None, tmp_path / "models")


def test_a_changed_bundle_does_not_start(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    for path in golden.iterdir():
        (tmp_path / "bundle" / path.name).write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(BrokenBundle):
        run_service(Settings(), folder=tmp_path, bundle=tmp_path / "bundle", port=0)
