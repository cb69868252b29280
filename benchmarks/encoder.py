"""A speech encoder on clips, log-mel included: at the clip's length, masked, against Whisper's stock 30 s window.

    python benchmarks/encoder.py --sizes tiny base
    python benchmarks/encoder.py --sizes base --durations 1 3 10 30
    python benchmarks/encoder.py --sizes medium --batch 32 --device cuda --bf16

Weights are random, in the real sizes; both sides use sdpa attention.
"""

import torch
from inputs import SAMPLING_RATE, synthetic_clips, whisper_config
from measure import Row, add_device, arguments_of, device_flags, in_turn, on_device, precision_text, report, serve
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor
from modeling_camulenet.speech_encoder_camulenet import SpeechEncoder


def ours(size, clips, device, bf16):
    config = CAMuLeNetConfig(encoder_config=whisper_config(size), fusion="none", branches=[])
    extractor, encoder = CAMuLeNetFeatureExtractor.from_model_config(config), SpeechEncoder(config).eval().to(device)

    def run():
        features = extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt", device=device)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            encoder(**features)
        return on_device(device)

    return run


def stock(size, clips, device, bf16):
    extractor, encoder = WhisperFeatureExtractor(), WhisperEncoder._from_config(whisper_config(size)).eval().to(device)

    def run():
        features = extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt", device=device)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            encoder(features.input_features.to(device))
        return on_device(device)

    return run


SIDES = {"ours": ours, "stock": stock}


def add_arguments(parser):
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"], help="of Whisper (default: tiny base)")
    parser.add_argument("--durations", nargs="+", type=float, default=[3.0], help="of the clips, in s (default: 3)")
    parser.add_argument("--batch", type=int, default=1, help="clips at a time (default 1)")
    add_device(parser)


def main() -> None:
    arguments = arguments_of(__doc__, add_arguments)
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        (size,), (duration,) = arguments.sizes, arguments.durations
        clips = synthetic_clips([duration] * arguments.batch)
        serve(SIDES[arguments.side](size, clips, arguments.device, arguments.bf16))
        return
    rows = []
    for size in arguments.sizes:
        for duration in arguments.durations:
            given = ["--sizes", size, "--durations", str(duration), "--batch", str(arguments.batch)]
            given += device_flags(arguments)
            seconds = {
                name: side["seconds"]
                for name, side in in_turn(dict.fromkeys(SIDES, given), arguments.repeats, arguments.threads).items()
            }
            precision = precision_text(arguments.device, arguments.bf16)
            clips = f"a {duration:g} s clip" if arguments.batch == 1 else f"{arguments.batch} clips of {duration:g} s"
            key = f"encoder_{size}" if duration == 3 and arguments.batch == 1 and not precision else ""
            what = f"Whisper-{size} encoder on {clips}, log-mel included{precision}"
            rows.append(Row(key, what, seconds["ours"], seconds["stock"], "stock 30 s window"))
    report(rows, arguments)


if __name__ == "__main__":
    main()
