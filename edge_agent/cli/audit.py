"""`edge-agent audit`: who did what on this device, and whether the log still says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.cli.lazy import later
from edge_agent.cli.options import add_config_options, json_option

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers

SHOWN = 50
MAX_SHOWN = 100_000
_VERIFY = (
    "Follows the chain of the audit log through all its files, also while the daemon writes it. "
    "Exits 3 when an entry was changed, removed, moved or added, with file and line; 4 when older "
    "files were moved away; 7 when there is no log. What the hot tier last heard (--count, --head) "
    "tells whether the end is missing."
)
_SHOW = "The newest entries, oldest of them first. Does not check them: that is `verify`."


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("audit", help="who did what: verify, show", description=__doc__)
    verbs = parser.add_subparsers(dest="audit_verb", metavar="VERB", required=True)
    verify = verbs.add_parser("verify", help="follow its chain", description=_VERIFY)
    verify.add_argument("--count", type=int, default=0, metavar="N", help="entries that were told")
    verify.add_argument("--head", default="", metavar="HEX", help="hash of the last of them")
    show = verbs.add_parser("show", help="the newest entries", description=_SHOW)
    show.add_argument(
        "--limit", type=int, default=SHOWN, metavar="N", help=f"at most {MAX_SHOWN} ({SHOWN})"
    )
    for verb in (verify, show):
        verb.add_argument(
            "--dir", default="", metavar="DIR", help="where the files are (default: state_dir)"
        )
        add_config_options(verb)
        json_option(verb)
        verb.set_defaults(run=later("audit_work"))
