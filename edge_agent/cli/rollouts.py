"""`edge-agent models install|rollback|pin|history`: what an operator does with models by hand.

`install` and `rollback` wait until it has ended, and say how. The daemon does the work: whoever
interrupts the command ends the waiting and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.options import json_option
from edge_agent.cli.tables import NOTHING, clip, duration, number, plain, share, size, table

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers

POLL_S = 0.3
WIDTH = 100
GOOD = ("committed", "staged", "observed")
UNDONE = ("rolled_back", "withdrawn", "rejected")
EVERY = "*"  # of the daemon: every model
_INSTALL = (
    "Installs a model package: FILE.eam that is signed by the repository on whose copy it lies; "
    "NAME@VERSION that is installed already or wanted by the repository; or with --usb what the "
    "repository copied to DIR wants of this node. It is fetched, verified, built, compared with "
    "the live model, swapped when the streams allow it, and held to by a pin. The first version "
    "of a model goes live after its golden samples. Exits 0 when it is live, 4 when it is "
    "installed and no stream runs it, 6 when it is refused, with the reason, 1 when it did not "
    "work out and is tried again, and 7 when it is live already."
)
_ROLLBACK = (
    "Goes back to the version before, at once, between two frames; whatever is on trial is taken "
    "away. The one that is left is not installed again by itself. Exits 6 when there is none to go "
    "back to."
)
_PIN = (
    "Holds a model to VERSION, or to the one that is live: nothing that is wanted from elsewhere "
    "replaces it, and what is on its way to another one is taken back at once. Exits 3, and says "
    "what is live, when that is another version. --off lets go, also of a model that is held "
    "because what was remembered of it is lost; --off --all of every model that is."
)
_HISTORY = "How past rollouts ended, and why; the newest first."


def add_verbs(verbs: Subparsers) -> None:
    """Below `models`."""
    install = verbs.add_parser("install", help="install a package", description=_INSTALL)
    install.add_argument("what", nargs="?", default="", metavar="FILE.eam|NAME@VERSION")
    install.add_argument("--usb", metavar="DIR", default="", help="a copy of the repository")
    install.set_defaults(run=run_install)
    back = verbs.add_parser("rollback", help="go back to the version before", description=_ROLLBACK)
    back.add_argument("name", metavar="NAME")
    back.set_defaults(run=run_rollback)
    for waiting in (install, back):
        waiting.add_argument("--no-wait", action="store_true", help="do not wait for the end")
    pin = verbs.add_parser("pin", help="hold a model to a version", description=_PIN)
    pin.add_argument("name", nargs="?", default="", metavar="NAME")
    pin.add_argument("version", nargs="?", default="", metavar="VERSION")
    pin.add_argument("--off", action="store_true", help="let go")
    pin.add_argument("--all", action="store_true", help="with --off: of all that is lost of memory")
    pin.set_defaults(run=run_pin)
    history = verbs.add_parser("history", help="how past rollouts ended", description=_HISTORY)
    history.add_argument("name", nargs="?", default="", metavar="NAME")
    history.set_defaults(run=run_history)
    for parser in (install, back, pin, history):
        client.add_daemon_options(parser)
        json_option(parser)


# ── install and roll back ─────────────────────────────────────────────────────────────────────


def run_install(args: argparse.Namespace) -> int:
    begun = _post(args, "install", _asked(args.what, args.usb))
    models = begun.get("models") or {}
    if not models:
        _say(args, {"schema": 1, "models": {}}, "nothing to do: it is live already, and held to")
        return exits.NOTHING_TO_DO
    shas = {name: str(one.get("sha")) for name, one in models.items()}
    code = _until_ended(args, shas)
    if code == exits.OK and begun.get("used") is False:
        print("edge-agent: installed, and not live: no stream runs it", file=sys.stderr)
        return exits.WARNINGS
    return code


def _asked(what: str, usb: str) -> dict[str, str]:
    if usb:
        return {"usb": os.path.realpath(usb), **({"model": what} if what else {})}
    if what.endswith(".eam") or "/" in what:
        return {"file": os.path.realpath(what)}
    name, at, version = what.partition("@")
    if not (name and at and version):
        raise CommandError(
            f"install: expected FILE.eam, NAME@VERSION or --usb DIR, got {what!r}",
            hint="edge-agent models list",
            code=exits.USAGE,
        )
    return {"model": name, "version": version}


def run_rollback(args: argparse.Namespace) -> int:
    begun = _post(args, "rollback", {"model": args.name})
    if not args.json:
        print(f"{args.name}: {plain(begun.get('leaving'))} is left, {_live(begun)} is live")
    if begun.get("written") is False:
        if args.json:
            print(json.dumps(begun, ensure_ascii=False))
        return _unwritten()
    return _until_ended(args, {args.name: str(begun.get("sha"))}, good=UNDONE)


def _live(said: Mapping[str, Any]) -> str:
    return plain(said.get("live") or "no version")


def _unwritten() -> int:
    """It holds, and the disk does not have it yet: a power cut would undo it."""
    print(
        "edge-agent: done, and not yet on the disk; it is tried again until it is -> "
        "edge-agent status says what the disk lacks",
        file=sys.stderr,
    )
    return exits.WARNINGS


def _until_ended(
    args: argparse.Namespace, models: Mapping[str, str], *, good: tuple[str, ...] = GOOD
) -> int:
    """Waits for all of them; 0 when each ended well."""
    if args.no_wait:
        _say(args, {"schema": 1, "models": dict(models)}, f"under way: {', '.join(models)}")
        return exits.OK
    line = Line(on=sys.stderr.isatty() and not args.json)
    ended: dict[str, Any] = {}
    while len(ended) < len(models):
        time.sleep(POLL_S)
        mine = {n: r for n, r in _rollouts(args).items() if r.get("sha") == models.get(n, "-")}
        for name, rollout in mine.items():
            line.show(f"{name} {progress(rollout)}")
        ended |= {name: rollout for name, rollout in mine.items() if rollout.get("settled")}
    line.clear()
    return _told(args, ended, good)


def _told(args: argparse.Namespace, ended: Mapping[str, Any], good: tuple[str, ...]) -> int:
    if args.json:
        print(json.dumps({"schema": 1, "models": ended}, ensure_ascii=False))
    bad = {name: one for name, one in ended.items() if one.get("state") not in good}
    for name, rollout in ended.items():
        words = f"{name} {plain(rollout.get('version'))}: {plain(rollout.get('state'))}"
        reason = rollout.get("reason")
        text = f"{words}: {plain(reason)}" if reason else words
        if name in bad:
            print(f"edge-agent: {text}", file=sys.stderr)
        elif not args.json:
            print(text)
    if not bad:
        return exits.OK
    refused = any(
        one.get("state") == "rejected" or one.get("cause") in ("bad-package", "untrusted")
        for one in bad.values()
    )
    return exits.REFUSED if refused else exits.ERROR


def _rollouts(args: argparse.Namespace) -> dict[str, Mapping[str, Any]]:
    models = client.connect(args).json("/v1/models").get("models") or {}
    return {name: one.get("rollout") or {} for name, one in models.items()}


def progress(rollout: Mapping[str, Any]) -> str:
    """One line of where it stands."""
    words = f"{plain(rollout.get('version'))} {plain(rollout.get('state'))}"
    step = rollout.get("progress") or {}
    if step.get("of"):
        words += f" {share(step.get('done'), step.get('of'))} of {size(step.get('of'))}"
    if rollout.get("waits_for"):
        words += f", waits for {plain(rollout['waits_for'])}"
    return words


class Line:
    """One line of a terminal that is written over."""

    def __init__(self, *, on: bool) -> None:
        self._on = on
        self._last = ""

    def show(self, text: str) -> None:
        text = clip(text, WIDTH)
        if self._on and text != self._last:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._last = text

    def clear(self) -> None:
        if self._on and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# ── pin and history ───────────────────────────────────────────────────────────────────────────


def run_pin(args: argparse.Namespace) -> int:
    if args.off and args.version:
        raise CommandError("pin: expected VERSION or --off, got both", code=exits.USAGE)
    if bool(args.name) == args.all or (args.all and not args.off):
        raise CommandError("pin: expected NAME, or --off --all", code=exits.USAGE)
    name = EVERY if args.all else args.name
    said = _post(args, "pin", {"model": name, "version": args.version, "off": args.off})
    pinned, whose = said.get("pinned"), "every model" if args.all else args.name
    words = f"held to {plain(pinned)}" if pinned else "free again"
    is_so = not pinned or said.get("live") == pinned
    _say(args, said, f"{whose}: {words}" if is_so else f"{whose}: {words}, {_live(said)} is live")
    if not is_so:
        hint = f"edge-agent models install {args.name}@{plain(pinned)}"
        print(f"edge-agent: {_live(said)} is live -> {hint}", file=sys.stderr)
        return exits.CHECK_FAILED
    return exits.OK if said.get("written", True) else _unwritten()


def run_history(args: argparse.Namespace) -> int:
    target = f"/v1/models/history?model={args.name}" if args.name else "/v1/models/history"
    document = client.connect(args).json(target)
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
        return exits.OK
    header = ("model", "version", "outcome", "by", ">frames", ">agreement", ">took", "reason")
    reports = [one for one in document.get("history") or () if isinstance(one, Mapping)]
    for line in table(header, [_row(report) for report in reports]):
        print(line)
    return exits.OK


def _row(report: Mapping[str, Any]) -> list[str]:
    frames = report.get("shadow_frames", 0) + report.get("probation_frames", 0)
    return [
        plain(report.get("model")),
        plain(report.get("version")),
        plain(report.get("outcome")),
        plain(report.get("by")) + (" (unsigned)" if report.get("unsigned") else ""),
        str(frames) if frames else NOTHING,
        number(report.get("agreement"), 2),
        duration(report.get("took_s")),
        plain(report.get("reason")),
    ]


def _post(args: argparse.Namespace, verb: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    daemon = client.connect(args, timeout_s=client.TIMEOUT_S if verb == "pin" else 1900.0)
    return daemon.post(f"/v1/models/{verb}", json.dumps(asked).encode())


def _say(args: argparse.Namespace, document: Mapping[str, Any], text: str) -> None:
    print(json.dumps(document, ensure_ascii=False) if args.json else text)
