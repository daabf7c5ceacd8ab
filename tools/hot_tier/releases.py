"""`keys`, `sign`, `publish`, `withdraw`, `desired`, `fleet`, `serve`: the publisher's verbs."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.core.errors import ConfigError, EdgeAgentError, Rejected
from tools.hot_tier import stages, wanted
from tools.hot_tier.fleet import (
    MAX_REFUSED_SHARE,
    MIN_APPLIED_SHARE,
    Shares,
    Stage,
    Standing,
    judge,
)
from tools.hot_tier.keys import Keys
from tools.hot_tier.publishing import find, publish, withdraw
from tools.hot_tier.repository import Repository
from tools.hot_tier.rotation import renew, rotate
from tools.hot_tier.serve import serving

Options = argparse.Namespace
WORRY = 3  # exit code: something has to be done by a person


def add(verbs: Any) -> None:
    """Each verb sets `run`, which returns an exit code."""
    _add_keys(verbs)
    parser = _verb(verbs, "sign", _sign, "sign anew what runs out; once a day, from a timer")
    parser = _verb(verbs, "publish", _publish, "publish packages, with deltas from older versions")
    parser.add_argument("packages", nargs="+", type=Path, metavar="PACKAGE", help=".eam or folder")
    parser.add_argument("--deltas", type=int, default=3, metavar="N", help="from so many versions")
    _add_withdraw(verbs)
    _add_desired(verbs)
    _add_fleet(verbs)
    parser = _verb(verbs, "serve", _serve, "the repository over plain HTTP", keys=False)
    parser.add_argument("--bind", default="127.0.0.1", metavar="HOST")
    parser.add_argument("--port", type=int, default=0, metavar="PORT", help="0: a free one")


def run(options: Options) -> int:
    """Exit code."""
    try:
        return int(options.run(options))
    except EdgeAgentError as error:
        print(f"hot_tier {options.verb}: {error}", file=sys.stderr)
        return 1


def _verb(
    verbs: Any, name: str, act: Any, words: str, *, keys: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=words)
    parser.set_defaults(run=act)
    parser.add_argument("--repository", type=Path, required=True, metavar="FOLDER")
    if keys:
        parser.add_argument("--keys", type=Path, required=True, metavar="FOLDER")
    return parser


def _house(options: Options) -> Repository:
    """Raises: ConfigError when the keys would be served with the repository."""
    if options.keys.resolve().is_relative_to(options.repository.resolve()):
        hint = "give them a folder of their own; better, a medium of their own"
        raise ConfigError("--keys", "the keys lie in the folder that is served", hint=hint)
    return Repository(
        options.repository, Keys(options.keys), say=lambda words: _aside(options, words)
    )


# ── keys, signatures, packages ────────────────────────────────────────────────────────────────


def _add_keys(verbs: Any) -> None:
    parser = verbs.add_parser("keys", help="make or change the keys of the repository")
    inner = parser.add_subparsers(dest="deed", required=True)
    _verb(inner, "init", _init, "make all keys and an empty repository")
    parser = _verb(inner, "rotate", _rotate, "another key in the place of this one")
    parser.add_argument(
        "name", help="root-1 to root-3, targets, snapshot, timestamp, or a delegate"
    )


def _init(options: Options) -> int:
    house = _house(options)
    house.create()
    print(f"made {house.metadata / '1.root.json'}: give it to each device as rollouts.root_file")
    print(f"take root-1, root-2, root-3 and targets out of {house.keys.folder}, to separate media")
    return 0


def _rotate(options: Options) -> int:
    version = rotate(_house(options), options.name)
    print(f"{options.name} has another key; root is at version {version}")
    return 0


def _sign(options: Options) -> int:
    left = renew(_house(options))
    for line in left:
        print(f"sign: {line}", file=sys.stderr)
    return WORRY if left else 0


def _publish(options: Options) -> int:
    house = _house(options)
    for package in options.packages:
        done = publish(house, package, deltas=options.deltas, say=house.say)
        deltas = ", ".join(f"{size} bytes from {base}" for base, size in done.deltas.items())
        print(f"{done.name} {done.version} {done.sha256}: {done.bytes} bytes, {deltas or 'whole'}")
    return 0


def _aside(options: Options, words: str) -> None:
    print(f"hot_tier {options.verb}: {words}", file=sys.stderr)


def _add_withdraw(verbs: Any) -> None:
    words = "nobody may install or run this version any more"
    parser = _verb(verbs, "withdraw", _withdraw, words)
    add = parser.add_argument
    add("model", metavar="NAME=VERSION")
    add("--reason", default="withdrawn", metavar="TEXT", help="shown where it stops running")
    add("--keep-running", action="store_true", help="who runs it goes on; it is only not installed")


def _withdraw(options: Options) -> int:
    name, equals, version = options.model.partition("=")
    if not equals:
        raise Rejected(f"read model {options.model!r}: expected NAME=VERSION")
    house, keep = _house(options), options.keep_running
    sha256 = find(house.open(), name, version)
    if stages.withdrawn(house, name, sha256, options.reason, hold=keep):
        _aside(options, f"its staged rollout is {'held' if keep else 'halted'}")
    if keep:
        print(f"withdrew {name} {version} {withdraw(house, name, sha256)}; who runs it goes on")
        return 0
    halt, paths = wanted.withdraw(house, name, sha256, options.reason)
    where = ", ".join(paths) or "no desired state, for there is none"
    print(f"withdrew {name} {halt.version} {sha256}; halted in {where}")
    return 0


# ── desired states ────────────────────────────────────────────────────────────────────────────


def _add_desired(verbs: Any) -> None:
    parser = _verb(verbs, "desired", _desired, "what a node or a cohort shall run")
    add = parser.add_argument
    add("--node", default="", help="one node")
    add("--cohort", action="append", default=[], help="several: one after the other, see fleet")
    add("--model", action="append", default=[], metavar="NAME=VERSION|SHA[:swap|shadow|stage]")
    add("--without", action="append", default=[], metavar="NAME", help="no word on it any more")
    add("--window", default="", help="when it may swap, see the configuration of streams")
    add("--config", type=Path, default=None, metavar="FILE", help="configuration to push down")
    add("--expires", default="", metavar="TIME", help="UTC, as 2027-01-31T00:00:00Z")


def _desired(options: Options) -> int:
    if bool(options.node) == bool(options.cohort):
        raise Rejected("desired: expected --node or --cohort")
    house, wishes = _house(options), tuple(wanted.wish(one) for one in options.model)
    if len(options.cohort) > 1:
        if len(wishes) != 1 or options.without or options.config:
            raise Rejected("desired: several cohorts take one --model and nothing else")
        stage = stages.begin(house, wishes[0], options.cohort, options.window)
        print(f"{stage.model} {stage.wanted}: {stage.cohorts[0]} first; hot_tier fleet goes on")
        return 0
    change = wanted.Change(
        models=wishes, without=tuple(options.without), window=options.window,
        config=options.config, expires=options.expires,
    )  # fmt: skip
    cohort = options.cohort[0] if options.cohort else ""
    state = wanted.move(house, change, node=options.node, cohort=cohort)
    print(msgspec.json.encode(state).decode())
    return 0


# ── the fleet ─────────────────────────────────────────────────────────────────────────────────


def _add_fleet(verbs: Any) -> None:
    parser = _verb(verbs, "fleet", _fleet, "who runs what; staged rollouts go on, or halt")
    add = parser.add_argument
    add("--db", type=Path, required=True, metavar="FILE", help="that of hot_tier receive")
    add("--json", action="store_true")
    add("--dry-run", action="store_true", help="say what would be done")
    add("--hold", action="store_true", help="when it halts, leave what was moved where it is")
    add("--stop", default="", metavar="MODEL", help="halt this staged rollout now")
    add("--max-refused-share", type=float, default=MAX_REFUSED_SHARE, metavar="SHARE")
    add("--min-applied-share", type=float, default=MIN_APPLIED_SHARE, metavar="SHARE")
    add("--watch", type=float, default=0.0, metavar="S", help="again every S seconds")


def _fleet(options: Options) -> int:
    while True:
        worried = _look(options)
        if not options.watch:
            return WORRY if worried else 0
        sys.stdout.flush()
        time.sleep(options.watch)


def _look(options: Options) -> bool:
    """Whether a staged rollout stands halted."""
    house = _house(options)
    heard = stages.standings(options.db)
    found, words = stages.stages(house), dict[str, str]()
    if options.stop:
        if options.stop not in found:
            raise Rejected(f"stop {options.stop}: no staged rollout of it")
        if found[options.stop].state == "done":
            raise Rejected(
                f"stop {options.stop}: its staged rollout is done, everybody has it",
                hint="hot_tier withdraw NAME=VERSION takes a version from all",
            )
        why = "stopped by the publisher"
        found[options.stop] = stages.halt(house, found[options.stop], why, hold=options.hold)
    shares = Shares(max_refused=options.max_refused_share, min_applied=options.min_applied_share)
    for name, stage in found.items():
        if stage.state != "running":
            words[name] = f"{stage.state}: {stage.why}"
        elif options.dry_run:
            verdict = judge(stage, heard, shares)
            words[name] = f"would {verdict.word}: {verdict.why}"
        else:
            found[name], verdict = stages.step(house, stage, heard, shares, hold=options.hold)
            words[name] = f"{verdict.word}: {verdict.why}"
    _show(options, heard, found, words)
    return any(stage.state in ("halted", "held") for stage in found.values())


def _show(
    options: Options, heard: list[Standing], found: dict[str, Stage], words: dict[str, str]
) -> None:
    if options.json:
        body = {"schema": 1, "nodes": heard, "stages": found, "words": words}
        print(msgspec.json.encode(body).decode())
        return
    for one in heard:
        models = ", ".join(f"{name} {model.active}" for name, model in one.models.items())
        where = f"{one.target or '-'} {one.serial} {one.state or '-'}"
        print(f"{one.node}: {models or 'no models'} ({where}){' ' + one.why if one.why else ''}")
        for name in one.result:
            print(f"  {name}: {': '.join(filter(None, (one.word(name), _why(one, name))))}")
    for name, word in words.items():
        print(f"{name} {found[name].wanted}: {word}")


def _why(one: Standing, name: str) -> str:
    """Of what it wants; said once where it is that of the whole document."""
    reason = "" if one.word(name) == "applied" else one.reason(name)
    return "" if reason == one.why else reason


def _serve(options: Options) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with serving(options.repository, host=options.bind, port=options.port) as server:
        print(msgspec.json.encode({"url": server.url}).decode(), flush=True)
        ended.wait()
    return 0
