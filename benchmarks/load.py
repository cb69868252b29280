"""Predictions of many files and of a long one: files in and rows out, throughput, memory that does not grow.

    python benchmarks/load.py [--clips 10000] [--hours 2]

The model is preset camulenet-small with random weights, the audio is made here: neither changes what is measured.
Memory is this process's peak, after a part of the work and after all of it. It may grow by a quarter while the files
become ten times as many: oneDNN keeps up to 1024 kernels, one for each shape, and batches of clips of all lengths have
many shapes (with ONEDNN_PRIMITIVE_CACHE_CAPACITY=16 it grows by a fifteenth). A leak would grow with the files.
"""

import csv
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from inputs import NUM_LABELS, SAMPLING_RATE
from measure import Row, arguments_of, peak_memory_bytes, progress, report

from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol.predict import write_table
from ser_protocol.presets import build_config

PART = 10  # a tenth is done first


def add_arguments(parser):
    parser.add_argument("--clips", type=int, default=10_000, help="of 0.5 to 3 s (default 10000)")
    parser.add_argument("--hours", type=float, default=2.0, help="of the long recording (default 2)")
    parser.add_argument("--batch_size", type=int, default=8, help="clips or windows at once (default 8)")


def write_noise(file: Path, seconds: float, random: np.random.Generator) -> None:
    """A recording of noise, written minute by minute."""
    with soundfile.SoundFile(file, "w", SAMPLING_RATE, 1, "PCM_16") as recording:
        left = round(seconds * SAMPLING_RATE)
        while left:
            part = min(left, 60 * SAMPLING_RATE)
            recording.write(0.1 * random.standard_normal(part))
            left -= part


def predicted(files: list[str], classify, output: Path, batch_size: int) -> tuple[float, int]:
    """Seconds of predicting files into a table, which is to hold each once, and how many it does not."""
    started = time.perf_counter()
    bad = write_table(files, classify, "m", output, batch_size)
    seconds = time.perf_counter() - started
    with open(output, encoding="utf-8", newline="") as table:
        rows = [row["file"] for row in csv.DictReader(table)]
    return seconds, len(set(files) ^ set(rows)) + len(rows) - len(set(rows)) + len(bad)


def main() -> None:
    arguments = arguments_of(__doc__, add_arguments)
    torch.set_num_threads(arguments.threads)
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    model = CAMuLeNetForAudioClassification(build_config("camulenet-small", num_labels=NUM_LABELS)).eval()
    classify = model.pipeline(model.camulenet.feature_extractor, device="cpu")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        progress(f"writing {arguments.clips} clips and {arguments.hours:g} hours")
        files = [str(folder / f"{number:06d}.wav") for number in range(arguments.clips)]
        for file in files:
            write_noise(Path(file), random.uniform(0.5, 3), random)
        for name, hours in (("part.wav", arguments.hours / PART), ("whole.wav", arguments.hours)):
            write_noise(folder / name, 3600 * hours, random)

        peaks, seconds, missing = [], [], []
        for part in (files[::PART], files):
            measured = predicted(part, classify, folder / f"{len(part)}.csv", arguments.batch_size)
            peaks.append(peak_memory_bytes())
            seconds.append(measured[0] / len(part))
            missing.append(measured[1])
        what = f"of {len(files)} files by `run-ser predict`"
        rows += [
            Row("load_missing", f"rows missing or more than once, {what}", [missing[1]], unit="rows"),
            Row("", f"a file of 0.5 to 3 s, {what}", [seconds[1]], [seconds[0]], f"of {len(files[::PART])} files"),
            Row("load_memory", f"peak memory {what}", [peaks[1]], [peaks[0]], "after a tenth of them", "bytes"),
        ]

        peaks, seconds = [], []
        for name in ("part.wav", "whole.wav"):
            started = time.perf_counter()
            windows = classify(str(folder / name), timeline=True, batch_size=arguments.batch_size)["windows"]
            seconds.append((time.perf_counter() - started) / windows[-1]["end_s"])
            peaks.append(peak_memory_bytes())
        what = f"of {arguments.hours:g} hours by `timeline`"
        rows += [
            Row("", f"a second {what}", [seconds[1]], [seconds[0]], f"of {arguments.hours / PART:g} hours"),
            Row("timeline_memory", f"peak memory {what}", [peaks[1]], [peaks[0]], "after a tenth of them", "bytes"),
        ]
    report(rows, arguments)


if __name__ == "__main__":
    main()
