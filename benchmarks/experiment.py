"""A whole experiment on cached features: from a cold and a warm cache, and with an encoder pass in every fold.

    python benchmarks/experiment.py [--clips 1440] [--folds 12] [--size base] [--growth] [--cached_only]

`run_ser.py` itself on noise clips as long as RAVDESS's, with a Whisper encoder of random weights, one epoch a fold and
the model to publish at the end. Cold: the cache is built, then the folds run. Warm: another run finds it built.
Recomputed: each fold has a cache of its own, as where nothing is shared. `--growth` adds cold and warm runs with twice
and four times the clips; `--cached_only` leaves the recomputed runs out, which take a fold's encoder pass each.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inputs import WHISPER_SIZES, ravdess_durations
from measure import Row, arguments_of, progress, quantity, report
from synthetic_corpus import write_corpus, write_encoder

ROOT = Path(__file__).parent.parent


class Experiment:
    """
    Runs of one corpus and one encoder in a folder.

    Args:
        folder: an empty one.
        num_clips, num_folds: of the corpus.
        size: of the Whisper encoder, one of `WHISPER_SIZES`.
    """

    def __init__(self, folder: Path, num_clips: int, num_folds: int, size: str):
        self.folder, self.num_folds, self.num_runs = folder, num_folds, 0
        self.corpus = write_corpus(folder / "corpus", ravdess_durations(num_clips))
        self.encoder = write_encoder(folder / "encoder", size)

    def run(self, cache: str, out: str | None = None, *flags: str) -> float:
        """Seconds of a call of run_ser.py, by default one that does everything anew but for what is cached."""
        self.num_runs += 1
        values = {
            "corpus": "own",
            "data_dir": self.corpus,
            "encoder_name_or_path": self.encoder,
            "cache_dir": self.folder / cache,
            "num_folds": self.num_folds,
            "num_train_epochs": 1,
            "output_dir": self.folder / (out or f"out_{self.num_runs}"),
        }
        command = [sys.executable, str(ROOT / "run_ser.py"), *flags]
        command += [text for name, value in values.items() for text in (f"--{name}", str(value))]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        return time.perf_counter() - started

    def encoder_shards(self, cache: str) -> dict[Path, int]:
        """The shards of encoder frames in a cache, with their times in nanoseconds."""
        shards = (self.folder / cache).rglob("encoder-*/*.safetensors")
        return {path: path.stat().st_mtime_ns for path in shards}

    def cold_and_warm(self, cache: str) -> tuple[float, float, int]:
        """Seconds of the two, and the shards of encoder frames that the warm run computed."""
        cold = self.run(cache)
        before = self.encoder_shards(cache)
        warm = self.run(cache)
        after = self.encoder_shards(cache)
        return cold, warm, sum(before.get(path) != written for path, written in after.items())

    def recomputed(self, repeat: int) -> float:
        """Seconds of all folds, each with a cache of its own."""
        out = f"recomputed_{repeat}"
        return sum(self.run(f"{out}_cache_{fold}", out, "--folds", str(fold)) for fold in range(self.num_folds))


def main() -> None:
    def add(parser: argparse.ArgumentParser):
        parser.add_argument("--clips", type=int, default=96, help="in the corpus (default 96; RAVDESS has 1440)")
        parser.add_argument("--folds", type=int, default=4, help="default 4; RAVDESS has 12")
        parser.add_argument("--size", choices=WHISPER_SIZES, default="base", help="of the encoder (default base)")
        parser.add_argument("--growth", action="store_true", help="twice and four times the clips, too")
        parser.add_argument("--cached_only", action="store_true", help="no run with an encoder pass in every fold")

    arguments = arguments_of(__doc__, add)
    cold, warm, recomputed, computed = [], [], [], []
    growth = []
    with tempfile.TemporaryDirectory() as temporary:
        experiment = Experiment(Path(temporary) / "1", arguments.clips, arguments.folds, arguments.size)
        for repeat in range(arguments.repeats):
            for values, value in zip((cold, warm, computed), experiment.cold_and_warm(f"cache_{repeat}"), strict=True):
                values.append(value)
            progress(f"{repeat + 1} of {arguments.repeats}: cold {quantity(cold[-1], 's')}, warm {warm[-1]:.0f} s")
            if not arguments.cached_only:
                recomputed.append(experiment.recomputed(repeat))
        for times in (2, 4) if arguments.growth else ():
            larger = Experiment(Path(temporary) / str(times), times * arguments.clips, arguments.folds, arguments.size)
            growth.append((times, larger.run("cache"), larger.run("cache")))
            progress(f"{times} times the clips: cold {quantity(growth[-1][1], 's')}")
    what = f"{arguments.folds} folds, {arguments.clips} clips, Whisper-{arguments.size}, one epoch"
    if arguments.cached_only:
        rows = [Row("", f"experiment from a warm cache: {what}", warm, cold, "from a cold cache")]
    else:
        every_fold = "an encoder pass in every fold"
        rows = [
            Row("", f"experiment from a cold cache: {what}", cold, recomputed, every_fold),
            Row("", f"experiment from a warm cache: {what}", warm, recomputed, every_fold),
        ]
    rows.append(
        Row("encoder_passes_of_later_folds", "shards of encoder frames that a warm run computes", computed, unit="")
    )
    for times, cold_s, warm_s in growth:
        rows.append(Row("", f"cold, {times} times the clips", cold[:1], [cold_s], f"{times} times the clips"))
        rows.append(Row("", f"warm, {times} times the clips", warm[:1], [warm_s], f"{times} times the clips"))
    report(rows, arguments)


if __name__ == "__main__":
    main()
