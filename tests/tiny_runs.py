"""What the tests of run_ser.py and its parts share: a corpus of tones, a tiny preset, a call."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import run_ser
from ser_protocol import presets

TINY_PRESET = {
    "encoder_config": {
        "model_type": "whisper",
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "dropout": 0.1,
    },
    "trainable_encoder_layers": -1,
    "branch_size": 16,
    "width_multiplier": 1 / 16,
    "spectrogram_batch_norm": True,
    "num_attention_heads": 2,
    "classifier_hidden_size": 16,
    "feature_extractor": {"spectrogram": {"num_mel_bins": 64}, "mfcc": {"num_mfcc": 13, "hop_ms": 40.0}},
}
TINY_TRAINING = {
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 2,
    "train_sampling_strategy": "group_by_length",  # with which the Trainer would shuffle what it predicts
}
# RAVDESS's code of an emotion -> pitch in Hz and amplitude of its tones.
TONES = {"01": (150, 0.1), "03": (300, 0.3), "04": (100, 0.03), "05": (400, 0.8)}
EMOTIONS = {"01": "neutral", "03": "happiness", "04": "sadness", "05": "anger"}
RATE = 16000
FINISHED = ("--num_folds", 3, "--spec_augment", "true")  # arguments of the fixture `finished_run`, beside its corpus


def write_ravdess(folder: Path, actors=range(1, 7), emotions=tuple(TONES), statements=(1, 2)) -> Path:
    """Tones of 0.15 to 0.5 s under RAVDESS's names; no two speakers, statements or emotions last equally long."""
    folder.mkdir(parents=True, exist_ok=True)
    for actor in actors:
        for emotion in emotions:
            pitch, amplitude = TONES[emotion]
            for statement in statements:
                duration_s = 0.15 + 0.025 * actor + 0.09 * (statement - 1) + 0.02 * list(TONES).index(emotion)
                time = np.arange(round(duration_s * RATE)) / RATE
                noise = np.random.default_rng(actor).normal(size=len(time))
                tone = np.sin(2 * np.pi * pitch * (1.5 if actor % 2 == 0 else 1) * time)
                name = f"03-01-{emotion}-01-{statement:02d}-01-{actor:02d}.wav"
                soundfile.write(folder / name, 0.9 * amplitude * tone + 0.01 * noise, RATE)
    return folder


def put_tiny_preset(patch: pytest.MonkeyPatch) -> None:
    """The tiny preset in the place of camulenet-small, which is sized for real training."""
    patch.setitem(presets.CONFIGS, "camulenet-small", TINY_PRESET)
    patch.setitem(presets.TRAINING, "camulenet-small", TINY_TRAINING)
    patch.setitem(presets.SPEED_FACTORS, "camulenet-small", [0.9])
    patch.setattr(presets, "TRAIN_ON_VALIDATION", ())  # most tests are of the choice of an epoch


def call(*argv, use_cpu: bool = True) -> None:
    """run_ser.py on these arguments, with the tiny preset."""
    with pytest.MonkeyPatch.context() as patch:
        put_tiny_preset(patch)
        patch.setattr(
            sys, "argv", ["run_ser.py", *map(str, argv), "--disable_tqdm", "true", "--use_cpu", str(use_cpu)]
        )
        run_ser.main()


def refusal(*argv) -> str:
    """The message with which run_ser.py ends; a text as exit code is printed to stderr, and the code is then 1."""
    with pytest.raises(SystemExit) as ended:
        call(*argv)
    message = ended.value.code
    assert isinstance(message, str) and message.startswith("run-ser: ")
    return message


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, which with a frozen encoder are in two files."""
    return {
        name: tensor for path in sorted(folder.glob("model*.safetensors")) for name, tensor in load_file(path).items()
    }


def files_of(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digest(path: Path) -> str:
    """SHA-256 of a file. Compared in place of weights, of which pytest would take minutes to print a difference."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file under a folder."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files_of(folder).items()}
