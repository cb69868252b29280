"""One training step on cached features, batch 64: `camulenet` against `paper` and `paper-fixed`, time and peak memory.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --device cuda --bf16

Forward, backward and AdamW step on what the cache holds of 64 clips of 2.4 to 2.8 s, a batch of CREMA-D's clips as
they are grouped by length: encoder frames of width 1024, spectrogram, MFCCs. The released code caches the frames of
Whisper's whole 30 s window, and pads all else to 5.005 s. Peak memory is that of the process, torch included;
on a GPU that of its tensors.
"""

import argparse

import numpy as np
import torch
from inputs import cached_batch, random_model
from measure import Row, add_device, arguments_of, device_flags, in_turn, on_device, precision_text, report, serve

DURATIONS_S = np.linspace(2.4, 2.8, 64)
SIDES = ("camulenet", "paper", "paper-fixed")


def step(preset: str, device: str, bf16: bool):
    """A function that does one step of training."""
    model = random_model(preset, "medium", with_encoder=False).train().to(device)
    batch = {name: values.to(device) for name, values in cached_batch(model, DURATIONS_S).items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run():
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return on_device(device)

    return run


def main() -> None:
    def add(parser: argparse.ArgumentParser):
        parser.add_argument("--against", nargs="+", default=list(SIDES[1:]), choices=SIDES[1:])
        add_device(parser)

    arguments = arguments_of(__doc__, add)
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        serve(step(arguments.side, arguments.device, arguments.bf16))
        return
    sides = dict.fromkeys((SIDES[0], *arguments.against), device_flags(arguments))
    measured = in_turn(sides, arguments.repeats, arguments.threads)
    precision = precision_text(arguments.device, arguments.bf16)
    rows = []
    for unit, quantity, key, what in (
        ("s", "seconds", "step_time", "training step on cached features, batch 64"),
        ("bytes", "peak_bytes", "step_memory", "peak memory of the same"),
    ):
        for other in arguments.against:
            reached = key if other == "paper" and not precision else ""
            ours, theirs = (measured[name][quantity] for name in (SIDES[0], other))
            rows.append(Row(reached, what + precision, ours, theirs, f"`{other}`", unit))
    report(rows, arguments)


if __name__ == "__main__":
    main()
