"""A disk that remembers each effect, and what a power cut after any of them may leave behind.

What is durable: the content of a file as of its last `sync`; a name, a rename or a removal once all
folders that it touches were flushed after it. Everything else may be there or not, whole or torn,
in any mixture: file systems differ, and the worst of them is meant.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edge_agent.stores.files import Disk

Left = tuple[tuple[Path, bytes | None], ...]  # paths, with the content of files; None: a folder


class Effect(NamedTuple):
    """what: the method. other: the new name, or what was written."""

    what: str
    path: Path
    other: Path | bytes | int = 0


class QuickDisk(Disk):
    """Does not wait for the disk: who comes after the cut need not outlive another one."""

    def sync(self, file: BinaryIO) -> None: ...

    def sync_folder(self, path: Path) -> None: ...


class RecordingDisk(QuickDisk):
    """Does it, and remembers it."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    def create(self, path: Path, *, mode: int = 0o600) -> BinaryIO:
        file = super().create(path, mode=mode)
        self.effects.append(Effect("create", path))
        return file

    def write(self, file: BinaryIO, content: bytes) -> None:
        at = file.tell()
        super().write(file, content)
        self.effects.append(Effect("write", Path(file.name), at.to_bytes(8, "big") + content))

    def reserve(self, file: BinaryIO, size_bytes: int) -> None:
        super().reserve(file, size_bytes)
        self.effects.append(Effect("write", Path(file.name), bytes(8 + size_bytes)))

    def cut(self, file: BinaryIO, size_bytes: int) -> None:
        super().cut(file, size_bytes)
        self.effects.append(Effect("cut", Path(file.name), size_bytes))

    def sync(self, file: BinaryIO) -> None:
        self.effects.append(Effect("sync", Path(file.name)))

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.effects.append(Effect("rename", old, new))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.effects.append(Effect("unlink", path))

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self.effects.append(Effect("mkdir", path))

    def rmdir(self, path: Path) -> None:
        super().rmdir(path)
        self.effects.append(Effect("rmdir", path))

    def sync_folder(self, path: Path) -> None:
        self.effects.append(Effect("sync_folder", path))


class Node:
    """A file or a folder, whatever its name is. content: as written; durable: as flushed."""

    def __init__(self, *, is_folder: bool, content: bytes = b"") -> None:
        self.is_folder = is_folder
        self.names: dict[str, Node] = {}  # of a folder, as the running process sees them
        self.content = self.durable = content


class Change(NamedTuple):
    """One of names: out of `gone` (folder, name), into `come`. It is all or nothing."""

    node: Node
    gone: tuple[Node, str] | None
    come: tuple[Node, str] | None
    unflushed: set[Node]


class World:
    """What was done so far, and what of it a cut would leave. `root` is there from the start."""

    def __init__(self, root: Path, start: Node) -> None:
        self._root = root
        self._top = start
        self._start = {folder: dict(folder.names) for folder in _folders(start)}
        self._changes: list[Change] = []
        self._nodes = list(_nodes(start))

    def do(self, effect: Effect) -> None:
        what, path, other = effect
        if what in ("create", "mkdir"):
            node = Node(is_folder=what == "mkdir")
            self._nodes.append(node)
            self._change(node, None, self._place(path))
        elif what == "rename":
            assert isinstance(other, Path)
            self._change(self._at(path), self._place(path), self._place(other))
        elif what in ("unlink", "rmdir"):
            self._change(self._at(path), self._place(path), None)
        elif what == "sync_folder":
            for change in self._changes:
                change.unflushed.discard(self._at(path))
        else:
            self._into_file(self._at(path), what, other)

    def left(self, choose: Choose) -> Left:
        """What is there after a cut."""
        names = {node: dict(held) for node, held in self._start.items()}
        for change in self._changes:
            if not change.unflushed or choose.keeps(change):
                _apply(change, names)
        return tuple(_left(self._top, Path(), names, choose))

    def _change(
        self, node: Node, gone: tuple[Node, str] | None, come: tuple[Node, str] | None
    ) -> None:
        if gone is not None:
            del gone[0].names[gone[1]]
        if come is not None:
            come[0].names[come[1]] = node
        touched = {place[0] for place in (gone, come) if place is not None}
        self._changes.append(Change(node, gone, come, touched))

    @staticmethod
    def _into_file(node: Node, what: str, other: object) -> None:
        if what == "write":
            assert isinstance(other, bytes)
            at, content = int.from_bytes(other[:8], "big"), other[8:]
            node.content = node.content[:at] + content + node.content[at + len(content) :]
        elif what == "cut":
            assert isinstance(other, int)
            node.content = node.content[:other]
        else:
            assert what == "sync", what
            node.durable = node.content

    def _place(self, path: Path) -> tuple[Node, str]:
        return self._at(path.parent), path.name

    def _at(self, path: Path) -> Node:
        node = self._top
        for part in path.relative_to(self._root).parts:
            node = node.names[part]
        return node


