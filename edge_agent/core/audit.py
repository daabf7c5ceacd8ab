"""The audit log's lines: who did what to what, each chained to all before it.

    {"after":{"count":0,"hash":"00.."}}                  the first line of a file: what it follows
    {"entry":{"at":{..},"boot":..,"detail":{..},"object":..,"seq":1,..},"hash":"h1"}

h_n = sha256(h_(n-1) as 32 bytes, then the entry as it stands in its line). JSON is written in one
way: keys sorted, no blanks, UTF-8. Whoever knows a head (count and hash) finds every edit, deletion
and change of order before it, and what is missing up to it. Pure: lines come and go as bytes.

Entries name models, streams, users and files of ours by their short names. No patient, no path and
no password has a place in one; texts are cleaned of the latter two, the first is for the caller.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from edge_agent.core.places import without_places

MAX_LINE_BYTES = 16 << 10
MAX_WORD_CHARS = 120
MAX_TEXT_CHARS = 500
MAX_DETAILS = 16
MAX_FAULTS = 20  # told of one log; the first is the one that matters
GENESIS = "0" * 64

_BEFORE, _BEHIND = len('{"entry":'), len(f',"hash":"{GENESIS}"}}')  # what stands around an entry

Value = str | int | bool | None

_HASH = re.compile(r"[0-9a-f]{64}")
_WHAT = re.compile(r"[a-z][a-z0-9-]{0,63}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Head(NamedTuple):
    """How far a log goes: its entries, and the hash of the last one."""

    entries: int = 0
    hash: str = GENESIS

    def words(self) -> dict[str, Any]:
        return {"count": self.entries, "hash": self.hash}


class Stamp(NamedTuple):
    """utc_us None: the clock was never set. boot: hex8 of this start of the machine."""

    boot_us: int
    utc_us: int | None
    boot: str


class Draft(NamedTuple):
    """An entry before it has its place. what: a word of ours. object: a short name, or ""."""

    stamp: Stamp
    who: str
    what: str
    object: str
    detail: Mapping[str, Value]


class Fault(NamedTuple):
    """line: from 1. why: expected and got."""

    file: str
    line: int
    why: str


# ── write ─────────────────────────────────────────────────────────────────────────────────────


def draft(stamp: Stamp, who: str, what: str, obj: str, detail: Mapping[str, object]) -> Draft:
    """Cleaned and bounded. Floats become text: they have no one way to be written.

    Raises: ValueError for a word that is not one of ours.
    """
    if not _WHAT.fullmatch(what):
        raise ValueError(f"audit: expected a word such as model-installed, got {what!r}")
    wrong = [key for key in detail if not _KEY.fullmatch(key)]
    if wrong or len(detail) > MAX_DETAILS:
        raise ValueError(f"audit: expected at most {MAX_DETAILS} plain keys, got {sorted(detail)}")
    values = {key: _value(value) for key, value in detail.items()}
    return Draft(stamp, clean(who, MAX_WORD_CHARS), what, clean(obj, MAX_WORD_CHARS), values)


def clean(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Text without controls and paths of files; of an address scheme, host and port stay."""
    return without_places(_UNSEEN.sub("\ufffd", text[: 4 * max_chars]))[:max_chars]


def line_of(entry: Draft, head: Head) -> tuple[bytes, Head]:
    """The line that follows `head`, and the head after it."""
    stamp = entry.stamp
    fields = {
        "seq": head.entries + 1,
        "at": {"boot_us": stamp.boot_us, "utc": _utc(stamp.utc_us)},
        "boot": stamp.boot,
        "who": entry.who,
        "what": entry.what,
        "object": entry.object,
        "detail": dict(entry.detail),
    }
    after = _follow(head, _json(fields))
    return _json({"entry": fields, "hash": after.hash}) + b"\n", after


def first_line(after: Head) -> bytes:
    """What a file begins with: where the one before it ended."""
    return _json({"after": after.words()}) + b"\n"


# ── read ──────────────────────────────────────────────────────────────────────────────────────


