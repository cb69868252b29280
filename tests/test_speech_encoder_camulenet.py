"""Speech encoder: Whisper's own values on a full window, and on a clip's real length in any batch."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    WhisperConfig,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from modeling_camulenet import CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification, CAMuLeNetModel
from modeling_camulenet.speech_encoder_camulenet import SpeechEncoder

WINDOW = 50  # encoder frames of the tiny windows below; a mel frame is half a frame


@pytest.fixture
def encoder(tiny_config):
    def build(max_source_positions=WINDOW, seed=0, **overrides) -> SpeechEncoder:
        torch.manual_seed(seed)
        config = tiny_config({"max_source_positions": max_source_positions}, **overrides)
        return rough(SpeechEncoder(config)).eval()

    return build


def rough(module):
    """Larger weights than a fresh model's, so that what differs shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return module


def mel(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random log-mel frames (batch, frames, 80), noise behind the clips too, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(lengths), max(lengths), 80, generator=generator)
    return features, (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()


def read(encoder, features, mask=None):
    with torch.no_grad():
        output, frames_mask = encoder(features, mask)
    return output.last_hidden_state, frames_mask


def assert_close(value, expected, tolerance=1e-5):
    torch.testing.assert_close(value, expected, atol=tolerance, rtol=0.0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_full_window_equals_the_stock_encoder(encoder, implementation, masked):
    ours = encoder(1500)
    ours.encoder.set_attn_implementation(implementation)
    stock = WhisperEncoder._from_config(ours.encoder.config, attn_implementation=implementation).eval()
    stock.load_state_dict(ours.encoder.state_dict())
    features, mask = mel(3000)
    with torch.no_grad():
        expected = stock(features.transpose(1, 2)).last_hidden_state
    frames, frames_mask = read(ours, features, mask if masked else None)
    assert_close(frames, expected)
    assert frames_mask.sum() == 1500


def test_a_padded_window_is_heard_whole_as_in_the_stock_encoder(encoder):
    """`encoder_context="padded"`: silence behind the clip is attended to; only the mask says which frames are used."""
    ours = encoder(1500, encoder_context="padded")
    stock = WhisperEncoder._from_config(ours.encoder.config).eval()
    stock.load_state_dict(ours.encoder.state_dict())
    features, mask = mel(3000)
    mask[:, 300:] = 0
    with torch.no_grad():
        expected = stock(features.transpose(1, 2)).last_hidden_state
    frames, frames_mask = read(ours, features, mask)
    assert_close(frames, expected)
    assert frames_mask.sum() == 150


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_batch_equals_its_clips(encoder, implementation):
    ours = encoder()
    ours.encoder.set_attn_implementation(implementation)
    lengths = (1, 2, 37, 64, 99, 100)
    features, mask = mel(*lengths)
    frames, frames_mask = read(ours, features, mask)
    assert frames.shape == (6, 50, 16)
    assert frames_mask.sum(dim=1).tolist() == [1, 1, 19, 32, 50, 50]
    for row, length in enumerate(lengths):
        alone, _ = read(ours, features[row : row + 1, :length])
        assert alone.shape[1] == frames_mask[row].sum()
        assert_close(frames[row, : alone.shape[1]], alone[0])


def test_padding_alone_changes_what_the_stock_encoder_says(encoder):
    """The defect that the mask cures: the same clip, silence behind it, another embedding."""
    ours = encoder()
    features, mask = mel(40, 100)
    frames, _ = read(ours, features, mask)
    unmasked, _ = read(ours, features)
    assert (frames[0, :20] - unmasked[0, :20]).abs().max() > 1e-2


@pytest.mark.parametrize("context", ["clip", "padded"])
def test_a_long_recording_is_read_in_overlapping_windows(encoder, context):
    ours = encoder(encoder_context=context)  # windows of 50 frames that overlap by 25, of which 12 and 13 are dropped
    lengths = (7, 100, 101, 149, 151, 401)
    features, mask = mel(*lengths)
    # A padded batch holds silence behind each clip; the extractor's tests hold that.
    silence = torch.maximum(features.masked_fill(mask[..., None] == 0, -9.0).amax((1, 2)) - 2.0, torch.tensor(-1.5))
    features = torch.where(mask[..., None] == 1, features, silence[:, None, None])
    frames, frames_mask = read(ours, features, mask)
    assert frames.shape == (6, 201, 16)
    assert frames_mask.sum(dim=1).tolist() == [4, 50, 51, 75, 76, 201]
    assert bool(frames.isfinite().all())

    for row, length in enumerate(lengths):
        alone_features = features[row : row + 1, :length] if context == "clip" else features[row : row + 1]
        alone, _ = read(ours, alone_features, mask[row : row + 1, : alone_features.shape[1]])
        real = frames_mask[row].sum()
        assert_close(frames[row, :real], alone[0, :real])
        assert not frames[row, real:].any()

    for first in (0, 25, 100, 150):  # the middle of a window is that of the window read alone
        window, _ = read(ours, features[5:6, 2 * first : 2 * first + 100])
        assert_close(frames[5, first + 12 : first + 37], window[0, 12:37])


def test_every_frame_of_a_long_recording_is_seen_once_at_whispers_size(encoder):
    """31.3 s on Whisper's 1500 positions: windows from frame 0 and 1200, joined at frame 1350."""
    ours = encoder(1500)
    features, mask = mel(3130)
    frames, frames_mask = read(ours, features, mask)
    assert frames.shape == (1, 1565, 16)
    assert frames_mask.sum() == 1565
    head, _ = read(ours, features[:, :3000])
    tail, _ = read(ours, features[:, 2400:])
    assert_close(frames[0, :1350], head[0, :1350])
    assert_close(frames[0, 1350:], tail[0, 150:])


@pytest.mark.parametrize("training", [False, True])
def test_a_frozen_encoder_stays_as_it_is(tiny_config, training):
    config = tiny_config({"dropout": 0.5, "encoder_layerdrop": 0.5})
    model = CAMuLeNetModel(config).train(training)
    ours = model.speech_encoder
    assert not any(module.training for module in ours.modules())
    assert model.encoder_projection.training == training
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    features, mask = mel(60)
    output, _ = ours(features.requires_grad_(), mask)
    assert not output.last_hidden_state.requires_grad
    assert torch.equal(output.last_hidden_state, ours(features, mask)[0].last_hidden_state)


def test_an_unfrozen_encoder_trains(tiny_config):
    model = CAMuLeNetModel(tiny_config({"dropout": 0.5}, trainable_encoder_layers=-1))
    ours = model.train().speech_encoder
    frozen = [name for name, parameter in ours.named_parameters() if not parameter.requires_grad]
    assert frozen == ["encoder.embed_positions.weight"]  # Whisper's sinusoids
    features, mask = mel(60)
    first, second = (ours(features, mask)[0].last_hidden_state for _ in range(2))
    assert first.requires_grad
    assert not torch.equal(first, second)  # dropout
    assert not any(module.training for module in model.eval().speech_encoder.modules())


def test_another_number_of_mel_bins_is_refused(encoder):
    with pytest.raises(ValueError, match="80 mel bins, got 128.*feature_size=80"):
        encoder()(torch.zeros(1, 10, 128))


# Pre-trained weights


@pytest.fixture
def whisper_config(tiny_config):
    return WhisperConfig(**{**tiny_config().encoder_config.to_dict(), "max_source_positions": 60, "num_mel_bins": 96})


@pytest.mark.parametrize(
    "whisper_class", [WhisperForConditionalGeneration, WhisperModel, WhisperForAudioClassification, WhisperEncoder]
)
@pytest.mark.parametrize("frozen", [True, False])
def test_every_encoder_weight_comes_from_the_checkpoint(tiny_config, whisper_config, tmp_path, whisper_class, frozen):
    whisper = rough(whisper_class(whisper_config))
    whisper.save_pretrained(tmp_path)
    model = CAMuLeNetForAudioClassification.from_encoder_pretrained(
        str(tmp_path), tiny_config(trainable_encoder_layers=0 if frozen else -1)
    )

    encoder = model.camulenet.speech_encoder.encoder
    stock = whisper if whisper_class is WhisperEncoder else whisper.base_model.get_submodule("encoder")
    expected = stock.state_dict()
    assert sorted(encoder.state_dict()) == sorted(expected)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, expected[name]), name
    # What was around the encoder is what a checkpoint of these sizes needs.
    assert model.config.encoder_config.num_mel_bins == 96
    assert model.camulenet.feature_extractor.feature_size == 96
    trainable = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert trainable == (set() if frozen else set(dict(encoder.named_parameters())) - {"embed_positions.weight"})
    assert encoder.training == (model.training and not frozen)

    wave = 0.1 * torch.randn(8000)
    features = CAMuLeNetFeatureExtractor.from_model_config(model.config)(wave, return_tensors="pt")
    logits = model.eval()(**features).logits
    model.save_pretrained(tmp_path / "camulenet")
    again = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "camulenet")
    assert_close(again(**features).logits, logits, 1e-6)


