"""The model: one list of common tests over every kind of configuration, then each part by hand-worked values."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modeling_camulenet import (
    CAMuLeNetFeatureExtractor,
    CAMuLeNetForAudioClassification,
    CAMuLeNetModel,
    CoAttention,
    MfccBranch,
    SpectrogramBranch,
)
from modeling_camulenet.feature_extraction_camulenet import frame_mask
from modeling_camulenet.modeling_camulenet import (
    FeatureNorm,
    MaskedBatchNorm,
    PooledNorm,
    PositionalGate,
    masked_mean,
    masked_mean_and_std,
    reverse_gradient,
)

FEATURES = {"spectrogram": {"num_mel_bins": 64}, "mfcc": {"num_mfcc": 13}}
CONFIGS = {
    "co_attention": {},
    "gate": {"fusion": "gate"},
    "concat": {"fusion": "concat"},
    "attention": {"fusion": "attention"},
    "none": {"fusion": "none", "branches": []},
    "attention, encoder alone": {"fusion": "attention", "branches": []},
    "image": {
        "fusion": "image",
        "branches": [],
        "spectrogram_convolutions": "small_cnn",
        "feature_norm": "none",
        "classifier_hidden_size": [8, 6],
    },
    "branches": {"fusion": "branches"},
    "spectrogram alone": {"branches": ["spectrogram"]},
    "mfcc alone": {"branches": ["mfcc"]},
    "single task": {"id2gender": {}},
    "adversarial gender": {"adversarial_gender": True},
    "padded": {"encoder_context": "padded"},
    "from scratch": {"spectrogram_batch_norm": True, "trainable_encoder_layers": -1, "gru_num_layers": 3},
    "small CNN": {
        "spectrogram_convolutions": "small_cnn",
        "spectrogram_batch_norm": True,
        "pooled_batch_norm": True,
        "classifier_num_layers": 0,
    },
    "utterance norm": {"feature_norm": "utterance"},
    "no norm": {"feature_norm": "none"},
    "few bins": {"feature_extractor": {"spectrogram": {"num_mel_bins": 20}, "mfcc": {"hop_ms": 40.0}}},
    "flatten": {
        "pooling": "flatten",
        "fusion": "gate",
        "mfcc_frames": 301,
        "feature_extractor": {**FEATURES, "max_duration_s": 3.0},
    },
    "as released": {
        "pooling": "flatten",
        "fusion": "gate",
        "encoder_context": "padded",
        "feature_norm": "time_l2",
        "use_masks": False,
        "mfcc_frames": 301,
        "feature_extractor": {
            "spectrogram": {"num_mel_bins": 64, "window": "hamming", "decibel": False, "pad_mode": "constant"},
            "max_duration_s": 3.0,
            "pad_to_max_duration": True,
        },
    },
}
every_config = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture
def build(tiny_config):
    """A model in evaluation mode, with weights large enough that differences show, and its feature extractor."""

    def build(name="co_attention", encoder_config=None, seed=0, **overrides):
        torch.manual_seed(seed)
        config = tiny_config(encoder_config, **{**CONFIGS[name], **overrides})
        model = CAMuLeNetForAudioClassification(config).eval()
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if "running_mean" in key:  # decibels before the convolutions, small values behind them
                    value.normal_(*((-20.0, 5.0) if "feature_norm" in key else (0.0, 0.1)))
                elif "bias" in key:
                    value.normal_(0.0, 0.1)
        return model, CAMuLeNetFeatureExtractor.from_model_config(config)

    return build


def assert_close(value, expected, tolerance=1e-5):
    torch.testing.assert_close(value, expected, atol=tolerance, rtol=tolerance)


def assert_same_predictions(output, expected, rows=slice(None), tolerance=1e-5):
    for name in ("logits", "gender_logits", "embeddings"):
        if expected.get(name) is not None:
            assert_close(output[name][rows], expected[name], tolerance)


def trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


# Common tests


@every_config
@torch.no_grad()
def test_a_batch_equals_its_clips(build, clips, name):
    model, extractor = build(name)
    batch = model(**extractor(clips, return_tensors="pt"), return_dict=True)
    assert batch.logits.shape == (5, 4)
    assert batch.logits.std(dim=0).min() > 1e-3  # the clips differ, so equal rows would show
    for row, clip in enumerate(clips):
        alone = model(**extractor(clip, return_tensors="pt"), return_dict=True)
        assert_same_predictions(batch, alone, slice(row, row + 1))


@pytest.mark.parametrize(
    "name", [name for name in CONFIGS if name != "as released"]
)  # that one pads to a fixed length
@torch.no_grad()
def test_padding_changes_nothing(build, clips, name):
    model, extractor = build(name)
    features = extractor(clips[:4], return_tensors="pt")
    expected = model(**features, return_dict=True)
    longer = dict(features)
    for mask_name in [key for key in features if key.endswith("_mask")]:
        feature_name = "input_features" if mask_name == "attention_mask" else mask_name.removesuffix("_mask")
        if name == "padded" and feature_name == "input_features":
            continue  # the encoder hears the silence behind the clip; its window is full
        room = 301 - features["mfcc"].shape[1] if name == "flatten" else 57  # as many as are flattened
        longer[mask_name] = nn.functional.pad(features[mask_name], (0, room))
        longer[feature_name] = nn.functional.pad(features[feature_name], (0, 0, 0, room))
        # What lies behind a clip is arbitrary, not zero.
        longer[feature_name][longer[mask_name] == 0] = 3.0 + torch.randn(longer[feature_name].shape[-1])
    assert_same_predictions(model(**longer, return_dict=True), expected)


@pytest.mark.parametrize("name", ["co_attention", "from scratch"])
@torch.no_grad()
def test_padding_is_not_in_the_statistics_of_a_training_batch(build, clips, name):
    model, extractor = build(name, dropout=0.0, gru_dropout=0.0)
    features = extractor(clips, return_tensors="pt")
    expected = model.train()(**features, return_dict=True)
    longer = {
        key: nn.functional.pad(value, (0, 57) if key.endswith("_mask") else (0, 0, 0, 57))
        for key, value in features.items()
    }
    assert_same_predictions(model(**longer, return_dict=True), expected)


@every_config
@torch.no_grad()
def test_the_raw_waveform_equals_its_features(build, clips, name):
    model, extractor = build(name)
    raw_extractor = CAMuLeNetFeatureExtractor.from_model_config(model.config, return_raw=True)
    raw = raw_extractor(clips, return_tensors="pt")
    assert sorted(raw) == ["attention_mask", "input_values"]
    expected = model(**extractor(clips, return_tensors="pt"), return_dict=True)
    assert_same_predictions(model(**raw, return_dict=True), expected, tolerance=1e-6)
    alone = model(input_values=raw["input_values"][4:], return_dict=True)  # without a mask all samples are real
    assert_same_predictions(expected, alone, slice(4, 5))


@every_config
@torch.no_grad()
def test_save_and_load(build, clips, name, tmp_path):
    model, extractor = build(name)
    features = extractor(clips, return_tensors="pt")
    expected = model(**features, return_dict=True)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    loaded = CAMuLeNetForAudioClassification.from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert trainable(loaded) == trainable(model)  # a frozen encoder comes back frozen
    assert_same_predictions(loaded(**features, return_dict=True), expected, tolerance=1e-6)

    base = CAMuLeNetModel.from_pretrained(tmp_path)
    assert_close(base(**features).embeddings, expected.embeddings, 1e-6)
    again = CAMuLeNetFeatureExtractor.from_pretrained(tmp_path)(clips, return_tensors="pt")
    assert all(torch.equal(again[key], value) for key, value in features.items())


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.bfloat16) for name in CONFIGS]
    + [(name, torch.float16) for name in ("co_attention", "gate", "from scratch", "flatten")],
)
@torch.no_grad()
def test_half_precision(build, clips, name, dtype, tmp_path):
    model, extractor = build(name)
    model.save_pretrained(tmp_path)
    half = CAMuLeNetForAudioClassification.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    features = extractor(clips, return_tensors="pt")
    output, expected = half(**features), model(**features)
    assert output.logits.dtype == dtype
    assert_close(output.logits.float(), expected.logits, 0.15 if dtype == torch.bfloat16 else 0.02)
    raw = CAMuLeNetFeatureExtractor.from_model_config(model.config, return_raw=True)(clips, return_tensors="pt")
    assert_close(half(**raw).logits, output.logits)


@every_config
def test_a_tuple_holds_the_same(build, clips, name):
    model, extractor = build(name)
    features = extractor(clips[1:3], return_tensors="pt")
    labels = {"labels": torch.tensor([0, 3]), "gender_labels": torch.tensor([1, 0])}
    expected = model(**features, **labels).to_tuple()
    values = model(**features, **labels, return_dict=False)
    assert isinstance(values, tuple)
    assert len(values) == len(expected) >= 4
    assert all(torch.equal(value, other) for value, other in zip(values, expected))
    embeddings, *_ = model.camulenet(**features, return_dict=False)
    assert torch.equal(embeddings, model.camulenet(**features).embeddings)


@every_config
def test_gradients_reach_everything_that_trains(build, clips, name):
    model, extractor = build(name)
    model.train()
    output = model(
        **extractor(clips, return_tensors="pt"), labels=torch.arange(5) % 4, gender_labels=torch.ones(5).long()
    )
    output.loss.backward()
    assert output.loss.isfinite()
    without = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    # The key's bias moves every score alike, so its gradient is zero; all else must move.
    dead = [
        key
        for key, gradient in gradients.items()
        if not gradient.any() and not key.endswith(("key.bias", "k_proj.bias"))
    ]
    assert dead == []
    in_encoder = [key for key in gradients if "speech_encoder" in key]
    assert bool(in_encoder) == (not model.config.freeze_encoder)


@every_config
def test_missing_weights_are_initialised(build, clips, name, tmp_path):
    model, extractor = build(name)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    # All that the encoder does not bring: GRUs, feature norms, the learned query, convolutions, heads.
    save_file({k: v for k, v in load_file(path).items() if ".encoder." in k}, path, {"format": "pt"})
    torch.manual_seed(1)
    loaded, report = CAMuLeNetForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    missing = set(report["missing_keys"])
    assert missing == {key for key in model.state_dict() if ".encoder." not in key}
    fresh = CAMuLeNetForAudioClassification(model.config).state_dict()
    for key in missing:
        value, expected = loaded.state_dict()[key].float(), fresh[key].float()
        assert bool(value.isfinite().all()), key
        if expected.numel() > 1 and expected.std() > 0:
            assert 0.3 < value.std() / expected.std() < 3.0 or value.numel() < 64, key
            assert value.abs().max() < 4 * expected.abs().max(), key
        else:
            assert torch.equal(value, expected), key
    logits = loaded(**extractor(clips, return_tensors="pt")).logits
    assert bool(logits.isfinite().all())
    assert logits.abs().max() < 100


def test_weights_that_are_there_survive_those_that_are_missing(build, tmp_path):
    model, _ = build()
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    missing = {
        "camulenet.mfcc_branch.forward_layers.0.weight_hh_l0",
        "camulenet.mfcc_branch.feature_norm.batch_norm.running_var",
        "camulenet.speech_encoder.encoder.layers.0.fc1.weight",
        "camulenet.co_attention.key.bias",
    }
    save_file({k: v for k, v in load_file(path).items() if k not in missing}, path, {"format": "pt"})
    loaded = CAMuLeNetForAudioClassification.from_pretrained(tmp_path).state_dict()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, loaded[key])}
    assert changed - missing == set()
    assert all(0 <= loaded[key].abs().max() <= 400.0 for key in missing)
    assert loaded["camulenet.mfcc_branch.feature_norm.batch_norm.running_var"].unique().tolist() == [400.0]


@pytest.mark.parametrize("name", ["co_attention", "from scratch", "flatten", "as released"])
def test_the_same_seed_gives_the_same_training_step(build, clips, name):
    def step():
        model, extractor = build(name, encoder_config={"dropout": 0.1}, seed=3)
        model.train()
        torch.manual_seed(4)
        output = model(**extractor(clips, return_tensors="pt"), labels=torch.arange(5) % 4)
        output.loss.backward()
        return output.loss, model.classifier.weight.grad

    (first, gradient), (second, other) = step(), step()
    assert torch.equal(first, second)
    assert torch.equal(gradient, other)


@every_config
@torch.no_grad()
def test_clips_without_a_real_frame_stay_finite(build, clips, name):
    model, extractor = build(name)
    features = extractor(clips[1:3], return_tensors="pt")
    expected = model(**features, return_dict=True)
    emptied = {key: value.clone() for key, value in features.items()}
    for key in [key for key in emptied if key.endswith("_mask")]:
        emptied[key][0] = 0
    output = model(**emptied, return_dict=True)
    assert bool(output.logits.isfinite().all())
    assert_same_predictions(output, {key: value[1:] for key, value in expected.items()}, slice(1, 2))


# Loading and running, the Hugging Face way


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_the_attention_implementation_reaches_the_encoder(build, clips, implementation, tmp_path):
    model, extractor = build()
    model.save_pretrained(tmp_path)
    loaded = CAMuLeNetForAudioClassification.from_pretrained(tmp_path, attn_implementation=implementation)
    assert loaded.camulenet.speech_encoder.encoder.config._attn_implementation == implementation
    features = extractor(clips, return_tensors="pt")
    assert_close(loaded(**features).logits, model(**features).logits)
    built = CAMuLeNetForAudioClassification._from_config(model.config, attn_implementation=implementation)
    assert built.camulenet.speech_encoder.encoder.config._attn_implementation == implementation


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
@torch.no_grad()
def test_device_map(build, clips, device_map, tmp_path):
    model, extractor = build()
    model.save_pretrained(tmp_path)
    loaded = CAMuLeNetForAudioClassification.from_pretrained(tmp_path, device_map=device_map)
    features = extractor(clips, return_tensors="pt").to(loaded.device)
    assert_close(
        loaded(**features).logits.cpu(),
        model(**features.to("cpu")).logits,
        1e-3 if loaded.device.type != "cpu" else 1e-6,
    )


@torch.no_grad()
def test_shards(build, clips, tmp_path):
    model, extractor = build()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    features = extractor(clips, return_tensors="pt")
    loaded = CAMuLeNetForAudioClassification.from_pretrained(tmp_path)
    assert_close(loaded(**features).logits, model(**features).logits, 1e-6)


@torch.no_grad()
def test_a_model_can_be_built_without_memory(build, tiny_config):
    model, _ = build()
    with torch.device("meta"):
        empty = CAMuLeNetForAudioClassification(tiny_config())
    assert {value.device.type for value in empty.state_dict().values()} == {"meta"}
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@torch.no_grad()
def test_new_labels_on_a_trained_model(build, clips, tmp_path):
    model, extractor = build()
    model.save_pretrained(tmp_path)
    names = ["anger", "boredom", "fear", "joy", "neutral", "sadness", "surprise"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        CAMuLeNetForAudioClassification.from_pretrained(tmp_path, **labels)
    loaded = CAMuLeNetForAudioClassification.from_pretrained(tmp_path, **labels, ignore_mismatched_sizes=True)
    features = extractor(clips, return_tensors="pt")
    output, expected = loaded(**features), model(**features)
    assert output.logits.shape == (5, 7)
    assert bool(output.logits.isfinite().all())
    assert loaded.config.id2label[3] == "joy"
    assert_close(output.embeddings, expected.embeddings, 1e-6)
    assert_close(output.gender_logits, expected.gender_logits, 1e-6)


@torch.no_grad()
def test_hidden_states_and_attentions(build, clips):
    model, extractor = build(encoder_config={"_attn_implementation": "eager"})
    model.set_attn_implementation("eager")
    features = extractor(clips[3:], return_tensors="pt")
    frames = -(-features["input_features"].shape[1] // 2)
    output = model(**features, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(2, frames, 16)] * 3
    assert [tuple(attention.shape) for attention in output.attentions] == [(2, 2, frames, frames)] * 2
    # No frame attends to padding.
    real = features["attention_mask"][0, ::2].sum()
    assert_close(output.attentions[0][0, :, :, :real].sum(dim=-1), torch.ones(2, frames))
    plain = model(**features)
    assert plain.hidden_states is None and plain.attentions is None
    assert torch.equal(output.logits, plain.logits)
    assert_close(output.hidden_states[-1], model.camulenet(**features).last_hidden_state)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient(build, clips):
    gradients = []
    for checkpointing in (False, True):
        model, extractor = build("from scratch")
        if checkpointing:
            model.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing == checkpointing
        for module in model.modules():  # training mode without the randomness
            module.train(not isinstance(module, (nn.Dropout, MaskedBatchNorm)))
        model(**extractor(clips, return_tensors="pt"), labels=torch.arange(5) % 4).loss.backward()
        gradients.append({key: value.grad for key, value in model.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any("speech_encoder" in key for key in gradients[0])
    for key, gradient in gradients[0].items():
        assert_close(gradients[1][key], gradient)


def test_missing_features_are_named(build):
    model, _ = build()
    with pytest.raises(ValueError, match="needs spectrogram, mfcc .or `input_values`"):
        model(input_features=torch.zeros(1, 10, 80))
    with pytest.raises(ValueError, match="needs input_features, spectrogram, mfcc"):
        model()
    with pytest.raises(ValueError, match="needs spectrogram, mfcc .or"):
        build("branches")[0]()


# Loss


def losses(build, clips, labels=None, gender_labels=None, **overrides):
    model, extractor = build(**overrides)
    features = extractor(clips[1:4], return_tensors="pt")
    given = {"labels": labels, "gender_labels": gender_labels}
    given = {name: torch.tensor(value) for name, value in given.items() if value is not None}
    return model(**features, **given)


def cross_entropy(logits, labels) -> torch.Tensor:
    """By the formula: the mean of log sum exp minus the true class's logit."""
    return torch.stack([row.exp().sum().log() - row[label] for row, label in zip(logits, labels)]).mean()


