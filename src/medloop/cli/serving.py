"""`medloop predict`, `serve` and `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.show import here, show_table

bench = typer.Typer(help="Measure the speed on this machine.", no_args_is_help=True)

Paths = Annotated[list[str], typer.Argument(help="CSV files, images, folders, patterns or s3:// prefixes.")]
Bundle = Annotated[Path | None, typer.Option(help="Folder of a bundle (default: the project's champion).")]
Patients = Annotated[
    Path | None,
    typer.Option(
        help="For a model that decides per patient: a CSV file with the columns file and patient. By default, patients "
        "are found as in training, from data.patient_pattern or the DICOM headers."
    ),
]
Out = Annotated[Path, typer.Option(help="Output file: .csv or .parquet.")]
Names = Annotated[bool, typer.Option("--names", help="Write file names (which may identify patients), not case ids.")]
Input = Annotated[
    Path | None, typer.Option("--input", help="An image, or a row as a JSON object (default: generated).")
]
Seconds = Annotated[float, typer.Option(min=0.1, help="Duration of each measurement.")]
Rounds = Annotated[int, typer.Option(min=1, help="Repetitions of each measurement; the median is reported.")]


def predict(
    paths: Paths,
    bundle: Bundle = None,
    out: Out = Path("predictions.csv"),
    patients: Patients = None,
    names: Names = False,
) -> None:
    """Predict every row of CSV files, every image, or every patient if the model decides per patient."""
    from medloop.bundle.batch.ownership import PatientFinder
    from medloop.bundle.batch.score import score_files
    from medloop.bundle.predictor import Predictor
    from medloop.registry.follow import load_champion
    from medloop.registry.mirror import open_store
    from medloop.settings import load_settings

    settings = load_settings(here())
    predictor = Predictor.load(bundle) if bundle else load_champion(open_store(settings, here()))
    key = settings.patient_key.get_secret_value().encode() if settings.patient_key else None
    finder = PatientFinder.of(predictor.meta, patients=patients, key=key) if predictor.needs_patients else None
    scored = score_files(predictor, paths, out, finder=finder, names=names or settings.show_names)
    what = "patients" if predictor.needs_patients else "cases"
    typer.echo(f"{scored.answered} {what} predicted, {scored.rejected} rejected; see {out}")
    if predictor.is_image and not (names or settings.show_names):
        typer.echo("It has case ids, because file names may identify patients; --names writes the file names, too.")


def serve(
    bundle: Bundle = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: serve.host).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on (default: serve.port).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes (default: serve.workers).")] = None,
    auth: Annotated[
        bool | None,
        typer.Option("--auth/--no-auth", help="Require API keys; without, local access only."),
    ] = None,
) -> None:
    """Serve predictions over HTTP."""
    from medloop.serve.run import run_service
    from medloop.settings import load_settings

    settings, folder = load_settings(here()), here()
    run_service(
        settings, folder=folder, bundle=bundle, host=host, port=port, workers=workers, auth=auth, say=typer.echo
    )


@bench.callback()
def bench_group() -> None:
    """Measure the speed on this machine."""


@bench.command("serve")
def bench_serve(bundle: Bundle = None, file: Input = None, seconds: Seconds = 2.0, rounds: Rounds = 3) -> None:
    """Compare requests per second over HTTP with the bare model; keys and journal are temporary."""
    from medloop.bench import service as measuring
    from medloop.settings import load_settings

    settings = load_settings(here())
    folder = bundle or measuring.champion_folder(here(), settings)
    case = measuring.case_of(folder, file) if file else None
    found = measuring.bench(folder, settings, case=case, seconds=seconds, rounds=rounds, say=typer.echo)
    show_table(measuring.HEADER, measuring.lines_of(found))
    typer.echo("\n".join(measuring.remarks_of(found)))


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(predict)
    app.command()(serve)
