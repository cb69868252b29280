"""Feature extractor: the values of Whisper's and torchaudio's front ends, at any length and in any batch."""

import json

import numpy as np
import pytest
import torch
import torchaudio
from transformers import (
    AutoFeatureExtractor,
    DataCollatorWithPadding,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from modeling_camulenet import CAMuLeNetFeatureExtractor

RATE = 16000
WINDOW = 30 * RATE
CONTEXTS = ("clip", "padded")
RELEASED = {"window": "hamming", "pad_mode": "constant", "window_ms": 2.5, "hop_ms": 0.625, "n_fft": 800}


def noise(length: int, seed: int = 0, scale: float = 0.1) -> torch.Tensor:
    return scale * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def assert_close(value, expected, scale: float = 1.0, tolerance: float = 1e-5):
    torch.testing.assert_close(value, expected, atol=tolerance * scale, rtol=0.0)


# Whisper's log-mel


@pytest.mark.parametrize(
    ("length", "num_mel_bins"),
    [
        (1, 80),
        (160, 80),
        (401, 128),
        (48077, 80),
        (48000, 128),
        (WINDOW - 1, 80),
        (WINDOW, 128),
        (WINDOW + 1, 80),
        (31 * RATE + 77, 128),
    ],
)
@pytest.mark.parametrize("context", CONTEXTS)
def test_log_mel_is_whispers(length, num_mel_bins, context):
    clip = noise(length)
    whisper = WhisperFeatureExtractor(feature_size=num_mel_bins)(
        clip.numpy(), sampling_rate=RATE, truncation=False, return_attention_mask=True, return_tensors="pt"
    )
    expected, expected_mask = whisper.input_features[0].T, whisper.attention_mask[0].long()

    extractor = CAMuLeNetFeatureExtractor(num_mel_bins, branches=[], encoder_context=context)
    features = extractor(clip, return_tensors="pt")
    frames = len(expected_mask) if context == "padded" else int(expected_mask.sum())
    assert features["input_features"].shape == (1, frames, num_mel_bins)
    assert_close(features["input_features"][0], expected[:frames])
    assert torch.equal(features["attention_mask"][0], expected_mask[:frames])


@pytest.mark.parametrize("context", CONTEXTS)
def test_log_mel_of_silence_is_whispers(context):
    clip = np.zeros(RATE, dtype=np.float32)
    expected = WhisperFeatureExtractor()(clip, sampling_rate=RATE, return_tensors="pt").input_features[0].T
    extractor = CAMuLeNetFeatureExtractor(branches=[], encoder_context=context)
    log_mel = extractor(clip, return_tensors="pt")["input_features"][0]
    assert_close(log_mel, expected[: len(log_mel)])
    assert log_mel.unique().tolist() == [-1.5]


# The inputs of wav2vec 2.0's family and of wav2vec2-bert


@pytest.mark.parametrize("do_normalize", [True, False])
def test_waveforms_are_those_of_the_stock_extractor(do_normalize):
    waves = [0.05 + noise(length, length) for length in (1, 560, RATE, 48077)]
    waves += [torch.zeros(1000), torch.full((500,), 1e-4)]
    stock = Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True)
    expected = stock([wave.numpy() for wave in waves], sampling_rate=RATE, padding=True, return_tensors="pt")
    extractor = CAMuLeNetFeatureExtractor(1, encoder_input="waveform", do_normalize=do_normalize, branches=[])
    features = extractor(waves, return_tensors="pt")
    assert features["input_features"].shape == (6, 48077)
    assert_close(features["input_features"], expected.input_values)
    assert torch.equal(features["attention_mask"], expected.attention_mask.long())


@pytest.mark.parametrize("padding_value", [0.0, 1.0])  # w2v-bert-2.0 pads with 1
def test_filter_banks_are_those_of_the_stock_extractor(padding_value):
    # 2, 3, 4, 98 and 298 frames of 10 ms; an odd last one is dropped.
    waves = [noise(length, length) * torch.linspace(0.01, 1.0, length) for length in (560, 720, 880, RATE, 48077)]
    stock = SeamlessM4TFeatureExtractor(padding_value=padding_value)
    expected = stock([wave.numpy() for wave in waves], sampling_rate=RATE, return_tensors="pt")
    features = CAMuLeNetFeatureExtractor(80, encoder_input="fbank", branches=[])(waves, return_tensors="pt")
    mask = features["attention_mask"]
    assert mask.sum(dim=1).tolist() == [1, 1, 2, 49, 149]
    assert torch.equal(mask, expected.attention_mask.long())
    assert_close(features["input_features"], expected.input_features * mask[..., None], 1.0, 1e-4)


