"""How often the default rules let noise pass, and a model that is truly good."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.gate_models import Edition, Generator, Model, drawn
from benchmarks.row import Row
from medloop.gate.predictions import Predictions
from medloop.gate.rules import Evidence, judge
from medloop.metrics import METRICS
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.proportions import wilson
from medloop.metrics.view import one_hot
from medloop.progress import track
from medloop.recipe import GateSection

TRIALS = 2000
MOST_NOISE = 0.025
DRAWS = 2000
BUNDLE, EDITION = "b" * 64, "e" * 16
DEFAULTS = GateSection()

# The locked fifth of 600 and of 2,000 rows, at 3%, 30% and 97% positives.
NOISE = (
    Edition(name="4 + 116 cases", positives=4, negatives=116),
    Edition(name="36 + 84 cases", positives=36, negatives=84),
    Edition(name="116 + 4 cases", positives=116, negatives=4),
    Edition(name="12 + 388 cases", positives=12, negatives=388),
    Edition(name="120 + 280 cases", positives=120, negatives=280),
    Edition(name="388 + 12 cases", positives=388, negatives=12),
)
GOOD = (
    Edition(name="11 + 109 cases (9% positive)", positives=11, negatives=109),
    Edition(name="36 + 364 cases (9% positive)", positives=36, negatives=364),
    *NOISE,
)
GOOD_MODEL = Model(auc=0.95, recall=0.90)


def rows(*, trials: int = TRIALS) -> list[Row]:
    """Noise must hardly ever pass; a good model passes where there are cases enough."""
    return [
        *[noise_row(edition, trials=trials, seed=number) for number, edition in enumerate(NOISE)],
        *[good_row(edition, trials=trials // 4, seed=number) for number, edition in enumerate(GOOD)],
    ]


def noise_row(edition: Edition, *, trials: int, seed: int) -> Row:
    """Scores without any signal, cut at a threshold that anybody might have set."""
    passed = noise_passed(edition, trials=trials, seed=seed)
    interval = wilson(passed, trials)
    return Row(
        what=f"noise under the default rules; {edition.name}",
        found=f"promoted {interval.value:.2%} [{interval.lower:.2%}, {interval.upper:.2%}]",
        wanted=f"<= {MOST_NOISE:.1%}",
        holds=interval.lower <= MOST_NOISE,
    )


def good_row(edition: Edition, *, trials: int, seed: int) -> Row:
    """A model of AUC 0.95 that finds nine of ten."""
    share = good_passed(edition, trials=trials, seed=seed) / trials
    return Row(
        what=f"AUC {GOOD_MODEL.auc:g}, recall {GOOD_MODEL.recall:g} under the default rules; {edition.name}",
        found=f"promoted {share:.1%}",
        wanted="printed",
        holds=True,
    )


def noise_passed(edition: Edition, *, trials: int, seed: int) -> int:
    """How many sets of noise pass."""
    rng = np.random.default_rng(seed)
    return sum(passes(_noise(edition, rng)) for _ in track(range(trials), total=trials, what=f"noise, {edition.name}"))


def good_passed(edition: Edition, *, trials: int, seed: int) -> int:
    """How many sets of scores of the good model pass."""
    rng = np.random.default_rng(seed)
    turns = track(range(trials), total=trials, what=f"a good model, {edition.name}")
    return sum(passes(drawn(edition, GOOD_MODEL, GOOD_MODEL, rng)[0]) for _ in turns)


def passes(decided: Predictions, section: GateSection = DEFAULTS) -> bool:
    """Whether a first version with these answers passes; the rules that cost little are asked first."""
    first = section.rules[0]
    metric = first.metric.removeprefix("test_")
    bound = getattr(interval_for(metric, decided.truth, decided.input_of(metric), Resampling(draws=DRAWS)), first.bound)
    if first.at_least is not None and not bound >= first.at_least:
        return False
    evidence = Evidence(challenger=decided, edition_cases=frozenset(decided.case_ids))
    return judge(report_of(decided, section), section, bundle=BUNDLE, edition=EDITION, evidence=evidence).passed


def report_of(decided: Predictions, section: GateSection) -> dict[str, Any]:
    """As much of a report as the rules ask for."""
    names = {rule.metric.removeprefix("test_") for rule in section.rules} & METRICS.keys()
    test = {
        name: asdict(interval_for(name, decided.truth, decided.input_of(name), Resampling(draws=DRAWS)))
        for name in sorted({*names, "accuracy"})
    }
    n = decided.truth.size
    return {
        "bundle": BUNDLE,
        "edition": EDITION,
        "smoke": False,
        "n_test": n,
        "accepted_findings": [],
        "test": test,
        "abstained": {"n": 0, "share_interval": asdict(wilson(0, n))},
        "scores": {f"test_{name}": figure["value"] for name, figure in test.items()},
    }


def _noise(edition: Edition, rng: Generator) -> Predictions:
    n = edition.positives + edition.negatives
    share, decided_positive = rng.random(n), rng.random()
    return Predictions(
        case_ids=tuple(map(str, range(n))),
        groups=np.arange(n),
        truth=(np.arange(n) < edition.positives).astype(np.int64),
        shares=np.column_stack([1 - share, share]),
        decisions=one_hot((share >= 1 - decided_positive).astype(np.int64), 2),
    )
