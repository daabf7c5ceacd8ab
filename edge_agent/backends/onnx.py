"""ONNX Runtime: loads a package's ONNX file, proves that it fits its manifest, runs it bound.

Each stream binds its own buffers to the shared session: the frame is resized into the input itself
and results land in arrays that stay. Never scales pixels and never reads outputs: the graph and
the decoders do. Errors of the vendor end here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.backends.engines import MAKING, engine_path, hold_whole, settle
from edge_agent.backends.fill import Filler
from edge_agent.backends.onnx_fit import DTYPES, Port, check_fit, ports_of
from edge_agent.backends.paths import sayable
from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.frames import Frame
from edge_agent.core.manifest import Manifest, VariantSpec, variant_for
from edge_agent.core.vision import Rect

MAX_FILE_BYTES = 1 << 30
ONLY_FATAL = 4  # errors are raised and told by us, not written past us at 60 lines a second
PROVIDERS = ["CPUExecutionProvider"]
EXPORT_HINT = "export the model again with opset <= 17 and IR <= 10"


def runtime() -> ModuleType:
    """The vendor's module, 60 ms; the only door to it, because it must find its telemetry off.

    Since 1.32 the Linux wheels report to their vendor over HTTPS and keep a device id. A hospital's
    machine does neither: this variable has to be there before the first import in the process.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # noqa: PLC0415 - costly, and only now is the variable set

    module: ModuleType = onnxruntime
    return module


def vendor_errors() -> tuple[type[Exception], ...]:
    """Every error of ONNX Runtime: they share no root of their own; some are the built-in ones."""
    state = runtime().capi.onnxruntime_pybind11_state
    found = (getattr(state, name) for name in dir(state))
    own = (error for error in found if isinstance(error, type) and issubclass(error, Exception))
    return (*own, RuntimeError, ValueError)


class OnnxBackend:
    """threads: intra-op threads of one inference. engines: where prepared models are kept."""

    name = "onnx"

    def __init__(self, threads: int = 1, engines: Path | None = None) -> None:
        self._threads = threads
        self._engines = engines

    def runtime(self) -> str:
        return f"ort{runtime().__version__}"

    def load(
        self, folder: Path, manifest: Manifest, sha: str = "", *, file: Path | None = None
    ) -> OnnxSession:
        """Loads the first variant for ONNX Runtime; 0.1 to 1 s, the GIL is released.

        Raises: Rejected.
        """
        variant = _choose(manifest)
        title = f"load model {manifest.name} {manifest.version} ({variant.file})"
        path = file or folder / variant.file
        _check_file(path, title)
        session = self._load_prepared(manifest, variant, sha)
        is_prepared = session is not None
        if not is_prepared:
            session = self._open(path, title, self._options())
        check_fit(title, manifest, ports_of(session.get_inputs()), ports_of(session.get_outputs()))
        return OnnxSession(runtime(), session, manifest, variant.name, is_prepared=is_prepared)

    def prepare(
        self, folder: Path, manifest: Manifest, sha: str, *, file: Path | None = None
    ) -> Path | None:
        """The optimised graph, written by the runtime itself.

        Raises: Rejected.
        """
        if self._engines is None:
            return None
        variant = _choose(manifest)
        title = f"optimise model {manifest.name} {manifest.version} ({variant.file})"
        source = file or folder / variant.file
        _check_file(source, title)
        path = engine_path(self._engines, sha, variant.name, self.runtime())
        with tempfile.TemporaryDirectory(prefix=MAKING, dir=self._engines) as beside:
            written = Path(beside) / "engine.onnx"
            options = self._options()
            with sayable(written) as words:
                options.optimized_model_filepath = words
                self._open(source, title, options)
            settle(written, path)
        return path

    def _load_prepared(self, manifest: Manifest, variant: VariantSpec, sha: str) -> Any:
        """None when there is nothing, or nothing that can be used: the package's file will do."""
        if self._engines is None or not sha:
            return None
        path = engine_path(self._engines, sha, variant.name, self.runtime())
        whole = hold_whole(path)
        if whole is None:
            return None
        options = self._options()
        levels = runtime().GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_DISABLE_ALL  # it was done already
        with whole:
            try:
                return self._open(whole.path, f"load prepared {manifest.name}", options)
            except Rejected:
                return None

    def _open(self, path: Path, title: str, options: Any) -> Any:
        try:
            with sayable(path) as words:
                return runtime().InferenceSession(words, options, providers=PROVIDERS)
        except vendor_errors() as error:
            words = str(error).replace(str(path), "it")
            raise Rejected(f"{title}: {_brief(words, error)}", hint=_hint(error)) from error

    def _options(self) -> Any:
        vendor = runtime()
        options = vendor.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = vendor.ExecutionMode.ORT_SEQUENTIAL
        # EXTENDED, not ALL: repacking weights doubles the memory of a load for little speed
        options.graph_optimization_level = vendor.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = ONLY_FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def _choose(manifest: Manifest) -> VariantSpec:
    variant = variant_for(manifest, "onnx")
    if variant is not None:
        return variant
    raise Rejected(
        f"load model {manifest.name} {manifest.version}: expected a variant for backend onnx, "
        f"got {[(variant.name, list(variant.backends)) for variant in manifest.variants]}",
        hint='add "onnx" to the backends of a variant',
    )


