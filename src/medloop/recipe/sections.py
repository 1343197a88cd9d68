"""The sections of the recipe, one for each stage."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from medloop.recipe.strict import Strict

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]
Token = Annotated[str, Field(coerce_numbers_to_str=True)]
Names = tuple[Text, ...]


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from error
    return text


def _is_plain(value: Any) -> Any:
    for one in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(one, bool | int | float | str | None) or (isinstance(one, float) and not math.isfinite(one)):
            raise ValueError("only strings, finite numbers, true, false, null and lists of these are allowed")
    return value


Plain = Annotated[Any, AfterValidator(_is_plain)]
Pattern = Annotated[str, AfterValidator(_is_pattern)]

THRESHOLD_RULE = re.compile(
    r"(?P<figure>sensitivity|specificity|probability) >= (?P<value>0?\.\d+|1(\.0*)?)"
    r"( with (?P<confidence>[1-9]\d(\.\d+)?)% confidence)?|youden"
)


class PhantomSection(Strict):
    """The phantoms that source `phantoms` generates; a size of 0 means the default of the kind."""

    kind: str = "chest_ct"
    patients: Annotated[int, Field(ge=1)] = 400
    slices: Annotated[int, Field(ge=1, le=12)] = 4
    size: Annotated[int, Field(ge=0, le=1024)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    difficulty: Annotated[float, Field(ge=0, le=1)] = 0.5
    format: Literal["png", "dicom"] = "png"


class DataSection(Strict):
    """Where the cases come from, and what their labels mean."""

    source: str = "csv"
    path: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    label: Text | None = None
    patient: Text | None = None
    key: Text | None = None
    features: Names = ()
    drop: Names = ()
    categories: Names = ()
    # Stored with each case for subgroup analysis (site, scanner, sex); the model never sees them.
    columns: Names = ()
    image: Text | None = None
    index: str | None = None
    split: Text | None = None
    class_pattern: Pattern | None = None
    patient_pattern: Pattern | None = None
    phantom: PhantomSection = PhantomSection()
    missing: tuple[Token, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "?")
    rename: dict[Text, Text] = Field(default_factory=dict)
    classes: Names = ()
    positive: Names = ()

    @model_validator(mode="after")
    def _classes_are_consistent(self) -> DataSection:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("data.classes lists a class twice")
        if self.classes and not set(self.positive) <= set(self.classes):
            raise ValueError(f"data.positive {self.positive} has classes that are not in data.classes {self.classes}")
        return self


class AuditSection(Strict):
    """How the data are audited, and which severe findings are accepted, by name."""

    accept: Names = ()
    leak_auc: Probability = 0.999
    range_sigmas: Annotated[float, Field(gt=0)] = 6.0
    reference: str | None = None
    shortcut_auc: Probability = 0.65
    probe_cases: Annotated[int, Field(ge=100)] = 5000


class SplitSection(Strict):
    """How cases are split: by patient and duplicate group, stratified and seeded."""

    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    # Images only. val selects the epoch; calib fits the temperature, the threshold and the conformal sets. Without
    # calib, these are fitted out of fold on train and val for a head, and on val for a fine-tuned network.
    val: Share = 0.0
    calib: Share = 0.0
    folds: Annotated[int, Field(ge=2, le=100)] = 10
    official: bool = True
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _something_is_left_to_learn_from(self) -> SplitSection:
        if self.test + self.val + self.calib >= 0.9:
            raise ValueError(
                "split.test + split.val + split.calib leave no more than a tenth of the cases for training"
            )
        return self


class PrepareSection(Strict):
    """How a case is turned into the model's input."""

    size: Annotated[int, Field(ge=8, le=4096)] | tuple[int, int] = 224
    channels: Literal[1, 3] = 1
    fit: Literal["pad", "stretch", "crop"] = "pad"
    window: str | tuple[float, float] = "auto"
    # The frame of a multi-frame DICOM file; all: each frame is a slice, for a model that decides per patient.
    frame: Literal["refuse", "first", "middle", "all"] = "refuse"
    max_categories: Annotated[int, Field(ge=2)] = 50


class ModelSection(Strict):
    """The model by name; its hyperparameters are the keyword arguments of its function in MODELS."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Plain] = Field(init=False)

    name: str = "logistic_regression"

    @property
    def params(self) -> dict[str, Any]:
        """Return the hyperparameters that the recipe sets."""
        return dict(self.model_extra or {})


class AugmentSection(Strict):
    """How far training images are changed at random; allow a flip only if both sides are equivalent."""

    flip_horizontal: bool = False
    flip_vertical: bool = False
    # In degrees, in fractions of the side length, and in fractions of the full intensity range.
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    brightness: Share = 0.1
    contrast: Share = 0.1
    noise: Share = 0.0


class TrainSection(Strict):
    """How the model is fitted; tables use only the seed."""

    seed: Annotated[int, Field(ge=0)] = 0
    # head: compute features once and fit only the linear head; finetune: train the whole network.
    mode: Literal["head", "finetune"] = "head"
    cross_validate: bool = False
    augment: AugmentSection = AugmentSection()
    batch_size: Annotated[int, Field(ge=1)] = 32
    balance: Literal["none", "weights", "sampler"] = "none"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Mode head: the original image and views - 1 augmented ones; without head_c, the validation cases select it.
    views: Annotated[int, Field(ge=1, le=100)] = 1
    head_c: Annotated[float, Field(gt=0)] | None = None
    # Mode finetune. The backbone learns at backbone_factor times the rate: 0.1 by default, 1 if not pretrained.
    epochs: Annotated[int, Field(ge=1)] = 30
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    backbone_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    freeze: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Share = 0.05
    label_smoothing: Share = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    ema: Share = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    patience: Annotated[int, Field(ge=0)] = 8
    deterministic: bool = False


class SearchRange(Strict):
    """The values that tuning may try for one hyperparameter or one field of `train`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[bool | int | float | str | None, ...] = ()

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> SearchRange:
        ranged = self.low is not None and self.high is not None
        if ranged == bool(self.choices):
            raise ValueError("set either `low` and `high`, or `choices`")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low or 0) <= 0:
            raise ValueError("a logarithmic range has to start above 0")
        if self.whole and any(end is not None and end % 1 for end in (self.low, self.high)):
            raise ValueError(f"`whole` needs integer limits, not {self.low} and {self.high}")
        return self


