"""What stands in the place of a cached file and is none is put aside: the file is fetched again.

A folder there would be an error for ever, and a pipe would be waited for. Nothing is deleted.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path


def no_file(path: Path) -> None:
    """Raises: OSError."""
    _unless(path, stat.S_ISREG)


def no_folder(path: Path) -> None:
    """Raises: OSError."""
    _unless(path, stat.S_ISDIR)


def _unless(path: Path, is_right: Callable[[int], bool]) -> None:
    if not os.path.lexists(path):
        return
    try:
        if is_right(path.stat().st_mode):
            return
    except FileNotFoundError:
        return  # a link that leads nowhere: whoever writes there makes what it names
    except OSError:
        if not path.is_symlink():  # a loop of links is nothing that anybody needs
            raise
    path.rename(path.with_name(f"{path.name}.aside.{secrets.token_hex(4)}"))
