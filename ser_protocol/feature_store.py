"""Features of a corpus in memory, computed once for all folds; fold parts, random stretches, batches."""

from collections.abc import Callable, Iterator, Sequence

import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from dataset_scripts.schema import CorpusError, listed, read_audio
from modeling_camulenet import CAMuLeNetFeatureExtractor

IGNORED_LABEL = -100


def labels_of(row: dict) -> dict[str, torch.Tensor]:
    """The labels of a row of `dataset_scripts.schema`."""
    return {
        "labels": torch.tensor(row["emotion"]),
        "gender_labels": torch.tensor(IGNORED_LABEL if row["gender"] is None else row["gender"]),
    }


class FeatureStore:
    """
    Every utterance's features and labels, in memory.

    Args:
        dataset: rows of `dataset_scripts.schema`.
        extractor: computes the features, clip by clip.
        speed_factors: speeds at which further copies of every clip are kept for training. A clip played faster is
            shorter, higher in pitch and of a shorter vocal tract: another speaker (Ko et al. 2015, Interspeech).
        progress: whether to show a progress bar.
    Raises:
        CorpusError: some audio cannot be used; names all such files.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        extractor: CAMuLeNetFeatureExtractor,
        speed_factors: Sequence[float] = (),
        progress: bool = True,
    ):
        self.items: list[dict[str, torch.Tensor]] = []
        self.copies: list[list[dict[str, torch.Tensor]]] = []
        self.durations_s: list[list[float]] = []  # of an item and its copies
        bad_files = []
        rows = tqdm(dataset, desc="features", unit="clip", disable=not progress)
        for row in rows:
            try:
                waveform, sampling_rate = read_audio(row["audio"])
                # Taken for a recording at another rate, the resampled clip plays at another speed.
                rates = [round(sampling_rate * factor) for factor in (1.0, *speed_factors)]
                features = [extractor(waveform, sampling_rate=rate, return_tensors="pt") for rate in rates]
            except CorpusError as error:
                bad_files.append(str(error))
                continue
            except ValueError as error:
                bad_files.append(f"{row['audio']['path']}: {error}")
                continue
            item, *copies = [{name: tensor[0] for name, tensor in each.items()} | labels_of(row) for each in features]
            self.items.append(item)
            self.copies.append(copies)
            self.durations_s.append([len(waveform) / rate for rate in rates])
        if bad_files:
            raise CorpusError(
                f"{len(bad_files)} audio files cannot be used:\n{listed(bad_files)}\n"
                "Replace them from the corpus's release, or remove them from data_dir."
            )

    def subset(self, rows: Sequence[int]) -> "FeatureSubset":
        """The utterances of a fold's validation or test part, in the order of `rows`, as they are."""
        return FeatureSubset([[(self.items[row], self.durations_s[row][0])] for row in rows])

    def training_subset(
        self, rows: Sequence[int], augment: Callable | None = None, crop_s: float | None = None
    ) -> "FeatureSubset":
        """The utterances of a fold's training part, in the order of `rows`, each time at a random speed."""
        versions = [list(zip([self.items[row], *self.copies[row]], self.durations_s[row])) for row in rows]
        return FeatureSubset(versions, augment, crop_s)


class FeatureSubset(torch.utils.data.Dataset):
    """
    Some utterances of a `FeatureStore`.

    Args:
        versions: for each utterance the versions to draw from, with torch's generator: features and labels by name, or
            a function that reads them, each with its duration in seconds.
        augment: maps a clip's features (frames, bins), or those of all layers (frames, layers, bins), to altered
            ones, or `None`.
        crop_s: longer clips are cut to a random stretch of this many seconds, or `None`.
    """

    def __init__(
        self,
        versions: list[list[tuple[dict[str, torch.Tensor] | Callable[[], dict[str, torch.Tensor]], float]]],
        augment: Callable | None = None,
        crop_s: float | None = None,
    ):
        self.versions, self.augment, self.crop_s = versions, augment, crop_s

    def __len__(self) -> int:
        return len(self.versions)

    @property
    def durations_s(self) -> list[float]:
        """Seconds of each utterance as it is."""
        return [versions[0][1] for versions in self.versions]

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        versions = self.versions[index]
        item, duration_s = versions[int(torch.randint(len(versions), ()))] if len(versions) > 1 else versions[0]
        item = item() if callable(item) else item
        if self.crop_s is not None and self.crop_s < duration_s:
            item = random_stretch(item, self.crop_s / duration_s)
        if self.augment is None:
            return item
        return {name: self.augment(tensor) if tensor.ndim >= 2 else tensor for name, tensor in item.items()}


class LengthBuckets(torch.utils.data.Sampler):
    """
    Draws clips so that those of a batch are about equally long, and the batches come in a random order: with batch
    norms the running statistics would otherwise follow the lengths that come last.

    Args:
        durations_s: seconds of each clip.
        batch_size: of the global batch.
        seed: the order is a function of it and of the epoch.
    """

    num_batches = 20  # of a bucket, whose clips are sorted

    def __init__(self, durations_s: Sequence[float], batch_size: int, seed: int):
        self.durations_s, self.batch_size, self.seed, self.epoch = torch.tensor(durations_s), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0, whose order is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.durations_s)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = torch.from_numpy(random.permutation(len(self)))
        buckets = order.split(self.batch_size * self.num_batches)
        ordered = torch.cat([bucket[self.durations_s[bucket].argsort(stable=True)] for bucket in buckets])
        batches = ordered.split(self.batch_size)
        # A batch that is not full comes last, or it would shift the others.
        num_full = len(self) // self.batch_size
        for batch in [*random.permutation(num_full), *range(num_full, len(batches))]:
            yield from batches[batch].tolist()


def random_stretch(item: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """The same random stretch of all of a clip's features (frames, bins) and masks: `share` of it, under 1."""
    start = float(torch.rand(())) * (1 - share)
    stretch = {}
    for name, tensor in item.items():
        if tensor.ndim:
            num_frames = max(round(share * len(tensor)), 1)
            first = int(start * len(tensor))
            tensor = tensor[first : first + num_frames]
        stretch[name] = tensor
    return stretch


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Utterances padded to the longest: (batch, frames, bins) and (batch, frames) with zeros behind each clip."""
    return {
        name: torch.stack([item[name] for item in items])
        if items[0][name].ndim == 0
        else pad_sequence([item[name] for item in items], batch_first=True)
        for name in items[0]
    }
