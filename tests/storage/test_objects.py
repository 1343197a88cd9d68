"""Files and prefixes in an object store, with keys that are no more trusted than names in an archive."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.errors import RejectedInput, UserError
from medloop.storage import Limits, fetch, list_uris, objects, open_uri, place
from tests.storage import hostile_archives as hostile

Put = Callable[[str, bytes], None]
TREE = {"normal/1.png": b"one", "normal/2.png": b"two" * 100_000, "tumour/a b#?%.png": b""}


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_object_comes_whole(bucket: Put, tmp_path: Path) -> None:
    content = b"scan" * 100_000
    bucket("data/scans.bin", content)
    told: list[tuple[int, int | None]] = []
    path = fetch(
        "s3://scans/data/scans.bin",
        tmp_path,
        sha256=hashlib.sha256(content).hexdigest(),
        on_bytes=lambda done, total: told.append((done, total)),
    )
    assert path == tmp_path / "scans.bin"
    assert path.read_bytes() == content
    assert told[-1] == (len(content), len(content))


def test_an_object_that_is_too_large_or_another_is_refused(bucket: Put, tmp_path: Path) -> None:
    bucket("x", b"x" * 1000)
    with pytest.raises(RejectedInput, match="999 are allowed"):
        fetch("s3://scans/x", tmp_path, limits=Limits(max_bytes=999))
    with pytest.raises(RejectedInput, match="SHA-256"):
        fetch("s3://scans/x", tmp_path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_an_object_can_be_opened(bucket: Put) -> None:
    bucket("table.csv", b"id,label\n")
    with open_uri("s3://scans/table.csv") as file:
        assert file.read() == b"id,label\n"


def test_a_prefix_is_listed_in_order_and_read_one_by_one(bucket: Put) -> None:
    for name, content in reversed(TREE.items()):
        bucket(f"data/{name}", content)
    bucket("database/other", b"")
    uris = list(list_uris("s3://scans/data"))
    assert uris == [f"s3://scans/data/{name}" for name in TREE]
    assert list(list_uris("s3://scans/data/normal/1.png")) == ["s3://scans/data/normal/1.png"]
    for uri, content in zip(uris, TREE.values(), strict=True):
        with open_uri(uri) as file:
            assert file.read() == content


@pytest.mark.parametrize("uri", ["s3://scans/data", "s3://scans/data/"])
def test_a_prefix_becomes_a_folder(uri: str, bucket: Put, tmp_path: Path) -> None:
    for name, content in TREE.items():
        bucket(f"data/{name}", content)
    bucket("data/.DS_Store", b"")
    bucket("data/empty/", b"")
    bucket("database/other", b"")
    told: list[tuple[int, int | None]] = []
    folder = place(uri, tmp_path / "raw", on_bytes=lambda done, total: told.append((done, total)))
    assert folder == tmp_path / "raw"
    assert files_in(folder) == TREE
    size = sum(map(len, TREE.values()))
    assert told == [(size, size)]


def test_a_bucket_becomes_a_folder(bucket: Put, tmp_path: Path) -> None:
    for name, content in TREE.items():
        bucket(name, content)
    assert files_in(place("s3://scans", tmp_path / "raw")) == TREE


def test_a_prefix_replaces_what_was_there(bucket: Put, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "old").touch()
    bucket("data/new", b"")
    assert files_in(place("s3://scans/data", tmp_path / "raw")) == {"new": b""}


def test_an_archive_in_a_bucket_is_unpacked(bucket: Put, tmp_path: Path) -> None:
    bucket("scans.zip", hostile.make_zip({"a/1.png": b"1"}))
    assert files_in(place("s3://scans/scans.zip", tmp_path / "raw")) == {"a/1.png": b"1"}
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    "keys",
    [["../evil"], ["a/../../evil"], ["/evil"], ["a\\evil"], ["a\tb"], ["A.png", "a.png"], ["a", "a/b"], ["C:evil"]],
)
def test_a_key_that_leads_elsewhere_is_refused(keys: list[str], bucket: Put, tmp_path: Path) -> None:
    for key in keys:
        bucket(f"data/{key}", b"evil")
    with pytest.raises(RejectedInput, match=r"object \d under s3://scans/data"):
        place("s3://scans/data", tmp_path / "inside" / "raw")
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(("limits", "reason"), [(Limits(max_entries=1), "; 1 are"), (Limits(max_bytes=9), "; 9 are")])
def test_a_prefix_beyond_the_limits_is_refused(limits: Limits, reason: str, bucket: Put, tmp_path: Path) -> None:
    bucket("data/a", b"12345")
    bucket("data/b", b"12345")
    with pytest.raises(RejectedInput, match=reason):
        place("s3://scans/data", tmp_path / "raw", limits=limits)
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_goes_away_is_told_without_its_key(
    bucket: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket("data/a", b"1")
    gone = {"s3://scans/data/a": 1, "s3://scans/data/Jane Doe": 1}
    monkeypatch.setattr(objects, "list_objects", lambda _: gone)
    with pytest.raises(UserError, match="There is no object at s3://scans/data") as caught:
        place("s3://scans/data", tmp_path / "raw")
    assert "Doe" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_digest_is_not_taken_for_a_prefix(bucket: Put, tmp_path: Path) -> None:
    bucket("data/a", b"1")
    with pytest.raises(UserError, match="not one file"):
        place("s3://scans/data", tmp_path / "raw", sha256="0" * 64)


@pytest.mark.parametrize("uri", ["s3://scans/nothing", "s3://no-such-bucket/x"])
def test_what_is_not_there_is_named(uri: str, bucket: Put, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=uri):
        fetch(uri, tmp_path)
    with pytest.raises(UserError, match=uri):
        place(uri, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def test_missing_credentials_are_named(bucket: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket("x", b"1")
    assert fetch("s3://scans/x", tmp_path).read_bytes() == b"1"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"s3://scans/x \(NoCredentialsError"):
        fetch("s3://scans/x", tmp_path)


def test_a_store_that_is_not_there_is_named(bucket: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UserError, match=r"s3://scans/x \(EndpointConnectionError"):
            fetch("s3://scans/x", tmp_path)


def test_a_missing_library_is_named(bucket: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("AWS_PROFILE", "another")
    with pytest.raises(UserError, match=r"pip install 'medloop\[s3\]'"):
        fetch("s3://scans/x", tmp_path)


def test_importing_storage_loads_none_of_its_libraries() -> None:
    program = "import sys, medloop.storage; print({'httpcore', 'fsspec', 's3fs', 'botocore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
