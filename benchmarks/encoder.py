"""A speech encoder on one clip, log-mel included: at the clip's length, masked, against Whisper's stock 30 s window.

    python benchmarks/encoder.py --sizes tiny base
    python benchmarks/encoder.py --sizes base --durations 1 3 10 30

Weights are random, in the real sizes; both sides use sdpa attention.
"""

import torch
from inputs import SAMPLING_RATE, synthetic_clips, whisper_config
from measure import Row, arguments_of, in_turn, report, serve
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor
from modeling_camulenet.speech_encoder_camulenet import SpeechEncoder


def ours(size, clip):
    config = CAMuLeNetConfig(encoder_config=whisper_config(size), fusion="none", branches=[])
    extractor, encoder = CAMuLeNetFeatureExtractor.from_model_config(config), SpeechEncoder(config).eval()

    def run():
        features = extractor(clip, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        with torch.inference_mode():
            encoder(**features)

    return run


def stock(size, clip):
    extractor, encoder = WhisperFeatureExtractor(), WhisperEncoder._from_config(whisper_config(size)).eval()

    def run():
        features = extractor(clip, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        with torch.inference_mode():
            encoder(features.input_features)

    return run


SIDES = {"ours": ours, "stock": stock}


def add_arguments(parser):
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"], help="of Whisper (default: tiny base)")
    parser.add_argument("--durations", nargs="+", type=float, default=[3.0], help="of the clip, in s (default: 3)")


def main() -> None:
    arguments = arguments_of(__doc__, add_arguments)
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        (size,), (duration,) = arguments.sizes, arguments.durations
        serve(SIDES[arguments.side](size, synthetic_clips([duration])[0]))
        return
    rows = []
    for size in arguments.sizes:
        for duration in arguments.durations:
            given = ["--sizes", size, "--durations", str(duration)]
            seconds = {
                name: side["seconds"]
                for name, side in in_turn(dict.fromkeys(SIDES, given), arguments.repeats, arguments.threads).items()
            }
            key = f"encoder_{size}" if duration == 3 else ""
            what = f"Whisper-{size} encoder on a {duration:g} s clip, log-mel included"
            rows.append(Row(key, what, seconds["ours"], seconds["stock"], "stock 30 s window"))
    report(rows, arguments)


if __name__ == "__main__":
    main()
