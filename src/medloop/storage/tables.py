"""Parquet files, which may have been cut short on their way here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table in a Parquet file, or these columns of it, as pandas has it."""
    import pandas as pd
    import pyarrow as pa

    with suppress(FileNotFoundError), path.open("rb"):
        # Rights that lack are told by the system, and not as a damaged file.
        pass
    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else "something else"
        raise UserError(
            f"{path.name} must be a Parquet file", found=found, hint="run the step that writes it again"
        ) from error
