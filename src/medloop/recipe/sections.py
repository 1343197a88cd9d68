"""The sections of the recipe; a section is a stage, a command and a function in `steps`."""

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
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


def _is_plain(value: Any) -> Any:
    for one in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(one, bool | int | float | str | None) or (isinstance(one, float) and not math.isfinite(one)):
            raise ValueError("a value must be a text, a finite number, true, false, null or a list of these")
    return value


Plain = Annotated[Any, AfterValidator(_is_plain)]
Pattern = Annotated[str, AfterValidator(_is_pattern)]

THRESHOLD_RULE = re.compile(
    r"(?P<figure>sensitivity|specificity|probability) >= (?P<value>0?\.\d+|1(\.0*)?)"
    r"( with (?P<confidence>[1-9]\d(\.\d+)?)% confidence)?|youden"
)


class PhantomSection(Strict):
    """The phantoms that source `phantoms` generates; a size of 0 is the kind's own."""

    kind: str = "chest_ct"
    patients: Annotated[int, Field(ge=1)] = 400
    slices: Annotated[int, Field(ge=1, le=12)] = 4
    size: Annotated[int, Field(ge=0, le=1024)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    difficulty: Annotated[float, Field(ge=0, le=1)] = 0.5
    format: Literal["png", "dicom"] = "png"


class DataSection(Strict):
    """Where the cases come from and what their labels mean."""

    source: str = "csv"
    path: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    label: Text | None = None
    patient: Text | None = None
    key: Text | None = None
    features: Names = ()
    drop: Names = ()
    categories: Names = ()
    # Kept beside each case for subgroups (site, scanner, sex); the model never sees them.
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
            raise ValueError("data.classes names a class twice")
        if self.classes and not set(self.positive) <= set(self.classes):
            raise ValueError(f"data.positive {self.positive} must be among data.classes {self.classes}")
        return self


class AuditSection(Strict):
    """How the data are examined, and which severe findings are accepted by name."""

    accept: Names = ()
    leak_auc: Probability = 0.999
    range_sigmas: Annotated[float, Field(gt=0)] = 6.0
    reference: str | None = None
    shortcut_auc: Probability = 0.65
    probe_cases: Annotated[int, Field(ge=100)] = 5000


class SplitSection(Strict):
    """How cases are set apart: by patient and duplicate group, stratified and seeded."""

    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    # Of images: val chooses the epoch, calib the temperature, the threshold and the conformal sets. Without calib these
    # are fitted out of fold on train and val for a head, and for a finetuned network on the part that chose its epoch.
    val: Share = 0.0
    calib: Share = 0.0
    folds: Annotated[int, Field(ge=2, le=100)] = 10
    official: bool = True
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _something_is_left_to_learn_from(self) -> SplitSection:
        if self.test + self.val + self.calib >= 0.9:
            raise ValueError("split.test + split.val + split.calib must leave more than a tenth for training")
        return self


class PrepareSection(Strict):
    """How a case becomes the model's input."""

    size: Annotated[int, Field(ge=8, le=4096)] | tuple[int, int] = 224
    channels: Literal[1, 3] = 1
    fit: Literal["pad", "stretch", "crop"] = "pad"
    window: str | tuple[float, float] = "auto"
    # Of a DICOM file of many frames; all: each is a slice of its patient, for a model that decides per patient.
    frame: Literal["refuse", "first", "middle", "all"] = "refuse"
    max_categories: Annotated[int, Field(ge=2)] = 50


class ModelSection(Strict):
    """The model by name; its hyperparameters are the keyword arguments of its entry in MODELS."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Plain] = Field(init=False)

    name: str = "logistic_regression"

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters that the recipe sets."""
        return dict(self.model_extra or {})


class AugmentSection(Strict):
    """How far a training picture may be changed at random; a flip says that the two sides mean the same."""

    flip_horizontal: bool = False
    flip_vertical: bool = False
    # Degrees, shares of the side, and shares of the full range of grey.
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    brightness: Share = 0.1
    contrast: Share = 0.1
    noise: Share = 0.0


class TrainSection(Strict):
    """How the model is fitted; a table needs only the seed."""

    seed: Annotated[int, Field(ge=0)] = 0
    # head: features once, then only the linear head; finetune: the whole network.
    mode: Literal["head", "finetune"] = "head"
    cross_validate: bool = False
    augment: AugmentSection = AugmentSection()
    batch_size: Annotated[int, Field(ge=1)] = 32
    balance: Literal["none", "weights", "sampler"] = "none"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Of mode head: the picture as it is and views - 1 changed ones; no head_c means that the validation cases choose.
    views: Annotated[int, Field(ge=1, le=100)] = 1
    head_c: Annotated[float, Field(gt=0)] | None = None
    # Of mode finetune. The backbone learns at backbone_factor of the rate: by default 0.1, and 1 from nothing.
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
    """The values that tuning may give to one hyperparameter or one value of `train`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[bool | int | float | str | None, ...] = ()

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> SearchRange:
        ranged = self.low is not None and self.high is not None
        if ranged == bool(self.choices):
            raise ValueError("give either `low` and `high` or `choices`")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and (self.low or 0) <= 0:
            raise ValueError("a logarithmic range must begin above 0")
        if self.whole and any(end is not None and end % 1 for end in (self.low, self.high)):
            raise ValueError(f"a range of whole numbers must have whole ends, not {self.low} and {self.high}")
        return self


class TuneSection(Strict):
    """How many trials, over which ranges; no trials means that the recipe's values stay."""

    trials: Annotated[int, Field(ge=0)] = 0
    metric: str = "roc_auc"
    seed: Annotated[int, Field(ge=0)] = 0
    space: dict[str, SearchRange] = Field(default_factory=dict)


class ExportSection(Strict):
    """How the trained model becomes a bundle that decides."""

    # `sensitivity >= 0.95`, by its lower bound `sensitivity >= 0.95 with 90% confidence`, the same of specificity,
    # `probability >= 0.5`, or `youden`.
    threshold: str = "probability >= 0.5"
    calibrate: bool = True
    # How far ONNX may differ from the trained model; null: 1e-5 for a table, 1e-4 for images.
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
                f"export.threshold {self.threshold!r} must read `sensitivity >= 0.95`, `sensitivity >= 0.95 "
                "with 90% confidence`, `specificity >= 0.9`, `probability >= 0.5` or `youden`"
            )
        return self


