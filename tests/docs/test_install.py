"""The install steps are true: each block of README and docs/install.md is typed as it stands.

As root, with the real pip, `systemd-sysusers` and `runuser`, at the places that the pages name:
/etc, /opt, /usr/local/bin, /var/lib and /run are covered by empty layers that are gone at the end.
Only `systemctl` is a double (tests/docs/systemctl), and the wheels for another machine are not
fetched.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from packaging.utils import canonicalize_name

from edge_agent.cli.main import GROUPS
from tests import house
from tests.docs.page import Block, blocks

README: Final = (house.ROOT / "README.md").read_text(encoding="utf-8")
PAGE: Final = (house.ROOT / "docs" / "install.md").read_text(encoding="utf-8")
UNIT: Final = (house.ROOT / "systemd" / "edge-agent.service").read_text(encoding="utf-8")
DOUBLE: Final = Path(__file__).with_name("systemctl")
HEAD: Final = "Install on a device"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as sudo gives it
PROGRAMS: Final = ("unshare", "mount", "setpriv", "runuser", "systemd-sysusers", "userdel")

BUILD, RELEASE, FIRST, START = (
    block.text for block in blocks(README) if (block.head, block.kind) == (HEAD, "sh")
)


def of(head: str) -> list[str]:
    found = [block for block in blocks(PAGE) if (block.head, block.kind) == (head, "sh")]
    return [block.text for block in found]


(UPGRADE,), (BACK,), (REMOVE, FORGET) = of("Upgrade"), of("Go back"), of("Remove")


# ── by looking at the pages ───────────────────────────────────────────────────────────────────


def test_every_block_of_the_page_is_run_but_the_fetching_for_another_machine() -> None:
    run = {UPGRADE, BACK, REMOVE, FORGET}
    left: list[Block] = [block for block in blocks(PAGE) if block.text not in run]
    assert [block.head for block in left] == ["Without a network"]


@pytest.mark.parametrize("text", [BUILD, RELEASE, FIRST, UPGRADE], ids=lambda text: text[:20])
def test_what_the_steps_take_from_the_checkout_is_there(text: str) -> None:
    words = re.findall(r"(?:-r |644 |cp -R )((?:\w[\w./-]*(?: |$))+)", text, re.MULTILINE)
    for name in " ".join(words).split():
        assert (house.ROOT / name).exists(), name


def test_the_steps_and_the_unit_mean_the_same_places() -> None:
    command = re.search(r"(?m)^ExecStart=(\S+) run$", UNIT)
    assert command
    assert f"ln -sfn {command[1]} /usr/local/bin/edge-agent\n" in FIRST
    assert '"$release"/share/doc/edge-agent\n' in RELEASE
    assert "Documentation=file:///opt/edge-agent/current/share/doc/edge-agent/README.md" in UNIT
    for path in ("/etc/sysusers.d/edge-agent.conf", "/etc/systemd/system/edge-agent.service"):
        assert path in FIRST
        assert path in UPGRADE
        assert path in REMOVE
        assert path in UNIT


def test_everything_that_is_installed_is_hashed_and_nothing_is_built_by_what_is_fetched() -> None:
    for line in re.findall(r".*/pip (?:install|wheel|download).*", BUILD + RELEASE):
        assert "--require-hashes --only-binary :all: -r" in line or "--no-deps" in line, line
        assert "wheel --" not in line or "--no-build-isolation" in line, line
    assert "requirements.lock" not in BUILD + RELEASE


def test_every_command_that_the_pages_name_is_one() -> None:
    verbs = {verb for group in GROUPS.values() for verb in group}
    typed = re.findall(r"(?m)(?:^|`|-- |bin/)edge-agent ([a-z]\w*)", README + PAGE)
    assert set(typed) <= verbs
    assert {"init", "config", "status"} <= set(typed)


# ── by doing it ───────────────────────────────────────────────────────────────────────────────

LAYERS: Final = """
set -euo pipefail
mount -t tmpfs -o mode=755 tmpfs /mnt
for folder in /etc /opt /usr/local/bin /var/lib /run; do
    mkdir -p "/mnt/layers$folder/up" "/mnt/layers$folder/work"
    mount -t overlay overlay "$folder" \
        -o "lowerdir=$folder,upperdir=/mnt/layers$folder/up,workdir=/mnt/layers$folder/work"
