"""The same search by torch: a matrix product and top-k, in float32, and in int8 where torch has such a product."""

from __future__ import annotations

import time
from typing import Any

from .device import DeviceError, DeviceInfo
from .machine import driver_version, free_host_memory, processor
from .timing import CALLS, measure
from .work import FAILED, NO_MEMORY, NO_TIME, OK, Limits

KINDS = ("float32", "int8")
_INT8_ROWS = 32


def peer_name(kind: str, num_items: int, dim: int, batch: int) -> str:
    """What a search by torch is called in the table."""
    return f"torch {kind}, {num_items:,} x {dim}, batch {batch:,}"


class TorchPeer:
    """Measures searches by torch.

    Raises:
      DeviceError: torch isn't installed.
    """

    def __init__(self) -> None:
        try:
            import torch
        except ImportError as error:
            raise DeviceError(f"torch can't be imported ({error})") from error
        self._torch = torch
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        # As XLA does where it isn't told otherwise: products of float32 numbers rounded to 10 bits.
        torch.set_float32_matmul_precision("high")
        self.info = DeviceInfo(
            platform="cuda" if on_gpu else "cpu",
            name=torch.cuda.get_device_name() if on_gpu else processor(),
            driver=driver_version() if on_gpu else "",
            library=f"torch {torch.__version__}",
        )

    def run(self, search: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """What the table says of a search of `kind`, `num_items`, `dim`, `batch` and `k`."""
        row: dict[str, Any] = {"status": OK}
        # All scores, and the rows that they are made of.
        wanted = 4 * search["num_items"] * (search["batch"] + search["dim"])
        free = self._free_bytes()
        free = limits.memory_bytes if free is None else min(free, limits.memory_bytes or free)
        if free is not None and wanted > free:
            note = f"it needs {wanted / 2**30:.1f} GiB, {free / 2**30:.1f} GiB may be used"
            return {"status": NO_MEMORY, "note": note}
        deadline = time.monotonic() + limits.seconds
        try:
            call = self._search(search)
            times = measure(call, deadline)
        except Exception as error:  # torch raises RuntimeError for nearly everything
            no_memory = "out of memory" in str(error).lower() or "can't allocate" in str(error).lower()
            first = (str(error).strip().splitlines() or [""])[0][:300]
            return {"status": NO_MEMORY if no_memory else FAILED, "note": f"{type(error).__name__}: {first}"}
        if times is None:
            return {"status": NO_TIME, "note": f"less than three calls fit into its {limits.seconds:.0f} s"}
        row |= {"median_ms": times.median_ms, "p95_ms": times.p95_ms, "calls": len(times.seconds)}
        if len(times.seconds) < CALLS:
            row["note"] = f"{len(times.seconds)} calls only, there was no time for {CALLS}"
        return row

    def is_usable(self) -> bool:
        """Whether the device still answers."""
        try:
            return bool((self._torch.ones(2, device=self._device).sum() == 2).item())
        except RuntimeError:
            return False

    def _free_bytes(self) -> int | None:
        if self._device.type == "cuda":
            # What torch keeps of the last search counts as taken.
            self._torch.cuda.empty_cache()
            return int(self._torch.cuda.mem_get_info()[0])
        return free_host_memory()

    def _search(self, search: dict[str, Any]) -> Any:
        torch = self._torch
        generator = torch.Generator(device=self._device).manual_seed(1)
        shapes = [(search["batch"], search["dim"]), (search["num_items"], search["dim"])]
        if search["kind"] == "float32":
            queries, items = (torch.randn(*shape, generator=generator, device=self._device) for shape in shapes)

            def product() -> Any:
                return torch.matmul(queries, items.T)
        else:
            queries, items = (
                torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8, device=self._device)
                for shape in shapes
            )

            # The product of int8 refuses fewer rows on a GPU.
            queries = torch.nn.functional.pad(queries, (0, 0, 0, max(_INT8_ROWS - len(queries), 0)))

            def product() -> Any:
                return torch._int_mm(queries, items.T)[: search["batch"]]

        def call() -> None:
            torch.topk(product(), search["k"])
            if self._device.type == "cuda":
                torch.cuda.synchronize()

        return call
