"""Source: phantoms, generated from the recipe."""

from __future__ import annotations

import pandas as pd

from medloop.data.images import manifest_of_images
from medloop.data.places import Places
from medloop.data.sources.listed import listed
from medloop.phantoms import PhantomSpec, write
from medloop.recipe import DataSection
from medloop.storage import atomic_folder


def read_phantoms(section: DataSection, places: Places) -> pd.DataFrame:
    """Generate the phantoms that `data.phantom` describes."""
    phantom = section.phantom
    spec = PhantomSpec(
        kind=phantom.kind,
        patients=phantom.patients,
        slices=(1, phantom.slices),
        size=phantom.size,
        seed=phantom.seed,
        difficulty=phantom.difficulty,
        format=phantom.format,
        classes=section.classes,
    )
    root = places.raw.parent / "phantoms"
    with atomic_folder(root) as folder:
        write(spec, folder)
    columns = {"image": "path", "label": "label", "patient": "patient_id"}
    table = section.model_copy(update={**columns, "index": "cases.csv", "class_pattern": None})
    return manifest_of_images(root, [listed(root / "cases.csv", table)], places, section, source="phantoms")
