"""Encoders beside Whisper: the stock values in any batch, every weight from the checkpoint, clear refusals."""

import pytest
import torch
from encoders import BFLOAT16_ENCODERS, ENCODERS, encoder_of_audio, errors_in_bfloat16
from safetensors.torch import load_file, save_file
from tiny_runs import call
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    AutoFeatureExtractor,
    BertConfig,
    BertModel,
    Data2VecAudioForCTC,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    HubertForCTC,
    SeamlessM4TFeatureExtractor,
    SpeechEncoderDecoderModel,
    UniSpeechForPreTraining,
    UniSpeechSatForXVector,
    ViTConfig,
    ViTModel,
    Wav2Vec2BertForCTC,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    WavLMForXVector,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from modeling_camulenet import (
    CAMuLeNetConfig,
    CAMuLeNetFeatureExtractor,
    CAMuLeNetForAudioClassification,
    CAMuLeNetModel,
)
from modeling_camulenet.speech_encoder_camulenet import MASKED_ENCODERS, SpeechEncoder

LENGTHS = (1, 29, 1600, 9280, 10245, 16077)  # samples; a tiny frame takes 30, a stacked Kaldi frame 560
SMALL = {
    "branch_size": 16,
    "width_multiplier": 1 / 16,
    "num_attention_heads": 2,
    "classifier_hidden_size": 8,
    "num_labels": 4,
    "feature_extractor": {"spectrogram": {"num_mel_bins": 64}, "mfcc": {"num_mfcc": 13}},
}
every_encoder = pytest.mark.parametrize("name", ENCODERS)


@pytest.fixture(scope="module")
def waves():
    generator = torch.Generator().manual_seed(0)
    return [0.01 + 0.1 * torch.randn(length, generator=generator) for length in LENGTHS]


def config_of(encoder: dict | str, **overrides) -> CAMuLeNetConfig:
    encoder_config = ENCODERS[encoder] if isinstance(encoder, str) else encoder
    return CAMuLeNetConfig(encoder_config=encoder_config, **{**SMALL, **overrides})


