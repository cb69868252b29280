"""What the benchmarks share: sides measured in turn, each in a process of its own; targets; rows of the result table.

A benchmark is a script with named sides. Called by a user it starts one process a side (itself, with `--side`), warms
each up once and then asks them for one measurement after the other, A B A B, so that a drifting load hits all of them,
and memory peaks stay apart. A ratio is that of two neighbouring measurements; the figure is the median of the ratios,
its spread their least and greatest.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

RUN_AT_LEAST_S = 0.5  # a short run is repeated up to this time; the measurement is the mean


@dataclass(frozen=True)
class Target:
    """What a figure is to reach: the `ratio` of the other side to ours at least, or our own `value` at most."""

    kind: str
    limit: float

    def is_met(self, row: "Row") -> bool:
        """Whether the median reaches it."""
        if self.kind == "ratio":
            return statistics.median(row.ratios) >= self.limit
        return statistics.median(row.ours) <= self.limit


# The figures to reach, by the key of their row.
TARGETS = {
    "parameters": Target("value", 12e6),
    "features_like_for_like": Target("ratio", 4),
    "features_released": Target("ratio", 15),
    "encoder_base": Target("ratio", 6),
    "step_time": Target("ratio", 10),
    "step_memory": Target("ratio", 5),
    "cache_frames": Target("value", 2.0e9),
    "cache_with_features": Target("value", 2.7e9),
    "cache_resident": Target("value", 2.0e9),
    "encoder_passes_of_later_folds": Target("value", 0),
    "cached_logits_float16": Target("value", 1e-3),
    "cached_logits_float32": Target("value", 1e-5),
    "onnx_parity": Target("value", 1e-4),
    "onnx_speed": Target("ratio", 1),
    "load_missing": Target("value", 0),
    "load_memory": Target("ratio", 0.8),
    "timeline_memory": Target("ratio", 0.9),
}


@dataclass(frozen=True)
class Row:
    """
    One figure.

    Args:
        key: its name among the `TARGETS`, where it has one.
        what: is measured, in words.
        ours, other: the measurements of the two sides, in their order; `other` may be empty.
        other_name: what the other side is.
        unit: `"s"`, `"bytes"`, or what is counted.
    """

    key: str
    what: str
    ours: list[float]
    other: list[float] = field(default_factory=list)
    other_name: str = ""
    unit: str = "s"

    @property
    def ratios(self) -> list[float]:
        """Other side over ours, of each pair of neighbouring measurements."""
        return [other / ours for ours, other in zip(self.ours, self.other) if ours]

    @property
    def target(self) -> Target | None:
        return TARGETS.get(self.key)


def quantity(value: float, unit: str) -> str:
    """A measurement with three digits and the unit that suits it: `quantity(0.0123, "s")` is "12.3 ms"."""
    scales = {
        "s": ((60, "min", 60), (1, "s", 1), (1e-3, "ms", 1e-3), (0, "µs", 1e-6)),
        "bytes": ((1e9, "GB", 1e9), (1e6, "MB", 1e6), (1e3, "kB", 1e3), (0, "bytes", 1)),
    }
    counts = ((1e6, f"M {unit}", 1e6), (0, unit, 1))
    for least, name, scale in scales.get(unit, counts):
        if abs(value) >= least:
            return f"{three_digits(value / scale)} {name}".strip()
    raise ValueError(f"{value!r} is no quantity.")


def three_digits(value: float) -> str:
    """Three significant digits without an exponent, except for what is very small: 335, 36.5, 1.23, 4.2e-05."""
    if value and abs(value) < 1e-3:
        return f"{value:.2g}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def ratio_text(row: Row) -> str:
    """The median ratio and its spread, "8.2x (7.9 to 8.4)"; nothing without another side."""
    if not row.ratios:
        return ""
    low, median, high = (f(row.ratios) for f in (min, statistics.median, max))
    if low == high:
        return f"{three_digits(median)}x"
    return f"{three_digits(median)}x ({three_digits(low)} to {three_digits(high)})"


def target_text(row: Row) -> str:
    """The target, "at least 6x"; nothing without one."""
    if row.target is None:
        return ""
    if row.target.kind == "ratio":
        return f"at least {three_digits(row.target.limit)}x"
    return f"at most {quantity(row.target.limit, row.unit)}"


def met_text(row: Row) -> str:
    """Whether the target is met, "yes" or "**no**"; nothing without one."""
    return "" if row.target is None else ("yes" if row.target.is_met(row) else "**no**")


def row_cells(row: Row) -> list[str]:
    """A row as text: what, ours, other side, ratio, target, met."""
    other = f"{quantity(statistics.median(row.other), row.unit)}: {row.other_name}" if row.other else ""
    return [
        row.what,
        quantity(statistics.median(row.ours), row.unit),
        other,
        ratio_text(row),
        target_text(row),
        met_text(row),
    ]


def arguments_of(docstring: str, add: Callable[[argparse.ArgumentParser], None] | None = None) -> argparse.Namespace:
    """The command line that all benchmarks have, and what `add` adds to it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=docstring.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each side (default 3)")
    parser.add_argument("--threads", type=int, default=cores, help="threads of both sides (default: all cores)")
    parser.add_argument("--rows", type=Path, help="file to which the rows are written as JSON, too")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # this process is a side
    if add:
        add(parser)
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.threads < 1:
        parser.error("--repeats and --threads are at least 1")
    return arguments