class Choose:
    """What of the unflushed survives. names: whether a change does. torn: what a file holds."""

    def __init__(self, names: Callable[[], bool], torn: Callable[[Node], bytes]) -> None:
        self._names = names
        self.torn = torn

    def keeps(self, _: Change) -> bool:
        return self._names()


def outcomes(seed: int, mixtures: int = 3) -> Iterable[tuple[str, Choose]]:
    """The ends of what may happen, and some mixtures."""
    yield "nothing unflushed", Choose(lambda: False, lambda node: node.durable)
    yield "everything", Choose(lambda: True, lambda node: node.content)
    yield "names without content", Choose(lambda: True, lambda node: node.durable)
    yield "zeros", Choose(lambda: True, lambda node: node.durable + bytes(_grown(node)))
    yield "half", Choose(lambda: True, lambda node: node.content[: _half(node)])
    yield "content without names", Choose(lambda: False, lambda node: node.content)
    for number in range(mixtures):
        yield f"mixture {seed}/{number}", _mixture(random.Random(seed * 31 + number))


def _mixture(dice: random.Random) -> Choose:
    def torn(node: Node) -> bytes:
        return dice.choice([node.durable, node.content, node.content[: _half(node)]])

    return Choose(lambda: dice.random() < 0.5, torn)


def cuts(
    root: Path, before: Path, effects: Sequence[Effect], scratch: Path
) -> Iterable[tuple[str, Path]]:
    """Every state that a cut after any prefix of the effects may leave, one folder each.

    before: a copy of what was durable in `root` when the effects began.
    """
    for length in range(len(effects) + 1):
        world = World(root, _seen(before))
        for effect in effects[:length]:
            world.do(effect)
        last = (
            f"{effects[length - 1].what} {effects[length - 1].path.name}" if length else "nothing"
        )
        seen: set[Left] = set()
        for number, (how, choose) in enumerate(outcomes(length)):
            left = world.left(choose)
            if left in seen:
                continue  # nothing was unflushed that could make a difference
            seen.add(left)
            folder = scratch / f"{length:04}-{number}"
            _write(left, folder)
            yield f"cut after effect {length} ({last}), {how}", folder


def _grown(node: Node) -> int:
    return max(0, len(node.content) - len(node.durable))


def _half(node: Node) -> int:
    return len(node.durable) + _grown(node) // 2


def _apply(change: Change, names: dict[Node, dict[str, Node]]) -> None:
    """Lenient: what it builds on may not have survived."""
    if change.gone is not None:
        held = names.get(change.gone[0], {})
        if held.get(change.gone[1]) is change.node:
            del held[change.gone[1]]
    if change.come is not None:
        names.setdefault(change.come[0], {})[change.come[1]] = change.node


def _left(
    node: Node, path: Path, names: dict[Node, dict[str, Node]], choose: Choose
) -> Iterable[tuple[Path, bytes | None]]:
    for name, child in names.get(node, {}).items():
        yield path / name, None if child.is_folder else choose.torn(child)
        yield from _left(child, path / name, names, choose)


def _write(left: Left, folder: Path) -> None:
    folder.mkdir()
    for path, content in left:
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def _seen(path: Path) -> Node:
    """What lies there, as nodes."""
    if not path.is_dir():
        return Node(is_folder=False, content=path.read_bytes())
    node = Node(is_folder=True)
    node.names = {child.name: _seen(child) for child in sorted(path.iterdir())}
    return node


def _nodes(node: Node) -> Iterable[Node]:
    yield node
    for child in node.names.values():
        yield from _nodes(child)


def _folders(node: Node) -> list[Node]:
    return [one for one in _nodes(node) if one.is_folder]
