"""What tests share: a tiny configuration, clips of awkward lengths, finished runs."""

import os

import pandas as pd
import pytest
import torch
from hypothesis import settings

from modeling_camulenet import CAMuLeNetConfig

torch.set_num_threads(1)

TINY_ENCODER = {
    "model_type": "whisper",
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "vocab_size": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
TINY = {
    "branch_size": 16,
    "width_multiplier": 1 / 16,
    "num_attention_heads": 2,
    "classifier_hidden_size": 8,
    "num_labels": 4,
    "feature_extractor": {"spectrogram": {"num_mel_bins": 64}, "mfcc": {"num_mfcc": 13}},
}
# 1 sample, 0.1 s, 0.58 s (59 spectrogram frames, fewer than AlexNet needs), 0.64 s (65 frames), 2 s and a bit.
CLIP_LENGTHS = (1, 1600, 9280, 10240, 32077)
# utterance, speaker, fold, emotion, predicted emotion, gender, predicted gender
SIX = [
    ("x/a", "x/1", 0, "anger", "anger", "male", "male"),
    ("x/b", "x/1", 0, "anger", "fear", "male", "female"),
    ("x/c", "x/2", 0, "fear", "fear", "female", "female"),
    ("x/d", "x/2", 0, "anger", "anger", "female", "female"),
    ("x/e", "x/3", 1, "fear", "fear", "male", "male"),
    ("x/f", "x/3", 1, "fear", "neutral", "male", "male"),
]


def pytest_collection_modifyitems(items):
    """`make fuzz` asks for so many examples of each property, others each time; the tests fix few."""
    if examples := int(os.environ.get("FUZZ_EXAMPLES", 0)):
        for item in items:
            if "hypothesis" in item.keywords:
                fixed = item.obj._hypothesis_internal_use_settings
                item.obj._hypothesis_internal_use_settings = settings(
                    fixed, max_examples=examples, derandomize=False, print_blob=True
                )


@pytest.fixture
def tiny_config():
    """`CAMuLeNetConfig` of a model of a few thousand parameters; keyword arguments override its fields."""

    def build(encoder_config=None, **overrides) -> CAMuLeNetConfig:
        return CAMuLeNetConfig(encoder_config={**TINY_ENCODER, **(encoder_config or {})}, **{**TINY, **overrides})

    return build


@pytest.fixture(scope="session")
def clips():
    """Noise clips of `CLIP_LENGTHS` samples, float32."""
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(length, generator=generator) for length in CLIP_LENGTHS]


@pytest.fixture(scope="session")
def ravdess(tmp_path_factory):
    """Arguments that name a RAVDESS-like corpus: 48 tones of 6 speakers in 4 emotions."""
    from tiny_runs import write_ravdess

    folder = write_ravdess(tmp_path_factory.mktemp("ravdess"))
    return "--corpus", "ravdess", "--data_dir", folder, "--cache_dir", tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def finished_run(ravdess, tmp_path_factory):
    """Output folder of a complete run over 3 folds of `ravdess`. Tests look at it and leave it as it is."""
    from tiny_runs import FINISHED, call

    folder = tmp_path_factory.mktemp("runs") / "finished"
    call(*ravdess, *FINISHED, "--output_dir", folder)
    return folder


@pytest.fixture
def predictions():
    """A predictions table by hand: three speakers, two folds."""
    names = ["utterance_id", "speaker_id", "fold", "emotion", "predicted_emotion", "gender", "predicted_gender"]
    return pd.DataFrame(SIX, columns=names)


@pytest.fixture
def fold_metrics():
    """metrics.json of the folds of `predictions`."""
    history = [
        {"epoch": e, "train_loss": 2 / e, "validation_loss": 1 + 1 / e, "validation_ua": e / 9, "validation_wa": 0.5}
        for e in range(1, 6)
    ]
    common = {"num_validation": 1, "best_epoch": 4, "num_epochs": 5, "peak_memory_bytes": 345_678_901}
    return [
        common
        | {
            "fold": 0,
            "train_speakers": ["x/3"],
            "validation_speakers": ["x/4"],
            "test_speakers": ["x/1", "x/2"],
            "num_train": 2,
            "num_test": 4,
            "validation": {"wa": 0.5, "ua": 0.5, "loss": 1.25},
            "test": {"wa": 0.75},
            "train_s": 150.0,
            "history": history,
        },
        common
        | {
            "fold": 1,
            "train_speakers": ["x/1", "x/2"],
            "validation_speakers": ["x/4"],
            "test_speakers": ["x/3"],
            "num_train": 4,
            "num_test": 2,
            "validation": {"wa": 0.5, "ua": 0.5, "loss": float("nan")},
            "test": {"wa": 0.5},
            "train_s": 90.0,
            "history": history,
        },
    ]


@pytest.fixture
def run():
    """What ran to give `predictions`, as in results.json."""
    return {
        "corpus": "x",
        "protocol": "speakers",
        "num_folds": 2,
        "seed": 7,
        "preset": "camulenet-small",
        "encoder": "small, trained from scratch",
        "num_parameters": 1234,
        "command": "python run_ser.py --corpus x",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "licenses": ["CC BY-NC-SA 4.0"],
        "languages": ["en"],
    }
