"""From a waveform to both heads, one clip at a time: seconds and peak memory of the whole pipeline.

    python benchmarks/latency.py --sizes tiny base
    python benchmarks/latency.py --sizes base --durations 1 3 10 30 --against padded

`camulenet` with Whisper encoders of random weights, against `paper`, the released model, or against itself with the
encoder's stock 30 s window (`padded`). Peak memory is that of the process, torch included.
"""

import torch
from inputs import SAMPLING_RATE, random_model, synthetic_clips
from measure import Row, arguments_of, in_turn, report, serve

from modeling_camulenet import CAMuLeNetFeatureExtractor

# Side: preset and what differs from it.
SIDES = {
    "camulenet": ("camulenet", {}),
    "paper": ("paper", {}),
    "padded": ("camulenet", {"encoder_context": "padded"}),
}
NAMES = {"paper": "`paper`", "padded": "encoder's 30 s window"}


def classify(side: str, size: str, duration: float):
    """A function that classifies a clip."""
    preset, overrides = SIDES[side]
    model = random_model(preset, size, **overrides).eval()
    pipeline = model.pipeline(CAMuLeNetFeatureExtractor.from_model_config(model.config))
    clip = {"array": synthetic_clips([duration])[0], "sampling_rate": SAMPLING_RATE}
    return lambda: pipeline(clip) and None


def add_arguments(parser):
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"], help="of Whisper (default: tiny base)")
    parser.add_argument("--durations", nargs="+", type=float, default=[3.0], help="of the clip, in s (default: 3)")
    parser.add_argument("--against", choices=list(NAMES), default="paper", help="other side (default: paper)")


def main() -> None:
    arguments = arguments_of(__doc__, add_arguments)
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        serve(classify(arguments.side, arguments.sizes[0], arguments.durations[0]))
        return
    rows = []
    for size in arguments.sizes:
        for duration in arguments.durations:
            given = ["--sizes", size, "--durations", str(duration)]
            sides = dict.fromkeys(("camulenet", arguments.against), given)
            measured = in_turn(sides, arguments.repeats, arguments.threads)
            ours, other, name = measured["camulenet"], measured[arguments.against], NAMES[arguments.against]
            what = f"a {duration:g} s clip from waveform to both heads, Whisper-{size}"
            rows.append(Row("", what, ours["seconds"], other["seconds"], name))
            rows.append(Row("", "peak memory of the same", ours["peak_bytes"], other["peak_bytes"], name, "bytes"))
    report(rows, arguments)


if __name__ == "__main__":
    main()
