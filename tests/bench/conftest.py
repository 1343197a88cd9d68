"""The fixtures of the service, which the benchmarks start."""

from __future__ import annotations

from tests.serve.conftest import database, image_bundle, known, postgres, predictor, rows, scans

__all__ = ["database", "image_bundle", "known", "postgres", "predictor", "rows", "scans"]
