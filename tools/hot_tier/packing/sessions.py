"""Runs side by side on the same pictures: the foreign file by hand, variants as on an edge.

By hand: pixels are scaled and turned by numpy, as the person says that the model wants them. That
both say the same is what makes the package worth anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.backends.onnx import PROVIDERS, OnnxBackend, runtime, vendor_errors
from edge_agent.backends.onnx_fit import DTYPES
from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.manifest import Manifest, StateSpec
from edge_agent.ports import Bound
from tools.hot_tier.packing.opset import HINT
from tools.hot_tier.packing.shaping import Picture
from tools.hot_tier.packing.wish import Foreign, scale_of

SIZES_HINT = "choose another size under [input]: many nets want multiples of 32"

NUMBERS = "fiub"  # kinds of dtypes that something can be read from

Arrays = dict[str, NDArray[Any]]


def by_hand(pixels: NDArray[np.uint8], picture: Picture, foreign: Foreign) -> NDArray[Any]:
    """What the foreign file is fed for the package's input `pixels`, made by numpy alone."""
    planes = pixels[0] if picture.spec.layout == "nhwc" else pixels[0].transpose(1, 2, 0)
    if picture.spec.channels == 1 and picture.channels == 3:
        planes = np.repeat(planes, 3, axis=2)
    elif picture.spec.order != picture.order:
        planes = planes[..., ::-1]
    numbers: NDArray[Any] = planes
    if picture.kind != "uint8":
        mean, std = np.asarray(foreign.mean), np.asarray(foreign.std)
        numbers = ((planes * scale_of(foreign) - mean) / std).astype(picture.kind)
    turned = numbers if picture.layout == "nhwc" else numbers.transpose(2, 0, 1)
    return np.ascontiguousarray(turned[None])


class Plain:
    """A file in ONNX Runtime as it is: feeds are arrays, states are fed back by name."""

    def __init__(
        self,
        model: bytes,
        states: tuple[StateSpec, ...],
        *,
        level: str = "ORT_ENABLE_EXTENDED",
        threads: int = 1,
    ) -> None:
        """Raises: Rejected."""
        vendor = runtime()
        options = vendor.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(vendor.GraphOptimizationLevel, level)
        self._errors = vendor_errors()
        try:
            self._session = vendor.InferenceSession(model, options, providers=PROVIDERS)
        except self._errors as error:
            raise Rejected(
                f"pack model: ONNX Runtime {vendor.__version__} does not load it: {_brief(error)}",
                hint=SIZES_HINT if "imension" in str(error) else HINT,
            ) from error
        self._specs = states
        self._kinds = {one.name: one for one in self._session.get_inputs()}
        self._names = [one.name for one in self._session.get_outputs()]
        self._states: Arrays = {}
        self.reset()

    def reset(self) -> None:
        for state in self._specs:
            port = self._kinds[state.input]
            self._states[state.input] = np.zeros(port.shape, DTYPES[port.type])

    def run(self, name: str, fed: NDArray[Any]) -> Arrays:
        """Outputs that are arrays of numbers; text, sequences and optionals are left out.

        Raises: Rejected.
        """
        try:
            values = self._session.run(None, {name: fed, **self._states})
        except self._errors as error:
            raise Rejected(
                f"pack model: it does not run: {_brief(error)}",
                hint=SIZES_HINT,
            ) from error
        found = {
            said: array
            for said, array in zip(self._names, values, strict=True)
            if isinstance(array, np.ndarray) and array.dtype.kind in NUMBERS
        }
        for state in self._specs:
            self._states[state.input] = found[state.output]
        return found


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def bound(folder: Path, manifest: Manifest, variant: str) -> Bound:
    """A variant in the agent's own backend, whatever backends it is meant for.

    Raises: Rejected.
    """
    chosen = [
        msgspec.structs.replace(one, backends=("onnx",))
        for one in manifest.variants
        if one.name == variant
    ]
    alone = msgspec.structs.replace(manifest, variants=tuple(chosen))
    return OnnxBackend().load(folder, alone).bind()


def runs(session: Bound, title: str) -> Arrays:
    """Copies of what a run says.

    Raises: Rejected.
    """
    try:
        said: Mapping[str, NDArray[Any]] = session.run()
    except BadFrame as bad:
        raise Rejected(f"{title}: {bad.what}", hint=bad.hint) from bad
    return {name: array.copy() for name, array in said.items()}


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="pack-")
