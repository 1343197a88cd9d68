"""Ingest: the source becomes the manifest of cases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.settings import Settings
from medloop.steps.kinds import kind_of
from medloop.steps.kinds.pictures import CACHE
from medloop.steps.project import Project
from medloop.storage import place

if TYPE_CHECKING:
    from medloop.data.places import Places


def run(project: Project) -> str:
    """Read the source into work/cases.parquet."""
    from medloop.data import manifest, read_source

    data, kind = project.recipe.data, kind_of(project)
    key = kind.patient_key(project)
    places = places_of(project.root, project.settings, raw=project.work / "raw", key=key, sha256=data.sha256)
    rule, derived = kind.read_rule(project.recipe), kind.derived(project.recipe)
    cases = read_source(
        data, replace(places, rule=rule, derived=derived, kept=project.work / CACHE if derived else None)
    )
    with ThreadPoolExecutor(1) as pool:
        version = pool.submit(manifest.fingerprint, cases)
        manifest.write_cases(cases, project.work / "cases.parquet")
    usable = manifest.usable(cases)
    counts = ", ".join(f"{n} {name}" for name, n in usable["label"].value_counts().items())
    set_aside = f"; {len(cases) - len(usable)} set aside, see the audit" if len(usable) < len(cases) else ""
    return f"{len(cases)} cases ({counts}{set_aside}), data version {version.result()[:12]}"


def places_of(
    root: Path, settings: Settings, *, raw: Path, key: bytes | None = None, sha256: str | None = None
) -> Places:
    """Return where a source finds its files; remote ones are fetched into `raw`."""
    from medloop.data.places import Places

    storage = settings.storage

    def local(uri: str) -> Path:
        address = uri if "://" in uri else str(root / uri)
        return place(address, raw, limits=storage.limits, allow_hosts=storage.allow_hosts, sha256=sha256)

    raw.parent.mkdir(parents=True, exist_ok=True)
    return Places(local=local, root=root.resolve(), raw=raw, patient_key=key)
