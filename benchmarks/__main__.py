"""`python -m benchmarks` measures everything and `python -m benchmarks NAME...` some of it."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from benchmarks import (
    auc,
    copies,
    decisions,
    demo,
    finetuning,
    gate,
    ingest,
    learning,
    model_call,
    prepare,
    serve,
    serve_rivals,
    serve_table,
    shadow,
)
from benchmarks.row import Row

MEASUREMENTS = {
    "ingest": ingest.measure,
    "prepare": prepare.measure,
    "auc": auc.measure,
    "copies": copies.measure,
    "gate": gate.measure,
    "decisions": decisions.measure,
    "demo": demo.measure,
    "learning": learning.measure,
    "finetuning": finetuning.measure,
    "model_call": model_call.measure,
    "serve": serve.measure,
    "serve_rivals": serve_rivals.measure,
    "serve_table": serve_table.measure,
    "shadow": shadow.measure,
}


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; none: all")
    names = parser.parse_args().names or list(MEASUREMENTS)
    for name in names:
        if name not in MEASUREMENTS:
            parser.error(f"no measurement is called {name}; there are {', '.join(MEASUREMENTS)}")
    Console().print(as_table([row for name in names for row in MEASUREMENTS[name]()]))


def as_table(rows: list[Row]) -> Table:
    """The lines as they are printed."""
    table = Table("measured", "found", "wanted", "holds")
    for row in rows:
        table.add_row(row.what, row.found, row.wanted, "yes" if row.holds else "NO")
    return table


if __name__ == "__main__":
    main()
