"""timm can be imported whichever torchvision is installed, and a network that learned nothing gives features."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from medloop.models.untrained import FEATURES, untrained_features


def test_timm_is_imported_in_a_fresh_process_and_twice_is_no_trouble() -> None:
    code = (
        "from medloop.models.torchvision_guard import import_timm, declare_missing_operators as declare\n"
        "declare(); declare()\n"
        "print(import_timm().create_model('resnet18', num_classes=2).num_classes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr


def test_untrained_features_are_the_same_for_a_seed_and_tell_pictures_apart() -> None:
    import torch

    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = untrained_features(seed=1)(pictures)
    assert torch.rand(1) == expected, "the seed of the caller's own work was moved"
    assert first.shape == (3, FEATURES)
    assert np.isfinite(first).all()
    assert np.array_equal(first, untrained_features(seed=1)(pictures))
    assert not np.array_equal(first, untrained_features(seed=2)(pictures))
    assert not np.allclose(first[0], first[1])
