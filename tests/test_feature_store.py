"""The store of features: what an item is, how items become a batch, which audio is refused."""

import datasets
import numpy as np
import pytest
import soundfile
import torch

from dataset_scripts import CorpusError
from dataset_scripts.schema import row_features
from modeling_camulenet import CAMuLeNetFeatureExtractor
from ser_protocol.augmentation import SpecAugment
from ser_protocol.feature_store import (
    IGNORED_LABEL,
    FeatureStore,
    FeatureSubset,
    LengthBuckets,
    collate,
    random_stretch,
)

SECONDS = (0.3, 0.05, 0.41)
GENDERS = ("female", None, "male")


@pytest.fixture(scope="module")
def extractor():
    return CAMuLeNetFeatureExtractor(spectrogram={"num_mel_bins": 64}, mfcc={"num_mfcc": 13, "hop_ms": 40.0})


def make_dataset(folder, waveforms, rate=16000) -> datasets.Dataset:
    rows = []
    for number, waveform in enumerate(waveforms):
        path = folder / f"{number}.wav"
        soundfile.write(path, waveform, rate, subtype="FLOAT")
        rows.append(
            {
                "utterance_id": f"tiny/{number}",
                "audio": {"bytes": None, "path": str(path)},
                "corpus": "tiny",
                "language": "en",
                "speaker_id": f"tiny/{number}",
                "session_id": None,
                "gender": GENDERS[number % 3],
                "emotion": ("neutral", "anger")[number % 2],
                "source_label": "x",
                "text_id": None,
                "duration_s": len(waveform) / rate,
            }
        )
    return datasets.Dataset.from_list(rows, features=row_features(["neutral", "anger"]))


@pytest.fixture(scope="module")
def clips():
    random = np.random.default_rng(0)
    return [0.1 * random.normal(size=round(seconds * 16000)).astype(np.float32) for seconds in SECONDS]


@pytest.fixture(scope="module")
def store(tmp_path_factory, clips, extractor):
    return FeatureStore(make_dataset(tmp_path_factory.mktemp("clips"), clips), extractor, progress=False)


def test_an_item_is_what_the_extractor_makes_of_the_clip(store, clips, extractor):
    subset = store.subset([2, 0, 1])
    assert len(subset) == 3
    for place, row in enumerate([2, 0, 1]):
        item, expected = subset[place], extractor(clips[row], sampling_rate=16000, return_tensors="pt")
        assert set(item) == {*expected, "labels", "gender_labels"}
        for name, tensor in expected.items():
            torch.testing.assert_close(item[name], tensor[0], rtol=0, atol=0)
    assert [int(item["labels"]) for item in store.items] == [0, 1, 0]
    assert [int(item["gender_labels"]) for item in store.items] == [0, IGNORED_LABEL, 1]
    assert store.subset([0, 1, 2]).durations_s == [len(clip) / 16000 for clip in clips]


def test_other_rates_and_channels(tmp_path, clips, extractor):
    stereo = np.stack([clips[0], -0.5 * clips[0]], axis=1)
    item = FeatureStore(make_dataset(tmp_path, [stereo], rate=8000), extractor, progress=False).items[0]
    expected = extractor(stereo.mean(axis=1), sampling_rate=8000, return_tensors="pt")
    assert len(item["input_features"]) == 60  # twice as long as at 16 kHz
    torch.testing.assert_close(item["mfcc"], expected["mfcc"][0], rtol=1e-4, atol=1e-3)


def test_a_batch_is_padded_with_zeros_and_masked(store):
    batch = collate([store.items[row] for row in (1, 2)])
    assert batch["labels"].tolist() == [1, 0] and batch["gender_labels"].tolist() == [IGNORED_LABEL, 1]
    for name, mask_name in (
        ("input_features", "attention_mask"),
        ("spectrogram", "spectrogram_mask"),
        ("mfcc", "mfcc_mask"),
    ):
        for row, source in enumerate((1, 2)):
            item = store.items[source]
            length = len(item[name])
            torch.testing.assert_close(batch[name][row, :length], item[name], rtol=0, atol=0)
            assert batch[mask_name][row, :length].tolist() == item[mask_name].tolist()
            assert not batch[name][row, length:].any() and not batch[mask_name][row, length:].any()
        assert batch[name].shape[:2] == batch[mask_name].shape == (2, len(store.items[2][name]))
        assert len(store.items[1][name]) < batch[name].shape[1]