def test_loss_is_the_weighted_sum_of_both_cross_entropies(build, clips):
    output = losses(build, clips, [2, 0, 3], [1, 0, 1], emotion_loss_weight=0.4, gender_loss_weight=0.1)
    assert_close(output.emotion_loss, cross_entropy(output.logits, [2, 0, 3]))
    assert_close(output.gender_loss, cross_entropy(output.gender_logits, [1, 0, 1]))
    assert_close(output.loss, 0.4 * output.emotion_loss + 0.1 * output.gender_loss)
    assert_close(output.emotion_loss, nn.functional.cross_entropy(output.logits, torch.tensor([2, 0, 3])), 1e-6)


def test_unlabelled_clips_count_in_neither_mean(build, clips):
    output = losses(build, clips, [-100, 0, 3], [1, -100, -100])
    assert_close(output.emotion_loss, cross_entropy(output.logits[1:], [0, 3]))
    assert_close(output.gender_loss, cross_entropy(output.gender_logits[:1], [1]))
    assert_close(output.loss, output.emotion_loss + 0.25 * output.gender_loss)


@pytest.mark.parametrize("gender_labels", [[-100, -100, -100], None])
def test_without_any_gender_label_the_loss_is_the_emotions(build, clips, gender_labels):
    output = losses(build, clips, [2, 0, 3], gender_labels)
    assert_close(output.loss, cross_entropy(output.logits, [2, 0, 3]))
    output.loss.backward()
    assert (output.gender_loss is None) == (gender_labels is None)
    if gender_labels is not None:
        assert output.gender_loss.item() == 0.0