@pytest.mark.parametrize("length", [1, 399, 559])
def test_filter_banks_of_a_clip_of_less_than_a_frame(length):
    """The stock extractor fails there: silence behind the clip completes one frame."""
    wave = noise(length)
    extractor = CAMuLeNetFeatureExtractor(80, encoder_input="fbank", branches=[])
    features = extractor(wave, return_tensors="pt")
    assert features["input_features"].shape == (1, 1, 160)
    assert bool(features["input_features"].isfinite().all())
    completed = extractor(torch.cat((wave, torch.zeros(560 - length))), return_tensors="pt")
    assert_close(features["input_features"], completed["input_features"])


@pytest.mark.parametrize("encoder_input", ["fbank", "waveform"])
def test_a_batch_of_any_encoders_input_equals_its_clips(encoder_input, tmp_path):
    extractor = CAMuLeNetFeatureExtractor(80 if encoder_input == "fbank" else 1, encoder_input=encoder_input)
    waves = [noise(length, length) for length in (1, 1600, 9280, 3 * RATE)]
    batch = extractor(waves, return_tensors="pt")
    for row, wave in enumerate(waves):
        alone = extractor(wave, return_tensors="pt")
        frames = int(alone["attention_mask"].sum())
        assert frames == batch["attention_mask"][row].sum()
        assert_close(batch["input_features"][row, :frames], alone["input_features"][0])
        assert not batch["input_features"][row, frames:].any()
    extractor.save_pretrained(tmp_path)
    loaded = CAMuLeNetFeatureExtractor.from_pretrained(tmp_path)
    assert torch.equal(loaded(waves, return_tensors="pt")["input_features"], batch["input_features"])
    raw = CAMuLeNetFeatureExtractor.from_pretrained(tmp_path, return_raw=True)(waves, return_tensors="pt")
    assert raw["input_values"].shape == raw["attention_mask"].shape == (4, 3 * RATE)


# torchaudio's mel spectrogram and MFCCs


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        (
            {"decibel": False},
            {"n_fft": 400, "hop_length": 160, "n_mels": 128, "norm": "slaney", "mel_scale": "slaney"},
        ),
        (
            {"decibel": False, "num_mel_bins": 64, "mel_scale": "htk", "mel_norm": None, "n_fft": 512},
            {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 64},
        ),
        (
            {"decibel": False, **RELEASED},
            {
                "n_fft": 800,
                "win_length": 40,
                "hop_length": 10,
                "n_mels": 128,
                "norm": "slaney",
                "mel_scale": "slaney",
                "window_fn": torch.hamming_window,
                "pad_mode": "constant",
            },
        ),
    ],
    ids=["default", "htk", "released"],
)
def test_mel_spectrogram_is_torchaudios(settings, same):
    clip = noise(2 * RATE + 77)
    power = torchaudio.transforms.MelSpectrogram(RATE, **same)(clip)
    decibel = torchaudio.transforms.AmplitudeToDB("power", 80.0)(power)

    features = CAMuLeNetFeatureExtractor(branches=["spectrogram"], spectrogram=settings)(clip, return_tensors="pt")
    assert_close(features["spectrogram"][0], power.T, power.max(), 1e-4)
    assert bool(features["spectrogram_mask"].all())
    extractor = CAMuLeNetFeatureExtractor(branches=["spectrogram"], spectrogram={**settings, "decibel": True})
    assert_close(extractor(clip, return_tensors="pt")["spectrogram"][0], decibel.T, decibel.abs().max(), 1e-4)


@pytest.mark.parametrize(
    ("settings", "num_mfcc", "same"),
    [
        ({}, 40, {"n_fft": 400, "hop_length": 160, "n_mels": 80}),
        ({"num_mfcc": 13, "num_mel_bins": 40}, 13, {"n_fft": 400, "hop_length": 160, "n_mels": 40}),
        (
            {"window_ms": 128.0, "num_mel_bins": 128, "mel_norm": "slaney", "pad_mode": "constant"},
            40,
            {"n_fft": 2048, "hop_length": 160, "n_mels": 128, "norm": "slaney", "pad_mode": "constant"},
        ),
    ],
    ids=["default", "13", "released"],
)
def test_mfcc_is_torchaudios(settings, num_mfcc, same):
    clip = noise(2 * RATE + 77)
    expected = torchaudio.transforms.MFCC(RATE, num_mfcc, melkwargs=same)(clip)
    features = CAMuLeNetFeatureExtractor(branches=["mfcc"], mfcc=settings)(clip, return_tensors="pt")
    assert_close(features["mfcc"][0], expected.T, expected.abs().max(), 1e-4)
    assert bool(features["mfcc_mask"].all())


