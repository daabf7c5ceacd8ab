"""A repository that really publishes, over HTTP on loopback, and errands that really ask it."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.errands import Errand, Place
from tests.installer import rascals
from tools.hot_tier import wanted
from tools.hot_tier.keys import Keys
from tools.hot_tier.publishing import Published, publish
from tools.hot_tier.repository import Repository

NODE = "cart-3"


class HotSide:
    """Publishes what the tests make; `place` is a device that was enrolled here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.house = Repository(folder / "repository", Keys(folder / "keys"))
        self.house.create()
        self.url = ""
        self.asked: list[str] = []

    def publish(self, version: str, **more: Any) -> Published:
        package = rascals.write(self.folder / "made" / version, version=version, **more)
        return publish(self.house, package, say=lambda _words: None)

    def want(self, version: str, *, node: str = NODE, cohort: str = "", mode: str = "swap") -> int:
        wish = wanted.wish(f"tiny={version}:{mode}")
        change = wanted.Change(models=(wish,))
        node = "" if cohort else node
        return wanted.move(self.house, change, node=node, cohort=cohort).serial

    def place(self, device: Path, **more: Any) -> Place:
        fields: dict[str, Any] = {
            "models": str(device / "models"),
            "tuf": str(device / "tuf"),
            "engines": str(device / "engines"),
            "root_file": str(self.house.metadata / "1.root.json"),
            "repositories": (self.url,) if self.url else (),
        }
        return Place(**fields | more)

    def errand(self, verb: Any, device: Path, **more: Any) -> Errand:
        place = more.pop("place", None) or self.place(device)
        return Errand(verb=verb, place=place, node=NODE, agent="0.1.0", **more)

    @contextmanager
    def serving(self) -> Iterator[None]:
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(self, code: Any = "-", size: Any = "-") -> None:
                asked.append(f"{self.path} {code} {size}")

        handler = functools.partial(Handler, directory=str(self.house.folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            try:
                yield
            finally:
                server.shutdown()
                thread.join()