def test_without_any_label_there_is_no_loss(build, clips):
    output = losses(build, clips)
    assert output.loss is output.emotion_loss is output.gender_loss is None
    output = losses(build, clips, [-100] * 3, [-100] * 3)
    assert output.loss.item() == 0.0
    output.loss.backward()


def test_single_task(build, clips):
    output = losses(build, clips, [2, 0, 3], [1, 0, 1], name="single task")
    assert output.gender_logits is None and output.gender_loss is None
    assert_close(output.loss, cross_entropy(output.logits, [2, 0, 3]))
    assert not any("gender" in key for key in build("single task")[0].state_dict())


def test_every_branch_has_a_head_of_its_own_in_the_loss(build, clips):
    model, extractor = build(branch_loss_weight=0.5)
    features = extractor(clips[1:4], return_tensors="pt")
    labels = [2, -100, 3]
    output = model(**features, labels=torch.tensor(labels))
    parts = output.embeddings.chunk(3, dim=1)
    logits = [head(part) for head, part in zip(model.branch_classifiers, parts, strict=True)]
    own = sum(cross_entropy(scores[[0, 2]], [2, 3]) for scores in logits)
    assert_close(output.loss, cross_entropy(output.logits[[0, 2]], [2, 3]) + 0.5 * own)

    output = model(**features, labels=torch.tensor(labels), gender_labels=torch.tensor([1, 0, -100]))
    genders = [head(part) for head, part in zip(model.branch_gender_classifiers, parts, strict=True)]
    own = own + 0.25 * sum(cross_entropy(scores[:2], [1, 0]) for scores in genders)
    expected = cross_entropy(output.logits[[0, 2]], [2, 3]) + 0.25 * cross_entropy(output.gender_logits[:2], [1, 0])
    assert_close(output.loss, expected + 0.5 * own)
    output.loss.backward()
    heads = [*model.branch_classifiers, *model.branch_gender_classifiers]
    assert all(bool(head.weight.grad.any()) for head in heads)
    single = build("single task", branch_loss_weight=0.5)[0]
    assert len(single.branch_classifiers) == 3 and not hasattr(single, "branch_gender_classifiers")
    assert not any("branch_classifiers" in key for key in build()[0].state_dict())


