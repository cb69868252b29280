"""The emotion of recordings with onnxruntime alone: no torch, no transformers.

    pip install onnxruntime soundfile soxr numpy
    python examples/onnx_predict.py model.onnx speech.wav ...

model.onnx comes from `python -m ser_protocol.export CHECKPOINT`.
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile
import soxr


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (classes,) of logits (classes,)."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def read(file: str, rate: int) -> np.ndarray:
    """Mono waveform (samples,), float32, at `rate` Hz."""
    waveform, own_rate = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(waveform.mean(axis=1), own_rate, rate)


def main(model: str, files: list[str]) -> None:
    """Print a line for each file: the emotions that are likeliest, and the gender, if the model has it."""
    session = onnxruntime.InferenceSession(model)
    about = session.get_modelmeta().custom_metadata_map
    names = [output.name for output in session.get_outputs()]
    classes = {"logits": json.loads(about["id2label"]), "gender_logits": json.loads(about["id2gender"])}
    for file in files:
        waveform = read(file, int(about["sampling_rate"]))
        if not 0 < len(waveform) <= int(about["max_samples"]):
            sys.exit(f"{file}: {len(waveform)} samples; the model takes 1 to {about['max_samples']}. Cut it.")
        values = waveform[None].astype(np.float32)
        mask = np.ones(values.shape, dtype=np.int64)
        outputs = dict(zip(names, session.run(None, {"input_values": values, "attention_mask": mask})))
        parts = []
        for name, labels in classes.items():
            if name in outputs:
                scores = softmax(outputs[name][0])
                best = np.argsort(-scores)[:3]
                parts.append(", ".join(f"{labels[str(i)]} {scores[i]:.2f}" for i in best))
        print(f"{file}: {' | '.join(parts)}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