def test_a_half_precision_checkpoint_trains_in_single_precision(tiny_config, whisper_config, tmp_path):
    """Whisper-large-v3 is stored in float16: its values are taken, its precision is not."""
    whisper = rough(WhisperModel(whisper_config)).half()
    whisper.save_pretrained(tmp_path)
    model = CAMuLeNetForAudioClassification.from_encoder_pretrained(tmp_path, tiny_config())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    encoder = model.camulenet.speech_encoder.encoder
    for name, value in whisper.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value.float()), name
    model.save_pretrained(tmp_path / "camulenet")
    again = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "camulenet")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


def test_half_precision_on_request_is_the_whole_models(tiny_config, whisper_config, tmp_path):
    rough(WhisperModel(whisper_config)).save_pretrained(tmp_path)
    model = CAMuLeNetForAudioClassification.from_encoder_pretrained(tmp_path, tiny_config(), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "camulenet")
    again = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "camulenet")
    for either in (model, again):
        assert {parameter.dtype for parameter in either.parameters()} == {torch.bfloat16}
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_the_stored_precision_of_an_encoder_config_is_not_the_models(tiny_config):
    config = tiny_config({"dtype": "float16"})
    assert {parameter.dtype for parameter in CAMuLeNetModel(config).parameters()} == {torch.float32}


def test_a_checkpoint_that_lacks_weights_is_refused(tiny_config, whisper_config, tmp_path):
    WhisperModel(whisper_config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    missing = next(name for name in weights if "encoder.layers.1.fc1" in name)
    save_file({k: v for k, v in weights.items() if k != missing}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks encoder weights.*layers.1.fc1"):
        CAMuLeNetModel.from_encoder_pretrained(tmp_path, tiny_config())


def test_a_directory_that_is_not_there_is_named(tiny_config, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        CAMuLeNetModel.from_encoder_pretrained(str(tmp_path / "nowhere"), tiny_config())
