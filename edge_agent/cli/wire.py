"""`edge-agent wire`: what stands in bundles, exports and payloads that a receiver kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.cli.lazy import later

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers

_DECODE = (
    "Prints what stands in bundles, one a line: payloads of MQTT, exports of the spool, what a "
    "receiver kept with --raw. JSON lines, each with `schema` 1, `line` (of the input) and `what`: "
    "envelope, record, document, probe, need, error, and at last end, with the sums. A document "
    "that was sent as a change is shown when its base stood before it. The bytes are in "
    "docs/wire.md. It prints what the records hold: what has to stay private must stay so where "
    "the output goes. Nothing else is written, and no daemon is asked. Exits 3 when something was "
    "wrong, 4 when something only needs a newer reader, a dictionary or a base, 7 when there was "
    "nothing."
)


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "wire", help="what stands in a payload or an export: decode", description=__doc__
    )
    verbs = parser.add_subparsers(dest="wire_verb", metavar="VERB", required=True)
    decode = verbs.add_parser(
        "decode", help="print bundles as JSON lines, no daemon asked", description=_DECODE
    )
    decode.add_argument("file", metavar="FILE", help="one bundle a line; - is standard input")
    decode.add_argument(
        "--heads", action="store_true",
        help="check all of it, print no content: envelopes, needs and errors alone",
    )  # fmt: skip
    decode.set_defaults(run=later("wire_decode"))
