"""The device behind jaxlib: the one module that knows its names, which change between versions.

jaxlib is made for jax, and so are some names here that begin with an underscore: there are no others. What the
versions 0.6 and 0.10 were seen to need, with jax beside them and without, is tried in turn.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .machine import driver_version, free_host_memory, processor


class DeviceError(Exception):
    """There is no usable device; the message says why and how to mend it."""


@dataclass(frozen=True)
class DeviceInfo:
    """What the table says of a device.

    Args:
      platform: "cpu", "cuda", ...
      name: of the card, or of the processor.
      driver: its version; "" without one.
      library: what ran the programs.
    """

    platform: str
    name: str
    driver: str
    library: str


class Compiled(Protocol):
    """A program that is ready to run.

    Attributes:
      needed_bytes: of the device's memory while it runs, its inputs included; None if it isn't known.
    """

    needed_bytes: int | None

    def __call__(self, arguments: list[Any]) -> list[Any]:
        """The outputs, on the device, perhaps before they are computed. Inputs that are donated are gone."""


class Device(Protocol):
    """What the measurement wants of a device."""

    info: DeviceInfo

    def compile(self, hlo: bytes) -> Compiled:
        """A program from a serialized HloModuleProto."""

    def put(self, values: np.ndarray) -> Any:
        """A copy on the device."""

    def fetch(self, array: Any) -> np.ndarray:
        """A copy on the host, once it is computed."""

    def wait(self, arrays: list[Any]) -> None:
        """Until all of them are computed."""

    def free_bytes(self) -> int | None:
        """Memory that is left; None if it isn't known."""


class JaxlibDevice:
    """The first GPU that jaxlib finds, else the CPU.

    Raises:
      DeviceError: jaxlib isn't installed, or can't be used.
    """

    def __init__(self) -> None:
        # Grown as needed: the same card computes for torch in another process.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        try:
            from jaxlib import version, xla_client
        except ImportError as error:
            raise DeviceError(f"jaxlib can't be imported ({error}): install jaxlib (for CUDA: jax[cuda12])") from error
        self._xla = xla_client
        self._native = getattr(xla_client, "_xla", None)
        try:
            self._client, through = _make_client(xla_client)
            self._device = self._client.local_devices()[0]
        except Exception as error:
            raise DeviceError(f"jaxlib {version.__version__} has no device ({_first_line(error)})") from error
        on_cpu = self._client.platform == "cpu"
        self.info = DeviceInfo(
            platform=self._client.platform,
            name=processor() if on_cpu else self._device.device_kind,
            driver="" if on_cpu else driver_version(),
            library=f"jaxlib {version.__version__}{through}",
        )
        self._sharding: Any = None

    def compile(self, hlo: bytes) -> Compiled:
        """See `Device`."""
        module = self._native.mlir.xla_computation_to_mlir_module(self._xla.XlaComputation(hlo))
        options = self._xla.CompileOptions()
        if hasattr(self._client, "compile_and_load"):
            executable = self._client.compile_and_load(module, self._xla.DeviceList((self._device,)), options)
        else:
            executable = self._client.compile(module, options)
        return _Executable(executable)

    def put(self, values: np.ndarray) -> Any:
        """See `Device`."""
        if hasattr(self._client, "buffer_from_pyval"):
            return self._client.buffer_from_pyval(values, self._device)
        if self._sharding is None:
            self._sharding = _one_device(self._xla, self._native, self._device)
        return self._native.batched_device_put(_Shape(values), self._sharding, [values], [self._device])

    def fetch(self, array: Any) -> np.ndarray:
        """See `Device`."""
        values = array._single_device_array_to_np_array_did_copy()
        return np.array(values[0] if isinstance(values, tuple) else values)

    def wait(self, arrays: list[Any]) -> None:
        """See `Device`."""
        for array in arrays:
            array.block_until_ready()

    def free_bytes(self) -> int | None:
        """See `Device`."""
        if self.info.platform == "cpu":
            return free_host_memory()
        stats = self._device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)


class _Executable:
    def __init__(self, executable: Any) -> None:
        self._executable = executable
        try:
            stats = executable.get_compiled_memory_stats()
            own = stats.output_size_in_bytes - stats.alias_size_in_bytes + stats.temp_size_in_bytes
            self.needed_bytes: int | None = own + stats.argument_size_in_bytes
        except Exception:  # a backend that has no statistics
            self.needed_bytes = None

    def __call__(self, arguments: list[Any]) -> list[Any]:
        return self._executable.execute(arguments)


class _Shape:
    """What jaxlib wants to know of an array; jax's ShapedArray has more."""

    weak_type = False

    def __init__(self, values: np.ndarray) -> None:
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim


def _make_client(xla_client: Any) -> tuple[Any, str]:
    """A client, and what it came through. jax knows how to start its CUDA plugin; without jax it is started here."""
    try:
        import jax
    except ImportError:
        jax = None
    if jax is not None:
        jax.config.update("jax_enable_x64", True)
        return jax.devices()[0].client, f", jax {jax.__version__}"
    for plugin in ("jax_cuda13_plugin", "jax_cuda12_plugin"):
        try:
            return _cuda_client(xla_client, plugin), f", {plugin}"
        except ImportError:
            continue
    return xla_client.make_cpu_client(), ""


def _cuda_client(xla_client: Any, plugin: str) -> Any:
    """The client of jaxlib's CUDA plugin.

    Raises:
      ImportError: It isn't installed.
    """
    import importlib

    version = plugin.split("_")[1].removeprefix("cuda")
    package = importlib.import_module(f"jax_plugins.xla_cuda{version}")
    library = Path(package.__file__ or "").parent / "xla_cuda_plugin.so"
    xla_client.load_pjrt_plugin_dynamically("cuda", str(library))
    if not xla_client.pjrt_plugin_initialized("cuda"):
        xla_client.initialize_pjrt_plugin("cuda")
    return xla_client.make_c_api_client("cuda", xla_client.generate_pjrt_gpu_plugin_options())


def _one_device(xla_client: Any, native: Any, device: Any) -> Any:
    """How an array lies on one device, with what jax's own class has more than jaxlib's."""

    class OneDevice(xla_client.SingleDeviceSharding):
        memory_kind = property(lambda self: self._memory_kind)

        def _to_xla_hlo_sharding(self, _num_dimensions: int) -> Any:
            return xla_client.HloSharding.replicate()

    if hasattr(native.jax_jit, "set_enable_x64_state"):
        # Without jax nobody has said whether there are numbers of 64 bits; where jax has, it can't be said again.
        with contextlib.suppress(Exception):
            native.jax_jit.set_enable_x64_state(native.config.Config("jax_enable_x64", True))
    return OneDevice(device)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
