"""Types that are decoded in more than one thread."""

from __future__ import annotations

import subprocess
import sys

from edge_agent.core.manifest import Manifest
from edge_agent.core.moulds import make_ready

MANY = """
import sys, threading, types, msgspec
from edge_agent.core.moulds import make_ready
sys.setswitchinterval(1e-6)
SOURCE = '''
from __future__ import annotations
import msgspec
from typing import Annotated
class Inner(msgspec.Struct):
    x: Annotated[int, msgspec.Meta(ge=0)] = 0
    y: dict[str, Annotated[str, msgspec.Meta(max_length=5)]] = {}
class Outer(msgspec.Struct):
    a: tuple[Inner, ...] = ()
    b: dict[str, Inner] = {}
'''
WORDS = b'{"a": [{"x": 1, "y": {"q": "r"}}], "b": {"k": {"x": 2}}}'
for number in range(400):
    module = types.ModuleType(f"many.n{number}")
    sys.modules[module.__name__] = module
    exec(compile(SOURCE, module.__name__, "exec"), module.__dict__)
    assert make_ready("many") == 2 * (number + 1)
    gate = threading.Barrier(4)
    def decode():
        gate.wait()
        msgspec.json.decode(WORDS, type=module.Outer)
    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def test_threads_that_decode_a_type_for_the_first_time_at_once_end_nobody() -> None:
    """Without `make_ready` this is a SIGSEGV within a few rounds."""
    done = subprocess.run(
        [sys.executable, "-c", MANY], capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_all_that_is_decoded_here_is_made_ready() -> None:
    assert Manifest.__module__.startswith("edge_agent")
    assert make_ready() > 20
