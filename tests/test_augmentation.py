"""Augmentation: what is masked, with what, and how much; what a frequency response does to each feature."""

import numpy as np
import pytest
import torch

from modeling_camulenet import CAMuLeNetFeatureExtractor
from ser_protocol.augmentation import RandomEqualizer, SpecAugment, training_augmentation

FRAMES, BINS = 83, 40


@pytest.fixture
def features():
    return torch.randn(FRAMES, BINS, generator=torch.Generator().manual_seed(0))


def masked(features, seed, **arguments):
    torch.manual_seed(seed)
    item = {"mfcc": features, "mfcc_mask": torch.ones(len(features)), "labels": torch.tensor(3)}
    result = SpecAugment(**arguments)(item)
    assert set(result) == set(item) and all(result[name] is item[name] for name in ("mfcc_mask", "labels"))
    return result["mfcc"]


def test_a_seed_decides(features):
    torch.testing.assert_close(masked(features, 1), masked(features, 1), rtol=0, atol=0)
    assert not torch.equal(masked(features, 1), masked(features, 2))


def test_masks_are_whole_rows_and_columns_of_the_mean_within_the_share(features):
    before = features.clone()
    widest = {"frames": 0, "bins": 0}
    for seed in range(200):
        result = masked(features, seed, num_masks=1, max_share=0.2)
        changed = result != features
        assert result.shape == features.shape
        torch.testing.assert_close(result[changed], features.mean().expand(int(changed.sum())))
        frames, bins = changed.all(dim=1), changed.all(dim=0)
        assert torch.equal(changed, frames[:, None] | bins[None, :])  # nothing but whole frames and bins
        for name, mask in (("frames", frames), ("bins", bins)):
            places = mask.nonzero().flatten()
            assert len(places) == 0 or len(places) == int(places[-1] - places[0]) + 1  # one stretch
            widest[name] = max(widest[name], len(places))
    assert widest == {"frames": int(0.2 * FRAMES), "bins": int(0.2 * BINS)}
    assert torch.equal(features, before)


def test_masks_add_up(features):
    shares = [float((masked(features, seed) != features).float().mean()) for seed in range(100)]
    # Two masks of at most 15 % each way leave at least 0.7 * 0.7 of the cells.
    assert 0.15 < sum(shares) / len(shares) < 0.4
    assert max(shares) <= 1 - 0.7 * 0.7 + 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 5)])
def test_short_clips_lose_nothing_they_cannot_spare(shape):
    features = torch.arange(1.0, 1 + shape[0] * shape[1]).view(shape)
    for seed in range(20):
        result = masked(features, seed)
        frames = (result != features).all(dim=1)
        assert result.shape == shape and int(frames.sum()) <= int(0.15 * shape[0]) * 2


def equalized(seed, extractor, item, **arguments):
    torch.manual_seed(seed)
    return RandomEqualizer(extractor, **{"deviation_db": 3.0, **arguments})(item)


@pytest.mark.parametrize("decibel", [True, False])
def test_a_frequency_response_is_what_a_filter_does_to_the_features(decibel):
    """
    The features of audio through a filter: all its power in each mel bin scaled alike, here by scaling the power of
    each bin and computing log-mel and MFCCs from that by their formulas.
    """
    extractor = CAMuLeNetFeatureExtractor(
        spectrogram={"num_mel_bins": 20, "decibel": decibel}, mfcc={"num_mel_bins": 20, "num_mfcc": 6}
    )
    clip = 0.1 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    item = {name: tensor[0] for name, tensor in extractor(clip, return_tensors="pt").items()}
    item |= {"labels": torch.tensor(1), "gender_labels": torch.tensor(0)}
    before = {name: tensor.clone() for name, tensor in item.items()}
    result = equalized(5, extractor, item, num_cosines=3)
    torch.manual_seed(5)
    tilt = 3.0 * torch.randn(3)

    def response(num_bins):
        place = (np.arange(num_bins) + 0.5) / num_bins
        return torch.tensor(sum(float(tilt[k - 1]) * np.cos(np.pi * k * place) for k in (1, 2, 3)), dtype=torch.float)

    spectrogram = item["spectrogram"]
    expected = spectrogram + response(20) if decibel else spectrogram * 10 ** (response(20) / 10)
    torch.testing.assert_close(result["spectrogram"], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result["input_features"], item["input_features"] + response(80) / 40)
    cosines = torch.tensor(
        np.array([np.cos(np.pi / 20 * (np.arange(20) + 0.5) * k) * np.sqrt(2 / 20) for k in range(6)]),
        dtype=torch.float,
    )
    cosines[0] /= np.sqrt(2)
    torch.testing.assert_close(result["mfcc"], item["mfcc"] + cosines @ response(20), rtol=1e-4, atol=1e-3)
    for name, tensor in before.items():
        torch.testing.assert_close(item[name], tensor, rtol=0, atol=0)
        if tensor.ndim < 2:
            assert result[name] is item[name]


def test_frequency_responses_are_of_the_deviation_and_differ():
    extractor = CAMuLeNetFeatureExtractor()
    item = {"input_features": torch.zeros(2, 80), "spectrogram": torch.zeros(2, 128), "mfcc": torch.zeros(2, 3)}
    curves = torch.stack([equalized(seed, extractor, item, num_cosines=4)["spectrogram"][0] for seed in range(400)])
    # Four independent cosines of deviation 3 dB: their squares average to a half over the bins.
    assert float(curves.square().mean().sqrt()) == pytest.approx(3 * (4 / 2) ** 0.5, rel=0.1)
    assert float(curves.mean()) == pytest.approx(0, abs=0.3)
    few = equalized(0, extractor, item, num_cosines=4)["mfcc"]  # fewer MFCCs than cosines
    assert few.shape == (2, 3) and not few[:, 0].any() and bool(few[:, 1:].all())


def test_waveforms_for_the_encoder_are_left_as_they_are():
    extractor = CAMuLeNetFeatureExtractor(feature_size=1, encoder_input="waveform")
    item = {"input_features": torch.ones(50), "mfcc": torch.zeros(2, 13)}
    result = equalized(0, extractor, item)
    assert result["input_features"] is item["input_features"] and bool(result["mfcc"][:, 1:5].all())


def test_training_augmentation_does_what_is_asked(features):
    extractor = CAMuLeNetFeatureExtractor()
    assert training_augmentation(extractor) is None
    assert training_augmentation(extractor, equalizer_db=0.0) is None
    item = {"input_features": features, "mfcc": features}
    torch.manual_seed(0)
    both = training_augmentation(extractor, True, 3.0)(item)
    torch.manual_seed(0)
    expected = SpecAugment()(RandomEqualizer(extractor, 3.0)(item))
    for name, tensor in expected.items():
        torch.testing.assert_close(both[name], tensor, rtol=0, atol=0)
    torch.manual_seed(0)
    alone = training_augmentation(extractor, equalizer_db=3.0)(item)["mfcc"] - features
    torch.testing.assert_close(alone, alone[:1].expand_as(alone))  # the same in every frame