def test_a_batch_is_what_the_extractor_makes_of_the_clips_together(store, clips, extractor):
    together = extractor(clips, sampling_rate=16000, return_tensors="pt")
    batch = collate(store.items)
    for name, tensor in together.items():
        torch.testing.assert_close(batch[name], tensor, rtol=1e-5, atol=1e-4)


def test_augmentation_alters_features_and_leaves_masks_labels_and_the_store(store):
    before = {name: tensor.clone() for name, tensor in store.items[0].items()}

    def add_one(item):
        return {name: tensor + 1 if tensor.ndim == 2 else tensor for name, tensor in item.items()}

    item = store.training_subset([0], augment=add_one)[0]
    for name, tensor in before.items():
        altered = name in ("input_features", "spectrogram", "mfcc")
        torch.testing.assert_close(item[name], tensor + 1 if altered else tensor, rtol=0, atol=0)
        torch.testing.assert_close(store.items[0][name], tensor, rtol=0, atol=0)
        torch.testing.assert_close(store.subset([0])[0][name], tensor, rtol=0, atol=0)


def test_copies_at_other_speeds_are_for_training_only(tmp_path, clips, extractor):
    time = np.arange(8000) / 16000
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    store = FeatureStore(make_dataset(tmp_path, [clips[0], tone]), extractor, [0.8, 1.25], progress=False)
    slow, fast = store.copies[1]
    assert [len(item["input_features"]) for item in (slow, store.items[1], fast)] == [63, 50, 40]
    pitches = [int(item["spectrogram"].mean(dim=0).argmax()) for item in (slow, store.items[1], fast)]
    assert pitches[0] < pitches[1] < pitches[2]
    assert [int(copy["labels"]) for copy in store.copies[1]] == [1, 1]

    torch.manual_seed(0)
    training, evaluation = store.training_subset([1, 0]), store.subset([1, 0])
    drawn = [len(training[0]["input_features"]) for _ in range(60)]
    assert {length: drawn.count(length) > 8 for length in set(drawn)} == {63: True, 50: True, 40: True}
    assert {len(evaluation[0]["input_features"]) for _ in range(60)} == {50}
    torch.manual_seed(0)
    assert [len(training[0]["input_features"]) for _ in range(60)] == drawn


def test_a_random_stretch_is_the_same_in_all_features():
    # Every frame of an item holds its time in seconds: 100, 62.5 and 25 frames a second.
    item = {"labels": torch.tensor(2)}
    for name, mask_name, rate in (
        ("input_features", "attention_mask", 100),
        ("spectrogram", "spectrogram_mask", 62.5),
        ("mfcc", "mfcc_mask", 25),
    ):
        num_frames = int(4 * rate)
        item[name] = (torch.arange(num_frames) / rate)[:, None]
        item[mask_name] = torch.ones(num_frames, dtype=torch.long)
    wanted = {"input_features": 256, "attention_mask": 256, "spectrogram": 160, "spectrogram_mask": 160}
    wanted |= {"mfcc": 64, "mfcc_mask": 64}
    torch.manual_seed(0)
    starts = []
    subset = FeatureSubset([[(item, 4.0)]], stretch=wanted)
    for _ in range(100):
        stretch = subset[0]
        assert {name: len(stretch[name]) for name in wanted} == wanted
        assert all(bool(stretch[name].all()) for name in wanted if name.endswith("mask"))
        begin = [float(stretch[name][0]) for name in ("input_features", "spectrogram", "mfcc")]
        assert max(begin) - min(begin) <= 1 / 25  # a frame of the coarsest
        for name, rate in (("input_features", 100), ("spectrogram", 62.5), ("mfcc", 25)):
            torch.testing.assert_close(stretch[name][:, 0].diff(), torch.full((wanted[name] - 1,), 1 / rate))
        assert int(stretch["labels"]) == 2
        starts.append(begin[0])
    assert 0 <= min(starts) < 0.1 and 1.3 < max(starts) < 1.45


