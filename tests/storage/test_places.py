"""Any place becomes a local path."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.errors import RefusedAddress, RejectedInput, UnknownName, UserError
from medloop.storage import Limits, fetch, list_uris, open_uri, place
from tests.storage import hostile_archives as hostile
from tests.storage.conftest import Site, answer

TREE = {"normal/1.png": b"one", "tumour/2.png": b"two"}


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(b"id,label\n")
    return path


def test_a_local_file_is_used_where_it_is(table: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"id,label\n").hexdigest()
    assert fetch(str(table), tmp_path / "raw", sha256=digest) == table
    assert place(str(table), tmp_path / "raw", sha256=digest) == table
    assert not (tmp_path / "raw").exists()
    with open_uri(str(table)) as file:
        assert file.read() == b"id,label\n"


def test_a_local_folder_is_used_where_it_is(table: Path, tmp_path: Path) -> None:
    assert place(str(tmp_path), tmp_path / "raw") == tmp_path
    with pytest.raises(UserError, match="is a folder"):
        fetch(str(tmp_path), tmp_path / "raw")
    with pytest.raises(UserError, match="not one file"):
        place(str(tmp_path), tmp_path / "raw", sha256="0" * 64)


def test_a_home_folder_is_found(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch("~/table.csv", tmp_path / "raw") == table


def test_a_local_file_with_another_digest_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(RejectedInput, match="SHA-256"):
        fetch(str(table), tmp_path, sha256="0" * 64)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_local_archive_is_unpacked_and_stays(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "scans"
    archive.write_bytes(hostile.make(kind, TREE))
    assert place(str(archive), tmp_path / "raw") == tmp_path / "raw"
    assert files_in(tmp_path / "raw") == TREE
    assert archive.exists()


def test_a_table_that_is_zip_inside_is_a_file(tmp_path: Path) -> None:
    import numpy as np

    content = io.BytesIO()
    np.savez(content, images=np.zeros(3))
    (tmp_path / "pneumonia.npz").write_bytes(content.getvalue())
    assert place(str(tmp_path / "pneumonia.npz"), tmp_path / "raw") == tmp_path / "pneumonia.npz"


def test_a_web_archive_is_unpacked_and_not_kept(site: Site, tmp_path: Path) -> None:
    site.routes["/download"] = answer(hostile.make("zip", TREE))
    assert place(site.url("/download"), tmp_path / "raw", allow_hosts=[site.host]) == tmp_path / "raw"
    assert files_in(tmp_path) == {f"raw/{name}": content for name, content in TREE.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_web_file_becomes_the_only_one_in_the_folder(site: Site, tmp_path: Path) -> None:
    site.routes["/table.csv"] = answer(b"id,label\n")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "old").touch()
    path = place(site.url("/table.csv"), tmp_path / "raw", allow_hosts=[site.host])
    assert path == tmp_path / "raw" / "table.csv"
    assert files_in(tmp_path) == {"raw/table.csv": b"id,label\n"}


def test_a_web_archive_that_is_refused_leaves_the_old_folder(site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = answer(hostile.make("zip", {"good": b"", "../evil": b""}))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "old").touch()
    with pytest.raises(RejectedInput, match="entry 2 of x"):
        place(site.url("/x"), tmp_path / "raw", allow_hosts=[site.host])
    assert files_in(tmp_path) == {"raw/old": b""}
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_the_limits_hold_for_what_is_unpacked(site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = answer(hostile.make("zip", {"x": b"x" * 10_000}))
    with pytest.raises(RejectedInput, match="5,000 are allowed"):
        place(site.url("/x"), tmp_path / "raw", limits=Limits(max_bytes=5000), allow_hosts=[site.host])
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_folder_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "__MACOSX/a", "b/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_uris(str(tmp_path))) == [str(tmp_path / name) for name in ("a", "b/1", "b/2")]
    assert list(list_uris(str(tmp_path / "a"))) == [str(tmp_path / "a")]
    assert list(list_uris("https://data.example/x")) == ["https://data.example/x"]


@pytest.mark.parametrize("read", [fetch, place])
def test_a_file_address_is_refused_with_a_hint(read: Callable[[str, Path], Path], table: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedAddress, match="without 'file://'"):
        read(f"file://{table}", tmp_path / "raw")


def test_other_addresses_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no/such/file does not exist"):
        place("no/such/file", tmp_path)
    with pytest.raises(UserError, match="file:/etc/passwd does not exist"):
        place("file:/etc/passwd", tmp_path)
    with pytest.raises(UnknownName, match=r"(?i)Did you mean 's3'"):
        place("s3a://scans/x", tmp_path)
