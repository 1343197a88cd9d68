"""The train stage for images: a head on cached features, or the whole network, and the cases it was measured on."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from medloop.errors import UserError
from medloop.metrics.view import FloatArray
from medloop.models import find_model
from medloop.models.augment import Views
from medloop.models.backbone import Classifier
from medloop.models.head import Head
from medloop.recipe import ModelSection, TrainSection
from medloop.storage import atomic_file, atomic_folder, sha256_bytes, write_json
from medloop.train.checkpoint import write_state
from medloop.train.device import exactness, make_fabric, peak_memory
from medloop.train.features import Features, body_fingerprint, compute_views
from medloop.train.fit_table import environment
from medloop.train.head import choose_head
from medloop.train.image_facts import image_facts
from medloop.train.image_learning import FINAL, ImageLearning, Turn, read_image_learning
from medloop.train.learning import measure
from medloop.train.loop import Loop, OnEpoch, log_loss
from medloop.train.plan import make_plan
from medloop.train.report_progress import Reporter
from medloop.train.space import with_tuned

PACKAGES = ("torch", "timm", "lightning-fabric", "safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainedImages:
    """Figures by epoch and fold, probabilities for cases that were not learned from, and the head's strength."""

    history: pd.DataFrame
    held_out: pd.DataFrame
    head_c: float | None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that every fold shares."""

    learning: ImageLearning
    build: Callable[[], Classifier]
    section: TrainSection
    factor: float
    fabric: Any
    features: Path
    checkpoints: Path
    turns: Sequence[Turn]
    on_epoch: OnEpoch


def train_images(
    prepared: Path,
    splits: Path,
    model: ModelSection,
    section: TrainSection,
    *,
    tuned: Mapping[str, Any],
    folder: Path,
    cache: Path,
    root: Path,
    on_epoch: OnEpoch = lambda _row: None,
) -> TrainedImages:
    """Write the weights, the figures of every epoch and fold, and the probabilities of held-out cases."""
    params, section = with_tuned(model, section, tuned)
    learning = read_image_learning(prepared, splits)
    turns = [*(learning.fold_turns() if section.cross_validate else ()), learning.final_turn()]
    with exactness(deterministic=section.deterministic):
        network, setting = _begin(
            learning, model.name, params, section, turns=turns, cache=cache, root=root, on_epoch=on_epoch
        )
        _say_plan(network, setting)
        trained = _learn(network, setting)
    fabric = setting.fabric
    if fabric.is_global_zero:
        content = {"name": model.name, "params": params, "seed": section.seed, "mode": section.mode}
        content |= {"head_C": trained.head_c, "head_C_chosen": section.mode == "head" and section.head_c is None}
        content |= {"training": setting.checkpoints.name}
        content |= {"views": views_of(section).to_json(), "balanced": section.balance != "none"}
        facts = image_facts(
            learning, section, trained.history, turns=turns, tuned=tuned, backbone_factor=setting.factor
        )
        _write(network, trained, content, facts, folder)
        shutil.rmtree(setting.checkpoints, ignore_errors=True)
    fabric.barrier()
    Reporter("train", 0, silent=not fabric.is_global_zero).say(f"peak memory {peak_memory(fabric) / 2**20:,.0f} MiB")
    return trained


def learn_turns(
    learning: ImageLearning,
    name: str,
    params: Mapping[str, Any],
    section: TrainSection,
    turns: Sequence[Turn],
    *,
    cache: Path,
    root: Path,
    on_epoch: OnEpoch = lambda _row: None,
) -> TrainedImages:
    """Train and measure, and keep nothing but the features."""
    with exactness(deterministic=section.deterministic):
        network, setting = _begin(
            learning, name, params, section, turns=turns, cache=cache, root=root, on_epoch=on_epoch
        )
        try:
            return _learn(network, setting)
        finally:
            shutil.rmtree(setting.checkpoints, ignore_errors=True)


def _begin(
    learning: ImageLearning,
    name: str,
    params: Mapping[str, Any],
    section: TrainSection,
    *,
    turns: Sequence[Turn],
    cache: Path,
    root: Path,
    on_epoch: OnEpoch,
) -> tuple[Classifier, Setting]:
    build = _builder(name, params, learning, seed=section.seed, root=root)
    network = build()
    return network, Setting(
        learning=learning,
        build=build,
        section=section,
        factor=section.backbone_factor or (1.0 if params["weights"] == "none" else 0.1),
        fabric=make_fabric(network, section),
        features=cache / "features",
        checkpoints=cache / "checkpoints" / _run_name(learning, network, params, section),
        turns=turns,
        on_epoch=on_epoch,
    )


def _learn(network: Classifier, setting: Setting) -> TrainedImages:
    return (_fit_heads if setting.section.mode == "head" else _finetune)(network, setting)


def _builder(
    name: str, params: Mapping[str, Any], learning: ImageLearning, *, seed: int, root: Path
) -> Callable[[], Classifier]:
    entry = find_model(name)
    if entry.learns != "image":
        raise UserError("images need an image model", found=name, hint="set `model: {name: backbone}`")
    height, width, channels = learning.images.shape[1:]

    def build() -> Classifier:
        torch.manual_seed(seed)
        make = entry.build(**params)
        size = (height, width)
        network: Classifier = make(classes=len(learning.classes), channels=channels, size=size, root=root)
        return network

    return build


def count_weights(learning: ImageLearning, name: str, params: Mapping[str, Any]) -> int:
    """How many weights the network learns with."""
    network = _builder(name, {**params, "weights": "none"}, learning, seed=0, root=Path())()
    return sum(weight.numel() for weight in network.parameters())


def _say_plan(network: Classifier, setting: Setting) -> None:
    if setting.fabric.is_global_zero:
        plan = make_plan(network, setting.learning, setting.learning.final_turn(), setting.section, setting.fabric)
        Reporter("train", 0).say(str(plan))


def _fit_heads(network: Classifier, setting: Setting) -> TrainedImages:
    """Fold by fold if asked, then for good, all on the same features."""
    learning, section = setting.learning, setting.section
    views = list(compute_views(network, learning, setting.fabric, views_of(section), cache=setting.features))
    rows, kept = [], []
    for turn in setting.turns:
        started = time.perf_counter()
        head = fit_turn(views, learning, turn, section)
        seconds = time.perf_counter() - started
        probabilities = head.probabilities(views[0][turn.held])
        train_loss = log_loss(learning.y[turn.seen], head.probabilities(views[0][turn.seen]))
        spent = {"epoch": 0, "train_loss": train_loss, "seconds": seconds, "images_per_s": len(turn.seen) / seconds}
        rows.append({**spent, **_measured(learning, turn, probabilities)})
        setting.on_epoch(rows[-1])
        kept.append(_held_out(learning, turn, probabilities))
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head.weight))
        network.head.bias.copy_(torch.from_numpy(head.bias))
    return TrainedImages(history=pd.DataFrame(rows), held_out=_unseen(kept), head_c=head.strength)


def views_of(section: TrainSection) -> Views:
    """The views that the section asks for."""
    return Views(count=section.views, augment=section.augment, seed=section.seed, batch_size=section.batch_size)


def fit_turn(views: list[Features], learning: ImageLearning, turn: Turn, section: TrainSection) -> Head:
    """The head of one turn; a strength that the recipe names is not chosen anew."""
    fixed = None if section.head_c is None else (section.head_c,)
    balanced = section.balance != "none"
    return choose_head(views, learning.y, turn.seen, turn.watched, balanced=balanced, strengths=fixed)


def _finetune(network: Classifier, setting: Setting) -> TrainedImages:
    """Fold by fold if asked, each from the same start, then for good."""
    rows: list[Mapping[str, Any]] = []
    kept = []
    for turn in setting.turns:
        model = network if turn.fold == FINAL else setting.build()
        name = "train" if turn.fold == FINAL else f"fold {turn.fold}"
        loop = Loop(
            learning=setting.learning,
            turn=turn,
            section=setting.section,
            backbone_factor=setting.factor,
            fabric=setting.fabric,
            checkpoint=setting.checkpoints / f"{name.replace(' ', '_')}.safetensors",
            reporter=Reporter(name, setting.section.epochs, silent=not setting.fabric.is_global_zero),
            on_epoch=setting.on_epoch,
        )
        history = loop.run(model)
        probabilities = loop.predict(model, turn.held)
        best = min(history, key=lambda row: row["val_loss"])
        measured = {**best, **_measured(setting.learning, turn, probabilities)}
        rows += history if turn.fold == FINAL else [measured]
        kept.append(_held_out(setting.learning, turn, probabilities))
    return TrainedImages(history=pd.DataFrame(rows), held_out=_unseen(kept), head_c=None)


def _measured(learning: ImageLearning, turn: Turn, probabilities: FloatArray) -> dict[str, float]:
    y = learning.y[turn.held]
    figures = measure(y, probabilities, learning.classes, learning.positive)
    return {"fold": turn.fold, "val_loss": log_loss(y, probabilities), **figures}


def _held_out(learning: ImageLearning, turn: Turn, probabilities: FloatArray) -> pd.DataFrame:
    shares = {f"p{number}": probabilities[:, number] for number in range(len(learning.classes))}
    names = {name: np.array(getattr(learning, name))[turn.held] for name in ("case_ids", "groups", "y")}
    return pd.DataFrame({"case_id": names["case_ids"], "group": names["groups"], "y": names["y"], **shares})


def _unseen(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The folds' cases where there are folds, else those of the final model."""
    return pd.concat(tables[:-1] or tables, ignore_index=True)


def _run_name(learning: ImageLearning, network: Classifier, params: Mapping[str, Any], section: TrainSection) -> str:
    """Another name for anything that would give another result, so that only the same training goes on."""
    parts = sha256_bytes(learning.fold.tobytes() + learning.is_val.tobytes())
    plain = [learning.fingerprint, parts, body_fingerprint(network)]
    return sha256_bytes(json.dumps([*plain, dict(params), section.model_dump(mode="json")]).encode())[:32]


def _write(
    network: Classifier, trained: TrainedImages, content: Mapping[str, Any], facts: Mapping[str, Any], folder: Path
) -> None:
    with atomic_folder(folder) as target:
        write_state(target / "weights.safetensors", network.state_dict())
        with atomic_file(target / "history.csv") as file:
            trained.history.to_csv(file, index=False)
        with atomic_file(target / "held_out.parquet") as file:
            trained.held_out.to_parquet(file, index=False)
        write_json(target / "model.json", content)
        write_json(target / "train.json", facts)
        found = environment()
        found["packages"] |= {name: importlib.metadata.version(name) for name in PACKAGES}
        write_json(target / "environment.json", found)