def rough(module):
    """Larger weights than a fresh model's, so that what differs shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand(buffer.shape))
    return module


def build(encoder: dict | str, **overrides) -> tuple[CAMuLeNetForAudioClassification, CAMuLeNetFeatureExtractor]:
    torch.manual_seed(0)
    config = config_of(encoder, **overrides)
    model = CAMuLeNetForAudioClassification(config).eval()
    rough(model.camulenet.speech_encoder.encoder)
    return model, CAMuLeNetFeatureExtractor.from_model_config(config)


def stock_of(encoder):
    """The encoder as transformers has it, with the same weights."""
    stock = MODEL_MAPPING[type(encoder.config)](encoder.config).eval()
    stock.load_state_dict(encoder.state_dict())
    return stock


def assert_close(value, expected, tolerance=1e-5):
    torch.testing.assert_close(value, expected, atol=tolerance, rtol=0.0)


# Frames


@every_encoder
@torch.no_grad()
def test_a_batch_equals_the_stock_encoder_on_each_clip(name, waves):
    model, extractor = build(name)
    ours = model.camulenet.speech_encoder
    stock = stock_of(ours.encoder)
    batch = extractor(waves, return_tensors="pt")
    output, mask = ours(batch["input_features"], batch["attention_mask"])
    frames = output.last_hidden_state
    assert mask.shape == frames.shape[:2]
    for row, wave in enumerate(waves):
        features = extractor(wave, return_tensors="pt")["input_features"]
        alone, alone_mask = ours(features)
        assert bool(alone_mask.all())
        assert alone_mask.sum() == mask[row].sum() >= 1
        assert_close(frames[row, : alone_mask.shape[1]], alone.last_hidden_state[0])
        if features.ndim == 3 or features.shape[1] >= 50:  # fewer samples than the convolutions need are padded
            assert_close(alone.last_hidden_state, stock(features).last_hidden_state)

    longer = torch.nn.functional.pad(batch["input_features"], (0, 0) * (batch["input_features"].ndim - 2) + (0, 500))
    longer_mask = torch.nn.functional.pad(batch["attention_mask"], (0, 500))
    longer[longer_mask == 0] = 3.0  # what lies behind a clip is arbitrary
    again, again_mask = ours(longer, longer_mask)
    assert_close(again.last_hidden_state[:, : mask.shape[1]][mask == 1], frames[mask == 1])
    assert torch.equal(again_mask.sum(dim=1), mask.sum(dim=1))


@every_encoder
@torch.no_grad()
def test_a_model_of_a_batch_and_of_raw_audio(name, waves):
    model, extractor = build(name)
    logits = model(**extractor(waves, return_tensors="pt")).logits
    assert logits.std(dim=0).min() > 1e-3
    for row, wave in enumerate(waves):
        assert_close(logits[row : row + 1], model(**extractor(wave, return_tensors="pt")).logits)
    raw = CAMuLeNetFeatureExtractor.from_model_config(model.config, return_raw=True)(waves, return_tensors="pt")
    assert sorted(raw) == ["attention_mask", "input_values"]
    assert_close(model(**raw).logits, logits, 1e-6)


@pytest.mark.parametrize("name", ["wav2vec2, group norm", "hubert, group norm", "wavlm, group norm", "mhubert"])
@torch.no_grad()
def test_the_stock_encoder_hears_padding_through_its_group_norm(name, waves):
    """The defect that the masked norm cures."""
    model, extractor = build(name)
    ours = model.camulenet.speech_encoder
    features = extractor(waves[2], return_tensors="pt")["input_features"]
    padded = torch.nn.functional.pad(features, (0, 10000))
    mask = (torch.arange(padded.shape[1]) < features.shape[1]).long()[None]
    alone = ours(features)[0].last_hidden_state
    stock = stock_of(ours.encoder)(padded, attention_mask=mask).last_hidden_state[:, : alone.shape[1]]
    assert (stock - alone).abs().max() > 0.1
    assert_close(ours(padded, mask)[0].last_hidden_state[:, : alone.shape[1]], alone)


def test_the_names_of_the_weights_are_the_stock_encoders():
    for name in ENCODERS:
        encoder = SpeechEncoder(config_of(name)).encoder
        assert encoder.state_dict().keys() == stock_of(encoder).state_dict().keys(), name
    assert {values["model_type"] for values in ENCODERS.values()} > {*MASKED_ENCODERS} - {"whisper"}


def test_the_shortest_input_is_computed():
    sizes = {"conv_dim": (512,) * 7, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
    base = encoder_of_audio("wav2vec2", "group", **sizes, num_feat_extract_layers=7)
    encoder = SpeechEncoder(config_of(base))
    assert encoder._min_length() == 400  # 25 ms
    lengths = torch.tensor([0, 1, 400, 719, 720, 16000, 480000])
    assert encoder.num_frames(lengths).tolist() == [1, 1, 1, 1, 2, 49, 1499]


@torch.no_grad()
def test_half_precision(waves):
    for name in ("wav2vec2, group norm", "wavlm, layer norm", "data2vec-audio", "wav2vec2-bert"):
        model, extractor = build(BFLOAT16_ENCODERS[name])
        features = extractor(waves, return_tensors="pt")
        expected = model(**features).logits
        logits = model.to(torch.bfloat16)(**features).logits
        assert logits.dtype == torch.bfloat16
        assert_close(logits.float(), expected, 0.15)


@pytest.mark.parametrize(("channels", "kernel"), [(384, 128), (768, 128), (1024, 128), (1024, 19)])
def test_positional_convolutions_of_released_sizes_in_bfloat16(channels, kernel):
    torch.manual_seed(0)
    convolution = torch.nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=16)
    assert max(errors_in_bfloat16(convolution, torch.randn(2, channels, 50))) < 0.02


# What trains


def trainable(module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "layers", "last"),
    [
        ("wav2vec2, group norm", "encoder.layers", []),
        ("wav2vec2, layer norm", "encoder.layers", ["encoder.layer_norm"]),
        ("wav2vec2-bert", "encoder.layers", []),
        ("sew-d", "encoder.encoder.layer", []),
        ("whisper", "layers", ["layer_norm"]),
    ],
)
def test_the_last_layers_train(name, layers, last, tiny_config, waves):
    make = tiny_config if name == "whisper" else lambda **fields: config_of(name, **fields)
    model = CAMuLeNetForAudioClassification(make(trainable_encoder_layers=1)).train()
    encoder = model.camulenet.speech_encoder.encoder
    prefixes = tuple(f"{module}." for module in (f"{layers}.1", *last))
    assert trainable(encoder) == {key for key, _ in encoder.named_parameters() if key.startswith(prefixes)} != set()
    assert {key for key, module in encoder.named_modules() if module.training and "." in key} == {
        key for key, _ in encoder.named_modules() if f"{key}.".startswith(prefixes)
    } - set(last if name == "whisper" else [])

    extractor = CAMuLeNetFeatureExtractor.from_model_config(model.config)
    model(**extractor(waves[2:4], return_tensors="pt"), labels=torch.tensor([0, 1])).loss.backward()
    assert {key for key, value in encoder.named_parameters() if value.grad is not None} == trainable(encoder)


ALL_TRAIN = ["wav2vec2, group norm", "hubert, layer norm", "mhubert", "unispeech-sat, group norm"]


@pytest.mark.parametrize("name", ALL_TRAIN)
def test_all_train(name, waves):
    model, extractor = build(name, trainable_encoder_layers=-1, dropout=0.0, gru_dropout=0.0)
    encoder = model.train().camulenet.speech_encoder.encoder
    assert trainable(encoder) == {key for key, _ in encoder.named_parameters()} - {"masked_spec_embed"}
    assert not any(module.training for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm1d))
    features = extractor(waves[2:], return_tensors="pt")

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        model(**features, labels=torch.arange(4)).loss.backward()
        return {key: value.grad for key, value in encoder.named_parameters() if key != "masked_spec_embed"}

    expected = gradients()
    assert [key for key, gradient in expected.items() if gradient is None or not gradient.isfinite().all()] == []
    model.gradient_checkpointing_enable()
    assert any(getattr(module, "gradient_checkpointing", False) for module in encoder.modules())
    for key, gradient in gradients().items():
        assert_close(gradient, expected[key])


def test_a_layer_count_that_the_encoder_lacks_is_refused():
    with pytest.raises(ValueError, match="trainable_encoder_layers is 3; the encoder has 2 layers"):
        SpeechEncoder(config_of("hubert, layer norm", trainable_encoder_layers=3))


@pytest.mark.parametrize("name", ["wav2vec2, group norm", "wav2vec2-bert", "sew", "whisper"])
def test_weighted_layer_sum(name, tiny_config, waves, tmp_path):
    make = tiny_config if name == "whisper" else lambda **fields: config_of(name, **fields)
    model = CAMuLeNetForAudioClassification(make(use_weighted_layer_sum=True)).eval()
    ours = model.camulenet.speech_encoder
    assert trainable(ours) == {"layer_weights"}
    assert ours.layer_weights.tolist() == [0.0, 0.0, 0.0]
    with torch.no_grad():
        ours.layer_weights.copy_(torch.tensor([0.1, -0.7, 0.4]))
    features = CAMuLeNetFeatureExtractor.from_model_config(model.config)(waves, return_tensors="pt")
    every, mask = ours.encode(features["input_features"], features["attention_mask"], output_hidden_states=True)
    weights = torch.tensor([0.1, -0.7, 0.4]).softmax(0)
    expected = sum(weight * hidden for weight, hidden in zip(weights, every.hidden_states, strict=True))
    output, _ = ours(features["input_features"], features["attention_mask"])
    assert_close(output.last_hidden_state, expected, 1e-6)
    assert output.hidden_states is None
    assert_close(ours.weighted_sum(torch.stack(every.hidden_states)), expected, 1e-6)  # as a cache would keep them

    result = model(**features, labels=torch.zeros(len(waves), dtype=torch.long))
    result.loss.backward()
    assert bool(ours.layer_weights.grad.any())
    model.save_pretrained(tmp_path)
    again = CAMuLeNetForAudioClassification.from_pretrained(tmp_path)
    assert trainable(again.camulenet.speech_encoder) == {"layer_weights"}
    assert_close(again(**features).logits, result.logits, 1e-6)


@torch.no_grad()
def test_weighted_layer_sum_of_a_long_recording(tiny_config):
    """In windows of 50 frames, overlapping by 25, of which 12 and 13 are dropped."""
    ours = SpeechEncoder(tiny_config({"max_source_positions": 50}, use_weighted_layer_sum=True)).eval()
    features = torch.randn(1, 401, 80)
    frames = ours(features)[0].last_hidden_state
    assert frames.shape == (1, 201, 16)
    for first in (0, 25, 100):
        window = ours(features[:, 2 * first : 2 * first + 100])[0].last_hidden_state
        assert_close(frames[0, first + 12 : first + 37], window[0, 12:37])


# Pre-trained weights

WHOLE_MODELS = [
    ("wav2vec2, group norm", Wav2Vec2ForCTC),
    ("wav2vec2, layer norm", Wav2Vec2ForPreTraining),
    ("wav2vec2, group norm", Wav2Vec2ForSequenceClassification),
    ("mms", Wav2Vec2ForCTC),
    ("hubert, group norm", HubertForCTC),
    ("wavlm, layer norm", WavLMForXVector),
    ("data2vec-audio", Data2VecAudioForCTC),
    ("unispeech, group norm", UniSpeechForPreTraining),
    ("unispeech-sat, layer norm", UniSpeechSatForXVector),
    ("wav2vec2-bert", Wav2Vec2BertForCTC),
    *((name, None) for name in ENCODERS),
]


def save_stock(name: str, folder, model_class=None, **fields):
    """A stock checkpoint with its feature extractor; returns the encoder inside."""
    values = {**ENCODERS[name], "vocab_size": 20, "codevector_dim": 8, "tdnn_dim": (8, 8), **fields}
    values |= {"tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1), "xvector_output_dim": 8, "num_codevectors_per_group": 4}
    encoder_config = CONFIG_MAPPING[values.pop("model_type")](**values)
    model = rough((model_class or MODEL_MAPPING[type(encoder_config)])(encoder_config))
    model.save_pretrained(folder)
    stacks = name.startswith("wav2vec2-bert")
    (SeamlessM4TFeatureExtractor(padding_value=1) if stacks else Wav2Vec2FeatureExtractor()).save_pretrained(folder)
    return model.base_model


@pytest.mark.parametrize(("name", "model_class"), WHOLE_MODELS)
def test_every_encoder_weight_comes_from_the_checkpoint(name, model_class, waves, tmp_path):
    stock = save_stock(name, tmp_path, model_class).eval()
    model = CAMuLeNetForAudioClassification.from_encoder_pretrained(tmp_path, config_of("wav2vec2-bert")).eval()
    encoder = model.camulenet.speech_encoder.encoder
    expected = stock.state_dict()
    if not name.startswith("unispeech-sat"):  # which builds it always
        del expected["masked_spec_embed"]
    assert encoder.state_dict().keys() == expected.keys()
    assert [key for key, value in encoder.state_dict().items() if not torch.equal(value, expected[key])] == []
    assert encoder.config.model_type == ENCODERS[name]["model_type"]
    assert trainable(encoder) == set()
    assert not encoder.training

    extractor = CAMuLeNetFeatureExtractor.from_model_config(model.config)
    features = extractor(waves, return_tensors="pt")
    frames = model.camulenet(**features).last_hidden_state
    theirs = AutoFeatureExtractor.from_pretrained(tmp_path)(
        waves[-1].numpy(), sampling_rate=16000, return_tensors="pt"
    )[stock.main_input_name]
    with torch.no_grad():
        assert_close(frames[-1:], stock(theirs).last_hidden_state, 1e-4 if theirs.ndim == 3 else 1e-5)

    model.save_pretrained(tmp_path / "camulenet")
    again = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "camulenet")
    saved = again.camulenet.speech_encoder.encoder.state_dict()
    assert [key for key, value in saved.items() if not torch.equal(value, expected[key])] == []
    assert_close(again(**features).logits, model(**features).logits, 1e-6)


def test_weights_under_the_names_of_older_checkpoints_are_found(tmp_path):
    """torch's weight norm had other names when wav2vec2-base was published."""
    stock = save_stock("wav2vec2, group norm", tmp_path, Wav2Vec2ForCTC)
    weights = load_file(tmp_path / "model.safetensors")
    old = {f"parametrizations.weight.original{i}": f"weight_{letter}" for i, letter in enumerate("gv")}
    renamed = {}
    for key, value in weights.items():
        for new_name, old_name in old.items():
            key = key.replace(new_name, old_name)
        renamed[key] = value
    assert renamed.keys() != weights.keys()
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    model = CAMuLeNetModel.from_encoder_pretrained(tmp_path, config_of("wav2vec2, group norm"))
    for key, value in model.speech_encoder.encoder.state_dict().items():
        assert torch.equal(value, stock.state_dict()[key]), key


