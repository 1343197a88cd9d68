"""The command line and the service start without the libraries that only training needs, and importing does nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["matplotlib", "mlflow", "pandas", "sklearn", "timm", "torch", "torchvision"]

# Imports a module and, for a package, everything below it but the web page, which is a process of its own.
PROBE = """
import importlib, json, logging, pkgutil, sys
root, heavy = sys.argv[1], sys.argv[2].split()
module = importlib.import_module(root)
loaded = [root]
folders = getattr(module, "__path__", []) if root.count(".") else []
for found in pkgutil.walk_packages(folders, root + "."):
    if not found.name.startswith("medloop.ui"):
        importlib.import_module(found.name)
        loaded.append(found.name)
heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(heavy))
print(json.dumps({"loaded": loaded, "heavy": heavy, "handlers": len(logging.getLogger().handlers)}))
"""


def load(root: str, *, cwd: Path, heavy: list[str]) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, root, " ".join(heavy)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("root", ["medloop", "medloop.__main__", "medloop.cli", "medloop.serve"])
def test_importing_loads_no_heavy_library_and_does_nothing(root: str, tmp_path: Path) -> None:
    answer = load(root, cwd=tmp_path, heavy=HEAVY)
    assert answer["heavy"] == [], f"importing {answer['loaded']} loaded {answer['heavy']}"
    assert answer["handlers"] == 0, "importing set up logging"
    assert list(tmp_path.iterdir()) == [], "importing wrote files"


def test_listing_models_loads_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, medloop.models; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "sklearn"} & set(ast.literal_eval(done.stdout))


def test_a_loaded_library_is_found(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("import logging\nimport fractions\nlogging.basicConfig()\n", encoding="utf-8")
    answer = load("planted", cwd=tmp_path, heavy=["fractions", "torch"])
    assert answer["heavy"] == ["fractions"]
    assert answer["handlers"] == 1
