"""The scan that `make check` runs knows a key when it sees one; each is put together here, so this file holds none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = Path(sys.executable).with_name("detect-secrets-hook")

PLANTED = {
    "AWS key": "key_id = '" + "AKIA" + "IOSFODNN7" + "ABCDEFG'",
    "GitHub token": "token = '" + "ghp_" + "a1B2" * 9 + "'",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "address with a password": "url = 'postgresql://medloop:" + "h0spital-" + "pass@db/medloop'",
    "password in YAML": "password: " + "h0spital-" + "pass-2026",
}
INNOCENT = {
    "sha256": "FINGERPRINT = '" + "0f1e2d3c" * 8 + "'",
    "variable": "password = os.environ['DB_PASSWORD']",
    "public address": "host = '8.8.8.8'",
}


def scan(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HOOK), "--baseline", str(ROOT / ".secrets.baseline"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
def test_a_planted_secret_is_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text + "\n", encoding="utf-8")
    done = scan(path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "settings.yaml:1" in done.stdout


@pytest.mark.parametrize("text", INNOCENT.values(), ids=INNOCENT)
def test_what_is_no_secret_passes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "edition.py"
    path.write_text(text + "\n", encoding="utf-8")
    done = scan(path)
    assert done.returncode == 0, done.stdout + done.stderr
