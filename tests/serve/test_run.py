"""Starting the service: which bundle, which address; and a real one, from its start to its end."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from medloop.bench.memory import family_of
from medloop.errors import BrokenBundle, UserError
from medloop.feedback import open_feedback
from medloop.registry.follow import load_champion
from medloop.registry.signing import sign_bundle
from medloop.registry.store import ModelStore
from medloop.serve.run import address_of, bind, check_is_local, run_service, start_listening
from medloop.settings import FeedbackSettings, ServeSettings, Settings, SigningSettings
from medloop.storage import write_json
from tests.loop_project import medloop
from tests.registry.test_signing import make_keys
from tests.registry.versions import bundle_like
from tests.serve.processes import serving, wait_until

EVERYBODY = "0.0.0.0"  # noqa: S104 - which must be refused


def test_a_service_loads_no_training_library_and_ends_at_ctrl_c(
    golden: Path, known: list[dict[str, Any]], tmp_path: Path
) -> None:
    with serving("--bundle", golden, cwd=tmp_path) as service, service.client() as client:
        body = {"features": list(known[0]["record"].values())}
        answer = client.post("/predict", json=body).json()
        assert answer["probabilities"] == pytest.approx(known[0]["probabilities"], abs=1e-6)
        assert client.post("/predict", json={"features": ["x"]}).status_code == 422
        for path in ("/readyz", "/docs", "/", "/metrics", f"/v1/predictions/{answer['id']}"):
            assert client.get(path).status_code == 200
        service.process.send_signal(signal.SIGINT)
        rest = service.rest()
    assert "loaded: []" in rest
    assert "Traceback" not in rest
    lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    assert {line["route"] for line in lines if line["event"] == "request"} >= {"/predict", "/metrics"}


def test_sigterm_ends_it(golden: Path, tmp_path: Path) -> None:
    with serving("--bundle", golden, "--no-auth", cwd=tmp_path) as service:
        assert httpx.get(f"{service.address}/healthz", trust_env=False).status_code == 200
        service.process.terminate()
        rest = service.rest()
    assert service.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in rest


def test_several_processes_answer_on_one_port_and_end_together(golden: Path, tmp_path: Path) -> None:
    with serving("--bundle", golden, "--workers", 2, cwd=tmp_path) as service:
        answers = []
        for _ in range(8):
            with service.client() as client:
                answers.append(client.get("/v1/model").status_code)
        assert answers == [200] * 8
        service.process.terminate()
        rest = service.rest()
    assert "Traceback" not in rest


def test_the_first_key_is_shown_once(golden: Path, tmp_path: Path) -> None:
    with serving("--bundle", golden, cwd=tmp_path) as first:
        assert first.key
    with serving("--bundle", golden, cwd=tmp_path) as second:
        with second.client(key=first.key) as client:
            assert client.get("/v1/model").status_code == 200
        second.process.terminate()
        assert "ml_" not in second.rest()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_addresses_need_no_access_control(host: str) -> None:
    check_is_local(host)


@pytest.mark.parametrize("host", [EVERYBODY, "::", "192.168.1.10", "8.8.8.8", "example.org", "127.0.0.1.nip.io", ""])
def test_other_addresses_need_access_control(host: str) -> None:
    with pytest.raises(UserError, match="without access control cannot listen on"):
        check_is_local(host)


def test_the_settings_cannot_bypass_access_control(golden: Path, tmp_path: Path) -> None:
    settings = Settings(serve=ServeSettings(host=EVERYBODY, auth=False))
    with pytest.raises(UserError, match=r"cannot listen on 0\.0\.0\.0"):
        run_service(settings, folder=tmp_path, bundle=golden)


def test_a_busy_port_is_reported_and_no_key_is_created(golden: Path, tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as other:
        other.listen()
        port = other.getsockname()[1]
        ended = medloop("serve", "--bundle", str(golden), "--port", str(port), cwd=tmp_path)
    assert ended.code == 2
    assert f"127.0.0.1 port {port} (Address already in use)" in ended.err
    assert "ml_" not in ended.out
    with serving("--bundle", golden, cwd=tmp_path, is_first=True) as service, service.client() as client:
        assert client.get("/v1/model").status_code == 200


def test_two_services_do_not_share_a_port() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            start_listening(first)
            with pytest.raises(UserError, match=f"127.0.0.1 port {port} .Address already in use"):
                start_listening(second)


def test_a_service_without_a_valid_key_explains_how_to_create_one(golden: Path, tmp_path: Path) -> None:
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as feedback:
        key, _ = feedback.keys.create("once", "admin")
        feedback.keys.revoke(key.id)
    with serving("--bundle", golden, cwd=tmp_path) as service:
        assert httpx.get(f"{service.address}/v1/model", trust_env=False).status_code == 401
        service.process.terminate()
        assert "`medloop keys create NAME --role admin`" in service.rest()


def test_workers_and_decoders_end_when_their_parent_is_killed_and_the_port_is_free_again(
    image_bundle: Path, tmp_path: Path
) -> None:
    with serving("--bundle", image_bundle, "--workers", 2, "--no-auth", cwd=tmp_path) as service:
        with service.client() as client:
            assert client.get("/readyz").status_code == 200
        workers = family_of(service.process.pid) - {service.process.pid}
        assert len(workers) >= 2
        service.process.kill()
        service.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        with serving("--bundle", image_bundle, "--no-auth", "--port", service.port, cwd=tmp_path) as again:
            assert again.port == service.port


def test_the_printed_address_is_reachable() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_without_a_champion_the_error_explains_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`medloop run`"):
        load_champion(ModelStore(tmp_path / "models"))


def test_a_given_bundle_needs_a_signature_if_the_store_requires_them(golden: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "ours")
    settings = Settings(signing=SigningSettings(verify_key=public.name))
    bundle = bundle_like(golden, tmp_path / "one" / "bundle", name="one")
    with pytest.raises(BrokenBundle, match="is not signed"):
        run_service(settings, folder=tmp_path, bundle=bundle, port=0)
    sign_bundle(bundle, bundle.parent / "bundle.sig", key=private)
    write_json(tmp_path / "config.yaml", {"signing": {"verify_key": public.name}})
    with serving("--bundle", bundle, "--no-auth", cwd=tmp_path) as service, service.client() as client:
        assert client.get("/v1/model").json()["name"] == "one"


def test_a_changed_bundle_does_not_start(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    for path in golden.iterdir():
        (tmp_path / "bundle" / path.name).write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(BrokenBundle):
        run_service(Settings(), folder=tmp_path, bundle=tmp_path / "bundle", port=0)