def test_a_reversed_gradient_by_hand():
    hidden = torch.tensor([[1.0, -3e38], [7.0, 1e-40]], requires_grad=True)
    value = reverse_gradient(hidden[:, 1:])
    assert torch.equal(value, hidden[:, 1:])
    (value * torch.tensor([[2.0], [5.0]])).sum().backward()
    assert hidden.grad.tolist() == [[0.0, -2.0], [0.0, -5.0]]


@pytest.mark.parametrize("branch_loss_weight", [0.0, 0.5])
def test_adversarial_gender_turns_the_heads_gradients_around(build, clips, branch_loss_weight):
    def gradients(emotion_loss_weight, **overrides):
        weights = {"gender_loss_weight": 0.25, "branch_loss_weight": branch_loss_weight}
        model, extractor = build(emotion_loss_weight=emotion_loss_weight, **weights, **overrides)
        labels = {"labels": torch.tensor([2, 0, 3]), "gender_labels": torch.tensor([1, 0, 1])}
        output = model(**extractor(clips[1:4], return_tensors="pt"), **labels)
        output.loss.backward()
        trained = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
        return trained, output.loss

    (of_gender, _), (of_both, loss) = gradients(0.0), gradients(1.0)
    adversarial, same_loss = gradients(1.0, adversarial_gender=True)
    assert torch.equal(loss, same_loss)  # no value changes, only the way back
    heads = {name for name in adversarial if "gender_classifier" in name}
    assert len(heads) == (2 if branch_loss_weight == 0 else 8)
    for name, gradient in adversarial.items():
        # Below the heads: the emotion's gradient less the gender's, in place of their sum.
        expected = of_both[name] if name in heads else of_both[name] - 2 * of_gender[name]
        assert_close(gradient, expected)
    below = [name for name in adversarial if name not in heads and "branch_classifiers" not in name]
    assert all(bool(of_gender[name].any()) for name in below if name.endswith("weight") and "classifier" not in name)