def test_decibels_end_80_below_the_loudest_cell_of_each_clip():
    click = torch.zeros(RATE)
    click[:400] = noise(400)
    loud_and_soft = CAMuLeNetFeatureExtractor(branches=["spectrogram"])([100 * click, click], return_tensors="pt")
    for decibels in loud_and_soft["spectrogram"]:
        assert float(decibels.max() - decibels.min()) == pytest.approx(80.0, abs=1e-3)
    assert_close(loud_and_soft["spectrogram"][0] - 40.0, loud_and_soft["spectrogram"][1], 60.0, 1e-4)


def test_milliseconds_are_milliseconds():
    extractor = CAMuLeNetFeatureExtractor()
    assert extractor.hop_length("spectrogram") == extractor.hop_length("mfcc") == 160
    features = extractor(noise(RATE), return_tensors="pt")
    assert features["spectrogram"].shape == (1, 101, 128)
    assert features["mfcc"].shape == (1, 101, 40)
    assert features["input_features"].shape == (1, 100, 80)
    # A click of one sample is heard by the frames whose 400-sample window covers it, in both branches.
    click = torch.zeros(RATE)
    click[8000] = 1.0
    spectrogram = CAMuLeNetFeatureExtractor(spectrogram={"decibel": False})(click, return_tensors="pt")["spectrogram"]
    assert spectrogram[0].sum(dim=1).nonzero().flatten().tolist() == [49, 50, 51]


# Batches


@pytest.mark.parametrize(
    ("arguments", "longest_s"),
    [
        ({}, 31),
        ({"encoder_context": "padded"}, 31),
        ({"spectrogram": RELEASED, "mfcc": {"pad_mode": "constant", "hop_ms": 40.0}}, 4),
        ({"max_duration_s": 1.5}, 31),
        ({"max_duration_s": 1.5, "pad_to_max_duration": True, "encoder_context": "padded"}, 31),
        ({"spectrogram": {"window_ms": 25.0625}, "mfcc": {"window_ms": 25.0625}}, 4),
        ({"level_dbfs": -25.0}, 31),
    ],
    ids=["clip", "padded", "released", "cut", "fixed", "odd-window", "level"],
)
def test_a_batch_equals_its_clips(arguments, longest_s):
    lengths = [1, 1600, 9280, 10240, 48000, longest_s * RATE]
    waves = [noise(length, seed) for seed, length in enumerate(lengths)]
    extractor = CAMuLeNetFeatureExtractor(**arguments)
    batch = extractor(waves, return_tensors="pt")
    assert list(batch) == extractor.model_input_names
    for row, wave in enumerate(waves):
        alone = extractor(wave, return_tensors="pt")
        for name, mask_name in (
            ("input_features", "attention_mask"),
            ("spectrogram", "spectrogram_mask"),
            ("mfcc", "mfcc_mask"),
        ):
            mask = batch[mask_name][row]
            assert int(mask.sum()) == int(alone[mask_name].sum()) >= 1
            frames = alone[name].shape[1]
            scale = max(float(alone[name].abs().max()), 1.0)
            assert_close(batch[name][row, :frames], alone[name][0], scale)
            if name != "input_features" or extractor.encoder_context == "clip":
                assert not batch[name][row][mask == 0].any()


@pytest.mark.parametrize("samples_at_a_time", [1, 40000, 10**9])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_batch_in_parts_equals_the_whole(monkeypatch, context, samples_at_a_time):
    """The extractor computes a few clips at a time, the model all of its batch at once."""
    waves = [noise(length, seed) for seed, length in enumerate((9280, 31 * RATE, 10240, 20000, 20000, 1))]
    lengths = torch.tensor([len(wave) for wave in waves])
    extractor = CAMuLeNetFeatureExtractor(encoder_context=context)
    whole = extractor.extract(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)
    monkeypatch.setattr("modeling_camulenet.feature_extraction_camulenet.SAMPLES_AT_A_TIME", samples_at_a_time)
    parts = extractor(waves, return_tensors="pt")
    assert list(parts) == list(whole)
    for name, value in parts.items():
        assert value.dtype == whole[name].dtype
        assert_close(value, whole[name], max(float(whole[name].abs().max()), 1.0))


