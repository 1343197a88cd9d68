"""The stages as plain functions: each reads files and its section of the recipe, and writes files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medloop.errors import GateRefusal, UserError
from medloop.recipe import read_yaml
from medloop.settings import Settings
from medloop.steps import images
from medloop.steps.project import Project, git_commit, patient_key, who
from medloop.steps.versions import mirror
from medloop.storage import Limits, atomic_file, place, read_json, write_text

if TYPE_CHECKING:
    from medloop.audit.table import Audit
    from medloop.data.places import Places
    from medloop.recipe import AuditSection

GIB = 2**30


def ingest(project: Project) -> str:
    """The source -> work/cases.parquet."""
    from medloop.data import find_source, manifest, read_source

    data = project.recipe.data
    # Only images can carry patients in their headers, so only they need the key.
    key = patient_key(project.root, project.settings) if find_source(data.source).gives == "images" else None
    places = places_of(project.root, project.settings, raw=project.work / "raw", key=key, sha256=data.sha256)
    cases = read_source(data, places)
    manifest.write_cases(cases, project.work / "cases.parquet")
    counts = ", ".join(f"{n} {name}" for name, n in manifest.usable(cases)["label"].value_counts().items())
    return f"{len(cases)} cases ({counts}), data version {manifest.fingerprint(cases)[:12]}"


def audit(project: Project) -> str:
    """cases -> work/audit/findings.json, audit.html."""
    from medloop.data import manifest

    section = project.recipe.audit
    reference = manifest.read_cases(project.root / section.reference) if section.reference else None
    result = examine(project.root, project.cases(), section, folder=project.work / "audit", reference=reference)
    counts = {kind: sum(one.severity == kind for one in result.findings) for kind in ("severe", "warning", "note")}
    return ", ".join(f"{n} {kind}" for kind, n in counts.items()) + f"; see {project.shown('audit/audit.html')}"


def examine(root: Path, cases: Any, section: AuditSection, *, folder: Path, reference: Any = None) -> Audit:
    """Audit a manifest of either kind and write what was found."""
    if cases["path"].isna().all():
        from medloop.audit.report import write_audit
        from medloop.audit.table import audit_table

        result = audit_table(cases, section, reference=reference)
        write_audit(result, cases, section, folder)
        return result
    return _examine_images(root, cases, section, folder)


def _examine_images(root: Path, cases: Any, section: AuditSection, folder: Path) -> Audit:
    from medloop.audit.image_report import write_image_audit
    from medloop.audit.images import audit_images
    from medloop.prepare.sandbox import Sandbox

    scratch = folder.with_name(f".{folder.name}.scratch")
    with Sandbox() as sandbox:
        result = audit_images(
            cases, lambda path: sandbox.decode((root / path).read_bytes()).pixels, section, scratch=scratch
        )
    write_image_audit(result, cases, section, folder)
    return result


def split(project: Project) -> str:
    """cases, findings -> work/splits.parquet, work/edition.json."""
    from medloop.data.edition import edition_of, locked_cases, read_edition, write_edition
    from medloop.data.split import split_cases

    cases, section = project.cases(), project.recipe.split
    groups = read_json(project.work / "audit" / "findings.json")["groups"]
    path = project.work / "edition.json"
    locked = locked_cases(read_edition(path), cases, section, smoke=project.smoke)
    splits = split_cases(cases, section, together=groups, locked=locked, smoke=project.smoke)
    edition = edition_of(cases, splits, section, smoke=project.smoke)
    with atomic_file(project.work / "splits.parquet") as file:
        splits.to_parquet(file, index=False)
    write_edition(edition, path)
    counts = ", ".join(f"{n} {name}" for name, n in splits["part"].value_counts().items())
    left = ", ".join(f"{n} left out: {why}" for why, n in splits["why"][splits["why"] != ""].value_counts().items())
    counts += f" ({left})" if left else ""
    return f"{counts}; {section.folds} folds; edition {edition.id}{' (kept)' if locked else ''}"


def prepare(project: Project) -> str:
    """cases -> work/prepared/."""
    from medloop.data import manifest
    from medloop.prepare.prepared_table import write_prepared
    from medloop.prepare.table import TablePreparer

    cases = manifest.usable(project.cases())
    if images.has_images(project):
        return images.prepare_images(project, cases, _task(project, cases["label"].unique().tolist()))
    values = {str(name): column.tolist() for name, column in manifest.values(cases).astype(object).items()}
    preparer = TablePreparer.fit(
        values, categories=project.recipe.data.categories, max_categories=project.recipe.prepare.max_categories
    )
    write_prepared(cases, preparer, _task(project, cases["label"].unique().tolist()), project.work / "prepared")
    kinds = [column.kind for column in preparer.columns]
    return f"{len(cases)} rows, {kinds.count('number')} columns of numbers, {kinds.count('category')} of categories"


def tune(project: Project) -> str:
    """splits, prepared -> work/tuned.yaml."""
    from medloop.train.learning import read_learning
    from medloop.train.tune import tune_table

    recipe = project.recipe
    if images.has_images(project):
        if recipe.tune.trials:
            raise UserError("tuning is for tables so far", found="images", hint="set tune.trials to 0")
        write_text(project.work / "tuned.yaml", yaml.safe_dump({}))
        return "no trials asked for (tune.trials)"
    learning = read_learning(project.work / "prepared", project.work / "splits.parquet")
    study = project.work / "tune" / f"{_study_name(project)}.db"
    best, trials = tune_table(learning, recipe.model, recipe.tune, seed=recipe.train.seed, study=study)
    write_text(project.work / "tuned.yaml", yaml.safe_dump(best))
    return f"{len(trials)} trials, best {best}" if best else "no trials asked for (tune.trials)"


def train(project: Project) -> str:
    """splits, prepared, tuned -> work/trained/."""
    from medloop.train.fit_table import train_table
    from medloop.train.learning import read_learning

    _refuse_open_findings(project)
    recipe = project.recipe
    tuned = read_yaml(project.work / "tuned.yaml") if (project.work / "tuned.yaml").is_file() else {}
    if images.has_images(project):
        return images.train_images(project, tuned)
    learning = read_learning(project.work / "prepared", project.work / "splits.parquet")
    result = train_table(learning, recipe.model, recipe.train, tuned=tuned, folder=project.work / "trained")
    accuracy, auc = result.history["accuracy"], result.history["roc_auc"]
    return (
        f"{recipe.model.name}, {len(result.history)} folds: accuracy {accuracy.mean():.3f} +- {accuracy.std():.3f}, "
        f"AUC {auc.mean():.3f} +- {auc.std():.3f}"
    )


def export(project: Project) -> str:
    """trained, splits, prepared -> work/bundle/."""
    from medloop.bundle.export import Origin, export_table
    from medloop.data import manifest

    origin = Origin(
        name=project.recipe.name,
        recipe=project.recipe.model_dump(mode="json"),
        data_version=manifest.fingerprint(project.cases()),
        edition=read_json(project.work / "edition.json")["id"],
        smoke=project.smoke,
        git_commit=git_commit(project.root),
    )
    work, section = project.work, project.recipe.export
    if images.has_images(project):
        from medloop.bundle.export_image import describe_export, export_images

        meta = export_images(
            work / "trained", work / "prepared", work / "splits.parquet", section, origin=origin, folder=work / "bundle"
        )
        return describe_export(meta)
    meta = export_table(work / "trained", work / "prepared", section, origin=origin, folder=work / "bundle")
    value, rule = meta["threshold"]["value"], meta["threshold"]["rule"]
    decided = "the likeliest class" if value is None else f"threshold {value:.3f} by {rule}"
    return f"ONNX differs by {meta['parity']:.1g}, {decided}"


def evaluate(project: Project) -> str:
    """bundle, splits, cases -> work/report/."""
    import pandas as pd

    from medloop.data.manifest import case_of
    from medloop.evaluate.report import evaluate_bundle

    splits = pd.read_parquet(project.work / "splits.parquet").query("part == 'test'")
    cases = project.cases().set_index("case_id", drop=False).loc[splits["case_id"]]
    tested = [case_of(row) for row in cases.to_dict("records")]
    files = images.FileBytes(project, cases["path"].tolist()) if images.has_images(project) else None
    report = evaluate_bundle(
        project.work / "bundle",
        tested,
        splits["group"].tolist(),
        project.recipe.evaluate,
        accepted=read_json(project.work / "audit" / "findings.json")["accepted"],
        files=files,
        folder=project.work / "report",
    )
    figures = report["test"]
    shown = ", ".join(f"{name} {figures[name]['value']:.3f}" for name in ("accuracy", "recall", "roc_auc"))
    return f"{report['n_test']} locked cases: {shown}; see {project.shown('report/report.html')}"


def gate(project: Project) -> str:
    """report, bundle -> work/verdict.json; GateRefusal when the answer is no."""
    from medloop.bundle.files import verify
    from medloop.evaluate.gate import judge
    from medloop.registry.store import write_verdict

    report = read_json(project.work / "report" / "report.json")
    edition = read_json(project.work / "edition.json")["id"]
    verdict = judge(report, project.recipe.gate, bundle=verify(project.work / "bundle"), edition=edition)
    write_verdict(verdict, project.work / "verdict.json")
    lines = [f"{'ok' if r.passed else 'NO'}  {r.name}: needed {r.needed}, found {r.found}" for r in verdict.rules]
    if not verdict.passed:
        raise GateRefusal(
            "every rule of the gate must hold; nothing is promoted",
            found="\n    " + "\n    ".join(lines),
            hint="the rules are in params.yaml, section gate; see work/report/report.html for what the model scored",
        )
    return "passed\n    " + "\n    ".join(lines)


def register(project: Project) -> str:
    """bundle, report, verdict -> models/versions/<n>/ and MLflow; promoted when the gate passed."""
    from medloop.registry.store import ModelStore, read_verdict

    verdict = read_verdict(project.work / "verdict.json")
    if verdict.smoke:
        return "a smoke run is not registered"
    store = ModelStore(project.models)
    version = store.register(project.work / "bundle", project.work / "report", verdict)
    now = store.champion()
    if now is not None and now.previous == version.number:
        # Somebody rolled it back, and a run in which nothing changed is no reason to bring it back.
        return f"version {version.number} served before; `medloop models promote {version.number}` lets it serve again"
    champion = store.promote(version.number, by=who(project.settings)) if verdict.passed else None
    word = "promoted: it serves from now on" if champion else "kept, not promoted"
    return f"version {version.number} {word}; {mirror(project, version, champion)}"


def places_of(
    root: Path, settings: Settings, *, raw: Path, key: bytes | None = None, sha256: str | None = None
) -> Places:
    """Where a source finds its files, fetching what is remote into `raw`."""
    from medloop.data.places import Places

    storage = settings.storage
    limits = Limits(max_bytes=int(storage.max_gib * GIB), max_entries=storage.max_entries, max_ratio=storage.max_ratio)

    def local(uri: str) -> Path:
        address = uri if "://" in uri else str(root / uri)
        return place(address, raw, limits=limits, allow_hosts=storage.allow_hosts, sha256=sha256)

    raw.parent.mkdir(parents=True, exist_ok=True)
    return Places(local=local, root=root.resolve(), raw=raw, patient_key=key)


def _task(project: Project, found: Sequence[str]) -> dict[str, Any]:
    """The classes in their fixed order and the positive ones among them."""
    from medloop.data import find_source

    data = project.recipe.data
    classes = data.classes or tuple(sorted(found))
    if not set(data.positive) <= set(classes) or (len(classes) == 2 and len(data.positive) != 1):
        raise UserError(
            f"data.positive must name the positive class, one of {', '.join(classes)}",
            found=", ".join(data.positive) or "none",
            hint=f"set `data.positive: [{classes[-1]}]` in params.yaml if that is the finding to look for",
        )
    return {"task": find_source(data.source).gives, "classes": list(classes), "positive": list(data.positive)}


def _refuse_open_findings(project: Project) -> None:
    severe = read_json(project.work / "audit" / "findings.json")["open_severe"]
    if severe:
        raise UserError(
            "no severe finding of the audit may be open before training",
            found=", ".join(severe),
            hint="see work/audit/audit.html; mend the data, or accept them by name in audit.accept; the report says so",
        )


def _study_name(project: Project) -> str:
    """A study belongs to its data, split, model and ranges; when one changes, another begins."""
    recipe = project.recipe
    parts = [
        (project.work / "splits.parquet").read_bytes(),
        recipe.model.model_dump_json().encode(),
        recipe.tune.model_dump_json(exclude={"trials"}).encode(),
        recipe.train.model_dump_json().encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