def _check_file(path: Path, title: str) -> None:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise Rejected(
            f"{title}: file is missing ({error.strerror})", hint="reinstall the package"
        ) from error
    if size_bytes > MAX_FILE_BYTES:
        raise Rejected(
            f"{title}: expected at most {MAX_FILE_BYTES} bytes, got {size_bytes}",
            hint="export a smaller variant",
        )


def _brief(text: str, error: Exception) -> str:
    """The vendor's words without its stack and without the folder of the file."""
    lines = text.strip().splitlines() or [type(error).__name__]
    words = [word.rsplit("/", 1)[-1] if "/" in word else word for word in lines[0].split()]
    return " ".join(words)[:300]


def _hint(error: Exception) -> str:
    text = str(error)
    if "IR version" in text or "opset" in text.lower():
        return EXPORT_HINT
    if "rotobuf" in text:
        return "the file is damaged: reinstall the package"
    return EXPORT_HINT


class OnnxSession:
    """A loaded model. `close` lets go; its memory returns when the last `Bound` is gone too."""

    backend = "onnx"

    def __init__(
        self,
        vendor: ModuleType,
        session: Any,
        manifest: Manifest,
        variant: str,
        *,
        is_prepared: bool = False,
    ) -> None:
        self._vendor = vendor
        self._session = session
        self._manifest = manifest
        self._variant = variant
        self.is_prepared = is_prepared

    @property
    def variant(self) -> str:
        return self._variant

    def bind(self) -> OnnxBound:
        """Raises: RuntimeError when closed."""
        if self._session is None:
            raise RuntimeError(f"bind model {self._manifest.name}: its session is closed")
        return OnnxBound(self._vendor, self._session, self._manifest)

    def close(self) -> None:
        """Idempotent."""
        self._session = None


class OnnxBound:
    """One stream's buffers over a session: used by one thread at a time.

    With states there are two bindings that take turns: what one run writes, the next one reads.
    """

    def __init__(self, vendor: ModuleType, session: Any, manifest: Manifest) -> None:
        self._vendor = vendor
        self._session = session
        self._errors = vendor_errors()
        self._title = f"run model {manifest.name} {manifest.version}"
        inputs = {port.name: port for port in ports_of(session.get_inputs())}
        self._outputs = ports_of(session.get_outputs())
        self._input = np.zeros(_input_shape(manifest), np.uint8)
        self._filler = Filler(manifest.input, self._input)
        self._states = [
            tuple(_zeros(inputs[state.input]) for state in manifest.states) for _ in range(2)
        ]
        self._keep: list[Any] = []  # OrtValues over our arrays
        self._order = vendor.RunOptions()
        self._order.log_severity_level = ONLY_FATAL
        turns = (0, 1) if manifest.states else (0,)
        self._turns = [self._bind(manifest, turn) for turn in turns]
        self._turn = 0

    def fill(self, frame: Frame, roi: Rect) -> None:
        """Raises: BadFrame."""
        self._filler.fill(frame, roi)

    def run(self) -> Mapping[str, NDArray[Any]]:
        """The arrays are valid until the next run.

        Raises: BadFrame.
        """
        binding, arrays, loose = self._turns[self._turn]
        for _, name in loose:  # else the last run's size would be expected again
            binding.bind_output(name, "cpu")
        try:
            self._session.run_with_iobinding(binding, self._order)
        except self._errors as error:
            raise BadFrame(
                f"{self._title}: {_brief(str(error), error)}",
                hint="check the model with golden samples",
            ) from error
        if self._states[0]:
            self._turn ^= 1
        if not loose:
            return arrays
        values = binding.get_outputs()
        return arrays | {name: values[index].numpy() for index, name in loose}

    @property
    def input_pixels(self) -> NDArray[np.uint8]:
        """1xCxHxW or 1xHxWxC; the array that the model reads, not a copy."""
        return self._input

    def reset_state(self) -> None:
        for turn in self._states:
            for array in turn:
                array[...] = 0

    def cancel(self) -> None:
        self._order.terminate = True

    def _bind(
        self, manifest: Manifest, turn: int
    ) -> tuple[Any, dict[str, NDArray[Any]], list[tuple[int, str]]]:
        """A binding, its arrays by output name, and the outputs whose shape only a run tells."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(manifest.input.name, self._value(self._input))
        written: dict[str, NDArray[Any]] = {}
        for index, state in enumerate(manifest.states):
            binding.bind_ortvalue_input(state.input, self._value(self._states[turn][index]))
            written[state.output] = self._states[1 - turn][index]
        loose = []
        for index, port in enumerate(self._outputs):
            if port.name not in written and None not in port.shape:
                written[port.name] = _zeros(port)
            if port.name in written:
                binding.bind_ortvalue_output(port.name, self._value(written[port.name]))
            else:
                binding.bind_output(port.name, "cpu")
                loose.append((index, port.name))
        return binding, written, loose

    def _value(self, array: NDArray[Any]) -> Any:
        """Shares the memory of the array; both have to live as long as the binding."""
        value = self._vendor.OrtValue.ortvalue_from_numpy(array)
        self._keep.append(value)
        return value


def _input_shape(manifest: Manifest) -> tuple[int, ...]:
    spec = manifest.input
    width, height = spec.size
    if spec.layout == "nchw":
        return (1, spec.channels, height, width)
    return (1, height, width, spec.channels)


def _zeros(port: Port) -> NDArray[Any]:
    return np.zeros([size or 1 for size in port.shape], DTYPES[port.kind])
