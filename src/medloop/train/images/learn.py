"""The stage `train` for images: fit a head on cached features or fine-tune the network, and measure it."""

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
from medloop.metrics import METRICS
from medloop.metrics.view import FloatArray
from medloop.models import find_model, without_weights
from medloop.models.augment import Views
from medloop.models.backbone import Classifier
from medloop.recipe import ModelSection, TrainSection
from medloop.storage import atomic_file, atomic_folder, sha256_bytes, write_json
from medloop.train.images.checkpoint import write_state
from medloop.train.images.device import determinism, make_fabric, peak_memory
from medloop.train.images.examples import FINAL, ImageLearning, Turn, read_image_learning
from medloop.train.images.facts import image_facts
from medloop.train.images.features import body_fingerprint, compute_views
from medloop.train.images.head import fit_head
from medloop.train.images.loop import Loop, OnEpoch
from medloop.train.images.report_progress import Reporter, describe_training
from medloop.train.learning import measure
from medloop.train.space import with_tuned
from medloop.train.tables.fit import environment

# Rises with every change of the meaning of a checkpoint, so that a training resumes only from one that it can read.
CHECKPOINT_FORMAT = 2
PACKAGES = ("torch", "timm", "lightning-fabric", "safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainedImages:
    """Figures by epoch and fold, probabilities of held-out cases, and the strength of the head."""

    history: pd.DataFrame
    held_out: pd.DataFrame
    head_c: float | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that the folds share."""

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
    """Train and write the weights, the figures of every epoch and fold, and the probabilities of held-out cases."""
    params, section = with_tuned(model, section, tuned)
    learning = read_image_learning(prepared, splits)
    turns = [*(learning.fold_turns() if section.cross_validate else ()), learning.final_turn()]
    with determinism(deterministic=section.deterministic):
        network, job = _begin(
            learning, model.name, params, section, turns=turns, cache=cache, root=root, on_epoch=on_epoch
        )
        _report_plan(network, job)
        trained = _learn(network, job)
    fabric = job.fabric
    if fabric.is_global_zero:
        content = {"name": model.name, "params": params, "seed": section.seed, "mode": section.mode}
        content |= {"head_C": trained.head_c, "head_C_chosen": section.mode == "head" and section.head_c is None}
        content |= {"training": job.checkpoints.name}
        content |= {"views": views_of(section).to_json(), "balanced": section.balance != "none"}
        facts = image_facts(learning, section, trained.history, turns=turns, tuned=tuned, backbone_factor=job.factor)
        _write(network, trained, content, facts, folder)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
    fabric.barrier()
    Reporter("train", 0, silent=not fabric.is_global_zero).print(f"peak memory {peak_memory(fabric) / 2**20:,.0f} MiB")
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
    """Train and measure without writing anything but the cached features."""
    with determinism(deterministic=section.deterministic):
        network, job = _begin(learning, name, params, section, turns=turns, cache=cache, root=root, on_epoch=on_epoch)
        try:
            return _learn(network, job)
        finally:
            shutil.rmtree(job.checkpoints, ignore_errors=True)


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
) -> tuple[Classifier, Job]:
    build = _builder(name, params, learning, seed=section.seed, root=root)
    network = build()
    return network, Job(
        learning=learning,
        build=build,
        section=section,
        factor=section.backbone_factor or (1.0 if params.get("weights", "none") == "none" else 0.1),
        fabric=make_fabric(network, section),
        features=cache / "features",
        checkpoints=cache / "checkpoints" / _run_name(learning, network, params, section),
        turns=turns,
        on_epoch=on_epoch,
    )


def _learn(network: Classifier, job: Job) -> TrainedImages:
    return (_fit_heads if job.section.mode == "head" else _finetune)(network, job)


def _builder(
    name: str, params: Mapping[str, Any], learning: ImageLearning, *, seed: int, root: Path
) -> Callable[[], Classifier]:
    entry = find_model(name)
    if entry.learns != "image":
        raise UserError(f"Model {name} cannot be trained on images.", "Set `model: {name: backbone}`.")
    height, width, channels = learning.images.shape[1:]

    def build() -> Classifier:
        torch.manual_seed(seed)
        make = entry.build(**params)
        size = (height, width)
        network: Classifier = make(classes=len(learning.classes), channels=channels, size=size, root=root)
        return network

    return build


def count_weights(learning: ImageLearning, name: str, params: Mapping[str, Any]) -> int:
    """Return the number of weights of the network."""
    network = _builder(name, without_weights(name, params), learning, seed=0, root=Path())()
    return sum(weight.numel() for weight in network.parameters())


def _report_plan(network: Classifier, job: Job) -> None:
    fabric, turn = job.fabric, job.learning.final_turn()
    Reporter("train", 0, silent=not fabric.is_global_zero).print(
        describe_training(network, job.section, fabric, images=len(turn.seen), watched=len(turn.watched))
    )


def _fit_heads(network: Classifier, job: Job) -> TrainedImages:
    """Fit the head of every turn on the same features; the last one is that of the final model."""
    learning, section = job.learning, job.section
    views = list(compute_views(network, learning, job.fabric, views_of(section), cache=job.features))
    rows, kept = [], []
    for turn in job.turns:
        started = time.perf_counter()
        head = fit_head(views, learning, turn, section)
        seconds = time.perf_counter() - started
        probabilities = head.probabilities(views[0][turn.held])
        train_loss = METRICS["log_loss"](learning.y[turn.seen], head.probabilities(views[0][turn.seen]))
        costs = {"epoch": 0, "train_loss": train_loss, "seconds": seconds, "images_per_s": len(turn.seen) / seconds}
        rows.append({**costs, **_measure(learning, turn, probabilities)})
        job.on_epoch(rows[-1])
        kept.append(_held_out_table(learning, turn, probabilities))
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head.weight))
        network.head.bias.copy_(torch.from_numpy(head.bias))
    return TrainedImages(history=pd.DataFrame(rows), held_out=_join_held_out(kept), head_c=head.strength)


def views_of(section: TrainSection) -> Views:
    """Return the views of the section."""
    return Views(count=section.views, augment=section.augment, seed=section.seed, batch_size=section.batch_size)


def _finetune(network: Classifier, job: Job) -> TrainedImages:
    """Train the network of every turn from the same start; the last one is the final model."""
    rows: list[Mapping[str, Any]] = []
    kept = []
    for turn in job.turns:
        model = network if turn.fold == FINAL else job.build()
        name = "train" if turn.fold == FINAL else f"fold {turn.fold}"
        loop = Loop(
            learning=job.learning,
            turn=turn,
            section=job.section,
            backbone_factor=job.factor,
            fabric=job.fabric,
            checkpoint=job.checkpoints / f"{name.replace(' ', '_')}.safetensors",
            reporter=Reporter(name, job.section.epochs, silent=not job.fabric.is_global_zero),
            on_epoch=job.on_epoch,
        )
        history = loop.run(model)
        probabilities = loop.predict(model, turn.held)
        best = min(history, key=lambda row: row["val_loss"])
        row = {**best, **_measure(job.learning, turn, probabilities)}
        rows += history if turn.fold == FINAL else [row]
        kept.append(_held_out_table(job.learning, turn, probabilities))
    return TrainedImages(history=pd.DataFrame(rows), held_out=_join_held_out(kept), head_c=None)


def _measure(learning: ImageLearning, turn: Turn, probabilities: FloatArray) -> dict[str, float]:
    y = learning.y[turn.held]
    figures = measure(y, probabilities, learning.classes, learning.positive)
    return {"fold": turn.fold, "val_loss": METRICS["log_loss"](y, probabilities), **figures}


def _held_out_table(learning: ImageLearning, turn: Turn, probabilities: FloatArray) -> pd.DataFrame:
    shares = {f"p{number}": probabilities[:, number] for number in range(len(learning.classes))}
    names = {name: np.array(getattr(learning, name))[turn.held] for name in ("case_ids", "groups", "y")}
    return pd.DataFrame({"case_id": names["case_ids"], "group": names["groups"], "y": names["y"], **shares})


def _join_held_out(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the held-out cases of the folds, or those of the final model if there are no folds."""
    return pd.concat(tables[:-1] or tables, ignore_index=True)


def _run_name(learning: ImageLearning, network: Classifier, params: Mapping[str, Any], section: TrainSection) -> str:
    """Return a name that differs for anything that changes the result, so that only the same training is resumed."""
    parts = sha256_bytes(learning.fold.tobytes() + learning.is_val.tobytes())
    plain = [CHECKPOINT_FORMAT, learning.fingerprint, parts, body_fingerprint(network)]
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
