"""SpecAugment: what is masked, with what, and how much."""

import pytest
import torch

from ser_protocol.augmentation import SpecAugment

FRAMES, BINS = 83, 40


@pytest.fixture
def features():
    return torch.randn(FRAMES, BINS, generator=torch.Generator().manual_seed(0))


def masked(features, seed, **arguments):
    torch.manual_seed(seed)
    return SpecAugment(**arguments)(features)


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
