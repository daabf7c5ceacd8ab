"""The habits of the house, measured. Medians hardly tell good code from bad; the tails do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests import house

CODE = ("edge_agent", "tests", "tools")
MAX_FILE_LINES = 600
SOFT_FUNCTION_LINES = 20
MAX_FUNCTION_LINES = 50
SOFT_SHARE = 0.5  # of all functions may be longer than the soft bound
MAX_POSITIONAL = 5
MAX_NESTING = 3
MAX_MOCKS_PER_TEST = 0.05
MAX_IGNORES_PER_1000_LINES = 3
ROOMS = [
    "backends",
    "cli",
    "config",
    "core",
    "core/modeldelta",
    "core/wire",
    "inference",
    "links",
    "services",
    "sources",
    "stores",
]
FLATS = ["__init__", "app", "host", "metrics", "ports", "supervise"]


def report(rule: str, broken: list[str]) -> str:
    return f"{rule}\n" + "\n".join(f"  {line}" for line in broken)


def test_files_fit_on_a_few_screens() -> None:
    sizes = [(path, len(house.lines(path))) for path in house.files(*CODE)]
    long = [f"{house.where(path, 1)} {n} lines" for path, n in sizes if n > MAX_FILE_LINES]
    assert not long, report(f"a file has at most {MAX_FILE_LINES} lines; split by idea", long)


def test_functions_fit_on_one_screen() -> None:
    every = [found for path in house.files(*CODE) for found in house.functions(path)]
    long = [f"{f.where} {f.lines} lines" for f in every if f.lines > MAX_FUNCTION_LINES]
    assert not long, report(f"a function has at most {MAX_FUNCTION_LINES} lines", long)
    longish = [f"{f.where} {f.lines} lines" for f in every if f.lines > SOFT_FUNCTION_LINES]
    rule = f"at most {SOFT_SHARE:.0%} of functions have more than {SOFT_FUNCTION_LINES} lines"
    assert len(longish) <= SOFT_SHARE * len(every), report(rule, longish)


def test_functions_take_few_positional_parameters() -> None:
    wide = [
        f"{found.where} takes {found.positional}"
        for path in house.files("edge_agent", "tools")
        for found in house.functions(path)
        if found.positional > MAX_POSITIONAL
    ]
    rule = f"at most {MAX_POSITIONAL} positional parameters; the others after `*`, or in a Struct"
    assert not wide, report(rule, wide)


def test_functions_nest_little() -> None:
    deep = [
        f"{found.where} nests {found.nesting} deep"
        for path in house.files(*CODE)
        for found in house.functions(path)
        if found.nesting > MAX_NESTING
    ]
    rule = f"at most {MAX_NESTING} branches and loops deep; return early, or name the inside"
    assert not deep, report(rule, deep)


def test_only_the_supervisor_catches_everything() -> None:
    broad = [
        place
        for path in house.files("edge_agent")
        if path != house.PRODUCT / "supervise.py"
        for place in house.broad_handlers(path)
    ]
    rule = "name the errors, and translate them into those of core.errors; only supervise.py rests"
    assert not broad, report(rule, broad)


def test_parts_are_tested_for_real() -> None:
    paths = [path for path in house.files("tests") if path.name != "house.py"]
    mocks = [place for path in paths for place in house.mocks(path)]
    bound = MAX_MOCKS_PER_TEST * sum(house.tests(path) for path in paths)
    rule = f"at most {MAX_MOCKS_PER_TEST} mocks per test; implement the port instead"
    assert len(mocks) <= bound, report(rule, mocks)


def test_rules_are_rarely_switched_off_and_by_name() -> None:
    comment = re.compile(r"#\s*(noqa|type:\s*ignore|mypy:|ruff:)(?P<code>[:\[]\s*[\w-]+)?")
    found, bare, total = [], [], 0
    for path in house.files(*CODE):
        for number, line in house.lines(path):
            total += 1
            if match := comment.search(line):
                found.append(house.where(path, number))
                bare += [] if match["code"] else [house.where(path, number)]
    assert not bare, report("an ignore names its rule: `noqa: X123`, `type: ignore[x]`", bare)
    rule = f"at most {MAX_IGNORES_PER_1000_LINES} ignores per 1000 lines, of {total} lines"
    assert len(found) <= max(5, MAX_IGNORES_PER_1000_LINES * total / 1000), report(rule, found)


def test_no_work_is_left_as_a_comment() -> None:
    left = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = [
        house.where(path, number)
        for path in house.files(*CODE)
        for number, line in house.lines(path)
        if left.search(line)
    ]
    assert not found, report("finish it, or open an issue", found)


def test_nothing_names_a_machine_it_was_written_on() -> None:
    homes = re.compile(r"(?<![\w.])/(work|root|Users|home/[a-z]\w*)" + r"/[\w.]")
    texts = [house.ROOT / name for name in ("README.md", "CHANGELOG.md", "pyproject.toml")]
    for folder in ("docs", "systemd", "config", "tools", ".ci", *CODE):
        texts += [path for path in (house.ROOT / folder).rglob("*") if is_text(path)]
    found = [
        house.where(path, number)
        for path in sorted(set(texts))
        for number, line in house.lines(path)
        if homes.search(line)
    ]
    assert not found, report("no path of a developer's machine", found)


def is_text(path: Path) -> bool:
    if not path.is_file() or "__pycache__" in path.parts:
        return False
    return path.suffix in {".py", ".md", ".toml", ".sh", ".service", ""}


def test_every_room_of_the_design_is_there() -> None:
    rooms = [house.PRODUCT / name / "__init__.py" for name in ROOMS]
    rooms += [house.PRODUCT / f"{name}.py" for name in FLATS]
    missing = [str(room.relative_to(house.ROOT)) for room in rooms if not room.is_file()]
    assert not missing, report("rooms of the house", missing)


def test_importing_the_package_needs_no_package() -> None:
    # -I -S: no site-packages at all, so that any vendor would be missing
    program = f"import sys; sys.path.insert(0, {str(house.ROOT)!r}); import edge_agent"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, timeout=30)


def test_the_rules_are_measured_right(tmp_path: Path) -> None:
    code = tmp_path / "sample.py"
    code.write_text(
        "class A:\n"
        "    def f(self, a, b, *, c):\n"
        "        if a:\n"
        "            for x in b:\n"
        "                with c:\n"
        "                    while x: x()\n"
        "        elif b:\n"
        "            try: a()\n"
        "            except (ValueError, Exception): b()\n"
        "            except BaseException:\n"
        "                a()\n"
        "                raise\n"
    )
    measured = [(f.lines, f.positional, f.nesting) for f in house.functions(code)]
    assert measured == [(11, 2, 3)]
    assert list(house.broad_handlers(code)) == [f"{code}:9"]
