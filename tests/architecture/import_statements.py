"""Every import statement of a package, read from its files without running them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement: `module` and `target` are dotted names, without `medloop.` where it is our own."""

    module: str
    target: str
    where: str
    ours: bool
    late: bool


def inside(module: str, place: str) -> bool:
    return fnmatchcase(module, place) or fnmatchcase(module, f"{place}.*")


def part_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def modules_in(package: Path) -> dict[str, Path]:
    """Names every module below the package."""
    named = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def nodes_in(node: ast.AST, *, late: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Walks the tree and tells of each node whether importing the module leaves it unrun."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        unrun = late or typing_only or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield child, late
        yield from nodes_in(child, late=unrun)


def names_from(node: ast.ImportFrom, *, module: str, is_package: bool, known: set[str]) -> Iterator[str]:
    """Gives the full name of each thing that `from ... import` brings: the module itself where it is one."""
    base = node.module or ""
    if node.level:
        parents = f"medloop.{module}".rstrip(".").split(".")
        parents = parents[: len(parents) - node.level + is_package]
        base = ".".join([*parents, base]).rstrip(".")
    for alias in node.names:
        name = f"{base}.{alias.name}"
        yield name if name.removeprefix("medloop.") in known else base


def names_called(node: ast.Call) -> Iterator[str]:
    """Gives what `import_module("...")` brings, so that a string is no way round the rules."""
    function = ast.unparse(node.func).rsplit(".", maxsplit=1)[-1]
    if function in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
        yield str(node.args[0].value)


@functools.cache
def imports_in(package: Path) -> list[Import]:
    """Finds every import below the package, wherever it stands in its file."""
    modules = modules_in(package)
    found = []
    for module, path in modules.items():
        for node, late in nodes_in(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                is_package = path.name == "__init__.py"
                names += names_from(node, module=module, is_package=is_package, known=set(modules))
            elif isinstance(node, ast.Call):
                names += names_called(node)
            where = f"{path.relative_to(package.parent)}:{getattr(node, 'lineno', 0)}"
            for name in dict.fromkeys(names):
                ours = part_of(name) == "medloop"
                target = name.removeprefix("medloop").removeprefix(".") if ours else name
                found.append(Import(module=module, target=target, where=where, ours=ours, late=late))
    return found
