"""Writes docs/cli.md from the parsers of the commands: `.venv/bin/python tools/docs_cli.py`.

`--check` writes nothing and ends with 1 when the page is not current. The page is made from the
parsers' actions, not from their help texts: those differ between versions of Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_agent.cli import exits
from edge_agent.cli.main import build_parser

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

HEAD = """\
# Commands

*Made by `tools/docs_cli.py` from the commands themselves; change those.*

Commands that ask the running agent do so over its control socket. They find it by `--socket`, by
`$RUNTIME_DIRECTORY`, by the directories that the configuration names, or in `/run/edge-agent` and
`/var/lib/edge-agent/run`. Where an agent can use none of these (its state directory is read-only,
say), the socket is in a folder `edge-agent-XXXXXXXX` of `/run`, `$XDG_RUNTIME_DIR`, `$TMPDIR`,
`/dev/shm`, `/tmp` or `/var/tmp`, named by a sum of the path of the state directory, and is found
there too. The socket belongs to the service's user and the group `edge-agent`.
`--json` prints one versioned object (`"schema": 1`); fields only get added. Colours are left out
where the output is no terminal and where `NO_COLOR` is set. Errors go to stderr, with a hint what
to do next. What the terminal's encoding has no letter for is shown by a sign that looks alike, or
by its number; JSON is whole in any locale. `edge-agent --version` says the version; a verb or an
option that is none gets the one that was probably meant. What `status` says, word by word:
[status.md](status.md). It is not a cleared medical device.

| exit code | means |
|---|---|
"""


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a parser takes, less its help; argparse shows its parts to nobody."""
    actions: list[argparse.Action] = vars(parser)["_actions"]
    return [action for action in actions if "--help" not in action.option_strings]


def below(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """The verbs of a group, with their short help; none when the parser is a verb itself."""
    found: dict[str, tuple[str, argparse.ArgumentParser]] = {}
    for action in actions_of(parser):
        if isinstance(action.choices, Mapping):
            helps = {word.dest: word.help or "" for word in vars(action)["_choices_actions"]}
            found |= {name: (helps[name], child) for name, child in action.choices.items()}
    return found


def verbs(
    parser: argparse.ArgumentParser, before: str = "edge-agent"
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """(whole verb, short help, its parser), in the order of their definition; no groups."""
    for name, (short, child) in below(parser).items():
        if below(child):
            yield from verbs(child, f"{before} {name}")
        else:
            yield f"{before} {name}", short, child


def page() -> str:
    """The whole page."""
    meanings = "".join(f"| {code} | {meaning} |\n" for code, meaning in exits.MEANINGS.items())
    leaves = list(verbs(build_parser()))
    index = "".join(f"| [`{verb}`](#{anchor(verb)}) | {short} |\n" for verb, short, _ in leaves)
    sections = "\n".join(section(verb, short, parser) for verb, short, parser in leaves)
    return f"{HEAD}{meanings}\n| command | is for |\n|---|---|\n{index}\n{sections}"


def anchor(verb: str) -> str:
    return verb.replace(" ", "-")


def section(verb: str, short: str, parser: argparse.ArgumentParser) -> str:
    """One command: what it is for, and what it takes."""
    about = parser.description or short.capitalize() + "."
    lines = [f"## {verb}", "", about, ""]
    actions = [action for action in actions_of(parser) if action.help != argparse.SUPPRESS]
    if actions:
        lines += ["| takes | which is |", "|---|---|"]
        lines += [f"| {takes(action)} | {escaped(action.help or '')} |" for action in actions]
        lines.append("")
    return "\n".join(lines)


def takes(action: argparse.Action) -> str:
    """`-o, --out FILE`, or the name of an argument."""
    shown = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        shown = "|".join(map(str, action.choices))
    if not action.option_strings:
        optional = action.nargs in ("?", "*")
        return escaped(f"`[{shown}]`" if optional else f"`{shown}`")
    words = ", ".join(action.option_strings)
    return escaped(f"`{words}`" if action.nargs == 0 else f"`{words} {shown}`")


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("%%", "%")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when not current")
    if parser.parse_args().check:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        print("current" if current else "docs/cli.md is not current: python tools/docs_cli.py")
        return 0 if current else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
