"""`medloop predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.show import here

Paths = Annotated[list[str], typer.Argument(help="CSV files, images, folders, patterns or s3:// prefixes.")]
Bundle = Annotated[Path | None, typer.Option(help="A bundle's folder; the project's champion by default.")]
Patients = Annotated[
    Path | None,
    typer.Option(
        help="Where the model decides per patient: a CSV file with the columns file and patient. Without it patients "
        "are found as in training, by data.patient_pattern or the DICOM headers."
    ),
]
Out = Annotated[Path, typer.Option(help="Where the answers go: .csv or .parquet.")]
Names = Annotated[bool, typer.Option("--names", help="Name the files, whose names may be patients'; else case ids.")]


def predict(
    paths: Paths,
    bundle: Bundle = None,
    out: Out = Path("predictions.csv"),
    patients: Patients = None,
    names: Names = False,
) -> None:
    """Answer every row of CSV files, every image, or every patient where the model decides per patient."""
    from medloop.bundle.batch import score_files
    from medloop.bundle.predictor import Predictor
    from medloop.bundle.whose import Whose
    from medloop.registry.mirror import open_store
    from medloop.serve.champion import load_champion
    from medloop.settings import load_settings

    settings = load_settings(here())
    predictor = Predictor.load(bundle) if bundle else load_champion(open_store(settings, here()))
    key = settings.patient_key.get_secret_value().encode() if settings.patient_key else None
    whose = Whose.of(predictor.meta, patients=patients, key=key) if predictor.needs_patients else None
    scored = score_files(predictor, paths, out, whose=whose, names=names or settings.show_names)
    what = "patients" if predictor.needs_patients else "cases"
    typer.echo(f"{scored.answered} {what} answered, {scored.rejected} rejected; see {out}")
    if predictor.is_image and not (names or settings.show_names):
        typer.echo("It gives case ids, since names of files may be patients'; --names writes the names, too.")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)