def peak_memory_bytes() -> int:
    """Peak resident memory of this process."""
    try:
        # Unlike getrusage this does not count what the parent had before it became this process.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def on_device(device: str) -> dict:
    """
    Waits for what a device still computes, so that the clock sees all of it.

    Returns:
        The peak of a GPU's memory as `peak_bytes`; nothing for the CPU, whose is that of the process.
    """
    if device == "cpu":
        return {}
    import torch  # not every benchmark needs it

    torch.cuda.synchronize(device)
    return {"peak_bytes": torch.cuda.max_memory_allocated(device)}


def precision_text(device: str, bf16: bool) -> str:
    """Where and how a figure was computed, for the name of its row; nothing on a CPU in full precision."""
    parts = [*(["on the GPU"] if device != "cpu" else []), *(["bfloat16"] if bf16 else [])]
    return "".join(f", {part}" for part in parts)


def add_device(parser: argparse.ArgumentParser) -> None:
    """The flags of benchmarks that can be asked about a GPU and half precision."""
    parser.add_argument("--device", default="cpu", help="of both sides: cpu or cuda (default: cpu)")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16, both sides")


def device_flags(arguments: argparse.Namespace) -> list[str]:
    """`add_device`'s flags as a side is given them."""
    return ["--device", arguments.device, *(["--bf16"] if arguments.bf16 else [])]


def serve(run: Callable[[], dict | None], at_least_s: float = RUN_AT_LEAST_S) -> None:
    """
    Be a side: for each line on standard input measure `run` once and answer with a line of JSON.

    The first measurement warms up and finds how often `run` is repeated within one. What `run` returns is added to the
    answer; a `seconds` of its own wins over the clock's.
    """
    times = 1
    warm = False
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(times):
            returned = run()
        seconds = (time.perf_counter() - started) / times
        if not warm:
            times, warm = max(round(at_least_s / seconds), 1), True
        answer = {"seconds": seconds, "peak_bytes": peak_memory_bytes(), **(returned or {})}
        print(json.dumps(answer), file=answers, flush=True)


class Side:
    """
    A side of the calling benchmark in a process of its own.

    Args:
        name: given to the script as `--side`.
        arguments: further ones, as on the command line.
        threads: of its arithmetic.
    """

    def __init__(self, name: str, arguments: Sequence[str] = (), threads: int = 1):
        self.name = name
        variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, sys.argv[0], *arguments, "--side", name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(variables, str(threads))},
            preexec_fn=_die_with_parent,
        )

    def measure(self) -> dict:
        """One measurement: `seconds`, `peak_bytes`, and what the side adds."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The side {self.name} ended with status {self.process.wait()}; its error is above.")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        if exception[0] is not None:
            self.process.terminate()
        self.process.wait()


def _die_with_parent():
    """A side does not outlive a benchmark that was killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM


def in_turn(
    sides: dict[str, Sequence[str]], repeats: int, threads: int | dict[str, int] = 1
) -> dict[str, dict[str, list[float]]]:
    """
    Measurements of several sides, alternating.

    Args:
        sides: name -> further arguments of its process.
        repeats: measurements of each, after one that warms up.
        threads: of all, or of each.
    Returns:
        name -> quantity (`seconds`, `peak_bytes`, ...) -> its values, in order.
    """
    measured = {name: [] for name in sides}
    with ExitStack() as stack:
        workers = []
        for name, arguments in sides.items():
            worker = Side(name, arguments, threads[name] if isinstance(threads, dict) else threads)
            stack.enter_context(worker)
            progress(f"{name}: warming up")
            worker.measure()
            workers.append(worker)
        for repeat in range(repeats):
            for worker in workers:
                measurement = worker.measure()
                measured[worker.name].append(measurement)
                progress(f"{worker.name}: {repeat + 1} of {repeats}, {quantity(measurement['seconds'], 's')}")
    return {name: {key: [each[key] for each in many] for key in many[0]} for name, many in measured.items()}


def progress(line: str) -> None:
    """A line about what is going on, apart from the results."""
    print(f"  {line}", file=sys.stderr, flush=True)


def report(rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    """Print a benchmark's rows and, with `--rows`, write them as JSON."""
    for row in rows:
        what, ours, other, ratio, target, met = row_cells(row)
        line = f"{what}: {ours}" + (f" against {other}; {ratio}" if other else "")
        print(line + (f"; target {target}: {'met' if met == 'yes' else 'MISSED'}" if target else ""), flush=True)
    if arguments.rows:
        arguments.rows.write_text(json.dumps([asdict(row) for row in rows]))
