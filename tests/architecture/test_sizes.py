"""Small where it helps reading: no function over 50 lines, no file over 400."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[2]
FOLDERS = ["src", "tests", "benchmarks"]
MAX_FUNCTION = 50
MAX_FILE = 400
MAX_MEDIAN, MAX_NINTH_TENTH = 8, 25


def python_files(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("*.py"))


def function_lengths(root: Path) -> dict[str, int]:
    """Counts the lines of every function, signature and docstring included."""
    return {
        f"{path.relative_to(root)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in python_files(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def file_lengths(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(root)
    }


def too_long(lengths: dict[str, int], longest: int) -> list[str]:
    return [f"{name}: {length} lines, at most {longest}" for name, length in lengths.items() if length > longest]


def test_functions_are_short() -> None:
    broken = too_long(function_lengths(ROOT), MAX_FUNCTION)
    assert not broken, "\n" + "\n".join(broken)


def test_files_are_short() -> None:
    broken = too_long(file_lengths(ROOT), MAX_FILE)
    assert not broken, "\n" + "\n".join(broken)


def test_most_functions_are_very_short() -> None:
    lengths = [length for name, length in function_lengths(ROOT).items() if name.startswith("src")]
    assert median(lengths) <= MAX_MEDIAN
    assert quantiles(lengths, n=10)[-1] <= MAX_NINTH_TENTH


def test_a_long_function_and_a_long_file_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "medloop"
    folder.mkdir(parents=True)
    body = "    x = 1\n"
    (folder / "case.py").write_text("def fits():\n" + body * 49 + "async def long():\n" + body * 50, encoding="utf-8")
    (folder / "fits.py").write_text("x = 1\n" * 400, encoding="utf-8")
    (folder / "long.py").write_text("x = 1\n" * 401, encoding="utf-8")
    functions = too_long(function_lengths(tmp_path), MAX_FUNCTION)
    files = too_long(file_lengths(tmp_path), MAX_FILE)
    assert functions == ["src/medloop/case.py:51 long: 51 lines, at most 50"]
    assert files == ["src/medloop/long.py: 401 lines, at most 400"]