def test_the_encoder_of_a_speech_translation_model(tmp_path):
    decoder = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 10}
    decoder |= {"bos_token_id": 1, "eos_token_id": 2, "add_cross_attention": True, "is_decoder": True}
    encoder_config = CONFIG_MAPPING["wav2vec2"](**{**ENCODERS["wav2vec2, layer norm"], "add_adapter": True})
    whole = SpeechEncoderDecoderModel(
        encoder=rough(MODEL_MAPPING[type(encoder_config)](encoder_config)),
        decoder=GPT2LMHeadModel(GPT2Config(**decoder)),
    )
    whole.save_pretrained(tmp_path)
    model = CAMuLeNetModel.from_encoder_pretrained(tmp_path, config_of("wav2vec2, layer norm"))
    expected = whole.encoder.state_dict()
    got = model.speech_encoder.encoder.state_dict()
    assert [key for key, value in got.items() if not torch.equal(value, expected[key])] == []
    assert {key.split(".")[0] for key in expected.keys() - got.keys()} == {"adapter", "masked_spec_embed"}


@pytest.mark.parametrize("do_normalize", [True, False])
def test_waveforms_are_normalised_as_the_checkpoint_was_trained(do_normalize, waves, tmp_path):
    save_stock("wavlm, group norm", tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(tmp_path)
    model = CAMuLeNetModel.from_encoder_pretrained(tmp_path, config_of("wavlm, group norm"))
    assert model.config.feature_extractor["do_normalize"] is do_normalize
    model.save_pretrained(tmp_path / "camulenet")
    again = CAMuLeNetModel.from_pretrained(tmp_path / "camulenet")
    assert again.feature_extractor.do_normalize is do_normalize
    assert again.feature_extractor.spectrogram["num_mel_bins"] == 64  # the branches' settings stay


def test_half_precision_on_request_is_the_whole_models(tmp_path, waves):
    save_stock("hubert, group norm", tmp_path)
    config = config_of("hubert, group norm")
    model = CAMuLeNetForAudioClassification.from_encoder_pretrained(tmp_path, config, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    features = CAMuLeNetFeatureExtractor.from_model_config(model.config)(waves, return_tensors="pt")
    assert bool(model(**features).logits.isfinite().all())


def test_attention_is_sdpa_where_there_is_one(tmp_path):
    for name, expected in (
        ("wav2vec2, group norm", "sdpa"),
        ("wav2vec2-bert", "sdpa"),
        ("wavlm, group norm", "eager"),
    ):
        save_stock(name, tmp_path / name)
        model = CAMuLeNetModel.from_encoder_pretrained(tmp_path / name, config_of(name))
        model.save_pretrained(tmp_path / name / "camulenet")
        for either in (model, CAMuLeNetModel.from_pretrained(tmp_path / name / "camulenet")):
            assert either.speech_encoder.encoder.config._attn_implementation == expected


def test_run_ser_takes_the_encoder_and_its_flags(ravdess, tmp_path):
    save_stock("hubert, group norm", tmp_path / "hubert", HubertForCTC)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "hubert")
    flags = ("--encoder_name_or_path", tmp_path / "hubert", "--preset", "camulenet-small", "--num_train_epochs", 1)
    flags += ("--trainable_encoder_layers", 1, "--use_weighted_layer_sum", "true", "--num_folds", 2, "--folds", 0)
    call(*ravdess, *flags, "--output_dir", tmp_path / "out")
    model = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "out" / "fold_00")
    assert model.config.encoder_config.model_type == "hubert"
    assert model.config.feature_extractor["do_normalize"] is False
    assert CAMuLeNetFeatureExtractor.from_pretrained(tmp_path / "out" / "fold_00").do_normalize is False
    assert bool(model.camulenet.speech_encoder.layer_weights.any())  # trained
    before = load_file(tmp_path / "hubert" / "model.safetensors")
    after = model.camulenet.speech_encoder.encoder.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[f"hubert.{key}"])}
    assert changed and all(key.startswith("encoder.layers.1.") for key in changed)


