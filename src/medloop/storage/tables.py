"""Read and write Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.errors import UserError
from medloop.storage.atomic import atomic_file

if TYPE_CHECKING:
    import pandas as pd


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet file, or these columns of it."""
    import pandas as pd
    import pyarrow as pa

    with suppress(FileNotFoundError), path.open("rb"):
        # A missing permission is reported as such, and not as a damaged file.
        pass
    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        problem = "does not exist" if isinstance(error, FileNotFoundError) else "is not a valid Parquet file"
        raise UserError(f"{path.name} {problem}.", "Run the step that writes it again.") from error


def write_parquet(path: Path, table: pd.DataFrame, **options: Any) -> None:
    """Write a table without its index, atomically; the options are those of pandas."""
    with atomic_file(path) as file:
        table.to_parquet(file, index=False, **options)
