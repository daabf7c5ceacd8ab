"""The file of an export on its way to a stick: private, looked at, whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from edge_agent.cli.exits import CommandError
from edge_agent.core import carriage
from edge_agent.core.carriage import Line
from edge_agent.core.wire.armour import MAX_BUNDLE_CHARS
from edge_agent.core.wire.outcome import WireError
from edge_agent.stores.files import sync_folder

MAX_LINE_BYTES = MAX_BUNDLE_CHARS + 1


class ExportFile:
    """Enter, `feed` all parts, `finish`; without that nothing is left.

    Every method raises CommandError.
    """

    def __init__(self, path: Path, *, replace: bool) -> None:
        self._path = path
        self._replace = replace
        self._beside: Path | None = None
        self._file: BinaryIO
        self._rest = b""
        self._last = Line(0, is_seal=False)
        self._records = self._bytes = 0

    def __enter__(self) -> ExportFile:  # noqa: PYI034 - Self is 3.11
        if os.path.lexists(self._path) and not self._replace:
            raise CommandError(f"write {self._path}: it is there already", hint="add --force")
        try:
            descriptor, name = tempfile.mkstemp(
                prefix=f".{self._path.name}.", dir=self._path.parent
            )
        except OSError as error:
            raise self._failed(error) from error
        self._beside = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        if self._beside is not None:
            self._beside.unlink(missing_ok=True)

    def feed(self, part: bytes) -> None:
        """Any part of the lines."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            self._add(line)
        if len(self._rest) > MAX_LINE_BYTES:
            raise CommandError(f"export: expected lines of at most {MAX_LINE_BYTES} B, got more")

    def finish(self) -> dict[str, int | bool]:
        """It is on the disk, under its name: `records`, `bytes`, `private`."""
        if self._rest or not self._last.is_seal:
            raise CommandError("export: cut off before its end", hint="try again")
        assert self._beside is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            private = os.fstat(self._file.fileno()).st_mode & 0o077 == 0
            self._file.close()
            self._beside.replace(self._path)
            self._beside = None
            with contextlib.suppress(OSError):  # some sticks have no folders to flush
                sync_folder(self._path.parent)
        except OSError as error:
            raise self._failed(error) from error
        return {"records": self._records, "bytes": self._bytes, "private": private}

    def _add(self, line: bytes) -> None:
        try:
            self._last = carriage.look(line)
            self._file.write(line + b"\n")
        except WireError as error:
            raise CommandError(f"export: damaged on its way: {error.what}") from error
        except OSError as error:
            raise self._failed(error) from error
        self._records += self._last.records
        self._bytes += len(line) + 1

    def _failed(self, error: OSError) -> CommandError:
        return CommandError(f"write {self._path}: {error.strerror}")
