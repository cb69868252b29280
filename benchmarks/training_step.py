"""One training step on cached features, batch 64: `camulenet` against `paper` and `paper-fixed`, time and peak memory.

    python benchmarks/training_step.py

Forward, backward and AdamW step on what the cache holds of 64 clips of 2.4 to 2.8 s, a batch of CREMA-D's clips as
they are grouped by length: encoder frames of width 1024, spectrogram, MFCCs. The released code caches the frames of
Whisper's whole 30 s window, and pads all else to 5.005 s. Peak memory is that of the process, torch included.
"""

import numpy as np
import torch
from inputs import cached_batch, random_model
from measure import Row, arguments_of, in_turn, report, serve

DURATIONS_S = np.linspace(2.4, 2.8, 64)
SIDES = ("camulenet", "paper", "paper-fixed")


def step(preset: str):
    """A function that does one step of training."""
    model = random_model(preset, "medium", with_encoder=False).train()
    batch = cached_batch(model, DURATIONS_S)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run():
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def main() -> None:
    arguments = arguments_of(
        __doc__, lambda parser: parser.add_argument("--against", nargs="+", default=list(SIDES[1:]), choices=SIDES[1:])
    )
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        serve(step(arguments.side))
        return
    sides = dict.fromkeys((SIDES[0], *arguments.against), ())
    measured = in_turn(sides, arguments.repeats, arguments.threads)
    rows = []
    for unit, quantity, key, what in (
        ("s", "seconds", "step_time", "training step on cached features, batch 64"),
        ("bytes", "peak_bytes", "step_memory", "peak memory of the same"),
    ):
        for other in arguments.against:
            reached = key if other == "paper" else ""
            rows.append(
                Row(reached, what, measured["camulenet"][quantity], measured[other][quantity], f"`{other}`", unit)
            )
    report(rows, arguments)


if __name__ == "__main__":
    main()
