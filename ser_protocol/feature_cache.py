"""Features of a corpus, computed once for all folds."""

from collections.abc import Callable, Sequence

import datasets
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from dataset_scripts.schema import CorpusError, listed, read_audio
from modeling_camulenet import CAMuLeNetFeatureExtractor


IGNORED_LABEL = -100


class FeatureStore:
    """
    Every utterance's features and labels, in memory.

    Args:
        dataset: rows of `dataset_scripts.schema`.
        extractor: computes the features, clip by clip.
        progress: whether to show a progress bar.
    Raises:
        CorpusError: some audio cannot be used; names all such files.
    """

    def __init__(self, dataset: datasets.Dataset, extractor: CAMuLeNetFeatureExtractor, progress: bool = True):
        self.items = []
        bad_files = []
        rows = tqdm(dataset, desc="features", unit="clip", disable=not progress)
        for row in rows:
            try:
                waveform, sampling_rate = read_audio(row["audio"])
                features = extractor(waveform, sampling_rate=sampling_rate, return_tensors="pt")
            except CorpusError as error:
                bad_files.append(str(error))
                continue
            except ValueError as error:
                bad_files.append(f"{row['audio']['path']}: {error}")
                continue
            self.items.append(
                {name: tensor[0] for name, tensor in features.items()}
                | {
                    "labels": torch.tensor(row["emotion"]),
                    "gender_labels": torch.tensor(IGNORED_LABEL if row["gender"] is None else row["gender"]),
                }
            )
        if bad_files:
            raise CorpusError(
                f"{len(bad_files)} audio files cannot be used:\n{listed(bad_files)}\n"
                "Replace them from the corpus's release, or remove them from data_dir."
            )

    def subset(self, rows: Sequence[int], augment: Callable | None = None) -> "FeatureSubset":
        """The utterances of a fold's part, in the order of `rows`."""
        return FeatureSubset(self, rows, augment)

    def num_frames(self, row: int) -> int:
        """Mel frames of the encoder's input for utterance `row`."""
        return len(self.items[row]["input_features"])


class FeatureSubset(torch.utils.data.Dataset):
    """Some utterances of a `FeatureStore`; `augment` maps one clip's (frames, bins) features to altered ones."""

    def __init__(self, store: FeatureStore, rows: Sequence[int], augment: Callable | None = None):
        self.store, self.rows, self.augment = store, rows, augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        item = self.store.items[self.rows[index]]
        if self.augment is None:
            return item
        return {name: self.augment(tensor) if tensor.ndim == 2 else tensor for name, tensor in item.items()}


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Utterances padded to the longest: (batch, frames, bins) and (batch, frames) with zeros behind each clip."""
    return {
        name: torch.stack([item[name] for item in items])
        if items[0][name].ndim == 0
        else pad_sequence([item[name] for item in items], batch_first=True)
        for name in items[0]
    }