done
"""
DESK: Final = """
mkdir /mnt/bin /mnt/home /mnt/checkout
cp "$DOUBLE" /mnt/bin/systemctl
cp -R "$SOURCE/." /mnt/checkout
chown -R 65534:65534 /mnt/checkout /mnt/home
PATH=/mnt/bin:$PATH
cd /mnt/checkout
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/mnt/home "$@"; }
named() {
    cd /mnt/layers
    find . -path '*/up/*edge-agent*' -prune ! -type c | sed 's|^[.]||; s|/up||'
    cd - > /dev/null
}
say() { printf '\\n── %s\\n' "$1"; }
awaited() {
    for _ in $(seq 60); do ! edge-agent status --json | grep -qE "$1" || return 0; sleep 1; done
    edge-agent status; return 1
}
"""
STEPS: Final = f"""
say wheel;      nobody bash -euo pipefail -c {shlex.quote(BUILD)}; ls build/wheel
say release;    {RELEASE}
say packages;   "$release"/bin/pip list --format=freeze; "$release"/bin/pip check
say writable;   find /opt/edge-agent ! -user root -o ! -type l -perm /022
say first;      {FIRST}
say start;      {START}
awaited '"inferred": *[1-9]'
say user;       runuser -u edge-agent -- edge-agent status
say stranger;   nobody edge-agent status 2>&1 || echo "exit $?"
say member;     its=$(getent group edge-agent | cut -d: -f3)
one_of() {{ setpriv --reuid 65534 --regid 65534 --groups "$1" edge-agent "${{@:2}}"; }}
one_of "$its" status
say refused;    one_of "$its" spool verify 2>&1 || echo "exit $?"
say admin;      one_of "$its,$(getent group edge-agent-admin | cut -d: -f3)" spool verify
say foreign;    find /var/lib/edge-agent /run/edge-agent ! -user edge-agent
say upgrade;    one=$release; sleep 1; {RELEASE}
{UPGRADE}
say upgraded;   readlink /opt/edge-agent/current; echo "$one"; echo "$release"
tr '\\0' ' ' < /proc/"$(cat /run/edge-agent.pid)"/cmdline
say back;       {BACK}
say before;     readlink /opt/edge-agent/current; echo "$one"
say remove;     {REMOVE}
say kept;       named
say forget;     {FORGET}
say gone;       named; getent passwd edge-agent || getent group edge-agent edge-agent-admin || true
say end
"""


def why_not() -> str:
    """Why it cannot be done here; empty when it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    for unmet, reason in (
        (os.geteuid() != 0, "needs root"),
        (missing, f"needs {', '.join(missing)}"),
        (Path("/opt/edge-agent").exists(), "edge-agent is installed here"),
    ):
        if unmet:
            return reason
    layers = ["unshare", "--mount", "bash", "-c", LAYERS]
    if subprocess.run(layers, capture_output=True, check=False).returncode:
        return "needs to mount overlays"
    python = ["python3", "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"]
    if subprocess.run(python, env={"PATH": PATH}, capture_output=True, check=False).returncode:
        return "needs a Python 3.10 of the system, with venv"
    return ""


def checkout(folder: Path) -> Path:
    """What git would give, with what is not committed yet."""
    listing = ["git", "-C", str(house.ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    for name in subprocess.run(listing, capture_output=True, check=True).stdout.split(b"\0"):
        source = house.ROOT / os.fsdecode(name)
        if name and source.is_file():
            (folder / os.fsdecode(name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / os.fsdecode(name))
    return folder


def parts(out: str) -> dict[str, str]:
    pieces = re.split(r"(?m)^── (.*)\n", out)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def names_of(text: str) -> set[str]:
    return {canonicalize_name(name) for name in re.findall(r"(?m)^([\w.-]+)==", text)}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_install_as_the_pages_say_it(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    source = checkout(tmp_path / "checkout")
    kept = {key: value for key, value in os.environ.items() if re.match("PIP_|https?_proxy", key)}
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "bash", "-c", LAYERS + DESK + STEPS],
        env={**kept, "PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "DOUBLE": str(DOUBLE),
             "SOURCE": str(source)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    (tmp_path / "said").write_text(said)
    assert done.returncode == 0, said
    part = parts(done.stdout)
    assert re.search(r"edge_agent-[\d.]+-py3-none-any\.whl", part["wheel"]), said
    run = (house.ROOT / "requirements-run.txt").read_text(encoding="utf-8")
    extra = names_of(part["packages"]) - names_of(run) - {"edge-agent", "pip", "setuptools"}
    assert (extra, part["writable"].strip()) == (set(), ""), said
    assert "ultrasound" in part["start"], said
    assert "ultrasound" in part["user"], said
    assert "ultrasound" in part["member"], said
    assert "usermod -aG edge-agent" in part["stranger"], said
    assert "exit 6" in part["refused"], said
    assert part["foreign"].strip() == "", said
    current, one, two, running = part["upgraded"].split("\n")[:4]
    assert (current, one != two) == (two, True), said
    assert "/opt/edge-agent/" in running, said
    assert len(set(part["before"].split())) == 1, said
    assert set(part["kept"].split()) == {
        "/etc/edge-agent",
        "/var/lib/edge-agent",
        "/run/edge-agent.log",
    }
    assert set(part["gone"].split()) == {"/run/edge-agent.log"}, said
