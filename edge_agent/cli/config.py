"""`init` and `config check|show|sample|schema`: work on files, never on the running daemon."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.cli import exits
from edge_agent.cli.options import add_config_options, json_option

if TYPE_CHECKING:
    from edge_agent.cameras import Roots
    from edge_agent.config.load import Loaded

DEFAULT_OUTPUT = "/etc/edge-agent/config.toml"
PORT = 9810
PORTS_TRIED = 20


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verbs."""
    _add_init(subparsers)
    config = subparsers.add_parser("config", help="check and show the configuration")
    verbs = config.add_subparsers(dest="config_verb", metavar="VERB", required=True)
    check = verbs.add_parser("check", help="say everything that is wrong, and on which line")
    show = verbs.add_parser("show", help="print what is in effect, defaults included")
    for parser, run in ((check, run_check), (show, run_show)):
        add_config_options(parser)
        json_option(parser)
        parser.set_defaults(run=run)
    check.add_argument(
        "--elsewhere",
        action="store_true",
        help="the files are for another machine: do not look for what they name",
    )
    sample = verbs.add_parser("sample", help="print a commented sample")
    sample.add_argument("name", nargs="?", help="without it: the names there are")
    sample.set_defaults(run=run_sample)
    schema = verbs.add_parser("schema", help="print the JSON Schema, with what each key means")
    schema.set_defaults(run=run_schema)


def _add_init(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = subparsers.add_parser("init", help="write a commented config fitted to this machine")
    init.add_argument("--output", metavar="FILE", default=DEFAULT_OUTPUT, help="- is the terminal")
    init.add_argument(
        "--use",
        choices=("ultrasound", "endoscopy", "demo"),
        help="default: ultrasound when there is a camera or frame grabber, else demo",
    )
    init.add_argument("--force", action="store_true", help="replace an existing file")
    init.set_defaults(run=run_init)


# ── init ──────────────────────────────────────────────────────────────────────────────────────


def run_init(args: argparse.Namespace) -> int:
    """Raises: CommandError when the file is there or cannot be written."""
    from edge_agent.config.naming import node_name  # noqa: PLC0415 - a start imports no vendor
    from edge_agent.config.samples import fitted, sample  # noqa: PLC0415

    cameras = found_cameras()
    use = args.use or ("ultrasound" if cameras else "demo")
    text = fitted(
        sample(use), node=node_name(socket.gethostname()), port=free_port(), cameras=cameras
    )
    if args.output == "-":
        print(text, end="")
        return exits.OK
    path = Path(args.output)
    _write(path, text, replace=args.force)
    print(f"wrote {path} (use: {use}, cameras found: {', '.join(cameras) or 'none'})")
    is_default = args.output == DEFAULT_OUTPUT
    option = "" if is_default else f" --config {path}"
    if use != "demo" and not cameras:
        print("set `where` in it to your camera or frame grabber")
    print(f"next: edge-agent config check{option}\n      edge-agent run{option}")
    return exits.OK


def found_cameras(roots: Roots | None = None) -> list[str]:
    """Capture devices of this machine, by the name that stays the same where there is one."""
    from edge_agent.cameras import HERE, lasting, nodes  # noqa: PLC0415 - as below

    roots = roots or HERE
    return [lasting(node, roots)[0] or node for node in nodes(roots)]


def free_port(first: int = PORT) -> int:
    """The first port that nobody listens on; 0, any, when all are taken."""
    for port in range(first, first + PORTS_TRIED):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    return 0


def _write(path: Path, text: str, *, replace: bool) -> None:
    """Whole or not at all; an existing file is only replaced on request."""
    if os.path.lexists(path) and not replace:
        raise exits.CommandError(f"write {path}: it is there already", hint="add --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # holds no secret; the service's user reads it
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink()
            raise
    except OSError as error:
        denied = error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}
        hint = "sudo edge-agent init, or --output FILE for another place" if denied else ""
        raise exits.CommandError(f"write {path}: {error.strerror}", hint=hint) from error


# ── config ────────────────────────────────────────────────────────────────────────────────────


def load_args(args: argparse.Namespace) -> Loaded:
    """What `--config` and `--set` name."""
    from edge_agent.config.load import load, paths  # noqa: PLC0415

    return load(paths(Path(args.config) if args.config else None), args.set)


def run_check(args: argparse.Namespace) -> int:
    """0 sound, 3 wrong, 4 only warnings."""
    loaded = load_args(args)
    if loaded.config is not None and not args.elsewhere:
        from edge_agent.config.naming import renamed  # noqa: PLC0415
        from edge_agent.resolve import advised, models_of, unresolved  # noqa: PLC0415

        models = models_of(loaded.config, Path(loaded.config.state_dir))
        flaws = [*unresolved(loaded.config, models), *advised(loaded.config)]
        flaws += renamed(loaded.config, socket.gethostname())
        loaded = loaded.with_flaws(flaws)
    code = exits.CHECK_FAILED if loaded.errors else exits.WARNINGS if loaded.warnings else exits.OK
    if args.json:
        problems = [_fields(problem) for problem in loaded.problems]
        _print_json({"ok": code == exits.OK, "files": list(loaded.files), "problems": problems})
    elif loaded.problems:
        print(loaded.text())
        print(f"{len(loaded.errors)} errors, {len(loaded.warnings)} warnings")
    else:
        count = len(loaded.config.streams) if loaded.config else 0
        print(f"ok: {', '.join(loaded.files)}: {count} stream{'' if count == 1 else 's'}")
    return code


def run_show(args: argparse.Namespace) -> int:
    """Passwords masked. Problems go to stderr, so that the output stays TOML or JSON."""
    from edge_agent.config.render import as_toml, as_values  # noqa: PLC0415

    loaded = load_args(args)
    if loaded.problems:
        print(loaded.text(), file=sys.stderr)
    if loaded.config is None:
        return exits.CHECK_FAILED
    if args.json:
        _print_json({"files": list(loaded.files), "config": as_values(loaded.config)})
    else:
        print(f"# from {', '.join(loaded.files)}")
        print(as_toml(loaded.config, loaded.tables), end="")
    return exits.OK


def run_sample(args: argparse.Namespace) -> int:
    """Raises: ConfigError for a name that is none."""
    from edge_agent.config.samples import names, sample  # noqa: PLC0415

    print("\n".join(names()) if args.name is None else sample(args.name).rstrip("\n"))
    return exits.OK


def run_schema(_args: argparse.Namespace) -> int:
    """Of the whole configuration."""
    from edge_agent.config.render import schema  # noqa: PLC0415

    print(json.dumps(schema(), indent=2))
    return exits.OK


def _fields(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in problem.__struct_fields__}


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps({"schema": 1, **document}, ensure_ascii=False, indent=2))
