"""Presets: the sizes that the paper's released model and ours have, and that each preset runs as it says."""

from dataclasses import fields

import pytest
import torch
from encoders import errors_in_bfloat16
from transformers import TrainingArguments, WhisperConfig

from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol.presets import (
    ABLATED,
    ABLATIONS,
    CONFIGS,
    CROP_S,
    EQUALIZER_DB,
    PRESETS,
    PRESETS_IN_WORDS,
    SPEED_FACTORS,
    TRAIN_ON_VALIDATION,
    TRAINING,
    VARIANTS,
    base_of,
    build_config,
)

WHISPER_MEDIUM = {
    "model_type": "whisper",
    "d_model": 1024,
    "encoder_layers": 24,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
}
# What decides nothing about the layers' logic, made small.
SMALL = {"branch_size": 16, "width_multiplier": 1 / 16, "num_attention_heads": 2, "alexnet_classifier": False}
TINY_WHISPER = {
    "model_type": "whisper",
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
}


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


def test_the_baseline_has_the_papers_layers():
    """Four convolutions of 16 to 128 channels, each with batch norm, and layers of 128, 32, 16 and C by hand."""
    model = on_meta(build_config("baseline", WHISPER_MEDIUM, num_labels=7))
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 128) + 240
    assert trainable(model.camulenet.encoder_branch.convolutions) == convolutions
    pooled = 2 * 128 * 1024 // 16  # mean and deviation of 128 channels by 64 cells of 16 coefficients
    connected = (pooled * 128 + 128) + (128 * 32 + 32) + (32 * 16 + 16) + (16 * 7 + 7)
    assert trainable(model) == convolutions + 2 * 240 + connected
    assert model.config.dropout == model.dropout.p == 0.25 and not hasattr(model, "gender_classifier")


@pytest.mark.parametrize("base", ABLATED)
def test_an_ablation_differs_from_its_base_by_what_it_says(base):
    expected, variants = build_config(base).to_dict(), {}
    for name, changes in {**ABLATIONS, "baseline": VARIANTS["baseline"][1]}.items():
        preset = f"{base}-{name}" if f"{base}-{name}" in PRESETS else name
        assert base_of(preset) == base
        config = build_config(preset).to_dict()
        assert config == expected | changes, preset
        assert config != expected
        variants[preset] = config
    assert all(list(variants.values()).count(config) == 1 for config in variants.values())  # no two are the same


def test_what_trains_without_an_encoder_or_a_gender():
    """Parameters of the parts that an ablation takes out, on the base's sizes."""
    count = {name: trainable(on_meta(build_config(f"camulenet-{name}", WHISPER_MEDIUM))) for name in ABLATIONS}
    whole = on_meta(build_config("camulenet", WHISPER_MEDIUM))
    full, parts = trainable(whole), whole.camulenet
    first_layer = whole.shared[0].in_features // 3 * 128  # weights on one part of the embedding
    co_attention, projection = trainable(parts.co_attention), trainable(parts.encoder_projection)
    assert full - count["no-multitask"] == trainable(whole.gender_classifier) == 2 * 128 + 2
    assert full - count["no-encoder"] == co_attention + projection + first_layer
    assert count["no-encoder"] - count["spectrogram-only"] == trainable(parts.mfcc_branch) + first_layer
    assert full - count["concat"] == co_attention - (1024 - 512) * 512  # the projection reads frames of 1024
    assert count["concat"] - count["no-coattention-no-multitask"] == 2 * 128 + 2
    assert {count[name] for name in ("gender-weight-0.1", "gender-weight-1", "adversarial-gender")} == {full}


@pytest.mark.parametrize("preset", VARIANTS)
def test_every_variant_learns(preset):
    """A clip is the same in a batch, and every trained parameter has a gradient: none is left without use."""
    torch.manual_seed(0)
    encoder = {} if "small" in preset else {"encoder_config": TINY_WHISPER}
    model = CAMuLeNetForAudioClassification(build_config(preset, **encoder, num_labels=4, **SMALL)).eval()
    extractor = CAMuLeNetFeatureExtractor.from_model_config(model.config)
    clips = [noise(0.1, 0), noise(0.7, 1)]
    features = extractor(clips, return_tensors="pt")
    with torch.no_grad():
        batch = model(**features).logits
        for row, clip in enumerate(clips):
            alone = model(**extractor(clip, return_tensors="pt")).logits
            torch.testing.assert_close(batch[row : row + 1], alone, atol=1e-5, rtol=1e-4)
    output = model.train()(**features, labels=torch.tensor([0, 3]), gender_labels=torch.tensor([1, 0]))
    output.loss.backward()
    without = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
    assert (output.gender_logits is None) == ("no-multitask" in preset or "baseline" in preset)


@pytest.mark.parametrize("preset", CONFIGS)
@torch.no_grad()
def test_every_base_runs(preset):
    torch.manual_seed(0)
    config = build_config(preset, TINY_WHISPER, num_labels=4, **SMALL)
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
    for name in ("papper", "paper-concat", "camulenet-conc"):
        with pytest.raises(ValueError, match=f"'{name}'.*camulenet, camulenet-small, paper, .*: no-multitask, "):
            build_config(name)
    with pytest.raises(ValueError, match="`dropout` is 1.5"):
        build_config("camulenet", dropout=1.5)


def test_building_a_preset_leaves_it_as_it_was():
    before = build_config("paper").to_dict()
    config = build_config("paper")
    config.feature_extractor["mfcc"]["num_mel_bins"] = 3
    config.encoder_config.d_model = 8
    assert build_config("paper").to_dict() == before
    build_config("baseline").classifier_hidden_size.append(3)
    assert build_config("baseline").classifier_hidden_size == [32, 16]


def test_the_names_in_words_are_bases_variants_and_ablations():
    named, _, ablations = PRESETS_IN_WORDS.partition(";")
    assert named.split(", ") == [*CONFIGS, *(name for name in VARIANTS if name.endswith("baseline"))]
    assert ablations.split(": ")[1].split(", ") == list(ABLATIONS)
    assert (*CONFIGS, *VARIANTS) == PRESETS and len(set(PRESETS)) == len(PRESETS) == 4 + 2 + 2 * len(ABLATIONS)


def test_training_defaults_are_training_arguments():
    known = {field.name for field in fields(TrainingArguments)}
    assert sorted(TRAINING) == sorted(CONFIGS)
    for others in (SPEED_FACTORS, CROP_S, EQUALIZER_DB, TRAIN_ON_VALIDATION):
        assert set(others) <= set(CONFIGS)
    for arguments in TRAINING.values():
        assert set(arguments) <= known


def test_convolutions_of_the_recipe_in_bfloat16():
    torch.manual_seed(0)
    branch = CAMuLeNetForAudioClassification(build_config("camulenet-small")).camulenet.spectrogram_branch
    assert branch.bfloat16_convolutions
    for convolution in branch.convolutions:
        hidden = torch.randn(4, convolution.in_channels, 50, 32)
        assert max(errors_in_bfloat16(convolution, hidden)) < 0.02
