"""Any backbone under one head: the same three outputs, whatever the channels and the size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medloop.errors import UnknownName, UserError
from medloop.models import MODELS, hyperparameters
from medloop.models.backbone import Classifier, build_classifier
from medloop.models.torchvision_guard import import_timm
from medloop.train.images.features import body_fingerprint

# One of each build: residual, depthwise, dense, wide last layers, channels last, transformer.
SMALLEST = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "mobilenetv3_small_050"]


def built(backbone: str = "test_resnet", size: int = 48, **options: object) -> Classifier:
    torch.manual_seed(0)
    model: Classifier = MODELS["backbone"].build(backbone=backbone, **options)(
        classes=3, channels=1, size=size, root=Path()
    )
    return model.eval()


CUT: list[tuple[dict[str, object], int]] = [
    ({"stride": 8}, 8),
    ({"pool": "attention"}, 2),
    ({"stride": 4, "pool": "attention"}, 16),
]


@pytest.mark.parametrize("name", SMALLEST)
def test_logits_embedding_and_map_belong_together(name: str) -> None:
    belong_together(built(name))


@pytest.mark.parametrize(("options", "side"), CUT, ids=str)
def test_they_do_in_a_backbone_cut_short_and_with_attention(options: dict[str, object], side: int) -> None:
    model = built("resnet10t", **options)
    if model.attention is not None:
        torch.nn.init.normal_(model.attention.weight)
    belong_together(model)
    assert model.maps(torch.zeros(1, 1, 64, 64)).shape[-1] == side


def test_attention_begins_as_the_mean() -> None:
    images = torch.rand(2, 1, 48, 48) * 255
    with torch.no_grad():
        assert torch.allclose(built(pool="attention").embed(images), built().embed(images), atol=1e-5)


def test_a_stride_that_the_backbone_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.stride is 5, but test_resnet has 2, 4, 8"):
        built(stride=5)


def belong_together(model: Classifier, size: int = 48) -> None:
    images = torch.rand(2, 1, size, size) * 255
    with torch.no_grad():
        logits, embedding, cam = model(images)
    assert logits.shape == (2, 3)
    assert cam.shape[:2] == (2, 3)
    assert torch.allclose(logits, model.head(embedding), atol=1e-5)
    # The mean of the map is the logit: what the map shows is all that was summed.
    assert torch.allclose(cam.mean((2, 3)) + model.head.bias, logits, atol=1e-4)
    with torch.no_grad():
        assert torch.allclose(embedding, model.embed(images), atol=1e-5)


def test_weights_behind_the_pooling_are_left_out_and_older_files_may_have_them(tmp_path: Path) -> None:
    model = built("mobilenetv3_small_050")
    whole = import_timm().create_model("mobilenetv3_small_050", num_classes=0, in_chans=1)
    hidden = {f"body.{name}" for name in whole.state_dict() if name.startswith("conv_head.")}
    assert hidden == {"body.conv_head.weight", "body.conv_head.bias"} == model.left_out
    assert hidden.isdisjoint(model.state_dict())
    body = sum(weight.numel() for weight in whole.parameters()) - sum(w.numel() for w in whole.conv_head.parameters())
    assert sum(weight.numel() for weight in model.body.parameters()) == body
    older = {**model.state_dict(), **{name: whole.state_dict()[name.removeprefix("body.")] for name in hidden}}
    older["head.bias"] = older["head.bias"] + 5
    save_file({name: tensor.contiguous() for name, tensor in older.items()}, tmp_path / "w.safetensors")
    warm = MODELS["backbone"].build(backbone="mobilenetv3_small_050", weights="w.safetensors")
    again = warm(classes=3, channels=1, size=48, root=tmp_path)
    assert torch.equal(again.head.bias, older["head.bias"])
    model.load_state_dict(older)
    assert torch.equal(model.head.bias, older["head.bias"])
    images = torch.rand(2, 1, 48, 48) * 255
    with torch.no_grad():
        assert torch.equal(model(images)[0], again.eval()(images)[0])


def test_weights_that_run_without_effect_are_left_out() -> None:
    # The last blocks of CaiT move the class token alone, which the mean over the places does not ask.
    model = built("cait_xxs24_224", 32)
    assert {name.split(".")[1] for name in model.left_out} == {"cls_token", "blocks_token_only"}
    belong_together(model, 32)
    names = [name for name, _ in model.named_parameters()]
    model(torch.rand(2, 1, 32, 32) * 255)[0].square().sum().backward()
    assert [name for name in names if not model.get_parameter(name).grad.any()] == []  # type: ignore[union-attr]


def silent_weights(path: Path, *, seed: int) -> Path:
    """Write weights whose last activation is zero for any input, as that of some trained ones is for noise."""
    torch.manual_seed(seed)
    state = import_timm().create_model("mobilenetv2_035", num_classes=0, in_chans=1).state_dict()
    state["bn2.weight"], state["bn2.bias"] = torch.zeros_like(state["bn2.weight"]), -torch.ones_like(state["bn2.bias"])
    save_file(state, path)
    return path


def test_trained_weights_that_do_not_respond_to_noise_are_still_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medloop.models.body._STUDIES", {})
    one, other = (
        built("mobilenetv2_035", weights=str(silent_weights(tmp_path / f"{seed}.safetensors", seed=seed)))
        for seed in (1, 2)
    )
    assert one.left_out == frozenset()
    assert "body.conv_stem.weight" in one.state_dict()
    assert body_fingerprint(one) != body_fingerprint(other)


def test_the_weights_of_a_training_do_not_depend_on_an_earlier_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medloop.models.body._STUDIES", {})
    first, second = (built("test_resnet").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_studying_a_network_does_not_change_it() -> None:
    torch.manual_seed(3)
    plain = import_timm().create_model("test_resnet", num_classes=0, in_chans=1)
    torch.manual_seed(3)
    model = build_classifier(classes=3, channels=1, size=48, backbone="test_resnet", stem="own")
    assert all(torch.equal(tensor, model.body.state_dict()[name]) for name, tensor in plain.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_tokens_of_pictures_that_are_not_square_lie_in_rows() -> None:
    model = MODELS["backbone"].build(backbone="test_vit")(classes=3, channels=1, size=(32, 64), root=Path())
    images = torch.rand(2, 1, 32, 64) * 255
    with torch.no_grad():
        logits, _, cam = model.eval()(images)
    assert cam.shape[2:] == (2, 4)
    assert torch.allclose(cam.mean((2, 3)) + model.head.bias, logits, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientvit_b0", "shvit_s1"])
def test_a_name_with_vit_in_it_does_not_decide_the_input_size(name: str) -> None:
    belong_together(built(name, 96), 96)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    other = import_timm().create_model("test_resnet", num_classes=7)
    save_file(other.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="does not fit test_convnext"):
        build_classifier(
            classes=3, channels=1, size=96, backbone="test_convnext", weights="weights.safetensors", root=tmp_path
        )


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_weights_of_other_names_are_refused(backbone: str, tmp_path: Path) -> None:
    # The residual network shares two batch norms with this one.
    save_file(import_timm().create_model("mobilenetv2_100").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=f"does not fit {backbone}"):
        build_classifier(classes=3, channels=3, size=96, backbone=backbone, weights="w.safetensors", root=tmp_path)


@pytest.mark.parametrize(
    ("backbone", "size", "options"),
    [
        ("test_vit", 96, {}),
        ("test_vit", 160, {}),
        ("test_efficientnet", 96, {}),
        ("resnet10t", 32, {"stem": "small"}),
        ("resnet10t", 96, {"stride": 8}),
        ("mobilenetv3_small_050", 96, {}),
    ],
    ids=str,
)
def test_weights_of_the_backbone_fit_in_other_sizes_and_cuts(
    backbone: str, size: int, options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    whole = import_timm().create_model(backbone, num_classes=7)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    model = build_classifier(
        classes=3, channels=1, size=size, backbone=backbone, weights="w.safetensors", root=tmp_path, **options
    )
    stored = dict(whole.named_parameters())
    other = [name for name, weight in model.body.named_parameters() if not torch.equal(weight, stored[name])]
    # What depends on the channels and on the size.
    assert set(other) <= {"conv1.0.weight", "conv1.weight", "conv_stem.weight", "patch_embed.proj.weight", "pos_embed"}


def test_small_pictures_keep_their_size_in_the_stem() -> None:
    images = torch.rand(1, 1, 32, 32) * 255
    with torch.inference_mode():
        small, own = (built("resnet18", 32, stem=stem).maps(images).shape[-1] for stem in ("auto", "own"))
    assert (small, own) == (4, 1)


def test_colour_weights_from_a_file_fit_one_channel(tmp_path: Path) -> None:
    timm = import_timm()
    torch.manual_seed(1)
    colour = timm.create_model("test_resnet", num_classes=7)
    save_file(colour.state_dict(), tmp_path / "weights.safetensors")
    model = build_classifier(
        classes=3, channels=1, size=96, backbone="test_resnet", weights="weights.safetensors", root=tmp_path
    )
    grey = next(weight for weight in model.body.parameters() if weight.ndim == 4)
    wide = next(weight for weight in colour.parameters() if weight.ndim == 4)
    assert torch.allclose(grey[:, 0], wide.sum(1), atol=1e-5)


def test_a_warm_start_keeps_the_head_of_the_bundle(tmp_path: Path) -> None:
    first = built()
    with torch.no_grad():
        first.head.bias.fill_(5)
    save_file({name: tensor.contiguous() for name, tensor in first.state_dict().items()}, tmp_path / "w.safetensors")
    second = MODELS["backbone"].build(backbone="test_resnet", weights="w.safetensors")
    same, more = (second(classes=classes, channels=1, size=48, root=tmp_path) for classes in (3, 4))
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert not torch.equal(more.head.bias, torch.full((4,), 5.0))
    assert body_fingerprint(more) == body_fingerprint(first)
    with pytest.raises(UserError, match="weights of the warm start differ"):
        second(classes=3, channels=3, size=48, root=tmp_path)


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="safetensors"):
        MODELS["backbone"].build(weights="w.safetensors")(classes=3, channels=1, size=48, root=tmp_path)


def test_a_missing_file_and_an_unknown_backbone_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.weights is nowhere\.safetensors, but there is no such file"):
        MODELS["backbone"].build(weights="nowhere.safetensors")(classes=3, channels=1, size=48, root=tmp_path)
    with pytest.raises(UnknownName, match="resnet18"):
        built("resnet81")


def test_an_unknown_tag_of_a_backbone_is_named() -> None:
    with pytest.raises(UnknownName, match=r"resnet18\.a1_in1k") as refused:
        built("resnet18.nope")
    assert "resnet18.nope" in refused.value.problem
    assert build_classifier(classes=3, channels=1, size=48, backbone="resnet18.a1_in1k")


@pytest.mark.parametrize("dropout", [5, 1, -0.1, float("nan")])
def test_a_dropout_is_a_share(dropout: float) -> None:
    with pytest.raises(UserError, match=r"model\.dropout of backbone is"):
        hyperparameters("backbone", {"dropout": dropout})


def test_hyperparameters_are_checked() -> None:
    assert hyperparameters("backbone", {"backbone": "resnet50"})["backbone"] == "resnet50"
    with pytest.raises(UserError, match=r"model\.stem"):
        hyperparameters("backbone", {"stem": "tiny"})
