"""Run the benchmarks one after the other and write RESULTS.md.

    python benchmarks/run.py [--full | --gpu] [--lists DIR]

`--full` runs the rest: what is not among the default ones (`make bench-full`). `--gpu` runs those of a GPU instead and
writes RESULTS_GPU.md. A call that was stopped goes on where it was: the rows of each benchmark are kept in
benchmarks/results/ and, until a call has run to its end, taken as they are while neither code nor machine nor versions
have changed. RESULTS.md shows the latest rows of every benchmark that this machine has run; those of earlier code say
so.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from measure import Row, met_text, row_cells

from ser_protocol.files import write_atomically

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
RESULTS_GPU = ROOT / "benchmarks" / "RESULTS_GPU.md"
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")
PACKAGES = ("torch", "transformers", "numpy", "librosa")


@dataclass(frozen=True)
class Benchmark:
    """
    Args:
        name: of its file of rows.
        command: script of this folder and its arguments.
        kind: the flag that runs it: "full", "gpu", or "" for none.
        needs_lists: whether it is of the lists of `--lists`, and left out without them.
    """

    name: str
    command: str
    kind: str = ""
    needs_lists: bool = False


BENCHMARKS = (
    Benchmark("parameters", "parameters.py"),
    Benchmark("features", "features.py"),
    Benchmark("encoder", "encoder.py --sizes tiny base"),
    Benchmark("encoder_medium", "encoder.py --sizes medium", "full"),
    Benchmark("training_step", "training_step.py"),
    Benchmark("cache", "cache.py"),
    Benchmark("experiment", "experiment.py"),
    Benchmark("cache_crema_d", "cache.py", "full", needs_lists=True),
    Benchmark("experiment_ravdess", "experiment.py --clips 1440 --folds 12 --repeats 1 --cached_only", "full"),
    Benchmark("growth", "experiment.py --growth --repeats 1 --cached_only", "full"),
    Benchmark("two_processes", "two_processes.py", "full"),
    Benchmark("latency", "latency.py --sizes tiny base"),
    Benchmark("latency_medium", "latency.py --sizes medium", "full"),
    Benchmark("latency_by_length", "latency.py --sizes base --durations 1 3 10 30 --against padded", "full"),
    Benchmark("threads", "threads.py", "full"),
    Benchmark("export", "export.py", "full"),
    Benchmark("predict", "predict.py", "full"),
    Benchmark("load", "load.py", "full"),
    Benchmark("gpu_encoder", "encoder.py --sizes base medium --batch 32 --device cuda", "gpu"),
    Benchmark("gpu_encoder_bf16", "encoder.py --sizes base medium --batch 32 --device cuda --bf16", "gpu"),
    Benchmark("gpu_training_step", "training_step.py --device cuda", "gpu"),
    Benchmark("gpu_training_step_bf16", "training_step.py --device cuda --bf16", "gpu"),
)


def machine() -> dict:
    """What a figure depends on beside the code."""
    cpu, flags = platform.processor() or platform.machine(), []
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        info = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
        cpu, flags = info.get("model name", cpu), info.get("flags", "").split()
    except OSError:
        pass  # not Linux
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def code_hash() -> str:
    """SHA-256 of the code that is measured and that measures."""
    digest = hashlib.sha256()
    folders = ("modeling_camulenet", "dataset_scripts", "ser_protocol", "benchmarks")
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_result(name: str) -> dict | None:
    """What a benchmark's last run left, if there is one that can be read."""
    try:
        return json.loads((FOLDER / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None


def measure(benchmark: Benchmark, arguments: list[str], state: dict) -> dict:
    """
    Run a benchmark and keep its rows.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    script, *given = shlex.split(benchmark.command)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, str(ROOT / "benchmarks" / script), *given, *arguments, "--rows", str(rows)]
        subprocess.run(command, check=True, cwd=ROOT)
        result = {
            **state,
            "command": shlex.join(
                ["python", f"benchmarks/{script}", *given, *(["--lists", "DIR"] if arguments else [])]
            ),
            "date": datetime.date.today().isoformat(),
            "seconds": time.perf_counter() - started,
            "rows": json.loads(rows.read_text()),
        }
    write_atomically(FOLDER / f"{benchmark.name}.json", json.dumps(result, indent=1) + "\n")
    return result


def results_markdown(results: list[dict], state: dict) -> str:
    """RESULTS.md: a row a figure, of the results of this machine, and what the machine is."""
    here = state["machine"]
    computes = f"{here['cores']} cores of {here['cpu']} ({', '.join(here['flags']) or 'no AVX'})"
    if here["gpu"]:
        computes += f" and one {here['gpu']}"
    lines = [
        "# Figures",
        "",
        "Written by `make bench`, `bench-full` and `bench-gpu`: medians of repeats, both sides measured in turn in "
        "one run. A ratio is the other side over ours, its spread the least and the greatest of the repeats.",
        "",
        f"Machine: {computes}, {here['system']}. "
        f"Versions: {', '.join(f'{name} {number}' for name, number in here['versions'].items())}.",
        "",
        "| what | ours | other side | ratio | target | met | command | date |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    missed = 0
    for result in results:
        date = result["date"] + ("" if result["code"] == state["code"] else ", earlier code")
        for row in (Row(**fields) for fields in result["rows"]):
            missed += met_text(row) == "**no**"
            lines.append("| " + " | ".join([*row_cells(row), f"`{result['command']}`", date]) + " |")
    minutes = sum(result["seconds"] for result in results) / 60
    verdict = "Every target is met." if not missed else f"Targets missed: {missed}."
    lines += ["", f"{verdict} All of it took {minutes:.0f} minutes."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--full", dest="kind", action="store_const", const="full", default="", help="run what the default leaves out"
    )
    kinds.add_argument("--gpu", dest="kind", action="store_const", const="gpu", help="run those of a GPU")
    parser.add_argument("--lists", type=Path, help="folder with EmoBox's cremad.csv, for the cache of real lengths")
    arguments = parser.parse_args()
    if arguments.kind == "gpu" and not torch.cuda.is_available():
        parser.error("--gpu measures on a GPU, and torch sees none here: run it on a machine with one")
    state = {"code": code_hash(), "machine": machine()}
    chosen = [
        benchmark
        for benchmark in BENCHMARKS
        if benchmark.kind == arguments.kind and (arguments.lists or not benchmark.needs_lists)
    ]
    unfinished = FOLDER / "-".join(["unfinished", *filter(None, [arguments.kind])])
    # Rows that a stopped call has measured; a call that follows a finished one measures everything anew.
    done = unfinished.read_text().split() if unfinished.is_file() else []
    failed = []
    for number, benchmark in enumerate(chosen, start=1):
        title = f"[{number}/{len(chosen)}] {benchmark.command}"
        before = read_result(benchmark.name)
        if benchmark.name in done and before and all(before[key] == value for key, value in state.items()):
            print(f"{title}: measured before the last call was stopped", flush=True)
            continue
        print(title, flush=True)
        given = ["--lists", str(arguments.lists.resolve())] if benchmark.needs_lists else []
        try:
            result = measure(benchmark, given, state)
        except subprocess.CalledProcessError as error:
            print(f"{title} failed with status {error.returncode}", file=sys.stderr, flush=True)
            failed.append(benchmark.name)
            continue
        print(f"[{number}/{len(chosen)}] took {result['seconds']:.0f} s", flush=True)
        done.append(benchmark.name)
        write_atomically(unfinished, "\n".join(done) + "\n")
    path = RESULTS_GPU if arguments.kind == "gpu" else RESULTS
    names = [b.name for b in BENCHMARKS if (b.kind == "gpu") == (arguments.kind == "gpu")]
    results = [result for result in map(read_result, names) if result and result["machine"] == state["machine"]]
    write_atomically(path, results_markdown(results, state))
    print(f"Written: {path.relative_to(ROOT)}")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. The same command measures these again.")
    unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
