"""Measures the house: what `test_house.py` compares with the rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ROOT / "edge_agent"
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
# What branches or loops. `with` does neither: nested rooms are the order of shutdown.
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Function:
    where: str  # file:line name
    lines: int
    positional: int
    nesting: int


@cache
def files(*folders: str) -> tuple[Path, ...]:
    """The Python files below these folders of the repository."""
    return tuple(path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def where(path: Path, line: int, name: str = "") -> str:
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}:{line} {name}".rstrip()


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(tree(path)):
        if isinstance(node, FunctionNode):
            arguments = [*node.args.posonlyargs, *node.args.args]
            receiver = bool(arguments) and arguments[0].arg in ("self", "cls")
            yield Function(
                where=where(path, node.lineno, node.name),
                lines=(node.end_lineno or node.lineno) - node.lineno + 1,
                positional=len(arguments) - receiver,
                nesting=max((_depth(child, 0) for child in node.body), default=0),
            )


def _depth(node: ast.AST, outside: int) -> int:
    """The deepest block below a node. `elif` is no deeper than its `if`; inner functions are
    measured for themselves."""
    if isinstance(node, SCOPES):
        return outside
    here = outside + isinstance(node, BLOCKS)
    deepest = here
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        is_elif = isinstance(node, ast.If) and field == "orelse" and len(children) == 1
        for child in children:
            if isinstance(child, ast.AST):
                start = outside if is_elif and isinstance(child, ast.If) else here
                deepest = max(deepest, _depth(child, start))
    return deepest


def broad_handlers(path: Path) -> Iterator[str]:
    """Where a file catches everything; to clean up and raise it again is no catch."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler) and not _raises_again(node):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {kind.id for kind in kinds if isinstance(kind, ast.Name)}
            if node.type is None or names & {"Exception", "BaseException"}:
                yield where(path, node.lineno)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def tests(path: Path) -> int:
    return sum(
        isinstance(node, FunctionNode) and node.name.startswith("test_")
        for node in ast.walk(tree(path))
    )


def mocks(path: Path) -> list[str]:
    """Where a file replaces a part by a stand-in that is patched in."""
    found = re.compile(r"\b(Magic|Async)?Mock\(|\bmocker\b|\bpatch(\.\w+)?\(|monkeypatch\.setattr")
    return [where(path, number) for number, line in lines(path) if found.search(line)]


def lines(path: Path) -> list[tuple[int, str]]:
    return list(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
