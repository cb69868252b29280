"""Augmentation of training features, by torchaudio; validation and test features are never touched."""

import torch
from torchaudio.transforms import FrequencyMasking, TimeMasking


class SpecAugment:
    """
    SpecAugment (Park et al. 2019, arXiv 1904.08779) without time warping, the masks filled with the clip's mean.

    Args:
        num_masks: masks along time, and as many along frequency, for each feature.
        max_share: the longest mask, as a share of the clip's frames or of the bins.
    """

    def __init__(self, num_masks: int = 2, max_share: float = 0.15):
        self.num_masks = num_masks
        self.max_share = max_share

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Masked copy of one clip's features (frames, bins), or (frames, layers, bins) masked alike in every layer."""
        masked = features.movedim(0, -1)  # torchaudio: (..., bins, frames)
        fill = float(features.mean())
        frequency = FrequencyMasking(int(self.max_share * masked.shape[-2]) + 1)
        time = TimeMasking(int(self.max_share * masked.shape[-1]) + 1)
        for _ in range(self.num_masks):
            masked = time(frequency(masked, fill), fill)
        return masked.movedim(-1, 0)
