"""Fine-tuning: its parts, and that a killed training resumes as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medloop.errors import UserError
from medloop.models.backbone import Classifier, build_classifier
from medloop.recipe import ModelSection, TrainSection
from medloop.train.images.device import choose_precision, make_fabric
from medloop.train.images.learn import TrainedImages, train_images
from medloop.train.images.loop import (
    Loop,
    class_weights,
    draw_order,
    find_folded_norms,
    make_average,
    make_schedule,
    mix,
    parameter_groups,
)
from medloop.train.images.report_progress import Reporter, format_duration
from tests.train.images.pictures import TINY, read_pictures

EXACT = TrainSection(mode="finetune", epochs=4, batch_size=16, deterministic=True, precision="fp32", mixup=0.2, ema=0.9)


def small() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(classes=3, channels=1, size=32, backbone="test_resnet")


def trained(
    pictures: Path, out: Path, section: TrainSection, model: ModelSection = TINY, **options: Any
) -> TrainedImages:
    places = {"folder": out / "trained", "cache": out / "cache", "root": out}
    return train_images(
        pictures / "prepared", pictures / "splits.parquet", model, section, tuned={}, **{**places, **options}
    )


def loop_for(pictures: Path, out: Path, section: TrainSection, model: Classifier) -> Loop:
    learning = read_pictures(pictures)
    return Loop(
        learning=learning,
        turn=learning.final_turn(),
        section=section,
        backbone_factor=1.0,
        fabric=make_fabric(model, section),
        checkpoint=out / "state.safetensors",
        reporter=Reporter("train", section.epochs, silent=True),
        on_epoch=lambda _row: None,
    )


def test_a_killed_training_ends_as_an_undisturbed_one(pictures: Path, tmp_path: Path) -> None:
    whole = trained(pictures, tmp_path / "whole", EXACT)
    command = [sys.executable, str(Path(__file__).with_name("killed_training.py"))]
    arguments = [str(pictures), EXACT.model_dump_json(), str(tmp_path / "killed")]
    killed = subprocess.run([*command, *arguments], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    epochs: list[float] = []
    resumed = trained(pictures, tmp_path / "killed", EXACT, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [3, 4]
    figures = [column for column in whole.history if column not in ("seconds", "images_per_s")]
    pd.testing.assert_frame_equal(whole.history[figures], resumed.history[figures], rtol=0, atol=1e-6)
    weights = [load_file(tmp_path / name / "trained" / "weights.safetensors") for name in ("whole", "killed")]
    assert all(torch.allclose(weights[0][name], weights[1][name], rtol=0, atol=1e-6) for name in weights[0])
    assert not list((tmp_path / "killed" / "cache" / "checkpoints").iterdir())


def test_another_seed_does_not_go_on_from_a_checkpoint(pictures: Path, tmp_path: Path) -> None:
    def stop(row: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(pictures, tmp_path, EXACT, on_epoch=stop)
    epochs: list[float] = []
    section = EXACT.model_copy(update={"seed": 1, "epochs": 2})
    trained(pictures, tmp_path, section, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [1, 2]


def test_a_checkpoint_holds_no_pickle(pictures: Path, tmp_path: Path) -> None:
    loop_for(pictures, tmp_path, EXACT.model_copy(update={"epochs": 1}), model := small()).run(model)
    stored = load_file(tmp_path / "state.safetensors")
    assert {name.split("/")[0] for name in stored} == {"model", "average", "best", "optimizer"}


def test_the_best_epoch_is_kept_and_a_training_without_progress_stops(pictures: Path, tmp_path: Path) -> None:
    section = TrainSection(mode="finetune", epochs=40, learning_rate=0.02, clip=0, batch_size=16, patience=2)
    history = trained(pictures, tmp_path, section).history
    best = int(history["val_loss"].idxmin())
    assert len(history) == best + 3 < 40
    held = pd.read_parquet(tmp_path / "trained" / "held_out.parquet")
    shares = held[["p0", "p1", "p2"]].to_numpy()[np.arange(len(held)), held["y"]]
    assert float(-np.log(shares).mean()) == pytest.approx(history["val_loss"][best], abs=1e-3)


def test_only_the_head_learns_where_the_body_is_frozen(pictures: Path, tmp_path: Path) -> None:
    section = EXACT.model_copy(update={"freeze": True, "epochs": 2})
    before = small().state_dict()
    loop_for(pictures, tmp_path, section, model := small()).run(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_a_loss_that_diverges_ends_with_advice(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="learning_rate"):
        trained(pictures, tmp_path, EXACT.model_copy(update={"learning_rate": 1e30, "clip": 0.0}))


def test_the_rate_rises_in_a_line_and_falls_to_nothing() -> None:
    optimizer = torch.optim.AdamW(parameter_groups(small(), TrainSection(learning_rate=1.0), 0.5))
    schedule = make_schedule(optimizer, TrainSection(warmup=0.1), steps=100)
    rates = []
    for step in range(100):
        schedule.step_update(step + 1)
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[-1]["lr"] == rates[-1] / 2
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert all(after < before for before, after in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001


def test_the_body_learns_at_its_share_and_norms_do_not_decay() -> None:
    section, model = TrainSection(learning_rate=1e-2, weight_decay=0.1), small()
    groups = parameter_groups(model, section, 0.5)
    found = {(group["lr"], group["weight_decay"]): group["params"] for group in groups}
    assert set(found) == {(1e-2, 0.1), (1e-2, 0.0), (5e-3, 0.1), (5e-3, 0.0)}
    assert found[1e-2, 0.1][0] is model.head.weight
    assert sum(len(group) for group in found.values()) == len(list(model.parameters()))


def test_balancing_gives_every_class_the_same_total_weight() -> None:
    y = np.array([0] * 90 + [1] * 10)
    weights = class_weights(y, 2)
    assert weights[y].reshape(-1).sum() == pytest.approx(100)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
    drawn = draw_order(np.arange(100), y, weights, 0)
    assert 30 < int((y[drawn] == 1).sum()) < 70
    plain = draw_order(np.arange(100), y, None, 0)
    assert sorted(plain) == list(range(100))


def test_a_mixed_picture_has_the_mixed_target() -> None:
    images, targets = torch.tensor([[[[0.0]]], [[[100.0]]]]), torch.eye(2)
    mixed, shares = mix(images, targets, share=0.75)
    assert mixed.flatten().tolist() == [25, 75]
    assert shares.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_the_average_forgets_the_first_steps_and_then_follows_slowly() -> None:
    model = small()
    average = make_average(model, TrainSection(ema=0.9))
    assert make_average(model, TrainSection()) is None
    moved = []
    for step in (0, 1000):
        before = average.module.head.bias.clone()
        with torch.no_grad():
            model.head.bias.add_(1)
        average.update(model, step)
        moved.append(((average.module.head.bias - before) / (model.head.bias - before)).mean().item())
    assert moved == pytest.approx([1.0, 0.1])


def test_bf16_is_not_chosen_for_grouped_convolutions_on_a_processor() -> None:
    grouped = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, groups=8))
    assert choose_precision(grouped, "bf16") == "bf16-mixed"
    assert choose_precision(grouped, "fp32") == "32-true"
    if not torch.cuda.is_available():
        assert choose_precision(grouped, "auto") == "32-true"


@pytest.mark.soak
def test_two_processes_train_one_model(pictures: Path, tmp_path: Path) -> None:
    """Each process that torchrun starts takes its share of every batch, and the first one writes."""
    script = (
        "import sys; from pathlib import Path; from medloop.recipe import ModelSection, TrainSection\n"
        "from medloop.train.images.learn import train_images\n"
        "pictures, out = map(Path, sys.argv[1:])\n"
        "model = ModelSection.model_validate({'name': 'backbone', 'backbone': 'test_resnet'})\n"
        "section = TrainSection(mode='finetune', epochs=2, batch_size=16, precision='fp32')\n"
        "train_images(pictures / 'prepared', pictures / 'splits.parquet', model, section, tuned={},"
        " folder=out / 'trained', cache=out / 'cache', root=out)\n"
    )
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*start, str(tmp_path / "train.py"), str(pictures), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    assert b"2 x cpu" in done.stderr
    assert done.stderr.count(b"train, epoch 2 of 2 ") == 1
    history = pd.read_csv(tmp_path / "trained" / "history.csv")
    assert history["epoch"].tolist() == [1, 2]


def test_durations_are_written_in_words() -> None:
    assert [format_duration(seconds) for seconds in (7.4, 60, 3725)] == ["7 s", "1 min 0 s", "1 h 2 min"]


def test_only_folded_batch_norms_keep_their_statistics(pictures: Path, tmp_path: Path) -> None:
    model = small()
    assert find_folded_norms(model) == []
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms[:2]:
        assert norm.running_var is not None
        norm.running_var.fill_(1 - norm.eps)
    assert find_folded_norms(model) == norms[:2]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    loop_for(pictures, tmp_path, TrainSection(mode="finetune", epochs=1, batch_size=16), model).run(model)
    stayed = [torch.equal(old, norm.running_mean) for old, norm in zip(before, norms, strict=True)]  # type: ignore[arg-type]
    assert stayed == [True] * 2 + [False] * (len(norms) - 2)