class TuneSection(Strict):
    """The number of trials and their ranges; with no trials the recipe's values are used."""

    trials: Annotated[int, Field(ge=0)] = 0
    metric: str = "roc_auc"
    seed: Annotated[int, Field(ge=0)] = 0
    space: dict[str, SearchRange] = Field(default_factory=dict)


class ExportSection(Strict):
    """How the trained model is exported, calibrated and given a decision rule."""

    # `sensitivity >= 0.95`, by its lower confidence bound `sensitivity >= 0.95 with 90% confidence`, the same for
    # specificity, `probability >= 0.5`, or `youden`.
    threshold: str = "probability >= 0.5"
    calibrate: bool = True
    # The largest difference between ONNX and the trained model; null: 1e-5 for tables, 1e-4 for images.
    parity: Annotated[float, Field(gt=0, le=1e-3)] | None = None
    precision: Literal["auto", "fp32", "int8"] = "auto"
    per: Literal["case", "patient"] = "case"
    combine: Literal["mean", "max", "noisy-or"] = "mean"
    conformal_alpha: Probability = 0.1
    outlier_quantile: Probability = 0.999

    @model_validator(mode="after")
    def _threshold_is_a_rule(self) -> ExportSection:
        match = THRESHOLD_RULE.fullmatch(self.threshold)
        if match is None or (match["figure"] == "probability" and match["confidence"]):
            raise ValueError(
                f"export.threshold {self.threshold!r} is not one of `sensitivity >= 0.95`, `sensitivity >= 0.95 "
                "with 90% confidence`, `specificity >= 0.9`, `probability >= 0.5`, `youden`"
            )
        return self


class EvaluateSection(Strict):
    """The content of the report."""

    draws: Annotated[int, Field(ge=100, le=100_000)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0
    prevalence: Probability | None = None
    subgroups: Names = ()


class GateRule(Strict):
    """A metric and its limit: a fixed one, or one on the difference from the champion on the same test cases."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    # Non-inferiority: the lower bound of the gain over the champion and over the reference version is above
    # -not_worse_by. Superiority: that of the gain over the champion is above better_by.
    not_worse_by: Annotated[float, Field(gt=0)] | None = None
    better_by: Annotated[float, Field(ge=0)] | None = None
    bound: Literal["value", "lower", "upper"] = "value"
    # A column of the cases: the rule then has to hold in each of its subgroups.
    each: Text | None = None

    @model_validator(mode="after")
    def _has_one_limit(self) -> GateRule:
        limits = (self.at_least, self.at_most, self.not_worse_by, self.better_by)
        if sum(limit is not None for limit in limits) != 1:
            raise ValueError("set exactly one of `at_least`, `at_most`, `not_worse_by` and `better_by` in a gate rule")
        if (self.compares or self.each) and not self.metric.startswith("test_"):
            raise ValueError(
                "a rule against the champion or for each subgroup needs a metric on the test cases: `test_...`"
            )
        if self.compares and self.bound != "value":
            raise ValueError("a rule against the champion always uses the lower bound of the gain: leave out `bound`")
        return self

    @property
    def compares(self) -> bool:
        """Return whether the rule compares with the champion."""
        return self.not_worse_by is not None or self.better_by is not None

    @property
    def limit(self) -> float:
        """Return the limit of the metric, or of the gain over the champion."""
        margin = None if self.not_worse_by is None else -self.not_worse_by
        return next(limit for limit in (self.at_least, self.at_most, self.better_by, margin) if limit is not None)


class GateSection(Strict):
    """The rules that a version has to pass before it serves; the defaults refuse a constant classifier."""

    rules: tuple[GateRule, ...] = (
        GateRule(metric="test_roc_auc", at_least=0.7, bound="lower"),
        GateRule(metric="test_balanced_accuracy", at_least=0.55, bound="lower"),
        GateRule(metric="test_abstention_rate", at_most=0.5, bound="upper"),
        GateRule(metric="test_roc_auc", not_worse_by=0.03),
    )
    # The statistical power for which "need n >= ..." is computed.
    power: Probability = 0.8
    # How many bundles will be compared with the reference version on one edition: they share half of the error budget,
    # and all later ones share the other half.
    looks: Annotated[int, Field(ge=1, le=1000)] = 3
    # ignore: a champion with other classes, or that cannot predict these cases, is not compared with.
    champion: Literal["compare", "ignore"] = "compare"
    # Audit findings that may not be accepted; `any` means all of them.
    forbid: Names = ()
    second_person: bool = False
