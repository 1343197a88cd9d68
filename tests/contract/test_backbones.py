"""What holds for every family of timm: it is built, learns with all its weights, and becomes ONNX; or it is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from medloop.bundle.export.network_onnx import check_image_parity, image_graph
from medloop.bundle.export.trial import try_export
from medloop.errors import UserError
from medloop.models.backbone import build_classifier
from tests.contract.backbone_families import COLOURS, FAMILIES, QUICK, REFUSED, UNEXPORTABLE

BOUND = 1e-4
STEPS = 3
# Of two pictures, what a batch norm over single places gives a bias before it is exactly nothing.
BATCH = 3


def learns_and_exports(member: str, size: int) -> None:
    """Built at this size; three steps move every weight; the map adds up to the logits; ONNX agrees with torch."""
    torch.manual_seed(0)
    channels = channels_of(member)
    model = build_classifier(classes=3, channels=channels, size=size, backbone=member, stem="own").train()
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, channels)).astype(np.uint8)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    still = {name for name, _ in model.named_parameters()}
    for _ in range(STEPS):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images)[0], torch.arange(BATCH) % 2).backward()  # type: ignore[no-untyped-call]
        assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
        # The last layers of residual branches may begin at zero, so that the others learn from the second step on.
        still -= {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
        optimiser.step()
    assert still == set()
    with torch.no_grad():
        logits, _, cam = model.eval()(images)
    largest = max(1.0, float(logits.abs().max()))
    assert float((cam.mean((2, 3)) + model.head.bias.detach() - logits).abs().max()) <= BOUND * largest
    check_image_parity(model, image_graph(model, pictures), pictures, bound=BOUND)


@pytest.mark.parametrize(("member", "size"), QUICK.items())
def test_one_of_each_build_learns_and_is_exported(member: str, size: int) -> None:
    learns_and_exports(member, size)


@pytest.mark.soak
@pytest.mark.parametrize("member", FAMILIES)
def test_every_family_learns_and_is_exported_at_96_pixels_or_at_the_size_it_names(member: str) -> None:
    learns_and_exports(member, needed_size(member))


def channels_of(member: str) -> int:
    return 3 if member in COLOURS else 1


def needed_size(member: str) -> int:
    """96 pixels, or what a refusal of them asks for."""
    try:
        build_classifier(classes=3, channels=channels_of(member), size=96, backbone=member, stem="own")
    except UserError as error:
        named = re.search(r"Set prepare\.size: (\d+)", error.hint)
        if named is None:
            raise
        return int(named[1])
    return 96


@pytest.mark.soak
@pytest.mark.parametrize("member", REFUSED)
def test_a_network_without_a_feature_map_is_refused_in_one_sentence(member: str) -> None:
    with pytest.raises(UserError, match="has no feature map at any image size") as refused:
        build_classifier(classes=3, channels=1, size=96, backbone=member, stem="own")
    assert "\n" not in str(refused.value)


@pytest.mark.soak
@pytest.mark.parametrize("member", UNEXPORTABLE)
def test_what_has_no_graph_is_refused_in_one_sentence_before_it_is_trained(member: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be exported to ONNX") as refused:
        try_export("backbone", {"backbone": member, "weights": "none"}, shape=(96, 96, 1), cache=tmp_path)
    assert "\n" not in str(refused.value)


def test_a_backbone_of_one_size_names_it() -> None:
    with pytest.raises(UserError, match=r"Set prepare\.size: 224") as refused:
        build_classifier(classes=3, channels=1, size=96, backbone="efficientformer_l1")
    assert "needs images of exactly 224 x 224 pixels" in refused.value.problem
