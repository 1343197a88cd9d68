"""The stages as plain functions: each reads files and its section of the recipe, and writes files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.errors import GateRefusal, UserError
from medloop.prepare.decode import DEFAULT_RULE
from medloop.prepare.rule import DecodeRule
from medloop.recipe import read_yaml
from medloop.settings import Settings
from medloop.steps import images
from medloop.steps.decision_cases import warn_of_decision_cases
from medloop.steps.journal import note_promotion
from medloop.steps.project import Project, git_commit, patient_key, who
from medloop.steps.versions import mirror, store_of
from medloop.storage import Limits, atomic_file, place, read_json, read_parquet, write_json

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
    cases = read_source(data, replace(places, rule=images.ingest_rule(project.recipe)))
    with ThreadPoolExecutor(1) as beside:
        version = beside.submit(manifest.fingerprint, cases)
        manifest.write_cases(cases, project.work / "cases.parquet")
    usable = manifest.usable(cases)
    counts = ", ".join(f"{n} {name}" for name, n in usable["label"].value_counts().items())
    aside = f"; {len(cases) - len(usable)} set aside, see the audit" if len(usable) < len(cases) else ""
    return f"{len(cases)} cases ({counts}{aside}), data version {version.result()[:12]}"


def audit(project: Project) -> str:
    """cases -> work/audit/findings.json, audit.html."""
    from medloop.data import manifest

    section = project.recipe.audit
    reference = manifest.read_cases(project.root / section.reference) if section.reference else None
    result = examine(
        project.root,
        project.cases(),
        section,
        folder=project.work / "audit",
        reference=reference,
        rule=images.ingest_rule(project.recipe),
        names=project.settings.show_names,
    )
    return _found(project, result)


def accept(project: Project) -> str:
    """The findings of before, judged by the names that the recipe accepts now."""
    from medloop.audit.acceptance import accept_findings

    result = accept_findings(project.work / "audit", project.recipe.audit)
    return audit(project) if result is None else _found(project, result)


def _found(project: Project, result: Audit) -> str:
    counts = {kind: sum(one.severity == kind for one in result.findings) for kind in ("severe", "warning", "note")}
    return ", ".join(f"{n} {kind}" for kind, n in counts.items()) + f"; see {project.shown('audit/audit.html')}"


def examine(
    root: Path,
    cases: Any,
    section: AuditSection,
    *,
    folder: Path,
    reference: Any = None,
    rule: DecodeRule = DEFAULT_RULE,
    names: bool = False,
) -> Audit:
    """Audit a manifest of either kind and write what was found."""
    if cases["path"].isna().all():
        from medloop.audit.report import write_audit
        from medloop.audit.table import audit_table

        result = audit_table(cases, section, reference=reference)
        write_audit(result, cases, section, folder)
        return result
    return _examine_images(root, cases, section, folder, rule=rule, names=names)


def _examine_images(
    root: Path, cases: Any, section: AuditSection, folder: Path, *, rule: DecodeRule, names: bool
) -> Audit:
    from medloop.audit.image_report import write_image_audit
    from medloop.audit.images import audit_images
    from medloop.prepare.sandbox import Sandbox

    scratch = folder.with_name(f".{folder.name}.scratch")
    ids = dict(zip(cases["path"], cases["case_id"], strict=True))
    with Sandbox() as sandbox:
        result = audit_images(
            cases,
            lambda path: sandbox.decode(images.read_case(root, path, ids[path]), rule=rule).pixels,
            section,
            scratch=scratch,
            names=names,
        )
    write_image_audit(result, cases, section, folder)
    return result


def split(project: Project) -> str:
    """cases, findings -> work/splits.parquet, work/split.json, work/edition.json."""
    from medloop.data.edition import edition_of, locked_cases, read_edition, write_edition
    from medloop.data.split import split_cases
    from medloop.data.split_facts import split_facts

    cases, section = project.cases(), project.recipe.split
    groups = read_json(project.work / "audit" / "findings.json")["groups"]
    path = project.work / "edition.json"
    edition = read_edition(path)
    # Until a bundle was scored on it, the test set may be drawn anew, as the audit's findings may ask for.
    seen = edition is not None and _was_seen(project, edition.id)
    locked = locked_cases(edition if seen else None, cases, section, smoke=project.smoke)
    splits = split_cases(cases, section, together=groups, locked=locked, smoke=project.smoke)
    edition = edition_of(cases, splits, section, smoke=project.smoke)
    with atomic_file(project.work / "splits.parquet") as file:
        splits.to_parquet(file, index=False)
    facts = split_facts(cases, splits, section, copies=len(groups), smoke=project.smoke)
    write_json(project.work / "split.json", facts)
    write_edition(edition, path)
    warn_of_decision_cases(project)
    counts = ", ".join(f"{n} {name}" for name, n in splits["part"].value_counts().items())
    left = ", ".join(f"{n} left out: {why}" for why, n in splits["why"][splits["why"] != ""].value_counts().items())
    counts += f" ({left})" if left else ""
    return f"{counts}; {section.folds} folds; edition {edition.id}{' (kept)' if locked else ''}"


def _was_seen(project: Project, edition: str) -> bool:
    """Whether a bundle was scored on the edition: here, or where the report came from."""
    from medloop.evaluate.ledger import LEDGER, bundles_seen

    report = project.work / "report" / "report.json"
    return bool(bundles_seen(project.work / LEDGER, edition)) or (
        report.is_file() and bool(read_json(report)["edition"] == edition)
    )


def prepare(project: Project) -> str:
    """cases -> work/prepared/."""
    from medloop.data import manifest
    from medloop.prepare.prepared_table import write_prepared
    from medloop.prepare.table import TablePreparer

    if images.has_images(project):
        cases = manifest.usable(project.cases(("case_id", "path", "label", "file_sha256", "quarantined")))
        return images.prepare_images(project, cases, _task(project, cases["label"].unique().tolist()))
    cases = manifest.usable(project.cases())
    values = {str(name): column.tolist() for name, column in manifest.values(cases).astype(object).items()}
    preparer = TablePreparer.fit(
        values, categories=project.recipe.data.categories, max_categories=project.recipe.prepare.max_categories
    )
    write_prepared(cases, preparer, _task(project, cases["label"].unique().tolist()), project.work / "prepared")
    kinds = [column.kind for column in preparer.columns]
    return f"{len(cases)} rows, {kinds.count('number')} columns of numbers, {kinds.count('category')} of categories"


def train(project: Project) -> str:
    """splits, prepared, tuned -> work/trained/."""
    from medloop.train.fit_table import train_table
    from medloop.train.learning import read_learning

    _refuse_open_findings(project)
    warn_of_decision_cases(project)
    recipe = project.recipe
    tuned = read_yaml(project.work / "tuned.yaml") if (project.work / "tuned.yaml").is_file() else {}
    if images.has_images(project):
        return images.train_images(project, tuned)
    learning = read_learning(project.work / "prepared", project.work / "splits.parquet")
    result = train_table(learning, recipe.model, recipe.train, tuned=tuned, folder=project.work / "trained")
    accuracy, auc = result.history["accuracy"], result.history["roc_auc"]
    return (
        f"{recipe.model.name}, {len(result.history)} folds: AUC {auc.mean():.3f} +- {auc.std():.3f}, accuracy "
        f"{accuracy.mean():.3f} +- {accuracy.std():.3f} before export sets the threshold"
    )


def export(project: Project) -> str:
    """trained, splits, prepared -> work/bundle/."""
    from medloop.bundle.export import Origin, export_table
    from medloop.bundle.operating_point import describe_threshold
    from medloop.data import manifest

    origin = Origin(
        name=project.recipe.name,
        recipe=project.recipe.model_dump(mode="json"),
        data_version=manifest.fingerprint(project.cases()),
        edition=read_json(project.work / "edition.json")["id"],
        smoke=project.smoke,
        git_commit=git_commit(project.root),
        parent=images.parent_of(project),
        facts=recorded_facts(project.work),
    )
    work, section = project.work, project.recipe.export
    if images.has_images(project):
        from medloop.bundle.export_image import describe_export, export_images

        meta = export_images(
            work / "trained", work / "prepared", work / "splits.parquet", section, origin=origin, folder=work / "bundle"
        )
        return describe_export(meta)
    meta = export_table(
        work / "trained", work / "prepared", work / "splits.parquet", section, origin=origin, folder=work / "bundle"
    )
    return f"ONNX differs by {meta['parity']:.1g}, {describe_threshold(meta['threshold'])}"


def recorded_facts(work: Path) -> dict[str, Any]:
    """What the stages before the export recorded of themselves, by stage."""
    files = {"split": work / "split.json", "tune": work / "tune.json", "train": work / "trained" / "train.json"}
    return {stage: read_json(path) for stage, path in files.items() if path.is_file()}


def evaluate(project: Project) -> str:
    """bundle, splits, cases -> work/report/."""
    from medloop.bundle.files import verify
    from medloop.data.edition import tested_rows
    from medloop.data.manifest import cases_of
    from medloop.evaluate import class_view
    from medloop.evaluate.ledger import LEDGER, bundles_seen, note_look
    from medloop.evaluate.report import evaluate_bundle
    from medloop.evaluate.sentences import headline
    from medloop.evaluate.study import study_facts

    parts, findings = read_parquet(project.work / "splits.parquet"), read_json(project.work / "audit/findings.json")
    cases = project.cases()
    rows, groups = tested_rows(cases, parts)
    files = images.files_of(project, rows)
    edition = read_json(project.work / "edition.json")["id"]
    note_look(project.work / LEDGER, edition=edition, bundle=verify(project.work / "bundle"), who=who(project.settings))
    report = evaluate_bundle(
        project.work / "bundle",
        cases_of(rows),
        groups,
        project.recipe.evaluate,
        accepted=findings["accepted"],
        files=files,
        columns={str(name): rows[name].tolist() for name in rows},
        study=study_facts(cases, parts, findings, subgroups=project.recipe.evaluate.subgroups),
        beside=images.untrained(project, rows["case_id"].tolist()) if files is not None else None,
        looks=bundles_seen(project.work / LEDGER, edition),
        edition=edition,
        folder=project.work / "report",
    )
    figures = f"{headline(report)}{class_view.short(report)}"
    return f"{report['n_test']} locked cases: {figures}; see {project.shown('report/report.html')}"


def gate(project: Project) -> str:
    """report, bundle -> work/verdict.json; GateRefusal when the answer is no."""
    from medloop.registry.store import write_verdict
    from medloop.steps.gate import judge_bundle

    verdict = judge_bundle(project)
    write_verdict(verdict, project.work / "verdict.json")
    refused = [rule for rule in verdict.rules if not rule.passed]
    if refused:
        raise GateRefusal(
            "every rule of the gate must hold; nothing is promoted",
            found="".join(f"\n    NO  {rule}" for rule in refused),
            hint="the rules are in params.yaml, section gate; see work/report/report.html for what the model scored",
        )
    return f"passed: all {len(verdict.rules)} rules hold"


def register(project: Project) -> str:
    """bundle, report, verdict -> models/versions/<n>/ and MLflow; promoted when the gate passed."""
    from medloop.registry.store import read_verdict

    verdict = read_verdict(project.work / "verdict.json")
    if verdict.smoke:
        return "a smoke run is not registered"
    store, me, key = store_of(project), who(project.settings), project.settings.signing.key
    version = store.register(
        project.work / "bundle", project.work / "report", verdict, by=me, key=project.root / key if key else None
    )
    now = store.champion()
    if now is not None and now.previous == version.number:
        # Somebody rolled it back, and a run in which nothing changed is no reason to bring it back.
        return f"version {version.number} served before; `medloop models promote {version.number}` lets it serve again"
    waits = project.recipe.gate.second_person and (now is None or now.version != version.number)
    champion = store.promote(version.number, by=me) if verdict.passed and not waits else None
    word = "promoted: it serves from now on" if champion else "kept, not promoted"
    if champion is not None and (now is None or now.version != version.number):
        word += f", {note_promotion(project.root, project.settings.feedback, champion)}"
    if verdict.passed and waits:
        word = f"waits for a second person: `medloop models promote {version.number}`"
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
