"""What the model's tests share: a tiny configuration and clips of awkward lengths."""

import pytest
import torch

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
