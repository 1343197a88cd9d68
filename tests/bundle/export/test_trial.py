"""A network is exported once before it is trained, with a warning where its map is too coarse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medloop.bundle.export.network_onnx import image_graph
from medloop.bundle.export.trial import try_export, warn_of_coarse_map
from medloop.models.backbone import build_classifier
from tests.bundle.export.test_int8 import PICTURES

RESNET = {"backbone": "test_resnet", "stem": "own"}


def test_attention_is_exported_in_single_steps_and_learned_in_one() -> None:
    model = build_classifier(classes=3, channels=1, size=48, backbone="test_vit")
    fused = [layer for layer in model.modules() if getattr(layer, "fused_attn", False)]
    assert fused
    seen: list[bool] = []
    hook = fused[0].register_forward_pre_hook(lambda layer, _: seen.append(layer.fused_attn))
    image_graph(model, PICTURES)
    hook.remove()
    assert seen
    assert not any(seen)
    assert all(layer.fused_attn for layer in fused)
    other = build_classifier(classes=3, channels=1, size=48, backbone="test_vit")
    assert any(getattr(layer, "fused_attn", False) for layer in other.modules())


def test_a_network_is_tried_once(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    first = try_export("backbone", RESNET, shape=(32, 32, 1), cache=tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.parity <= 1e-4
    (kept,) = (tmp_path / "export_trials").iterdir()
    kept.write_text('{"parity": 0.5, "places": [8, 8]}', "utf-8")
    again = try_export("backbone", {**RESNET, "dropout": 0.3}, shape=(32, 32, 1), cache=tmp_path)
    assert (again.parity, again.places) == (0.5, (8, 8))


def test_a_coarse_map_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = try_export("backbone", RESNET, shape=(32, 32, 1), cache=tmp_path)
    assert trial.places == (1, 1)
    warning = capsys.readouterr().err
    assert "test_resnet has 1 x 1 places for images of 32 x 32; with prepare.size: 96 there are about 3 x 3" in warning
    assert warn_of_coarse_map("resnet18", (3, 3), (96, 96, 1)) is None