def test_label_smoothing(build, clips):
    output = losses(build, clips, [2, -100, 3], [1, 0, 1], label_smoothing=0.1)
    log_probabilities = output.logits.log_softmax(dim=1)
    uniform = -log_probabilities[[0, 2]].mean(dim=1)
    true = -log_probabilities[[0, 2], [2, 3]]
    assert_close(output.emotion_loss, (0.9 * true + 0.1 * uniform).mean())
    assert_close(output.gender_loss, cross_entropy(output.gender_logits, [1, 0, 1]))  # genders are not smoothed


# Pooling and attention


def test_masked_statistics_by_hand():
    frames = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [99.0, 99.0]], [[5.0, 7.0], [9.0, 9.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert masked_mean(frames, mask).tolist() == [[2.0, 20.0], [5.0, 7.0]]
    expected = [[2.0, 20.0, 1.00001**0.5, 100.00001**0.5], [5.0, 7.0, 1e-5**0.5, 1e-5**0.5]]
    assert_close(masked_mean_and_std(frames, mask), torch.tensor(expected), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masked_statistics_of_many_large_frames_do_not_overflow(dtype):
    frames = torch.full((1, 1500, 1), 60.0)
    frames[:, ::2] = -20.0
    statistics = masked_mean_and_std(frames.to(dtype), torch.ones(1, 1500, dtype=torch.long))
    assert statistics.dtype == dtype
    assert_close(statistics.float(), torch.tensor([[20.0, 40.0]]), 1e-3)


@torch.no_grad()
def test_the_order_of_the_parts_is_the_papers(build, clips):
    """[spectrogram; MFCC] queries, [MFCC; spectrogram; attended encoder] is the final embedding."""
    model, extractor = build()
    features = extractor(clips, return_tensors="pt")
    mfcc = model.camulenet.mfcc_branch(features["mfcc"], features["mfcc_mask"])
    spectrogram = model.camulenet.spectrogram_branch(features["spectrogram"], features["spectrogram_mask"])
    frames, mask = model.camulenet.speech_encoder(features["input_features"], features["attention_mask"])
    query = torch.cat((spectrogram, mfcc), dim=1)
    attended, weights = model.camulenet.co_attention(query, frames.last_hidden_state, mask)
    attended = model.camulenet.encoder_projection(attended).relu()
    output = model(**features)
    assert_close(output.co_attention_weights, weights)
    assert_close(output.embeddings, torch.cat((mfcc, spectrogram, attended), dim=1))


def test_co_attention_by_hand():
    attention = CoAttention(query_size=2, frame_size=2, hidden_size=2, num_heads=1)
    for layer in (attention.query, attention.key, attention.value):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [50.0, 50.0]]])
    attended, weights = attention(torch.tensor([[2.0, 1.0]]), frames, torch.tensor([[1, 1, 0]]))
    first, second = torch.tensor([2.0 / 2**0.5, 1.0 / 2**0.5]).softmax(0).tolist()
    assert_close(weights, torch.tensor([[[first, second, 0.0]]]), 1e-6)
    assert_close(attended, torch.tensor([[first, second]]), 1e-6)


@torch.no_grad()
def test_co_attention_is_multi_head_attention():
    attention = CoAttention(query_size=6, frame_size=10, hidden_size=8, num_heads=4)
    queries, frames = torch.randn(3, 6), torch.randn(3, 5, 10)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    attended, weights = attention(queries, frames, mask)
    query, key, value = attention.query(queries)[:, None], attention.key(frames), attention.value(frames)
    query, key, value = (part.unflatten(2, (4, 2)).transpose(1, 2) for part in (query, key, value))
    expected = nn.functional.scaled_dot_product_attention(query, key, value, mask[:, None, None, :].bool())
    assert_close(attended, expected.flatten(1), 1e-6)
    scores = (query @ key.transpose(2, 3) / 2**0.5).masked_fill(mask[:, None, None, :] == 0, -torch.inf)
    assert_close(weights, scores.softmax(dim=-1)[:, :, 0], 1e-6)


@pytest.mark.parametrize("name", ["co_attention", "attention", "padded", "gate", "as released"])
@torch.no_grad()
def test_attention_weights(build, clips, name):
    model, extractor = build(name)
    features = extractor(clips, return_tensors="pt")
    weights = model(**features).co_attention_weights
    real = features["attention_mask"][:, None, ::2].expand(weights.shape)
    assert weights.shape == (5, 1 if model.config.fusion == "gate" else 2, real.shape[2])
    if name == "as released":
        assert bool(weights[:, :, 1000:].any())  # unmasked, the gate weighs the silence behind 2 s too
        return
    assert not weights[real == 0].any()
    if model.config.fusion != "gate":
        assert_close(weights.sum(dim=2), torch.ones(5, 2), 1e-6)
        assert bool((weights[real == 1] > 0).all())


