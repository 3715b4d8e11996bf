"""Who may import whom, read off the import statements."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("weights", "datamodules", "lightning_modules", "callbacks", "experiments")
#: Package -> prefixes of our own modules it may import.
ALLOWED = {
    "weights": ("weights",),
    "datamodules": ("datamodules", "weights"),
    "callbacks": ("callbacks", "datamodules.schema"),
    "lightning_modules": ("lightning_modules", "weights", "datamodules.schema"),
    "lightning_modules.backbones": ("lightning_modules.backbones",),
    "experiments": PACKAGES,
}
#: What a network may import from outside.
BACKBONE_LIBRARIES = {"torch", "timm", "open_clip", "__future__", "typing", "collections", "math"}
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_directions(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    owner = max((p for p in ALLOWED if f"{module}.".startswith(f"{p}.")), key=len)
    ours = {name for name in imports(path) if name.split(".")[0] in PACKAGES}
    wrong = {n for n in ours if not any(f"{n}.".startswith(f"{a}.") for a in ALLOWED[owner])}
    assert not wrong, f"{module} must not import {sorted(wrong)}"


def test_networks_import_torch_only() -> None:
    for path in (ROOT / "lightning_modules" / "backbones").rglob("*.py"):
        outside = {n.split(".")[0] for n in imports(path)} - set(PACKAGES)
        assert outside <= BACKBONE_LIBRARIES | {"dataclasses", "functools", "itertools"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{path}: {node.name}"
