"""Gate: the report and the bundle are checked against the rules of the recipe."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from medloop.bundle import files as bundle_files
from medloop.bundle.predictor import Inputs, Predictor
from medloop.case import Case, Verdict
from medloop.data.edition import Edition, edition_of, tested_rows
from medloop.data.manifest import cases_of, row_sha256
from medloop.errors import GateRefusal, UserError
from medloop.gate.against_champion import Opponent
from medloop.gate.ledger import LEDGER, bundles_seen, comparison_number
from medloop.gate.predictions import Predictions, Task, predict_cases, read_predictions
from medloop.gate.rules import Evidence, judge
from medloop.recipe import GateSection
from medloop.registry.reference import Reference
from medloop.registry.store import BROKEN, ModelStore, Version, write_verdict
from medloop.steps.kinds import kind_of
from medloop.steps.kinds.image_files import FileBytes
from medloop.steps.project import Project
from medloop.steps.versions import store_of
from medloop.storage import read_json, read_parquet, sha256_file
from medloop.storage.names import local_path

WARM_UPS, TIMED = 3, 20
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class LockedCases:
    """The test cases in their present state, with the bytes of their images where they have some."""

    cases: list[Case]
    groups: list[str]
    files: FileBytes | None
    edition: Edition


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What an opponent is scored on: the task, the test cases, and the challenger's decisions on them."""

    task: Task
    tests: LockedCases
    predictions: Predictions


def run(project: Project) -> str:
    """Write work/verdict.json; raise GateRefusal where a rule is not met."""
    verdict = judge_bundle(project)
    write_verdict(verdict, project.work / "verdict.json")
    refused = [rule for rule in verdict.rules if not rule.passed]
    if refused:
        raise GateRefusal(
            "The gate refused this model; nothing is promoted." + "".join(f"\n    NO  {rule}" for rule in refused),
            f"The rules are in params.yaml, section gate; {project.shown('report/report.html')} shows the results.",
        )
    return f"passed: all {len(verdict.rules)} rules hold"


def judge_bundle(project: Project) -> Verdict:
    """Return the verdict on the bundle and the report in the work folder."""
    report, bundle = read_json(project.work / "report" / "report.json"), project.work / "bundle"
    section, digest, tests = project.recipe.gate, bundle_files.verify(bundle), _locked_cases(project)
    store = store_of(project)
    champion = _champion(store)
    if champion is not None and _was_judged(champion, digest, tests.edition.id, section):
        return champion.verdict
    task = Task.of(bundle_files.read_meta(bundle))
    challenger, subgroups = read_predictions(project.work / "report", task)
    challenge = Challenge(task=task, tests=tests, predictions=challenger)
    reference = store.reference()
    evidence = Evidence(
        challenger=challenger,
        edition_cases=frozenset(tests.edition.cases),
        subgroups=subgroups,
        **_opponents(store, champion, section, challenge),
        number=comparison_number(
            project.work / LEDGER, tests.edition.id, bundle=digest, reference=reference.bundle if reference else None
        ),
        footprint=_footprint(bundle, section, tests),
        looks=bundles_seen(project.work / LEDGER, tests.edition.id),
    )
    return judge(report, section, bundle=digest, edition=tests.edition.id, evidence=evidence)


def _locked_cases(project: Project) -> LockedCases:
    manifest, splits = project.cases(), read_parquet(project.work / "splits.parquet")
    rows, groups = tested_rows(manifest, splits)
    cases = cases_of(rows)
    # The manifest has their content at ingest; what counts is their content now.
    manifest = manifest.set_index("case_id", drop=False)
    manifest.loc[rows.index, "file_sha256"] = [_content_hash(project, case) for case in cases]
    return LockedCases(
        cases=cases,
        groups=groups,
        files=kind_of(project).files_of(project, rows),
        edition=edition_of(manifest, splits, project.recipe.split, smoke=project.smoke),
    )


def _content_hash(project: Project, case: Case) -> str:
    """Return the hash of a case's present content."""
    if case.path is None:
        return row_sha256(case.values)
    path = project.root / local_path(case.path)
    return sha256_file(path) if path.is_file() else "absent"