def test_behind_a_clip_of_a_padded_batch_lies_silence():
    """Nothing that Whisper mirrors at 30 s returns behind a clip that is batched with a recording of 62 s."""
    extractor = CAMuLeNetFeatureExtractor(encoder_context="padded", branches=[])
    features = extractor([noise(2 * RATE), noise(33 * RATE + 77), noise(62 * RATE)], return_tensors="pt")
    assert features["attention_mask"].sum(dim=1).tolist() == [200, 3300, 6200]
    log_mel = features["input_features"]
    for row, end in ((0, 2 * 100 + 2), (1, 33 * 100)):
        silence = max(float(log_mel[row].max()) - 2.0, -1.5)
        assert_close(log_mel[row, end:], torch.full_like(log_mel[row, end:], silence))


@pytest.mark.parametrize("arguments", [{}, {"max_duration_s": 1.0, "pad_to_max_duration": True}])
def test_what_lies_behind_a_clip_is_not_heard(arguments):
    extractor = CAMuLeNetFeatureExtractor(**arguments)
    waves, lengths = noise(2 * 8000).view(2, 8000), torch.tensor([8000, 5000])
    expected = extractor.extract(waves * (torch.arange(8000) < lengths[:, None]), lengths)
    for name, value in extractor.extract(waves, lengths).items():
        assert torch.equal(value, expected[name]), name


# Audio in


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_length_and_pitch(rate):
    sine = np.sin(2 * np.pi * 440.0 * np.arange(rate) / rate).astype(np.float32)
    wave = CAMuLeNetFeatureExtractor().prepare_waveform(sine, rate)
    assert len(wave) == RATE
    assert wave.dtype == np.float32
    assert int(np.abs(np.fft.rfft(wave)).argmax()) == 440  # bins of 1 Hz
    expected = np.sin(2 * np.pi * 440.0 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(wave[1000:-1000], expected[1000:-1000], atol=2e-3)


def test_one_sample_at_a_high_rate_stays_one_sample():
    assert CAMuLeNetFeatureExtractor().prepare_waveform(np.array([0.5], dtype=np.float32), 48000).tolist() == [0.5]


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (np.array([0, 16384, -32768], dtype=np.int16), [0.0, 0.5, -1.0]),
        (np.array([0, 2**30, -(2**31)], dtype=np.int32), [0.0, 0.5, -1.0]),
        (np.array([128, 192, 0], dtype=np.uint8), [0.0, 0.5, -1.0]),  # 8-bit WAV is offset by 128
        (np.array([0.0, 0.5, -1.0], dtype=np.float64), [0.0, 0.5, -1.0]),
        (np.array([0.0, 0.5, -1.0], dtype=np.float16), [0.0, 0.5, -1.0]),
        ([0.0, 0.5, -1.0], [0.0, 0.5, -1.0]),
        ((0.0, 0.5, -1.0), [0.0, 0.5, -1.0]),
        (torch.tensor([0.0, 0.5, -1.0]), [0.0, 0.5, -1.0]),
        (torch.tensor([0, 16384, -32768], dtype=torch.int16), [0.0, 0.5, -1.0]),
        (torch.tensor([0.0, 0.5, -1.0], requires_grad=True), [0.0, 0.5, -1.0]),
        (np.array([[0.0, 1.0, -1.0], [0.0, 0.0, -1.0]]), [0.0, 0.5, -1.0]),  # (channels, samples)
        (np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, -1.0]]), [0.0, 0.5, -1.0]),  # (samples, channels), soundfile's
        (np.array([[0, 0, -32768], [0, 32767, -32768]], dtype=np.int16), [0.0, 32767 / 65536, -1.0]),
        (np.array([[0.25]]), [0.25]),
    ],
)
def test_audio_becomes_mono_float32(audio, expected):
    wave = CAMuLeNetFeatureExtractor().prepare_waveform(audio)
    assert wave.dtype == np.float32
    assert wave.tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ([], "empty"),
        (np.zeros((2, 0)), "empty"),
        ([0.0, float("nan")], "NaN or infinite"),
        (np.array([np.inf, 0.0]), "NaN or infinite"),
        (np.zeros((1, 1, 100)), r"\(samples,\) or \(channels, samples\), got \(1, 1, 100\)"),
        ([0, 16384, -32768], "int64"),  # a list of integers has lost its scale
    ],
)
def test_audio_that_is_none_is_refused(audio, message):
    extractor = CAMuLeNetFeatureExtractor()
    with pytest.raises(ValueError, match=message):
        extractor.prepare_waveform(audio)
    with pytest.raises(ValueError, match=message):
        extractor([np.zeros(100), audio])


