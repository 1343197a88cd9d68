"""Batch scoring: files, folders, patterns or S3 prefixes in, one file of answers out, a named rejection a bad case."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from medloop.bundle.answers import BEFORE, OF_PATIENTS, WRITERS
from medloop.bundle.batch_names import FileNames
from medloop.bundle.batch_patients import Sorted, score_patients, sort_files
from medloop.bundle.predictor import Predictor
from medloop.bundle.whose import Whose, resolved
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput, UserError
from medloop.prepare.csv_cells import cells_in
from medloop.prepare.decode import DEFAULT_LIMITS
from medloop.progress import track
from medloop.storage import Limits, file_lock, list_uris, open_uri, sha256_bytes
from medloop.storage.objects import StorageAway

CHUNK = 1000
PICTURES_AT_ONCE = 32
BYTES_AT_ONCE = 64_000_000

Line = dict[str, Any]
Read = bytes | RejectedInput


@dataclass(frozen=True, kw_only=True)
class Scored:
    """How many cases got an answer, how many were rejected."""

    answered: int
    rejected: int


def score_files(
    predictor: Predictor, paths: Sequence[str | Path], out: Path, *, whose: Whose | None = None, names: bool = False
) -> Scored:
    """Answer every row of the CSV files, every image or every patient; what a broken-off run answered is kept."""
    if out.suffix not in WRITERS:
        raise UserError("--out must end in .csv or .parquet", found=out.name, hint="choose one of the two")
    if out.is_dir():
        raise UserError("--out must be a file", found=f"a folder {out}", hint="choose another name, or remove it")
    is_table = predictor.meta["preparer"]["kind"] == "table"
    suffix = ".csv" if is_table else ""
    # What several of the paths lead to is one file, and for a patient one slice.
    found: dict[str, tuple[str, str]] = {}
    for path in paths:
        for uri in _expanded(str(path), suffix=suffix):
            found.setdefault(resolved(uri), (uri, str(path)))
    source = predictor.meta["recipe"].get("data", {}).get("source", "folder")
    files = FileNames.of(dict(found.values()), source=source, show=names)
    name, lines = _work(predictor, files, whose)
    partial = out.with_name(f".{out.name}.partial")
    with file_lock(out.with_name(f".{out.name}.lock"), wait=False):
        with _going_on(partial, name) as (file, done):
            for line in lines(done):
                file.write(json.dumps(line) + "\n")
        scored = _count(partial)
        shares = [f"p_{name}" for name in predictor.decider.classes]
        before = OF_PATIENTS if predictor.needs_patients else BEFORE
        WRITERS[out.suffix](lambda: _kept_lines(partial), before, shares, out)
        partial.unlink()
    return scored


def _work(predictor: Predictor, files: FileNames, whose: Whose | None) -> tuple[str, Callable[[int], Iterator[Line]]]:
    """The name of the run, and its lines but for the first so many."""
    name = _name_of_run(predictor, files)
    if not predictor.needs_patients:
        score = score_images if predictor.is_image else score_tables
        return name, lambda skip: score(predictor, files, skip=skip)
    found = sort_files(predictor, files, whose or Whose.of(predictor.meta), _read_image)
    again = sha256_bytes(f"{name} {found.name}".encode())
    return again, lambda skip: _score_patients(predictor, files, found, skip=skip)


def _score_patients(predictor: Predictor, files: FileNames, found: Sorted, *, skip: int) -> Iterator[Line]:
    """One line a patient, and one for each file that is no picture."""
    for patient, uris, answer in score_patients(predictor, files, found, _read_image, skip=skip):
        yield {"patient": patient, **files.columns(*uris), **_line(predictor, None, answer)}


def score_tables(predictor: Predictor, files: FileNames, *, skip: int = 0) -> Iterator[Line]:
    """One line a row: the answer, or why there is none; the first `skip` rows are passed over."""
    for uri in files.ids:
        rows = _read_rows(predictor, uri, files.told_user(uri))
        which = files.columns(uri, name=PurePosixPath(uri).name)
        first, skip = min(skip, len(rows)), max(0, skip - len(rows))
        starts = range(first, len(rows), CHUNK)
        for start in track(starts, total=len(starts), what="rows"):
            answers = _answers(predictor, rows[start : start + CHUNK])
            yield from ({**which, **_line(predictor, start + n + 2, one)} for n, one in enumerate(answers))


def score_images(predictor: Predictor, files: FileNames, *, skip: int = 0) -> Iterator[Line]:
    """One line an image, read a few at a time."""
    open_uris = list(files.ids)[skip:]
    contents = ((uri, _read_image(uri)) for uri in track(open_uris, total=len(open_uris), what="images"))
    for chunk in _chunks(contents):
        readable = [content for _, content in chunk if isinstance(content, bytes)]
        answers = iter(_answers(predictor, readable) if readable else [])
        for uri, content in chunk:
            answer = content if isinstance(content, RejectedInput) else next(answers)
            yield {**files.columns(uri), **_line(predictor, None, answer)}


def _expanded(place: str, *, suffix: str) -> Iterator[str]:
    """The files that a path, folder, pattern or address stands for."""
    if "://" not in place and not Path(place).exists() and glob.has_magic(place):
        found = sorted(one for one in glob.glob(place, recursive=True) if Path(one).is_file())  # noqa: PTH207 - `**`
        if not found:
            raise UserError("a pattern must fit at least one file", found=place, hint="check it, and put it in quotes")
        yield from found
        return
    found = list(list_uris(place))
    is_one = found == [place]
    chosen = [uri for uri in found if is_one or uri.lower().endswith(suffix)]
    if not chosen:
        wanted = f"{suffix} files" if suffix else "files"
        raise UserError(f"a place must hold {wanted}", found=f"none at {place}", hint="check the path")
    yield from chosen


def _read_rows(predictor: Predictor, uri: str, name: str) -> list[Row]:
    """The rows of a CSV file at any place; columns that the model does not want are passed over."""
    with open_uri(uri) as file:
        header, cells = cells_in(file.read(), name)
    names = predictor.preparer.names
    if absent := [name for name in names if name not in header]:
        raise RejectedInput(
            f"{name} must have the model's {len(names)} columns",
            found=f"no column '{absent[0]}'" + (f" and {len(absent) - 1} others" if len(absent) > 1 else ""),
            hint="`GET /v1/model` and report.html list the columns",
        )
    missing = frozenset(predictor.meta["recipe"]["data"]["missing"])  # the words that training read as missing
    return [
        {name: None if cell in missing else cell for name, cell in zip(header, row, strict=True) if name in names}
        for row in cells
    ]


def _read_image(uri: str) -> Read:
    """The bytes of one file, or why it cannot be read; an object store that does not answer ends the run."""
    try:
        with open_uri(uri, limits=Limits(max_bytes=DEFAULT_LIMITS.max_bytes)) as file:
            return file.read(DEFAULT_LIMITS.max_bytes + 1)
    except RejectedInput:
        limit = f"at most {DEFAULT_LIMITS.max_bytes:,} bytes"
        return RejectedInput(f"an image may hold {limit}", found="more", hint="scale it down")
    except StorageAway as error:
        # An address may hold the name of a patient.
        raise StorageAway(error.must, found=error.found.replace(uri, "one of the files"), hint=error.hint) from None
    except UserError:
        return RejectedInput("a file must be there until it was read", found="it has gone", hint="run it again")
    except OSError as error:
        return RejectedInput("a file must be readable", found=error.strerror or "an error", hint="check its rights")


def _chunks(contents: Iterable[tuple[str, Read]]) -> Iterator[list[tuple[str, Read]]]:
    chunk: list[tuple[str, Read]] = []
    size = 0
    for uri, content in contents:
        chunk.append((uri, content))
        size += len(content) if isinstance(content, bytes) else 0
        if len(chunk) == PICTURES_AT_ONCE or size > BYTES_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _answers(predictor: Predictor, cases: Sequence[Any]) -> list[Prediction | RejectedInput]:
    try:
        return list(predictor.predict(cases))
    except RejectedInput as error:
        if len(cases) == 1:
            return [error]
    return [answer for case in cases for answer in _answers(predictor, [case])]


def _line(predictor: Predictor, row: int | None, answer: Prediction | RejectedInput) -> Line:
    classes = predictor.decider.classes
    if isinstance(answer, RejectedInput):
        probabilities: dict[str, float | None] = {f"p_{name}": None for name in classes}
        said: Line = {
            "label": None,
            "abstained": None,
            "reason": None,
            "rejected": f"{answer.must}; found: {answer.found}",
        }
    else:
        probabilities = {f"p_{name}": answer.probabilities[name] for name in classes}
        said = {"label": answer.label, "abstained": answer.abstained, "reason": answer.reason, "rejected": None}
    return {"row": row, **said, **probabilities, "bundle": predictor.hash}


def _name_of_run(predictor: Predictor, files: FileNames) -> str:
    """Another name for another bundle, other files or changed ones, so that only the same run goes on."""
    parts = [predictor.hash, f"names: {files.show}"]
    for uri in files.ids:
        path = Path(uri)
        known = path.stat() if "://" not in uri and path.is_file() else None
        parts.append(f"{uri} {known.st_size} {known.st_mtime_ns}" if known else uri)
    return sha256_bytes("\0".join(parts).encode(errors="surrogateescape"))


@contextmanager
def _going_on(partial: Path, name: str) -> Iterator[tuple[IO[str], int]]:
    """The file of answers so far, open to write more, and how many it holds; another run's is begun anew."""
    done, length = _state(partial, name)
    try:
        with partial.open("r+" if length else "w", encoding="utf-8", newline="\n", buffering=1) as file:
            # A kill leaves half a line.
            file.truncate(length)
            file.seek(length)
            if not length:
                file.write(json.dumps(name) + "\n")
            yield file, done
    except UserError:
        if _state(partial, name)[0] == 0:
            partial.unlink()
        raise


def _state(partial: Path, name: str) -> tuple[int, int]:
    """How many answers this run has already, and the length of the file up to them."""
    if not partial.is_file():
        return 0, 0
    with partial.open("rb") as file:
        if file.readline() != f"{json.dumps(name)}\n".encode():
            return 0, 0
        done, length = 0, file.tell()
        for line in file:
            if line.endswith(b"\n"):
                done, length = done + 1, length + len(line)
    return done, length


def _kept_lines(partial: Path) -> Iterator[Line]:
    with partial.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in islice(file, 1, None))


def _count(partial: Path) -> Scored:
    counts = [0, 0]
    for line in _kept_lines(partial):
        counts[line["rejected"] is not None] += 1
    return Scored(answered=counts[0], rejected=counts[1])