def test_a_clip_shorter_than_the_stretch_is_repeated():
    frames = torch.arange(5.0)[:, None]
    item = {"spectrogram": frames, "spectrogram_mask": torch.ones(5, dtype=torch.long)}
    torch.manual_seed(0)
    firsts = set()
    for _ in range(50):
        stretch = random_stretch(item, {"spectrogram": 12, "spectrogram_mask": 12})
        first = int(stretch["spectrogram"][0])
        assert stretch["spectrogram"].flatten().tolist() == [float((first + step) % 5) for step in range(12)]
        assert stretch["spectrogram_mask"].tolist() == [1] * 12
        firsts.add(first)
    assert firsts == set(range(5))
    as_long = random_stretch(item, {"spectrogram": 5, "spectrogram_mask": 5})
    assert as_long["spectrogram"].flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_stretches_of_a_batch_have_the_frames_of_a_clip_of_that_length(store, extractor):
    expected = extractor(np.zeros(3200, dtype=np.float32), return_tensors="pt")
    subset = store.training_subset([0, 1, 2], crop_s=0.2)  # clips of 0.3, 0.05 and 0.41 s
    batch = collate([subset[place] for place in range(3)])
    for name, tensor in expected.items():
        assert batch[name].shape[1:] == tensor.shape[1:]
        if name.endswith("mask"):
            assert bool(batch[name].all())


def test_all_bad_files_are_named(tmp_path, clips, extractor):
    nan, infinite = clips[0].copy(), clips[1].copy()
    nan[7], infinite[3] = np.nan, np.inf
    dataset = make_dataset(tmp_path, [nan, clips[0], infinite, clips[1][:0], clips[2], clips[2]])
    (tmp_path / "4.wav").write_bytes(b"no audio at all")
    with pytest.raises(CorpusError) as error:
        FeatureStore(dataset, extractor, progress=False)
    message = str(error.value)
    assert message.startswith("4 audio files cannot be used")
    for number, reason in ((0, "NaN"), (2, "NaN"), (3, "no samples"), (4, "not readable")):
        line = next(line for line in message.splitlines() if f"{number}.wav" in line)
        assert reason in line
    assert "1.wav" not in message and "5.wav" not in message


def test_every_layer_is_masked_alike():
    item = {"labels": torch.tensor(1), "encoder_frames": torch.rand(60, 3, 40), "mask": torch.ones(60)}
    torch.manual_seed(0)
    masked = FeatureSubset([[(item, 1.0)]], augment=SpecAugment())[0]
    changed = masked["encoder_frames"] != item["encoder_frames"]
    assert changed.any() and not changed.all() and masked["mask"] is item["mask"]
    assert torch.equal(changed[:, :1].expand_as(changed), changed)  # in each layer the same frames and bins
    assert changed.all(dim=2).any() and changed.all(dim=0).any()


def test_buckets_of_like_lengths():
    random = np.random.default_rng(0)
    durations, size = random.gamma(4, 0.7, 1003).tolist(), 8
    sampler = LengthBuckets(durations, size, seed=5)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(1003)) == list(range(len(sampler)))
    assert orders[0] == orders[2] != orders[1] and orders[0] != list(LengthBuckets(durations, size, seed=6))
    lengths = [durations[clip] for clip in orders[0]]
    batches = [lengths[start : start + size] for start in range(0, 1003, size)]
    assert [len(batch) for batch in batches] == [8] * 125 + [3]
    padding = 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)
    shuffled = random.permutation(durations).tolist()
    loose = 1 - sum(durations) / sum(size * max(shuffled[start : start + size]) for start in range(0, 1003, size))
    assert padding < 0.08 < 0.35 < loose
    # The batches are not in the order of their lengths.
    means = np.array([np.mean(batch) for batch in batches[:-1]])
    assert abs(np.corrcoef(means, np.arange(125))[0, 1]) < 0.25
    for few in (0, 1, 7, 8, 9):
        assert sorted(LengthBuckets(durations[:few], size, seed=5)) == list(range(few))
