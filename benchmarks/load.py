"""Predictions of many files and of a long one: files in and rows out, throughput, memory.

python benchmarks/load.py --clips 10000 --hours 2

The model is preset camulenet-small with random weights, the audio is made here: neither changes what is measured.
"""

import argparse
import csv
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol.predict import write_table
from ser_protocol.presets import build_config

RATE = 16000


def peak_mb() -> int:
    """Peak of this process's resident memory in 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--batch_size", type=int, default=8)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    model = CAMuLeNetForAudioClassification(build_config("camulenet-small", num_labels=7)).eval()
    classify = model.pipeline(model.camulenet.feature_extractor, device="cpu")

    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{number:06d}.wav" for number in range(arguments.clips)]
        for file in files:
            num_samples = generator.integers(RATE // 2, 3 * RATE)
            soundfile.write(file, 0.1 * generator.standard_normal(num_samples), RATE)
        audio_s = sum(soundfile.info(file).duration for file in files)
        output = Path(folder, "table.csv")
        first = files[::10]
        write_table(first, classify, "m", output, arguments.batch_size)
        before, start = peak_mb(), time.perf_counter()
        bad = write_table(files, classify, "m", output, arguments.batch_size)
        seconds = time.perf_counter() - start
        with open(output, encoding="utf-8", newline="") as table:
            rows = [row["file"] for row in csv.DictReader(table)]
        assert sorted(rows) == files and not bad, "files in are not rows out"
        rate = (len(files) - len(first)) / seconds
        print(
            f"{len(files)} files in, {len(rows)} rows out, {audio_s / 3600:.1f} h: {rate:.0f} files a second; "
            f"peak {before} MB after {len(first)} files, {peak_mb()} MB after all"
        )

        long = f"{folder}/long.wav"
        with soundfile.SoundFile(long, "w", RATE, 1, "PCM_16") as file:
            for _ in range(round(arguments.hours * 60)):
                file.write(0.1 * generator.standard_normal(60 * RATE))
        before, start = peak_mb(), time.perf_counter()
        windows = classify(long, timeline=True, batch_size=arguments.batch_size)["windows"]
        seconds = time.perf_counter() - start
        print(
            f"a time line of {arguments.hours:g} h: {len(windows)} windows in {seconds:.0f} s; "
            f"peak {before} MB before, {peak_mb()} MB after"
        )


if __name__ == "__main__":
    main()
