"""Speed of nearest-code search and QPM against a loop over unique codes and against the plain vectorised way."""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from vqseg.benchmark.report import markdown_table, provenance, provenance_line, write_json
from vqseg.models.perturbation import substitute
from vqseg.models.quantizer import nearest_codewords

__all__ = ["SpeedRow", "peak_mb", "speed_of_quantization", "synchronise"]

REPEATS = 3
"""Runs of each way but the loop, which runs once; the best counts."""


@dataclass(frozen=True)
class SpeedRow:
    """One measurement.

    Parameters
    ----------
    code_dim : int
        Length of a codeword.
    task : str
        "search" (nearest codewords) or "qpm" (substitution).
    way : str
        "ours", "vectorised" (the whole tokens x K matrix at once) or "loop" (one unique code after the other).
    wall_s : float
        Seconds, best of the repeats.
    cpu_s : float
        Seconds of all cores, best of the repeats; not blurred by what else the machine does.
    peak_mb : float
        Memory on top of what was held before, in MB; NaN where the system does not tell.
    """

    code_dim: int
    task: str
    way: str
    wall_s: float
    cpu_s: float
    peak_mb: float


def loop_over_codes(indices: Tensor, codebook: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """QPM as it is written down first: for each unique code its distances, its softmax, its draws."""
    result = indices.clone()
    for code in indices.unique():
        positions = (indices == code).nonzero().squeeze(1)
        replaced = positions[torch.rand(len(positions), generator=generator, device=generator.device) < epsilon]
        distances = (codebook - codebook[code]).norm(dim=1)
        distances[code] = torch.inf
        if len(replaced):
            weights = torch.softmax(-distances, 0)
            result[replaced] = torch.multinomial(weights, len(replaced), replacement=True, generator=generator)
    return result


def whole_matrix(indices: Tensor, codebook: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """QPM in one go: a row of distances for every token, then one multinomial."""
    distances = torch.cdist(codebook[indices], codebook)  # (N, K)
    distances.scatter_(1, indices[:, None], torch.inf)
    drawn = torch.multinomial(torch.softmax(-distances, 1), 1, generator=generator).squeeze(1)
    keep = torch.rand(len(indices), generator=generator, device=generator.device) >= epsilon
    return torch.where(keep, indices, drawn)


def speed_of_quantization(
    codebook_size: int = 16384,
    code_dims: Sequence[int] = (32, 64, 128, 384),
    tokens: int = 8 * 256,
    epsilon: float = 0.7,
    device: str = "cpu",
    loop: bool = True,
) -> list[SpeedRow]:
    """Measure search and substitution on random codewords and tokens, where nearly every token has a code of its own.

    Parameters
    ----------
    codebook_size : int
        Number of codewords K.
    code_dims : sequence of int
        Lengths of a codeword to measure.
    tokens : int
        Tokens of a step, 8 slices of 16 x 16 by default.
    epsilon : float
        Perturbation intensity in [0, 1].
    device : str
        Where to compute.
    loop : bool
        Measure the loop as well; it takes seconds.
    """
    rows = []
    for code_dim in code_dims:
        generator = torch.Generator(device).manual_seed(0)
        codebook = torch.randn(codebook_size, code_dim, generator=generator, device=device)
        features = torch.randn(tokens, code_dim, generator=generator, device=device)
        indices = nearest_codewords(features, codebook)
        ways: dict[tuple[str, str], Callable[[], Tensor]] = {
            ("search", "ours"): lambda z=features, c=codebook: nearest_codewords(z, c),  # type: ignore[misc]
            ("search", "vectorised"): lambda z=features, c=codebook: torch.cdist(z, c).argmin(1),  # type: ignore[misc]
        }
        rivals = {"ours": substitute, "vectorised": whole_matrix, **({"loop": loop_over_codes} if loop else {})}
        for way, rival in rivals.items():
            ways["qpm", way] = lambda r=rival, i=indices, c=codebook, g=generator: r(i, c, epsilon, g)  # type: ignore[misc]
        for (task, way), call in ways.items():
            rows.append(SpeedRow(code_dim, task, way, *_measure(call, device, 1 if way == "loop" else REPEATS)))
    return rows


def _measure(call: Callable[[], Tensor], device: str, repeats: int) -> tuple[float, float, float]:
    """Best wall and processor seconds and peak MB; the memory costs a run more, where there is more than one."""
    if repeats > 1:
        return *_fastest(call, device, repeats), peak_mb(call, device)
    times: list[tuple[float, float]] = []
    peak = peak_mb(lambda: times.append(_fastest(call, device, 1)), device)
    return *times[0], peak


def _fastest(call: Callable[[], Tensor], device: str, repeats: int) -> tuple[float, float]:
    """Best wall and processor seconds of `repeats` runs, after one to warm up where there is more than one."""
    if repeats > 1:
        call()
    wall, cpu = [], []
    for _ in range(repeats):
        synchronise(device)
        start_wall, start_cpu = time.perf_counter(), time.process_time()
        call()
        synchronise(device)
        wall.append(time.perf_counter() - start_wall)
        cpu.append(time.process_time() - start_cpu)
    return min(wall), min(cpu)


def synchronise(device: str) -> None:
    """Wait until a GPU has done what it was asked to."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_mb(call: Callable[[], object], device: str) -> float:
    """Memory that a call needs on top, from CUDA's allocator or Linux's high-water mark."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or memory that is free but still held would hide the need
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
        before = _status_kb("VmRSS")
        call()
        return max(0.0, (_status_kb("VmHWM") - before) / 1e3)
    except (AttributeError, OSError):
        return float("nan")


def _status_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def _table(rows: Sequence[SpeedRow]) -> str:
    ours = {(row.code_dim, row.task): row for row in rows if row.way == "ours"}
    lines = []
    for row in rows:
        best = ours[row.code_dim, row.task]
        lines.append([
            row.code_dim, row.task, row.way, f"{row.wall_s:.3f}", f"{row.cpu_s:.3f}",
            f"{row.cpu_s / best.cpu_s:.1f}x", f"{row.peak_mb:.0f}",
        ])  # fmt: skip
    return markdown_table(["C", "task", "way", "wall s", "cpu s", "cpu / ours", "peak MB"], lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vqseg benchmark quantization``."""
    parser.add_argument("--codebook-size", type=int, default=16384, metavar="K", help="codewords (default 16384)")
    parser.add_argument("--code-dims", type=int, nargs="+", default=[32, 64, 128, 384], metavar="C",
                        help="lengths of a codeword (default 32 64 128 384)")  # fmt: skip
    parser.add_argument("--tokens", type=int, default=2048, metavar="N", help="tokens of a step (default 8 x 256)")
    parser.add_argument("--epsilon", type=float, default=0.7, help="perturbation intensity (default 0.7)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--no-loop", action="store_true", help="leave out the slow loop over unique codes")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    rows = speed_of_quantization(
        args.codebook_size, args.code_dims, args.tokens, args.epsilon, args.device, loop=not args.no_loop
    )
    source = provenance()
    print(f"{provenance_line(source)}\n\n{_table(rows)}", end="")  # noqa: T201
    if args.output:
        write_json(args.output, {**source, "rows": [asdict(row) for row in rows]})
    return 0