def test_audio_that_may_only_be_read_is_copied():
    """torch would share its memory, write where it must not, and warns of that."""
    audio = np.frombuffer(np.array([0.0, 0.5, -1.0], dtype=np.float32).tobytes(), np.float32)
    wave = CAMuLeNetFeatureExtractor().prepare_waveform(audio)
    assert wave.flags.writeable and wave.tolist() == [0.0, 0.5, -1.0]
    assert CAMuLeNetFeatureExtractor().prepare_waveform(wave) is wave


def test_kinds_of_batches():
    first, second = noise(1000, 1), noise(700, 2)
    extractor = CAMuLeNetFeatureExtractor(return_raw=True)
    for batch in (
        [first, second],
        (first.numpy(), second.numpy()),
        [first.tolist(), second.tolist()],
    ):
        raw = extractor(batch, return_tensors="pt")
        assert raw["input_values"].shape == (2, 1000)
        assert_close(raw["input_values"][1, :700], second, 1.0, 1e-7)
        assert raw["attention_mask"].sum(dim=1).tolist() == [1000, 700]
    # A two-dimensional array is one recording of several channels.
    assert extractor(torch.stack((first[:700], second)), return_tensors="pt")["input_values"].shape == (1, 700)
    # Without return_tensors: NumPy.
    assert isinstance(CAMuLeNetFeatureExtractor()(first)["mfcc"], np.ndarray)


def test_padding_false_is_refused_where_features_are_computed():
    with pytest.raises(ValueError, match="pads a batch"):
        CAMuLeNetFeatureExtractor()([noise(100)], padding=False)


# Raw waveforms for the model