@torch.no_grad()
def test_attention_over_no_frame_is_finite():
    attention = CoAttention(4, 6, 8, 2)
    attended, weights = attention(torch.randn(2, 4), torch.randn(2, 5, 6), torch.tensor([[0] * 5, [1, 1, 0, 0, 0]]))
    assert bool(attended.isfinite().all())
    assert_close(weights.sum(dim=2), torch.ones(2, 2), 1e-6)


@torch.no_grad()
def test_the_gate_by_hand():
    gate = PositionalGate(query_size=1, num_positions=4)
    gate.weights.weight.copy_(torch.tensor([[1.0], [-1.0], [2.0], [3.0]]))
    gate.weights.bias.zero_()
    frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [10.0, 1.0]]])
    attended, weights = gate(torch.tensor([[2.0]]), frames, torch.ones(1, 3))
    assert weights.tolist() == [[[2.0, 0.0, 4.0]]]
    assert attended.tolist() == [[42.0, 4.0]]
    attended, weights = gate(torch.tensor([[2.0]]), frames, torch.tensor([[1, 1, 0]]))
    assert (weights.tolist(), attended.tolist()) == ([[[2.0, 0.0, 0.0]]], [[2.0, 0.0]])
    with pytest.raises(ValueError, match="4 encoder frames, got 5.*co_attention"):
        gate(torch.zeros(1, 1), torch.zeros(1, 5, 2), torch.ones(1, 5))


@torch.no_grad()
def test_without_masks_the_prediction_depends_on_padding(build, clips):
    """The defect that the preset `paper` keeps, and that `use_masks=True` cures."""
    for name, masked in (("co_attention", True), ("co_attention", False)):
        model, extractor = build(name, use_masks=masked, feature_norm="none")
        batch = model(**extractor(clips, return_tensors="pt")).embeddings
        alone = model(**extractor(clips[1], return_tensors="pt")).embeddings
        difference = (batch[1] - alone[0]).abs() / alone[0].abs().max()
        for part in difference.split(16):  # MFCC, spectrogram, attended encoder
            assert (part.max() < 1e-4) == masked


@torch.no_grad()
def test_the_frames_as_an_image(build, clips):
    """What the embedding is with `fusion="image"`: the small CNN's of the encoder's frames, as of a spectrogram."""
    model, extractor = build("image")
    features = extractor(clips, return_tensors="pt")
    output = model.camulenet(**features)
    branch = model.camulenet.encoder_branch
    assert [tuple(each.weight.shape[:2]) for each in branch.convolutions] == [(1, 1), (2, 1), (4, 2), (8, 4)]
    longest = output.last_hidden_state[4:]  # without padding
    hidden = longest[:, None]
    for convolution in branch.convolutions:
        hidden = nn.functional.max_pool2d(convolution(hidden).relu(), 2)
    mask = torch.ones(1, longest.shape[1], dtype=torch.long)
    frames = hidden.permute(0, 2, 1, 3).flatten(2)
    pooled = masked_mean_and_std(frames, mask[:, : frames.shape[1]])
    assert_close(output.embeddings[4:], branch.projection(pooled).relu())
    assert output.co_attention_weights is None
    assert [tuple(layer.weight.shape) for layer in model.shared[::2]] == [(8, 16), (6, 8)]
    assert model.classifier.weight.shape == (4, 6)
    beside, extractor = build("image", branches=["mfcc"])  # the encoder's part of the embedding
    assert beside(**extractor(clips, return_tensors="pt")).embeddings.shape == (5, 32)


@torch.no_grad()
def test_the_branches_alone_are_those_beside_an_encoder(build, clips):
    whole, extractor = build()
    alone, _ = build("branches")
    alone.camulenet.load_state_dict(whole.camulenet.state_dict(), strict=False)
    features = extractor(clips, return_tensors="pt")
    output = alone.camulenet(**features)
    assert_close(output.embeddings, whole.camulenet(**features).embeddings[:, :32])
    of_branches = {name: value for name, value in features.items() if name.startswith(("mfcc", "spectrogram"))}
    assert torch.equal(alone.camulenet(**of_branches).embeddings, output.embeddings)
    assert output.last_hidden_state is None and output.co_attention_weights is None
    assert not any("encoder" in name for name in alone.state_dict())


def test_the_branches_alone_take_no_pre_trained_encoder(build):
    with pytest.raises(ValueError, match="fusion='branches' is the branches alone: leave the encoder out"):
        CAMuLeNetForAudioClassification.from_encoder_pretrained("any", build("branches")[0].config)


# Branches


def test_the_fewest_spectrogram_frames_are_computed(tiny_config):
    branch = SpectrogramBranch(tiny_config(), 64)
    assert branch.min_frames == 63
    assert [branch.num_output_frames(frames) for frames in (63, 94, 95, 128, 501, 8009)] == [1, 1, 2, 3, 14, 249]
    hidden = torch.zeros(1, 1, 63, 63)
    shapes = []
    for convolution, pool in zip(branch.convolutions, (True, True, False, False, True)):
        hidden = convolution(hidden)
        hidden = nn.functional.max_pool2d(hidden, 3, 2) if pool else hidden
        shapes.append(tuple(hidden.shape[2:]))
    assert shapes == [(7, 7), (3, 3), (3, 3), (3, 3), (1, 1)]
    with torch.no_grad():
        assert branch.eval()(torch.zeros(1, 1, 64), torch.ones(1, 1, dtype=torch.long)).shape == (1, 16)