class EvaluateSection(Strict):
    """What the report shows."""

    draws: Annotated[int, Field(ge=100, le=100_000)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0
    prevalence: Probability | None = None
    subgroups: Names = ()


class GateRule(Strict):
    """One figure and what it must reach: a fixed limit, or a limit against the champion on the same test cases."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    # The lower end of the gain over the champion, and over the reference version, must be above -not_worse_by; or that
    # over the champion above better_by.
    not_worse_by: Annotated[float, Field(gt=0)] | None = None
    better_by: Annotated[float, Field(ge=0)] | None = None
    bound: Literal["value", "lower", "upper"] = "value"
    # A column of the cases: the rule must then hold in each of its groups.
    each: Text | None = None

    @model_validator(mode="after")
    def _has_one_limit(self) -> GateRule:
        limits = (self.at_least, self.at_most, self.not_worse_by, self.better_by)
        if sum(limit is not None for limit in limits) != 1:
            raise ValueError("a gate rule has one of `at_least`, `at_most`, `not_worse_by` and `better_by`")
        if (self.compares or self.each) and not self.metric.startswith("test_"):
            raise ValueError(
                "a rule against the champion or for each subgroup needs a figure on test cases: `test_...`"
            )
        if self.compares and self.bound != "value":
            raise ValueError(
                "a rule against the champion always speaks of the lower bound of the gain: leave out `bound`"
            )
        return self

    @property
    def compares(self) -> bool:
        """Whether it needs a champion."""
        return self.not_worse_by is not None or self.better_by is not None

    @property
    def limit(self) -> float:
        """What the figure, or the gain over the champion, must reach."""
        margin = None if self.not_worse_by is None else -self.not_worse_by
        return next(limit for limit in (self.at_least, self.at_most, self.better_by, margin) if limit is not None)


class GateSection(Strict):
    """What must hold before a version may serve; the defaults refuse what is no better than one constant answer."""

    rules: tuple[GateRule, ...] = (
        GateRule(metric="test_roc_auc", at_least=0.7, bound="lower"),
        GateRule(metric="test_balanced_accuracy", at_least=0.55, bound="lower"),
        GateRule(metric="test_abstention_rate", at_most=0.5, bound="upper"),
        GateRule(metric="test_roc_auc", not_worse_by=0.03),
    )
    # The chance to notice what is there for which "need n >= ..." is computed.
    power: Probability = 0.8
    # How many bundles are to be compared with the reference version on one edition: they share half of the error
    # budget, and all that come after them the other half.
    looks: Annotated[int, Field(ge=1, le=1000)] = 3
    # ignore: a champion of other classes, or one that cannot answer these cases, is not compared with.
    champion: Literal["compare", "ignore"] = "compare"
    # Audit findings that may not have been accepted; `any` stands for all.
    forbid: Names = ()
    second_person: bool = False