def _champion(store: ModelStore) -> Version | None:
    now = store.champion()
    return store.version(now.version) if now is not None else None


def _was_judged(champion: Version, digest: str, edition: str, section: GateSection) -> bool:
    """Return whether the champion is this very bundle, promoted on this edition under these rules."""
    verdict = champion.verdict
    if not verdict.gate or (verdict.bundle, verdict.edition) != (digest, edition):
        return False
    try:
        # An older medloop did not write down every key.
        return GateSection.model_validate(verdict.gate) == section
    except ValidationError:
        return False


def _opponents(
    store: ModelStore, champion: Version | None, section: GateSection, challenge: Challenge
) -> dict[str, Opponent]:
    """Return the champion and, where it is another version and a rule has a margin, the reference version."""
    if champion is None or not any(rule.compares for rule in section.rules):
        return {}
    found = {"opponent": _opponent(champion, challenge)}
    reference = store.reference()
    has_margin = any(rule.not_worse_by is not None for rule in section.rules)
    if reference is None or reference.bundle == champion.bundle or not has_margin:
        return found
    return found | {"reference": replace(_reference(store, reference, challenge), role="reference version")}


def _reference(store: ModelStore, reference: Reference, challenge: Challenge) -> Opponent:
    absent = Opponent(version=reference.version, bundle=reference.bundle)
    try:
        version = store.version(reference.version)
    except BROKEN:
        return replace(absent, why_not=f"version {reference.version} cannot be read")
    if version.bundle != reference.bundle:
        return replace(absent, why_not=f"version {reference.version} is not the bundle that was approved")
    return _opponent(version, challenge)


def _opponent(version: Version, challenge: Challenge) -> Opponent:
    """Score the version on the challenge's cases."""
    number, bundle = version.number, version.bundle
    task, tests = challenge.task, challenge.tests
    try:
        predictor = Predictor.load(version.folder / "bundle")
        own = Task.of(predictor.meta)
        if not own.has_same_classes(task):
            return Opponent(
                version=number, bundle=bundle, why_not=f"version {number} {_describe(own)}, this one {_describe(task)}"
            )
        predictions = predict_cases(predictor, task, tests.cases, tests.groups, files=tests.files)
    except UserError as error:
        return Opponent(
            version=number, bundle=bundle, why_not=f"version {number} cannot score these cases: {error.problem}"
        )
    if predictions.case_ids != challenge.predictions.case_ids:
        return Opponent(version=number, bundle=bundle, why_not="the report was made on other cases")
    warnings = []
    if predictor.meta["edition"] != tests.edition.id:
        warnings.append(
            f"version {number} was made for edition {predictor.meta['edition']}: it may have been trained on these "
            "test cases and would then look better than it is"
        )
    if own.per != task.per:
        warnings.append(f"version {number} predicts for each {own.per}; here it is scored for each {task.per}")
    return Opponent(version=number, bundle=bundle, predictions=predictions, warnings=tuple(warnings))


def _describe(task: Task) -> str:
    positive = f" with {' and '.join(task.positive)} positive" if task.positive else ""
    return f"distinguishes {', '.join(task.classes)}{positive}"


def _footprint(bundle: Path, section: GateSection, tests: LockedCases) -> dict[str, float]:
    """Return the size of the bundle and, where a rule asks for it, the time that one case takes on one thread."""
    found = {"size_mib": sum(path.stat().st_size for path in bundle.iterdir()) / MIB}
    if any(rule.metric == "latency_ms" for rule in section.rules):
        predictor, seconds = Predictor.load(bundle), []
        case: Inputs = [tests.cases[0].values] if tests.files is None else tests.files[:1]
        for _ in range(WARM_UPS + TIMED):
            started = time.perf_counter()
            predictor.predict(case, patients=[0])
            seconds.append(time.perf_counter() - started)
        found["latency_ms"] = 1000 * median(seconds[WARM_UPS:])
    return found