@torch.no_grad()
def test_the_small_cnn_by_torch_alone(tiny_config):
    """Four convolutions of 3x3, each with a max pool of 2: a clip alone, and the same clip in a batch."""
    branch = SpectrogramBranch(
        tiny_config(spectrogram_convolutions="small_cnn", width_multiplier=0.5, feature_norm="none"), 64
    ).eval()
    assert branch.min_frames == 16
    assert [branch.num_output_frames(frames) for frames in (16, 31, 32, 301)] == [1, 1, 2, 18]
    assert [tuple(each.weight.shape) for each in branch.convolutions] == [
        (8, 1, 3, 3),
        (16, 8, 3, 3),
        (32, 16, 3, 3),
        (64, 32, 3, 3),
    ]
    spectrogram = torch.randn(2, 301, 64)
    mask = (torch.arange(301) < torch.tensor([[77], [301]])).long()
    hidden = spectrogram[:1, None, :77]
    for convolution in branch.convolutions:
        hidden = nn.functional.max_pool2d(convolution(hidden).relu(), 2)
    frames = hidden.permute(0, 2, 1, 3).flatten(2)  # (1, 4, 64 * 4)
    assert frames.shape == (1, 4, 256)
    deviation = (frames.var(dim=1, unbiased=False) + 1e-5).sqrt()
    expected = branch.projection(torch.cat((frames.mean(dim=1), deviation), dim=1)).relu()
    assert_close(branch(spectrogram[:1, :77], mask[:1, :77]), expected)
    assert_close(branch(spectrogram, mask)[:1], branch(spectrogram[:1, :77], mask[:1, :77]))


@pytest.mark.parametrize("num_frames", [62, 63, 80, 95, 301])
@torch.no_grad()
def test_flattening_is_alexnets_adaptive_pool_of_each_clip(tiny_config, num_frames):
    """`pooling="flatten"` gives a clip alone what torchvision's AlexNet gives it, and the same in any batch."""
    config = tiny_config(pooling="flatten", feature_norm="none")
    branch = SpectrogramBranch(config, 64).eval()
    spectrogram = torch.randn(2, 400, 64)
    mask = (torch.arange(400) < torch.tensor([[num_frames], [400]])).long()

    hidden = nn.functional.pad(spectrogram[:1, None, :num_frames], (0, 0, 0, max(63 - num_frames, 0)))
    for convolution, pool in zip(branch.convolutions, (True, True, False, False, True)):
        hidden = convolution(hidden).relu()
        hidden = nn.functional.max_pool2d(hidden, 3, 2) if pool else hidden
    pooled = nn.functional.adaptive_avg_pool2d(hidden, 6).flatten(1)
    expected = branch.projection(pooled).relu()
    assert_close(branch(spectrogram[:1, :num_frames], mask[:1, :num_frames]), expected)
    assert_close(branch(spectrogram, mask)[:1], expected)


@torch.no_grad()
def test_the_mfcc_branch_is_a_bidirectional_gru(tiny_config):
    """Equal to torch's own two-layer bidirectional GRU with packed sequences."""
    branch = MfccBranch(tiny_config(feature_norm="none"), 13).eval()
    size = branch.forward_layers[0].hidden_size
    gru = nn.GRU(13, size, num_layers=2, bidirectional=True, batch_first=True)
    for layer in range(2):
        for suffix, ours in (("", branch.forward_layers[layer]), ("_reverse", branch.backward_layers[layer])):
            for name, value in ours.named_parameters():
                getattr(gru, name.replace("_l0", f"_l{layer}{suffix}")).copy_(value)
    lengths = torch.tensor([40, 1, 17])
    mfcc = torch.randn(3, 40, 13)
    packed = nn.utils.rnn.pack_padded_sequence(mfcc, lengths, batch_first=True, enforce_sorted=False)
    frames, _ = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
    mask = (torch.arange(40) < lengths[:, None]).long()
    expected = branch.projection(masked_mean_and_std(frames, mask)).relu()
    assert_close(branch(mfcc, mask), expected)


def test_flattened_mfccs_have_one_length(tiny_config):
    branch = MfccBranch(tiny_config(pooling="flatten", mfcc_frames=20), 13)
    with pytest.raises(ValueError, match="20 MFCC frames, got 21.*max_duration_s"):
        branch(torch.zeros(1, 21, 13), torch.ones(1, 21, dtype=torch.long))


# Feature norm

FRAMES = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [77.0, 77.0]], [[5.0, 20.0], [7.0, 60.0], [9.0, 80.0]]])
FRAMES_MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_batch_norm_over_the_real_frames_by_hand():
    norm = FeatureNorm(2, "batch").train()
    # Real values 1 3 5 7 9 and 10 30 20 60 80: means 5 and 40, variances 8 and 680.
    mean, variance = torch.tensor([5.0, 40.0]), torch.tensor([8.0, 680.0])
    expected = (FRAMES - mean) / (variance + 1e-5).sqrt() * FRAMES_MASK[:, :, None]
    assert_close(norm(FRAMES, FRAMES_MASK), expected)
    # The first batch is all that is known; from the tenth on each batch counts a tenth.
    assert_close(norm.batch_norm.running_mean, mean)
    assert_close(norm.batch_norm.running_var, variance)
    assert_close(norm.eval()(FRAMES, FRAMES_MASK), expected)
    other = torch.full((1, 4, 2), 100.0)
    norm.train()(other, torch.ones(1, 4, dtype=torch.long))
    assert_close(norm.batch_norm.running_mean, (mean + 100.0) / 2)
    assert_close(norm.batch_norm.running_var, variance / 2)
    for _ in range(40):
        norm(FRAMES, FRAMES_MASK)
    before = norm.batch_norm.running_mean.clone()
    norm(other, torch.ones(1, 4, dtype=torch.long))
    assert_close(norm.batch_norm.running_mean, 0.9 * before + 10.0)
    norm.eval()(FRAMES, FRAMES_MASK)
    assert_close(norm.batch_norm.running_mean, 0.9 * before + 10.0)


