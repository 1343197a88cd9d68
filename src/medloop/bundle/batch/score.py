"""Batch scoring: files, folders, patterns or S3 prefixes in, one file of predictions or rejections out."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from medloop.bundle.batch.names import FileNames
from medloop.bundle.batch.output import COLUMNS_BEFORE, PATIENT_COLUMNS_BEFORE, WRITERS
from medloop.bundle.batch.ownership import PatientFinder, resolved
from medloop.bundle.batch.score_patients import PatientFiles, group_by_patient, score_patients
from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.decode.raster import DEFAULT_LIMITS
from medloop.errors import RejectedInput, UserError
from medloop.prepare.csv_cells import cells_in
from medloop.progress import track
from medloop.storage import Limits, file_lock, list_uris, open_uri, sha256_bytes
from medloop.storage.objects import StorageAway

ROWS_PER_BATCH = 1000
IMAGES_PER_BATCH = 32
BYTES_PER_BATCH = 64_000_000

Line = dict[str, Any]
Read = bytes | RejectedInput


@dataclass(frozen=True, kw_only=True)
class Scored:
    """How many cases have a prediction, and how many were rejected."""

    answered: int
    rejected: int


def score_files(
    predictor: Predictor,
    paths: Sequence[str | Path],
    out: Path,
    *,
    finder: PatientFinder | None = None,
    names: bool = False,
) -> Scored:
    """Score every row of the CSV files, every image or every patient, resuming an interrupted run."""
    if out.suffix not in WRITERS:
        raise UserError(f"--out is {out.name}, which does not end in .csv or .parquet.", "Choose one of the two.")
    if out.is_dir():
        raise UserError(f"--out is a folder: {out}.", "Choose another name, or remove the folder.")
    is_table = predictor.meta["preparer"]["kind"] == "table"
    suffix = ".csv" if is_table else ""
    # A file that several of the paths lead to is scored once.
    found: dict[str, tuple[str, str]] = {}
    for path in paths:
        for uri in _expanded(str(path), suffix=suffix):
            found.setdefault(resolved(uri), (uri, str(path)))
    source = predictor.meta["recipe"].get("data", {}).get("source", "folder")
    files = FileNames.of(dict(found.values()), source=source, show=names)
    name, lines = _work(predictor, files, finder)
    partial = out.with_name(f".{out.name}.partial")
    with file_lock(out.with_name(f".{out.name}.lock"), wait=False):
        with _resume(partial, name) as (file, done):
            for line in lines(done):
                file.write(json.dumps(line) + "\n")
        scored = _count(partial)
        shares = [f"p_{name}" for name in predictor.decider.classes]
        before = PATIENT_COLUMNS_BEFORE if predictor.needs_patients else COLUMNS_BEFORE
        WRITERS[out.suffix](lambda: _read_lines(partial), before, shares, out)
        partial.unlink()
    return scored


def _work(
    predictor: Predictor, files: FileNames, finder: PatientFinder | None
) -> tuple[str, Callable[[int], Iterator[Line]]]:
    """Return the name of the run, and a function for its lines after the first `skip`."""
    name = _run_name(predictor, files)
    if not predictor.needs_patients:
        score = score_images if predictor.is_image else score_tables
        return name, lambda skip: score(predictor, files, skip=skip)
    found = group_by_patient(predictor, files, finder or PatientFinder.of(predictor.meta), _read_image)
    again = sha256_bytes(f"{name} {found.name}".encode())
    return again, lambda skip: _score_patients(predictor, files, found, skip=skip)


def _score_patients(predictor: Predictor, files: FileNames, found: PatientFiles, *, skip: int) -> Iterator[Line]:
    """Yield one line per patient, and one for each file that is not an image."""
    for patient, uris, outcome in score_patients(predictor, files, found, _read_image, skip=skip):
        yield {"patient": patient, **files.columns(*uris), **_line(predictor, None, outcome)}


def score_tables(predictor: Predictor, files: FileNames, *, skip: int = 0) -> Iterator[Line]:
    """Yield one line per row, the prediction or the rejection, skipping the first `skip` rows."""
    for uri in files.ids:
        rows = _read_rows(predictor, uri, files.message_label(uri))
        which = files.columns(uri, name=PurePosixPath(uri).name)
        first, skip = min(skip, len(rows)), max(0, skip - len(rows))
        starts = range(first, len(rows), ROWS_PER_BATCH)
        for start in track(starts, total=len(starts), what="rows"):
            outcomes = _predict(predictor, rows[start : start + ROWS_PER_BATCH])
            yield from ({**which, **_line(predictor, start + n + 2, one)} for n, one in enumerate(outcomes))


def score_images(predictor: Predictor, files: FileNames, *, skip: int = 0) -> Iterator[Line]:
    """Yield one line per image, read a few at a time."""
    open_uris = list(files.ids)[skip:]
    contents = ((uri, _read_image(uri)) for uri in track(open_uris, total=len(open_uris), what="images"))
    for chunk in _chunks(contents):
        readable = [content for _, content in chunk if isinstance(content, bytes)]
        outcomes = iter(_predict(predictor, readable) if readable else [])
        for uri, content in chunk:
            outcome = content if isinstance(content, RejectedInput) else next(outcomes)
            yield {**files.columns(uri), **_line(predictor, None, outcome)}


def _expanded(place: str, *, suffix: str) -> Iterator[str]:
    """Yield the files of a path, folder, pattern or address."""
    if "://" not in place and not Path(place).exists() and glob.has_magic(place):
        found = sorted(one for one in glob.glob(place, recursive=True) if Path(one).is_file())  # noqa: PTH207 - `**`
        if not found:
            raise UserError(f"No files match `{place}`.", "Quote the pattern so that the shell does not expand it.")
        yield from found
        return
    found = list(list_uris(place))
    is_one = found == [place]
    chosen = [uri for uri in found if is_one or uri.lower().endswith(suffix)]
    if not chosen:
        kind = f"{suffix} files" if suffix else "files"
        raise UserError(f"There are no {kind} at {place}.", "Check the path.")
    yield from chosen


def _read_rows(predictor: Predictor, uri: str, name: str) -> list[Row]:
    """Return the rows of a CSV file, without the columns that the model does not use."""
    with open_uri(uri) as file:
        header, cells = cells_in(file.read(), name)
    names = predictor.preparer.names
    if absent := [name for name in names if name not in header]:
        raise RejectedInput(
            f"{name} has no column '{absent[0]}'" + (f" and {len(absent) - 1} others." if len(absent) > 1 else "."),
            f"Add the {len(names)} columns of the model; `GET /v1/model` and report.html list them.",
        )
    missing = frozenset(predictor.meta["recipe"]["data"]["missing"])  # texts that training reads as missing
    return [
        {name: None if cell in missing else cell for name, cell in zip(header, row, strict=True) if name in names}
        for row in cells
    ]


def _read_image(uri: str) -> Read:
    """Return the bytes of a file or the reason why it cannot be read; an unreachable object store ends the run."""
    try:
        with open_uri(uri, limits=Limits(max_bytes=DEFAULT_LIMITS.max_bytes)) as file:
            return file.read(DEFAULT_LIMITS.max_bytes + 1)
    except RejectedInput:
        return RejectedInput(f"The image has more than {DEFAULT_LIMITS.max_bytes:,} bytes.", "Reduce its size.")
    except StorageAway as error:
        # An address may contain the name of a patient.
        raise StorageAway(error.problem.replace(uri, "one of the files"), error.hint) from None
    except UserError:
        return RejectedInput("The file has disappeared.", "Run the command again.")
    except OSError as error:
        return RejectedInput(f"The file cannot be read ({error.strerror or 'error'}).", "Check its permissions.")


def _chunks(contents: Iterable[tuple[str, Read]]) -> Iterator[list[tuple[str, Read]]]:
    chunk: list[tuple[str, Read]] = []
    size = 0
    for uri, content in contents:
        chunk.append((uri, content))
        size += len(content) if isinstance(content, bytes) else 0
        if len(chunk) == IMAGES_PER_BATCH or size > BYTES_PER_BATCH:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _predict(predictor: Predictor, cases: Sequence[Any]) -> list[Prediction | RejectedInput]:
    try:
        return list(predictor.predict(cases))
    except RejectedInput as error:
        if len(cases) == 1:
            return [error]
    return [outcome for case in cases for outcome in _predict(predictor, [case])]


def _line(predictor: Predictor, row: int | None, outcome: Prediction | RejectedInput) -> Line:
    classes = predictor.decider.classes
    if isinstance(outcome, RejectedInput):
        probabilities: dict[str, float | None] = {f"p_{name}": None for name in classes}
        fields: Line = {
            "label": None,
            "abstained": None,
            "reason": None,
            "rejected": outcome.problem,
        }
    else:
        probabilities = {f"p_{name}": outcome.probabilities[name] for name in classes}
        fields = {"label": outcome.label, "abstained": outcome.abstained, "reason": outcome.reason, "rejected": None}
    return {"row": row, **fields, **probabilities, "bundle": predictor.hash}


def _run_name(predictor: Predictor, files: FileNames) -> str:
    """Return a name that differs for another bundle, other or changed files, so that only the same run is resumed."""
    parts = [predictor.hash, f"names: {files.show}"]
    for uri in files.ids:
        path = Path(uri)
        known = path.stat() if "://" not in uri and path.is_file() else None
        parts.append(f"{uri} {known.st_size} {known.st_mtime_ns}" if known else uri)
    return sha256_bytes("\0".join(parts).encode(errors="surrogateescape"))


@contextmanager
def _resume(partial: Path, name: str) -> Iterator[tuple[IO[str], int]]:
    """Open the partial file of this run, and return how many lines it has; that of another run is replaced."""
    done, length = _state(partial, name)
    try:
        with partial.open("r+" if length else "w", encoding="utf-8", newline="\n", buffering=1) as file:
            # A killed run leaves an incomplete line.
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
    """Return how many lines this run has, and the length of the file up to there."""
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


def _read_lines(partial: Path) -> Iterator[Line]:
    with partial.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in islice(file, 1, None))


def _count(partial: Path) -> Scored:
    counts = [0, 0]
    for line in _read_lines(partial):
        counts[line["rejected"] is not None] += 1
    return Scored(answered=counts[0], rejected=counts[1])
