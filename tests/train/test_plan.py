"""What a training says beforehand."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from medloop.models.backbone import Classifier, build_classifier
from medloop.recipe import TrainSection
from medloop.train.device import make_fabric
from medloop.train.plan import Plan, activation_bytes, make_plan

from .pictures import read_pictures

MIB = 2**20


def plan_for(pictures: Path, model: Classifier, section: TrainSection) -> Plan:
    learning = read_pictures(pictures)
    return make_plan(model, learning, learning.final_turn(), section, make_fabric(model, section))


def small() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(classes=3, channels=1, size=32, backbone="test_resnet")


def test_what_is_learned_depends_on_the_mode(pictures: Path) -> None:
    model = small()
    everything, head = sum(w.numel() for w in model.parameters()), model.head.weight.numel() + 3
    section = TrainSection(mode="finetune")
    assert plan_for(pictures, model, section).learned == everything
    assert plan_for(pictures, model, section.model_copy(update={"freeze": True})).learned == head
    assert plan_for(pictures, model, TrainSection(mode="head")).learned == head


def test_the_plan_does_not_change_the_model(pictures: Path) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan_for(pictures, model, TrainSection(mode="finetune"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_plan_keeps_nothing(pictures: Path) -> None:
    def held() -> int:
        gc.collect()
        return sum(type(one) is torch.Tensor for one in gc.get_objects())

    model = small()
    plan_for(pictures, model, TrainSection(mode="finetune"))
    before = held()
    plan_for(pictures, model, TrainSection(mode="finetune"))
    assert held() <= before


def test_what_a_step_keeps_is_counted_in_bytes(pictures: Path) -> None:
    """A body of one 3 x 3 convolution, whose input and output are kept, and the head's input."""
    learning, model = read_pictures(pictures), small()
    model.body = OneLayer()
    model.head = torch.nn.Linear(8, 3)
    fabric = make_fabric(model, TrainSection(precision="fp32"))
    _, each, widest = activation_bytes(model, learning, fabric, learns=True)
    image, maps, embedding = 32 * 32 * 4, 8 * 32 * 32 * 4, 8 * 4
    assert widest == maps
    assert image + maps <= each <= 2 * (image + maps + embedding)


def test_more_pictures_in_a_batch_need_more_memory(pictures: Path) -> None:
    model = small()
    few, many = (plan_for(pictures, model, TrainSection(mode="finetune", batch_size=size)) for size in (1, 65))
    assert many.memory - few.memory > 2 * MIB
    assert "MiB" in str(many)
    assert f"{many.parameters:,} parameters" in str(many)


class OneLayer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 8, 3, padding=1)

    def forward_features(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(image))