@pytest.mark.parametrize("real_frames", [1, 4])
def test_batch_norm_behind_a_convolution_is_torchs_on_the_real_frames(real_frames):
    """Values and gradients of `nn.BatchNorm1d` over the real cells of (batch, frames, bins, channels)."""
    torch.manual_seed(0)
    ours, torchs = MaskedBatchNorm(3).train(), nn.BatchNorm1d(3).train()
    for norm in (ours, torchs):
        nn.init.constant_(norm.weight, 1.5)
        nn.init.constant_(norm.bias, 0.5)
    hidden, mask = torch.randn(2, 4, 5, 3), frame_mask(torch.tensor([4, real_frames]), 4)
    inputs = [hidden.clone().requires_grad_() for _ in range(2)]
    value = ours(inputs[0], mask)[mask == 1].flatten(0, 1)
    expected = torchs(inputs[1][mask == 1].flatten(0, 1))
    assert_close(value, expected)
    direction = torch.randn_like(expected)
    for output in (value, expected):
        (output * direction).sum().backward()
    assert_close(inputs[0].grad, inputs[1].grad)
    assert_close(ours.weight.grad, torchs.weight.grad)
    real = hidden[mask == 1].flatten(0, 1)
    assert_close(ours.running_mean, real.mean(0))
    assert_close(ours.running_var, real.var(0, unbiased=False))
    assert_close(ours.eval()(hidden, mask)[mask == 1].flatten(0, 1), expected)


def test_batch_norm_keeps_the_digits_of_a_small_variance():
    torch.manual_seed(0)
    hidden = 30 + 1e-3 * torch.randn(8, 100, 2)
    norm = MaskedBatchNorm(2).train()
    norm(hidden, torch.ones(8, 100, dtype=torch.long))
    expected = hidden.double().flatten(0, 1).var(0, unbiased=False).float()
    torch.testing.assert_close(norm.running_var, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("trained_in", ["float32", "bfloat16"])
def test_convolutions_in_bfloat16_are_for_training_alone(build, clips, trained_in, monkeypatch):
    arguments = {"dropout": 0.0, "bfloat16_convolutions": trained_in == "bfloat16"}
    model, extractor = build("small CNN", **arguments)
    features = extractor(clips[1:4], return_tensors="pt")
    seen = []
    model.camulenet.spectrogram_branch.convolutions[1].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    for supported in (True, False):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda value=supported: value)
        model.train()(**features)
        model.eval()(**features)
    expected = torch.bfloat16 if trained_in == "bfloat16" else torch.float32
    assert seen == [expected, torch.float32, torch.float32, torch.float32]


def test_heads_without_shared_layers_read_the_embedding(build, clips):
    model, extractor = build("small CNN")
    output = model(**extractor(clips, return_tensors="pt"))
    assert_close(output.logits, model.classifier(output.embeddings))
    assert_close(output.gender_logits, model.gender_classifier(output.embeddings))
    assert len(build("small CNN", classifier_num_layers=3)[0].shared) == 6  # each with its ReLU


def test_pooled_vectors_are_normalised_over_the_batch():
    pooled = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    norm = PooledNorm(2).train()
    assert_close(norm(pooled), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), 1e-4)
    assert_close(norm.running_mean, torch.tensor([2.0, 1.0]))
    assert_close(norm.running_var, torch.tensor([1.0, 9.0]))
    assert_close(norm.eval()(torch.tensor([[2.0, 10.0]])), torch.tensor([[0.0, 3.0]]))


def test_an_untrained_batch_norm_is_of_the_order_of_decibels():
    norm = FeatureNorm(2, "batch").eval()
    assert_close(norm(FRAMES, FRAMES_MASK), FRAMES / 20.0 * FRAMES_MASK[:, :, None])


def test_utterance_norm_by_hand():
    norm = FeatureNorm(2, "utterance").train()
    value = norm(FRAMES, FRAMES_MASK)
    assert_close(value[0], torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]))
    expected = (FRAMES[1] - FRAMES[1].mean(0)) / (FRAMES[1].var(0, unbiased=False) + 1e-5).sqrt()
    assert_close(value[1], expected)
    assert norm(FRAMES[:, :1], FRAMES_MASK[:, :1]).tolist() == [[[0.0, 0.0]], [[0.0, 0.0]]]  # one frame is its mean


def test_time_l2_norm_counts_padding():
    norm = FeatureNorm(2, "time_l2")
    value = norm(FRAMES, FRAMES_MASK)
    assert_close(value.square().sum(dim=1), torch.ones(2, 2))
    assert_close(value[0, 0, 0], torch.tensor(1.0 / (1 + 9 + 77**2) ** 0.5))


def test_no_norm_only_masks():
    assert torch.equal(FeatureNorm(2, "none")(FRAMES, FRAMES_MASK), FRAMES * FRAMES_MASK[:, :, None])


@every_config
@pytest.mark.parametrize("batch", ["of one", "one class", "nothing labelled", "rows all masked"])
def test_loss_and_gradients_are_finite_in_bfloat16(build, clips, name, batch):
    model, extractor = build(name)
    several = clips[1:4] if batch != "of one" else clips[2:3]
    features = extractor(several, return_tensors="pt")
    if batch == "rows all masked":
        features = {
            key: value.index_fill(0, torch.tensor([1]), 0) if "mask" in key else value
            for key, value in features.items()
        }
    labels = torch.full((len(several),), -100 if batch == "nothing labelled" else 1)
    labels_of = {"labels": labels} | ({"gender_labels": labels} if model.config.id2gender else {})
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**features, **labels_of).loss
    loss.backward()
    assert loss.isfinite() and (batch != "nothing labelled" or loss == 0)
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    # The statistics that a training step leaves in batch norms are used by every prediction after it.
    assert all(value.isfinite().all() for value in model.state_dict().values())
