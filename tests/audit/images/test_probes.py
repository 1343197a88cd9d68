"""Probes stay silent on sound phantoms and fire for each planted shortcut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medloop.audit.images.features import summarize_images
from medloop.audit.images.probes import Probe, probe_task, run_probe, trees
from medloop.audit.images.shortcuts import class_words, metadata_features, name_features, pattern_of, shortcut_probes
from medloop.data.groups import component_numbers, equal_groups
from tests.audit.images.image_sets import ImageSet, phantoms
from tests.phantoms.fault_folder import Fault

FLOOR = 0.65


def probes_of(images: ImageSet, scratch: Path) -> dict[str, Probe]:
    cases = images.cases
    summaries = summarize_images(cases["path"].tolist(), images.read, scratch)
    groups = component_numbers(equal_groups(cases["patient_id"]), count=len(cases))
    task = probe_task(cases["label"], groups, max_cases=5000)
    assert task is not None
    return {probe.name: probe for probe in shortcut_probes(cases, summaries, task)}


def alarms(tmp_path: Path, seeds: range, **options: object) -> int:
    count = 0
    for seed in seeds:
        images = phantoms(tmp_path / f"set{seed}", seed=seed, **options)  # type: ignore[arg-type]
        found = probes_of(images, tmp_path / f"scratch{seed}")
        count += sum(probe.fires(FLOOR) for probe in found.values())
    return count


def test_probes_are_silent_on_sound_phantoms(tmp_path: Path) -> None:
    assert alarms(tmp_path, range(3), patients=40) == 0


@pytest.mark.soak
def test_probes_raise_at_most_one_false_alarm_in_twenty_seeds(tmp_path: Path) -> None:
    assert alarms(tmp_path, range(100, 120), patients=100) <= 1


@pytest.mark.parametrize(
    ("fault", "probe"),
    [
        ("size_by_class", "size_and_format"),
        ("marker", "border"),
        ("window_by_class", "border"),
        ("label_in_name", "file_name"),
    ],
)
def test_each_planted_shortcut_fires_its_probe(fault: str, probe: str, tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", Fault(name=fault), patients=32, seed=2)
    fired = probes_of(images, tmp_path / "scratch")[probe]
    assert fired.fires(FLOOR)
    best = fired.best[1]
    assert best.lower > 0.6
    assert best.value > 0.95


def test_cases_of_one_patient_stay_in_one_fold() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 5)
    labels = pd.Series(np.where(rng.permutation(60) % 2, "a", "b")[patients])
    fingerprint = rng.normal(size=(60, 8))[patients]
    grouped, torn = probe_task(labels, patients, max_cases=999), probe_task(labels, np.arange(300), max_cases=999)
    assert grouped is not None
    assert torn is not None
    assert run_probe("border", fingerprint, torn, trees).macro.value > 0.95
    assert not run_probe("border", fingerprint, grouped, trees).fires(FLOOR)


def test_classes_with_too_few_groups_are_left_out_and_one_class_is_no_task() -> None:
    labels = pd.Series(["a"] * 10 + ["b"] * 10 + ["rare"] * 3)
    task = probe_task(labels, np.arange(23), max_cases=999)
    assert task is not None
    assert task.names == ("a", "b")
    assert probe_task(labels[labels != "b"], np.arange(13), max_cases=999) is None


def test_a_large_set_is_sampled_by_whole_groups_in_any_order() -> None:
    labels = pd.Series(["a", "b"] * 500)
    groups = np.repeat(np.arange(250), 4)
    task = probe_task(labels, groups, max_cases=200)
    assert task is not None
    assert len(task.y) == 200
    assert (np.bincount(task.groups) == 4).all()


def test_words_in_file_names_count_and_numbers_do_not() -> None:
    assert pattern_of("train/x/000108 (2).PNG") == "^000000 (0)$"
    paths = pd.Series([f"set/{n:04d}{'_sick' if n % 2 else '_well'}.png" for n in range(20)])
    labels = pd.Series(["ill", "healthy"][::-1] * 10)
    assert set(class_words(paths, labels)) == {("sick", "ill"), ("well", "healthy")}
    assert name_features(pd.Series([f"a/{n:03d}.png" for n in range(9)])).std(axis=0).max() == 0


def test_missing_metadata_columns_are_unknown() -> None:
    table = pd.DataFrame({"width": [8, 9], "height": [8, 9], "bytes": [64, 81], "mode": ["L", "L"]})
    assert metadata_features(table).shape == (2, 8)
    assert metadata_features(table, with_bytes=False).shape == (2, 7)
