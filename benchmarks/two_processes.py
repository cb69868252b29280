"""Two processes that share a cache and an output folder against one: the same result, in less time.

    python benchmarks/two_processes.py [--clips 96] [--size base]

Twice the same experiment from nothing: one call of `run_ser.py` for all folds; and two calls at once, each with half
of the folds, which build the cache together and of which the later one pools. All run on one thread each. The pooled
predictions and the cache's shards are compared byte by byte.
"""

import argparse
import hashlib
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiment import Experiment
from inputs import WHISPER_SIZES
from measure import Row, arguments_of, progress, report

NUM_FOLDS = 4
HALVES = ("0", "1"), ("2", "3")


def digests(folder: Path, pattern: str) -> dict[str, str]:
    """Relative path -> SHA-256 of the files that match."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob(pattern)
    }


def main() -> None:
    def add(parser: argparse.ArgumentParser):
        parser.add_argument("--clips", type=int, default=96, help="in the corpus (default 96)")
        parser.add_argument("--size", choices=WHISPER_SIZES, default="base", help="of the encoder (default base)")

    arguments = arguments_of(__doc__, add)
    os.environ["OMP_NUM_THREADS"] = "1"
    one, two = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "shared"
        experiment = Experiment(folder, arguments.clips, NUM_FOLDS, arguments.size)
        for repeat in range(arguments.repeats):
            cache, out = f"cache_one_{repeat}", f"out_one_{repeat}"
            one.append(experiment.run(cache, out))
            shared_cache, shared_out = f"cache_two_{repeat}", f"out_two_{repeat}"
            started = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                calls = [pool.submit(experiment.run, shared_cache, shared_out, "--folds", *half) for half in HALVES]
                for call in calls:
                    call.result()
            two.append(time.perf_counter() - started)
            for first, second, pattern in (
                (folder / cache, folder / shared_cache, "*.safetensors"),
                (folder / out, folder / shared_out, "predictions.csv"),
            ):
                expected, found = digests(first, pattern), digests(second, pattern)
                if expected != found or not expected:
                    raise SystemExit(f"{first} and {second} differ in {pattern}.")
            progress(f"{repeat + 1} of {arguments.repeats}: equal to the byte, {one[-1]:.0f} s and {two[-1]:.0f} s")
    what = f"{NUM_FOLDS} folds by two processes, cache included, equal to the byte ({arguments.clips} clips)"
    report([Row("", what, two, one, "one process")], arguments)


if __name__ == "__main__":
    main()
