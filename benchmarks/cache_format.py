"""In which format single clips are read fastest from disk: safetensors or Arrow.

    python benchmarks/cache_format.py [--num_clips 2000] [--num_epochs 3] [--dir DIR]

Both hold the same clips, frames (127, 1024) in float16, in shards of 16 MB. Each is read whole, clip by clip in a new
random order every epoch, in a process of its own: safetensors opened for every reading, as ser_protocol.feature_cache
does, and held open; Arrow IPC mapped once, as `datasets` does. Printed are the time of a clip in the median epoch and
the resident memory that reading adds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
import safetensors.torch
import torch
from safetensors import safe_open

SHAPE = (127, 1024)  # frames of 2.5 s, of an encoder of medium size
CLIPS_PER_SHARD = 62  # 16 MB
FORMATS = ("safetensors, opened a reading", "safetensors, held open", "Arrow IPC")


def clips_of(shard: int, num_clips: int) -> dict[str, torch.Tensor]:
    """The clips of a shard, by number."""
    generator = torch.Generator().manual_seed(shard)
    numbers = range(shard * CLIPS_PER_SHARD, min((shard + 1) * CLIPS_PER_SHARD, num_clips))
    return {str(number): torch.randn(SHAPE, generator=generator).half() for number in numbers}


def write(directory: Path, num_clips: int) -> None:
    """Both formats of all clips."""
    for shard in range(-(-num_clips // CLIPS_PER_SHARD)):
        clips = clips_of(shard, num_clips)
        safetensors.torch.save_file(clips, directory / f"{shard}.safetensors")
        flat = pyarrow.array([clip.flatten().numpy() for clip in clips.values()], pyarrow.list_(pyarrow.float16()))
        table = pyarrow.table({"frames": flat})
        with (
            pyarrow.OSFile(str(directory / f"{shard}.arrow"), "wb") as file,
            pyarrow.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=1)


def reader(name: str, directory: Path):
    """A function that reads the clip of a number into memory of its own."""
    opened = {}

    def read_safetensors(number: int) -> torch.Tensor:
        with safe_open(directory / f"{number // CLIPS_PER_SHARD}.safetensors", "pt") as shard:
            return shard.get_tensor(str(number)).clone()

    def read_held_open(number: int) -> torch.Tensor:
        shard = number // CLIPS_PER_SHARD
        if shard not in opened:
            opened[shard] = safe_open(directory / f"{shard}.safetensors", "pt")
        return opened[shard].get_tensor(str(number)).clone()

    def read_arrow(number: int) -> torch.Tensor:
        shard, row = divmod(number, CLIPS_PER_SHARD)
        if shard not in opened:
            opened[shard] = pyarrow.ipc.open_file(pyarrow.memory_map(str(directory / f"{shard}.arrow")))
        frames = opened[shard].get_batch(row).column(0).values.to_numpy()
        return torch.from_numpy(frames.reshape(SHAPE).copy())

    return dict(zip(FORMATS, (read_safetensors, read_held_open, read_arrow)))[name]


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def measure(name: str, directory: Path, num_clips: int, num_epochs: int) -> dict[str, float]:
    """Milliseconds a clip, and the megabytes by which the process grew."""
    torch.set_num_threads(1)
    read, random, epochs = reader(name, directory), np.random.default_rng(0), []
    shard = clips_of(0, num_clips)
    assert torch.equal(read(1), shard["1"])
    before = resident_bytes()
    for _ in range(num_epochs):
        order = random.permutation(num_clips).tolist()
        started = time.perf_counter()
        for number in order:
            read(number)
        epochs.append(time.perf_counter() - started)
    return {
        "ms": 1e3 * statistics.median(epochs) / num_clips,
        "resident_mb": (resident_bytes() - before) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_clips", type=int, default=2000)
    parser.add_argument("--num_epochs", type=int, default=3)
    parser.add_argument("--dir", help="Where the clips are written; by default a temporary folder.")
    parser.add_argument("--measure", nargs=2, metavar=("FORMAT", "DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, directory = arguments.measure
        print(json.dumps(measure(name, Path(directory), arguments.num_clips, arguments.num_epochs)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.dir) as directory:
        write(Path(directory), arguments.num_clips)
        sizes = {
            end: sum(path.stat().st_size for path in Path(directory).glob(f"*.{end}"))
            for end in ("safetensors", "arrow")
        }
        print(f"{arguments.num_clips} clips {SHAPE} float16, {arguments.num_epochs} epochs in random order\n")
        print("| format | ms a clip | resident MB more | MB on disk |\n| --- | --- | --- | --- |")
        for name in FORMATS:
            counts = ["--num_clips", str(arguments.num_clips), "--num_epochs", str(arguments.num_epochs)]
            command = [sys.executable, __file__, "--measure", name, directory, *counts]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            size = sizes["arrow" if "Arrow" in name else "safetensors"] / 1e6
            print(f"| {name} | {found['ms']:.3f} | {found['resident_mb']:.0f} | {size:.0f} |")


if __name__ == "__main__":
    main()
