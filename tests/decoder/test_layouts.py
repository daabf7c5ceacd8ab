"""The table of FFmpeg's structs against the headers of that version, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_agent.decoder.layouts import BY_AVCODEC

HEADERS = ("libavformat/avformat.h", "libavcodec/avcodec.h", "libavutil/pixdesc.h")


@pytest.mark.parametrize("major", BY_AVCODEC)
def test_each_field_lies_where_the_headers_have_it(major: int, tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc and libavformat-dev")
    known = BY_AVCODEC[major]
    lines = [
        f'printf("{struct} {field} %zu\\n", offsetof({struct}, {field}));'
        for struct, fields in known.of.items()
        for field in fields
    ]
    versions = "LIBAVCODEC_VERSION_MAJOR, LIBAVFORMAT_VERSION_MAJOR, LIBAVUTIL_VERSION_MAJOR"
    source = tmp_path / "offsets.c"
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n"
        + "".join(f"#include <{header}>\n" for header in HEADERS)
        + f'int main(void) {{ printf("%d %d %d\\n", {versions}); {" ".join(lines)} return 0; }}\n'
    )
    program = tmp_path / "offsets"
    built = subprocess.run(
        [compiler, str(source), "-o", str(program)], check=False, capture_output=True
    )
    if built.returncode:
        pytest.skip("needs the headers of FFmpeg (sudo apt install libavformat-dev)")
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    first, *rest = said.splitlines()
    if first != f"{major} {known.avformat} {known.avutil}":
        pytest.skip(f"the headers here are of another version: {first}")
    found = {(s, f): int(at) for s, f, at in (line.split() for line in rest)}
    assert found == {(s, f): at for s, fields in known.of.items() for f, at in fields.items()}