# Refusals


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    save_stock("wav2vec2, group norm", tmp_path, Wav2Vec2ForCTC)
    weights = load_file(tmp_path / "model.safetensors")
    missing = "wav2vec2.feature_extractor.conv_layers.0.layer_norm.weight"
    save_file({k: v for k, v in weights.items() if k != missing}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks encoder weights.*conv_layers.0.layer_norm.weight"):
        CAMuLeNetModel.from_encoder_pretrained(tmp_path, config_of("wav2vec2, group norm"))


@pytest.mark.parametrize(
    ("model_type", "make"),
    [
        ("bert", lambda: BertModel(BertConfig(vocab_size=20, **SIZES_OF_TEXT))),
        ("vit", lambda: ViTModel(ViTConfig(image_size=8, patch_size=4, **SIZES_OF_TEXT))),
        ("gpt2", lambda: GPT2Model(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1))),
    ],
)
def test_what_is_no_speech_encoder_is_refused(model_type, make, tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"is a '{model_type}' checkpoint: .* is no speech encoder.*whisper"):
        CAMuLeNetModel.from_encoder_pretrained(tmp_path, config_of("wavlm, group norm"))
    with pytest.raises(ValueError, match=f"'{model_type}' is no speech encoder"):
        CAMuLeNetModel(config_of({"model_type": model_type}))


