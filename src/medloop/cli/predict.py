"""`medloop predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.show import here

Paths = Annotated[list[str], typer.Argument(help="CSV files, images, folders, patterns or s3:// prefixes.")]
Bundle = Annotated[Path | None, typer.Option(help="A bundle's folder; the project's champion by default.")]
Out = Annotated[Path, typer.Option(help="Where the answers go: .csv or .parquet.")]


def predict(paths: Paths, bundle: Bundle = None, out: Out = Path("predictions.csv")) -> None:
    """Answer every row of CSV files, or every image."""
    from medloop.bundle.batch import score_files
    from medloop.bundle.predictor import Predictor
    from medloop.registry.mirror import open_store
    from medloop.serve.champion import load_champion
    from medloop.settings import load_settings

    settings = load_settings(here())
    predictor = Predictor.load(bundle) if bundle else load_champion(open_store(settings, here()))
    scored = score_files(predictor, paths, out)
    typer.echo(f"{scored.answered} cases answered, {scored.rejected} rejected; see {out}")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)
