"""One small member of every family of timm, with the side of the pictures that it is tried with."""

from __future__ import annotations

# Those that are quick enough for every run of the tests, each of another build.
QUICK: dict[str, int] = {
    "test_nfnet": 64,
    "test_mambaout": 64,
    "test_byobnet": 64,
    "test_coatnet": 64,
    "test_vit_relpos": 64,
    "mobilenetv3_small_050": 64,
    "efficientvit_b0": 64,
}
FAMILIES: dict[str, int] = {}
REFUSED: dict[str, str] = {}