def parse_head(fields: object) -> Head | None:
    """A head from its words; None: they are none."""
    if not isinstance(fields, dict):
        return None
    count, known = fields.get("count"), fields.get("hash")
    if type(count) is not int or count < 0 or not isinstance(known, str):
        return None
    return Head(count, known) if _HASH.fullmatch(known) else None


def parse_first(line: bytes) -> Head | None:
    """The head that a file follows; None: this is no first line."""
    head = parse_head(_fields(line).get("after"))
    return head if head is not None and first_line(head) == line + b"\n" else None


def parse_entry(line: bytes) -> dict[str, Any] | None:
    """The fields of an entry, not checked against anything; None: not such a line."""
    entry = _fields(line).get("entry")
    return entry if isinstance(entry, dict) else None


def follow(line: bytes, head: Head) -> tuple[Head, str]:
    """The head after a line, and why it can't follow `head`; "" when it does.

    After a line that doesn't, the head is what the line says of itself, so that one can read on.
    """
    fields = _fields(line)
    entry, stated = fields.get("entry"), fields.get("hash")
    if not isinstance(entry, dict) or not isinstance(stated, str) or not _HASH.fullmatch(stated):
        return head, "expected an entry with its hash, got something else"
    seq = entry.get("seq")
    if type(seq) is not int or seq < 1:
        return head, f"expected entry {head.entries + 1}, got {seq!r}"
    says = Head(seq, stated)
    if seq != head.entries + 1:
        return says, f"expected entry {head.entries + 1}, got entry {seq}"
    if line != _json(fields) or set(fields) != {"entry", "hash"}:
        return says, "expected JSON in the one form, got another"
    after = _follow(head, line[_BEFORE:-_BEHIND])
    if after.hash != stated:
        return says, f"expected hash {after.hash[:16]}, got {stated[:16]}: changed after writing"
    return after, ""


class Check:
    """Follows a whole log, file by file. known: heads that somebody remembers of it.

    Nothing is assumed of a log whose first files were moved away: `starts_after` says where it
    begins.
    """

    def __init__(self, known: Sequence[Head] = ()) -> None:
        self.faults: list[Fault] = []
        self.head = Head()
        self.starts_after: int | None = None  # None: no file yet
        self.files = self.entries = 0
        self._known = {one.entries: one.hash for one in known if one.entries}
        self._place = ("", 0)

    def begin(self, file: str, line: bytes) -> None:
        """The first line of the next file."""
        self.files += 1
        self._place = file, 1
        after = parse_first(line)
        if after is None:
            self._fault("expected the first line of a file, got something else")
            return
        if self.starts_after is None:
            self.starts_after = after.entries
        elif after != self.head:
            self._fault(f"expected to follow entry {self.head.entries} {self.head.hash[:16]}, "
                        f"says {after.entries} {after.hash[:16]}")  # fmt: skip
        self.head = after

    def entry(self, line: bytes) -> None:
        """The next line of that file."""
        self._place = self._place[0], self._place[1] + 1
        self.entries += 1
        self.head, why = follow(line, self.head)
        known = self._known.get(self.head.entries, self.head.hash)
        if why or known != self.head.hash:
            self._fault(why or f"expected hash {known[:16]} as was reported, got "
                        f"{self.head.hash[:16]}: written anew")  # fmt: skip

    def end(self) -> None:
        """There is no more; what is known to have been there must have come."""
        last = max(self._known, default=0)
        if last > self.head.entries:
            self._fault(f"expected {last} entries, got {self.head.entries}: its end is missing")

    def _fault(self, why: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(*self._place, why))


# ── one way to write ──────────────────────────────────────────────────────────────────────────


def _follow(head: Head, entry: bytes) -> Head:
    digest = hashlib.sha256(bytes.fromhex(head.hash) + entry)
    return Head(head.entries + 1, digest.hexdigest())


def _json(fields: Mapping[str, Any]) -> bytes:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line) if len(line) <= MAX_LINE_BYTES else None
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _value(value: object) -> Value:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    return clean(f"{value:.6g}" if isinstance(value, float) else str(value))


def _utc(utc_us: int | None) -> str | None:
    if utc_us is None:
        return None
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=utc_us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