def test_raw_waveforms_are_padded_by_the_stock_collator():
    """The way of transformers' run_audio_classification.py, which keeps only `model_input_names[0]` of a clip."""
    extractor = CAMuLeNetFeatureExtractor(return_raw=True)
    name = extractor.model_input_names[0]
    assert name == "input_values"
    waves = [noise(1000, 1).numpy(), noise(700, 2).numpy()]
    values = extractor(waves, sampling_rate=RATE).get(name)
    assert [len(value) for value in values] == [1000, 700]
    collate = DataCollatorWithPadding(extractor)
    batch = collate([{name: value, "labels": label} for value, label in zip(values, (3, 1))])
    assert batch["labels"].tolist() == [3, 1]
    assert batch["attention_mask"].sum(dim=1).tolist() == [1000, 700]
    expected = extractor(waves, return_tensors="pt")
    assert torch.equal(batch["input_values"], expected["input_values"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    cut = extractor(waves, max_length=600, truncation=True, return_tensors="pt")
    assert torch.equal(cut["input_values"], expected["input_values"][:, :600])


def test_extract_is_the_same_under_autocast_and_after_inference_mode():
    extractor = CAMuLeNetFeatureExtractor(mfcc={"num_mel_bins": 77}, spectrogram={"num_mel_bins": 91})
    waves, lengths = noise(2 * 8000).view(2, 8000), torch.tensor([8000, 5000])
    with torch.inference_mode():
        expected = extractor.extract(waves, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        features = extractor.extract(waves, lengths)
    for name, value in expected.items():
        assert features[name].dtype == value.dtype
        assert torch.equal(features[name], value), name
    waves.requires_grad_()  # what a saliency map needs
    extractor.extract(waves, lengths)["mfcc"].sum().backward()
    assert bool(waves.grad[:, :5000].abs().sum() > 0)
    assert not waves.grad[1, 5000:].any()


# Settings


def test_max_duration_cuts_and_pads():
    wave = noise(RATE)
    cut = CAMuLeNetFeatureExtractor(max_duration_s=0.5)(wave, return_tensors="pt")
    half = CAMuLeNetFeatureExtractor()(wave[:8000], return_tensors="pt")
    assert torch.equal(cut["input_features"], half["input_features"])
    for name in ("spectrogram", "spectrogram_mask", "mfcc", "mfcc_mask"):
        assert_close(cut[name], half[name], 100.0)

    released = CAMuLeNetFeatureExtractor(max_duration_s=5.005, pad_to_max_duration=True)
    padded = released([wave, noise(6 * RATE)], return_tensors="pt")
    silence = torch.cat((wave, torch.zeros(80080 - RATE)))
    expected = CAMuLeNetFeatureExtractor()(silence, return_tensors="pt")
    for name in ("spectrogram", "spectrogram_mask", "mfcc", "mfcc_mask"):
        assert padded[name].shape[:2] == (2, 501)
        assert_close(padded[name][:1], expected[name], 100.0)


def test_level_is_the_root_mean_square_of_every_clip():
    near, silent = noise(RATE, scale=0.3), torch.zeros(800)
    extractor = CAMuLeNetFeatureExtractor(level_dbfs=-25.0)
    level = extractor([near, 0.01 * near, silent], return_tensors="pt")
    scaled = near * 10 ** (-25 / 20) / near.square().mean().sqrt()
    expected = CAMuLeNetFeatureExtractor()([scaled, scaled, silent], return_tensors="pt")
    for name, tensor in expected.items():
        assert_close(level[name], tensor, max(float(tensor.abs().max()), 1.0))


def test_save_and_load(tmp_path):
    arguments = {
        "feature_size": 128,
        "encoder_context": "padded",
        "branches": ["mfcc"],
        "spectrogram": {"num_mel_bins": 64},
        "mfcc": {"hop_ms": 40.0},
        "max_duration_s": 4.0,
        "level_dbfs": -20.0,
        "pad_to_max_duration": True,
    }
    extractor = CAMuLeNetFeatureExtractor(**arguments)
    extractor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["mfcc"]["hop_ms"] == 40.0
    assert saved["auto_map"] == {"AutoFeatureExtractor": "feature_extraction_camulenet.CAMuLeNetFeatureExtractor"}
    wave = noise(RATE)
    expected = extractor(wave, return_tensors="pt")
    for loaded in (
        CAMuLeNetFeatureExtractor.from_pretrained(tmp_path),
        AutoFeatureExtractor.from_pretrained(tmp_path, trust_remote_code=False),
    ):
        assert loaded.to_dict() == {**extractor.to_dict(), "auto_map": saved["auto_map"]}
        features = loaded(wave, return_tensors="pt")
        assert all(torch.equal(features[name], value) for name, value in expected.items())
    raw = CAMuLeNetFeatureExtractor.from_pretrained(tmp_path, return_raw=True)
    assert raw.model_input_names == ["input_values", "attention_mask"]
    raw.save_pretrained(tmp_path)
    assert CAMuLeNetFeatureExtractor.from_pretrained(tmp_path).model_input_names == raw.model_input_names
    back = CAMuLeNetFeatureExtractor.from_pretrained(tmp_path, return_raw=False)
    assert back.model_input_names == CAMuLeNetFeatureExtractor.model_input_names
    assert torch.equal(back(wave, return_tensors="pt")["mfcc"], expected["mfcc"])


def test_from_model_config(tiny_config):
    config = tiny_config(
        encoder_config={"num_mel_bins": 128},
        encoder_context="padded",
        branches=["mfcc"],
        feature_extractor={"mfcc": {"num_mfcc": 20}, "max_duration_s": 3.0},
    )
    extractor = CAMuLeNetFeatureExtractor.from_model_config(config, return_raw=True)
    assert (extractor.feature_size, extractor.encoder_context, extractor.branches) == (128, "padded", ["mfcc"])
    assert (extractor.mfcc["num_mfcc"], extractor.max_duration_s, extractor.return_raw) == (20, 3.0, True)
    with pytest.raises(ValueError, match="fixed_duration"):
        CAMuLeNetFeatureExtractor.from_model_config(tiny_config(feature_extractor={"fixed_duration": 5.0}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spectrogram": {"win_length": 400}}, "win_length.*hop_ms"),
        ({"mfcc": {"decibel": True}}, "decibel.*num_mfcc"),
        ({"mfcc": {"window": "hanning"}}, "window.*'hanning'.*hann, hamming"),
        ({"spectrogram": {"pad_mode": "zeros"}}, "pad_mode.*'zeros'.*reflect, constant"),
        ({"encoder_input": "mel"}, "encoder_input.*'mel'.*log_mel, fbank, waveform"),
        ({"encoder_context": "half"}, "encoder_context.*'half'.*clip, padded"),
        ({"branches": ["pitch"]}, "branches.*pitch.*spectrogram, mfcc"),
        ({"level_dbfs": 25.0}, "level_dbfs.*25.0.*at most"),
        ({"pad_to_max_duration": True}, "pad_to_max_duration.*True; it needs `max_duration_s`"),
    ],
)
def test_unknown_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CAMuLeNetFeatureExtractor(**arguments)
