"""Presets: the sizes that the paper's released model and ours have, and that each preset runs as it says."""

from dataclasses import fields

import pytest
import torch
from transformers import TrainingArguments, WhisperConfig

from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol.presets import PRESETS, TRAINING, build_config

WHISPER_MEDIUM = {
    "model_type": "whisper",
    "d_model": 1024,
    "encoder_layers": 24,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
}
# What decides nothing about the layers' logic, made small.
SMALL = {"branch_size": 16, "width_multiplier": 1 / 16, "num_attention_heads": 2, "alexnet_classifier": False}


def on_meta(config: CAMuLeNetConfig) -> CAMuLeNetForAudioClassification:
    with torch.device("meta"):
        return CAMuLeNetForAudioClassification(config)


def trainable(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def noise(seconds: float, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(int(seconds * 16000), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("preset", ["paper", "paper-fixed"])
@pytest.mark.parametrize(
    ("num_labels", "total"), [(4, 335_286_438), (6, 335_294_890), (7, 335_299_116), (8, 335_303_342)]
)
def test_paper_has_the_released_models_parameters(preset, num_labels, total):
    model = on_meta(build_config(preset, WHISPER_MEDIUM, num_labels=num_labels))
    assert trainable(model) == total


def test_where_the_released_models_parameters_are():
    model = on_meta(build_config("paper", WHISPER_MEDIUM, num_labels=4)).camulenet
    assert trainable(model.mfcc_branch.projection) == 501 * 512 * 1024 + 1024
    assert trainable(model.spectrogram_branch.convolutions) == 2_469_696 - 2 * 64 * 11 * 11  # torchvision's, mono
    classifier = 9216 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 4 + 4
    assert trainable(model.spectrogram_branch.alexnet_classifier) == classifier
    assert trainable(model.spectrogram_branch.projection) == 9216 * 1024 + 1024
    assert trainable(model.gate) == 2048 * 1500 + 1500


def test_camulenet_trains_at_most_12_million():
    model = on_meta(build_config("camulenet", WhisperConfig(**WHISPER_MEDIUM), num_labels=8))
    assert trainable(model) <= 12_000_000
    assert sum(parameter.numel() for parameter in model.parameters()) > 300_000_000


def test_camulenet_is_the_default_configuration():
    config, default = build_config("camulenet").to_dict(), CAMuLeNetConfig().to_dict()
    assert config == default


def test_camulenet_small_trains_everything():
    model = on_meta(build_config("camulenet-small", num_labels=8))
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert fixed == ["camulenet.speech_encoder.encoder.embed_positions.weight"]
    assert trainable(model) < 3_000_000


@pytest.mark.parametrize("preset", PRESETS)
@torch.no_grad()
def test_every_preset_runs(preset):
    torch.manual_seed(0)
    encoder = {"model_type": "whisper", "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2}
    config = build_config(preset, {**encoder, "encoder_ffn_dim": 16}, num_labels=4, **SMALL)
    model = CAMuLeNetForAudioClassification(config).eval()
    extractor = CAMuLeNetFeatureExtractor.from_model_config(config)
    clips = [noise(0.1, 0), noise(3.0, 1), noise(5.5, 2)]
    features = extractor(clips, return_tensors="pt")
    batch = model(**features)
    assert bool(batch.logits.isfinite().all())
    for row, clip in enumerate(clips):
        alone = model(**extractor(clip, return_tensors="pt"))
        torch.testing.assert_close(batch.logits[row : row + 1], alone.logits, atol=1e-5, rtol=1e-4)

    if preset.startswith("paper"):
        # Clips over 5.005 s are cut: nothing hears what follows.
        other = extractor([clips[0], clips[1], torch.cat((clips[2][:82000], noise(0.4, 3)))], return_tensors="pt")
        for name in ("input_features", "spectrogram", "mfcc"):
            torch.testing.assert_close(other[name], features[name])
        assert features["mfcc"].shape == (3, 501, 40)
    if preset == "paper":
        assert features["spectrogram"].shape == (3, 8009, 128)  # 1600 frames a second
        assert features["input_features"].shape == (3, 3000, 80)
        assert bool(features["spectrogram_mask"].all())
    else:
        longest = int(features["spectrogram_mask"].sum(dim=1).max())
        assert features["spectrogram"].shape == (3, longest, 64 if preset == "camulenet-small" else 128)
        assert longest == {"camulenet": 551, "camulenet-small": 344, "paper-fixed": 501}[preset]


def test_overrides_win_and_errors_speak():
    config = build_config("camulenet-small", branch_size=32, id2gender={})
    assert (config.branch_size, config.num_genders, config.encoder_config.d_model) == (32, 0, 32)
    assert build_config("camulenet-small", WHISPER_MEDIUM).encoder_config.d_model == 1024
    with pytest.raises(ValueError, match="'papper'.*camulenet, camulenet-small, paper, paper-fixed"):
        build_config("papper")
    with pytest.raises(ValueError, match="`dropout` is 1.5"):
        build_config("camulenet", dropout=1.5)


def test_building_a_preset_leaves_it_as_it_was():
    before = build_config("paper").to_dict()
    config = build_config("paper")
    config.feature_extractor["mfcc"]["num_mel_bins"] = 3
    config.encoder_config.d_model = 8
    assert build_config("paper").to_dict() == before


def test_training_defaults_are_training_arguments():
    known = {field.name for field in fields(TrainingArguments)}
    assert sorted(TRAINING) == sorted(PRESETS)
    for arguments in TRAINING.values():
        assert set(arguments) <= known
