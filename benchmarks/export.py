"""One ONNX file against the same model in PyTorch: speed, size, parity and what 8 bits cost.

    python benchmarks/export.py                                  # random weights: `camulenet-small`, Whisper-tiny
    python benchmarks/export.py --checkpoint FOLD --corpus ravdess --data_dir DIR

Speed: clips as long as RAVDESS's, one at a time, from the waveform to both heads, PyTorch in eager mode against
onnxruntime, on one thread unless `--threads` says more. With a trained fold (its folder has predictions.csv), parity
over 50 of its test clips and WA over all of them, in PyTorch, in ONNX and with weights of 8 bits.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from inputs import random_model, ravdess_durations, synthetic_clips
from measure import Row, arguments_of, in_turn, progress, report, serve

from dataset_scripts import CORPORA, load_corpus
from dataset_scripts.schema import read_audio
from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol.export import OUTPUTS, export
from ser_protocol.statistics import read_predictions

NUM_CLIPS = 16
NUM_PARITY = 50
QUANTIZED = {"onnx": None, "int8": "int8"}
MODELS = {"camulenet-small": ("camulenet-small", "tiny"), "Whisper-tiny": ("camulenet", "tiny")}


def session_of(path: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options)


def runner(folder: str, side: str, threads: int):
    """A function from a waveform (samples,) to the outputs, in PyTorch or onnxruntime."""
    if side == "eager":
        model = CAMuLeNetForAudioClassification.from_pretrained(folder).float().eval()

        def run(clip):
            with torch.inference_mode():
                output = model(input_values=torch.from_numpy(clip)[None])
            return [output[name].numpy() for name in OUTPUTS if output.get(name) is not None]

        return run
    session = session_of(str(Path(folder) / f"{side}.onnx"), threads)

    def run(clip):
        inputs = {"input_values": clip[None], "attention_mask": np.ones((1, len(clip)), dtype=np.int64)}
        return session.run(None, inputs)

    return run


def add_arguments(parser):
    parser.set_defaults(threads=1)
    parser.add_argument("--checkpoint", type=Path, help="a trained fold, in place of random weights")
    parser.add_argument("--corpus", choices=CORPORA, help="of the fold")
    parser.add_argument("--data_dir", help="folder of the corpus")
    parser.add_argument("--folder", help="(of a side) a checkpoint with its two ONNX files")


def accuracy_rows(folder: str, arguments) -> list[Row]:
    """Parity over some test clips of the fold, and WA over all, of each side."""
    predictions = read_predictions(arguments.checkpoint / "predictions.csv").set_index("utterance_id")
    dataset = load_corpus(arguments.corpus, arguments.data_dir)
    dataset = dataset.select([row for row, name in enumerate(dataset["utterance_id"][:]) if name in predictions.index])
    clips = [read_audio(row["audio"])[0] for row in dataset.select_columns("audio")]
    truth = predictions.loc[dataset["utterance_id"][:], "emotion"].to_numpy()
    labels = CAMuLeNetForAudioClassification.from_pretrained(folder).config.id2label
    outputs, right = {}, {}
    for side in ("eager", *QUANTIZED):
        run = runner(folder, side, arguments.threads)
        outputs[side] = [run(clip) for clip in clips]
        answers = [labels[int(logits.argmax())] for logits, *_ in outputs[side]]
        right[side] = float((np.array(answers) == truth).mean())
    # Behind clips under a second the graph has frames more, whose co-attention is 0.
    differences = [
        max(float(np.abs(a[..., : b.shape[-1]] - b).max()) for a, b in zip(ours, theirs))
        for ours, theirs in list(zip(outputs["onnx"], outputs["eager"]))[:NUM_PARITY]
    ]
    seconds = sorted(len(clip) / 16000 for clip in clips[:NUM_PARITY])
    what = f"{len(differences)} clips of {seconds[0]:.1f} to {seconds[-1]:.1f} s"
    return [
        Row(
            "onnx_parity",
            f"greatest difference of an output, ONNX against PyTorch, {what}",
            [max(differences)],
            unit="",
        ),
        Row("", f"WA of the fold's {len(clips)} test clips in ONNX", [right["onnx"]], [right["eager"]], "PyTorch", ""),
        Row("", "the same with weights of 8 bits", [right["int8"]], [right["eager"]], "PyTorch", ""),
    ]


def main() -> None:
    arguments = arguments_of(__doc__, add_arguments)
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        run = runner(arguments.folder, arguments.side, arguments.threads)
        clips = synthetic_clips(ravdess_durations(NUM_CLIPS))
        serve(lambda: [run(clip) for clip in clips] and None)
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        names = [arguments.checkpoint.name] if arguments.checkpoint else list(MODELS)
        for name in names:
            folder = Path(temporary) / name
            if arguments.checkpoint:
                CAMuLeNetForAudioClassification.from_pretrained(arguments.checkpoint).save_pretrained(folder)
            else:
                random_model(*MODELS[name]).save_pretrained(folder)
            for side, quantize in QUANTIZED.items():
                progress(f"{name}: exporting {side}")
                export(folder, folder / f"{side}.onnx", quantize)
            sides = dict.fromkeys(("eager", *QUANTIZED), ["--folder", str(folder)])
            seconds = {
                side: [value / NUM_CLIPS for value in measured["seconds"]]
                for side, measured in in_turn(sides, arguments.repeats, arguments.threads).items()
            }
            what = f"a clip of 3.7 s from waveform to both heads, {name}"
            rows.append(Row("onnx_speed", f"{what}, ONNX", seconds["onnx"], seconds["eager"], "PyTorch, eager"))
            rows.append(Row("", f"{what}, weights of 8 bits", seconds["int8"], seconds["eager"], "PyTorch, eager"))
            sizes = [os.path.getsize(folder / f"{side}.onnx") for side in ("int8", "onnx")]
            rows.append(Row("", f"file, {name}, weights of 8 bits", [sizes[0]], [sizes[1]], "float32", "bytes"))
            if arguments.checkpoint and arguments.corpus:
                rows += accuracy_rows(str(folder), arguments)
    report(rows, arguments)


if __name__ == "__main__":
    main()