SIZES_OF_TEXT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def test_another_sampling_rate_is_refused(tmp_path):
    save_stock("wav2vec2, group norm", tmp_path)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="trained on audio at 8000 Hz.*16000 Hz"):
        CAMuLeNetModel.from_encoder_pretrained(tmp_path, config_of("wav2vec2, group norm"))


def test_another_number_of_mel_bins_is_refused(tmp_path):
    sizes = {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 8}
    sizes |= {"decoder_layers": 1, "decoder_attention_heads": 1, "decoder_ffn_dim": 8, "vocab_size": 10}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    WhisperModel(WhisperConfig(**sizes, **tokens)).save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=128).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"computes 128 values a frame.*expects 80 \(num_mel_bins\)"):
        CAMuLeNetModel.from_encoder_pretrained(tmp_path, config_of("wav2vec2, group norm"))


def test_a_padded_context_is_whispers():
    with pytest.raises(ValueError, match="Whisper's 30 s window; a hubert encoder.*encoder_context='clip'"):
        SpeechEncoder(config_of("hubert, layer norm", encoder_context="padded"))


def test_the_input_of_another_encoder_is_refused():
    with pytest.raises(ValueError, match=r"waveforms \(batch, samples\).*\(1, 10, 80\).*encoder_input='waveform'"):
        SpeechEncoder(config_of("hubert, layer norm"))(torch.zeros(1, 10, 80))
    with pytest.raises(ValueError, match="160 mel bins, got 80.*encoder_input='fbank' and feature_size=80"):
        SpeechEncoder(config_of("wav2vec2-bert"))(torch.zeros(1, 10, 80))
