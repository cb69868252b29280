"""`run-ser predict` on a folder against a loop over pipelines: one call a file.

The other sides are the pipeline that a checkpoint brings, called with each file in turn, and the stock
`AudioClassificationPipeline`, given waveforms that soundfile has read (by itself it needs ffmpeg to read a file).
"""

import os
import tempfile
from pathlib import Path

import soundfile
import torch
from inputs import SAMPLING_RATE, random_model, ravdess_durations, synthetic_clips
from measure import Row, arguments_of, in_turn, report, serve
from transformers import AudioClassificationPipeline

from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol.predict import write_table

MODELS = {"camulenet-small": ("camulenet-small", "tiny"), "Whisper-base": ("camulenet", "base")}
SIDES = {"pipeline": "the checkpoint's pipeline, file by file", "stock": "stock pipeline, file by file"}


def add_arguments(parser):
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--folder", type=Path, help="(of a side) holds a checkpoint and the clips")


def runner(side: str, folder: Path):
    """A function that classifies every clip of a folder."""
    model = CAMuLeNetForAudioClassification.from_pretrained(folder).eval()
    files = sorted(map(str, folder.glob("*.wav")))
    if side == "stock":
        classify = AudioClassificationPipeline(
            model=model, feature_extractor=model.camulenet.feature_extractor, device="cpu"
        )

        def run():
            for file in files:
                waveform, rate = soundfile.read(file, dtype="float32")
                classify({"raw": waveform, "sampling_rate": rate})

        return run
    classify = model.pipeline(model.camulenet.feature_extractor, device="cpu")
    if side == "pipeline":
        return lambda: [classify(file) for file in files] and None

    def run():
        with tempfile.TemporaryDirectory() as output:
            write_table(files, classify, "m", Path(output) / "table.csv")

    return run


def main() -> None:
    arguments = arguments_of(__doc__, add_arguments)
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        serve(runner(arguments.side, arguments.folder))
        return
    rows = []
    for name, model in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            random_model(*model).save_pretrained(folder)
            for number, clip in enumerate(synthetic_clips(ravdess_durations(arguments.clips))):
                soundfile.write(os.path.join(folder, f"{number:04d}.wav"), clip, SAMPLING_RATE)
            sides = dict.fromkeys(("predict", *SIDES), ["--folder", folder])
            measured = in_turn(sides, arguments.repeats, arguments.threads)
        for side, what in SIDES.items():
            rows.append(
                Row(
                    "",
                    f"`run-ser predict`, a file of 3.7 s, {name}",
                    [value / arguments.clips for value in measured["predict"]["seconds"]],
                    [value / arguments.clips for value in measured[side]["seconds"]],
                    what,
                )
            )
    report(rows, arguments)


if __name__ == "__main__":
    main()
