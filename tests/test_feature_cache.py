"""Features on disk: what they are, what is computed anew and when, interruption, processes at once, damage, bounds."""

import errno
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from encoders import ENCODERS
from test_feature_store import make_dataset
from tiny_runs import digests
from transformers import AutoModelForAudioClassification

from dataset_scripts import CorpusError
from modeling_camulenet import CAMuLeNetForAudioClassification
from modeling_camulenet.speech_encoder_camulenet import SpeechEncoder
from ser_protocol import feature_cache
from ser_protocol.feature_cache import CachedFeatures, CacheError, ShardedFeatures, cache_root, info, verify
from ser_protocol.feature_store import FeatureStore, collate
from ser_protocol.presets import build_config

WHISPER = {
    "model_type": "whisper",
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
}
ENCODERS = {"whisper": WHISPER, **ENCODERS}
SMALL = {"branch_size": 16, "width_multiplier": 1 / 16, "num_attention_heads": 2, "classifier_hidden_size": 8}
SECONDS = (0.3, 0.05, 0.41, 1 / 16000, 0.6, 0.3)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def tiny_model(encoder: str = "whisper", preset: str = "camulenet", **fields) -> CAMuLeNetForAudioClassification:
    torch.manual_seed(0)
    labels = {"id2label": {0: "neutral", 1: "anger"}, "id2gender": {0: "female", 1: "male"}}
    small = SMALL if "paper" not in preset else {**SMALL, "alexnet_classifier": False}
    model = CAMuLeNetForAudioClassification(build_config(preset, ENCODERS[encoder], **{**small, **labels, **fields}))
    torch.manual_seed(1)
    with torch.no_grad():  # the same encoder in every model
        for parameter in model.camulenet.speech_encoder.encoder.parameters():
            noise = 0.1 * torch.randn(parameter.shape)
            parameter.copy_(parameter + noise if parameter.ndim == 1 else 2 * noise)
    return model.eval()


@pytest.fixture(scope="module")
def waveforms():
    random = np.random.default_rng(0)
    return [0.1 * random.normal(size=round(seconds * 16000)).astype(np.float32) for seconds in SECONDS]


@pytest.fixture
def dataset(tmp_path, waveforms):
    (tmp_path / "audio").mkdir()
    return make_dataset(tmp_path / "audio", waveforms)


@pytest.fixture
def small_shards(monkeypatch):
    """Several batches a shard, several shards."""
    monkeypatch.setattr(feature_cache, "SHARD_BYTES", 900)
    monkeypatch.setattr(feature_cache, "BATCH_S", 0.65)


def cached(dataset, model, folder, **arguments) -> CachedFeatures:
    return CachedFeatures(dataset, model, str(folder), progress=False, **arguments)


def counted_passes(monkeypatch) -> list[int]:
    """Numbers of clips of the encoder's passes from now on."""
    passes, encode = [], SpeechEncoder.encode

    def count(self, input_features, *args, **kwargs):
        passes.append(len(input_features))
        return encode(self, input_features, *args, **kwargs)

    monkeypatch.setattr(SpeechEncoder, "encode", count)
    return passes


def without_locks(folder: Path) -> dict[str, str]:
    return {name: value for name, value in digests(folder).items() if not name.endswith(".lock")}


# ---------------------------------------------------------------------------------------------------------------------
# What is cached


CASES = {
    "whisper": ("whisper", {}),
    "whisper, padded": ("whisper", {"encoder_context": "padded"}),
    "whisper, sum of layers": ("whisper", {"use_weighted_layer_sum": True}),
    "wav2vec2, group norm": ("wav2vec2, group norm", {}),
    "wav2vec2, layer norm, sum of layers": ("wav2vec2, layer norm", {"use_weighted_layer_sum": True}),
    "wavlm": ("wavlm, layer norm", {}),
    "wav2vec2-bert": ("wav2vec2-bert", {}),
    "sew": ("sew", {}),
    "level": ("whisper", {"feature_extractor": {"level_dbfs": -25.0}}),
    "paper": ("whisper", {"preset": "paper"}),
    "paper, clip": ("whisper", {"preset": "paper", "encoder_context": "clip"}),
    "paper, half a second": (
        "whisper",
        {"preset": "paper", "feature_extractor": {"max_duration_s": 0.5, "pad_to_max_duration": True}},
    ),
    "paper-fixed": ("whisper", {"preset": "paper-fixed"}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_an_item_is_what_the_clip_alone_gives(case, dtype, dataset, waveforms, tmp_path):
    encoder, fields = CASES[case]
    model = tiny_model(encoder, **fields)
    store = cached(dataset, model, tmp_path, dtype=dtype, all_layers_confirmed=True)
    plain = FeatureStore(dataset, model.camulenet.feature_extractor, progress=False)
    tolerance = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}[dtype]
    subset, expected = store.subset([4, 0, 3, 1]), plain.subset([4, 0, 3, 1])
    assert subset.durations_s == pytest.approx(expected.durations_s)
    for place in range(4):
        item, other = subset[place], expected[place]
        kinds = ["encoder_frames", "spectrogram", "mfcc"]
        assert set(item) == {*kinds, *(f"{kind}_mask" for kind in kinds), "labels", "gender_labels"}
        assert (item["labels"], item["gender_labels"]) == (other["labels"], other["gender_labels"])
        every_layer = model.config.use_weighted_layer_sum
        with torch.no_grad():
            output, mask = model.camulenet.speech_encoder.encode(
                other["input_features"][None], other["attention_mask"][None], every_layer
            )
        assert mask.all() or model.config.encoder_context == "padded"
        frames = torch.stack(output.hidden_states, 2) if every_layer else output.last_hidden_state
        real = frames[0] if case == "paper" else frames[0, : int(mask.sum())]
        if case == "paper, half a second":
            real = frames[0]
        wanted = {"encoder_frames": real, "spectrogram": other["spectrogram"], "mfcc": other["mfcc"]}
        for kind, value in wanted.items():
            decibel = model.camulenet.feature_extractor.spectrogram["decibel"]
            is_fixed_point = dtype == "float16" and kind == "spectrogram" and decibel
            assert item[kind].dtype == (torch.float32 if is_fixed_point else DTYPES[dtype])
            assert item[kind].shape == value.shape, kind
            assert item[f"{kind}_mask"].dtype == torch.long
            if kind != "encoder_frames":
                assert torch.equal(item[f"{kind}_mask"], other[f"{kind}_mask"]), kind
            else:
                assert item[f"{kind}_mask"].tolist() == [1] * len(value)
            scale = max(float(value.abs().max()), 1.0)
            bounds = {"rtol": tolerance, "atol": tolerance * scale / 10}
            if is_fixed_point:  # half of one of 65536 steps, and the arithmetic's rounding
                bounds = {"rtol": 1e-5, "atol": float(value.max() - value.min()) / 2**17 + 1e-5 * scale}
            torch.testing.assert_close(item[kind].float(), value, **bounds)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", [case for case in CASES if "half a second" not in case])
def test_cached_logits_are_those_of_the_checkpoint_on_waveforms(case, dtype, dataset, waveforms, tmp_path):
    encoder, fields = CASES[case]
    model = tiny_model(encoder, **fields)
    model.save_pretrained(tmp_path / "checkpoint")
    store = cached(dataset, model, tmp_path, dtype=dtype, all_layers_confirmed=True)
    reloaded = AutoModelForAudioClassification.from_pretrained(tmp_path / "checkpoint").eval()
    without = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "checkpoint", with_encoder=False).eval()
    assert not list(without.camulenet.speech_encoder.encoder.parameters())
    rows = [0, 2, 4, 3, 1]
    subset = store.subset(rows)
    items = [subset[place] for place in range(5)]
    # Where nothing is masked, a shorter clip's padding counts: one by one, as it is loaded.
    batches = [items] if case != "paper, clip" else [[item] for item in items]
    with torch.no_grad():
        outputs = [without(**collate(batch)) for batch in batches]
        logits = torch.cat([torch.cat((output.logits, output.gender_logits), dim=1) for output in outputs])
        expected = []
        for row in rows:
            output = reloaded(input_values=torch.from_numpy(waveforms[row])[None])
            expected.append(torch.cat((output.logits, output.gender_logits), dim=1)[0])
    expected = torch.stack(expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # they differ
    # The released model sums 1500 frames: its logits are far from 1.
    tolerance = (1e-5 if dtype == "float32" else 1e-3) * max(1.0, float(expected.abs().max()) / 4)
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


def test_copies_at_other_speeds_are_those_of_the_memory_store(dataset, tmp_path):
    model = tiny_model()
    store = cached(dataset, model, tmp_path, dtype="float32", speed_factors=[0.8, 1.25])
    plain = FeatureStore(dataset, model.camulenet.feature_extractor, [0.8, 1.25], progress=False)
    for row in (0, 2):
        (versions,), (others,) = store.training_subset([row]).versions, plain.training_subset([row]).versions
        assert [seconds for _, seconds in versions] == pytest.approx([seconds for _, seconds in others], abs=1e-3)
        for (read, _), (other, _) in zip(versions, others):
            torch.testing.assert_close(read()["mfcc"], other["mfcc"], rtol=1e-4, atol=1e-3)
            assert len(read()["encoder_frames"]) == (len(other["input_features"]) + 1) // 2
    torch.manual_seed(0)
    training, lengths = store.training_subset([0]), set()
    for _ in range(30):
        lengths.add(len(training[0]["encoder_frames"]))
    assert len(lengths) == 3
    assert {len(store.subset([0])[0]["encoder_frames"]) for _ in range(30)} == {15}


def test_precision_of_the_encoder_is_part_of_the_key(dataset, tmp_path, monkeypatch):
    passes = counted_passes(monkeypatch)
    single = cached(dataset, tiny_model(), tmp_path, dtype="float32").subset([0])[0]["encoder_frames"]
    half = cached(dataset, tiny_model(), tmp_path, dtype="float32", autocast_dtype=torch.bfloat16)
    assert sum(passes) == 12
    difference = (half.subset([0])[0]["encoder_frames"] - single).abs().max()
    assert 1e-4 < difference < 0.2


# ---------------------------------------------------------------------------------------------------------------------
# What is computed, and when


def test_only_what_is_new_is_computed(dataset, waveforms, tmp_path, monkeypatch, caplog):
    passes = counted_passes(monkeypatch)
    store = cached(dataset, tiny_model(), tmp_path)
    assert sum(passes) == 6
    passes.clear()
    before = digests(tmp_path / "camulenet_features")
    cached(dataset, tiny_model(), tmp_path)
    assert not passes and digests(tmp_path / "camulenet_features") == before
    # Another preset, other settings of a branch, another order: the encoder's frames are shared.
    others = ({"fusion": "concat"}, {"preset": "paper-fixed"}, {"feature_extractor": {"mfcc": {"num_mfcc": 13}}})
    for fields in others:
        cached(dataset.select([5, 3, 1, 0, 2, 4]), tiny_model(**fields), tmp_path)
    assert not passes
    kinds = [path.name.split("-")[0] for path in (tmp_path / "camulenet_features").iterdir() if path.is_dir()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"encoder": 1, "spectrogram": 1, "mfcc": 2}

    # Another audio file: that clip alone. Back again: nothing.
    kept = store.subset([1])[0]["encoder_frames"].clone()
    first = (tmp_path / "audio" / "0.wav").read_bytes()
    soundfile.write(tmp_path / "audio" / "0.wav", 0.5 * waveforms[0], 16000, subtype="FLOAT")
    changed = cached(dataset, tiny_model(), tmp_path)
    assert passes == [1]
    assert not torch.equal(changed.subset([0])[0]["mfcc"], store.subset([0])[0]["mfcc"])
    assert torch.equal(changed.subset([1])[0]["encoder_frames"], kept)
    (tmp_path / "audio" / "0.wav").write_bytes(first)
    again = cached(dataset, tiny_model(), tmp_path)
    assert passes == [1] and torch.equal(again.subset([0])[0]["mfcc"], store.subset([0])[0]["mfcc"])

    # One weight of the encoder: all clips; one of the rest of the model: none.
    passes.clear()
    model = tiny_model()
    with torch.no_grad():
        model.classifier.bias.add_(1)
    cached(dataset, model, tmp_path)
    assert not passes
    with torch.no_grad():
        model.camulenet.speech_encoder.encoder.layer_norm.bias[3] += 1e-3
    cached(dataset, model, tmp_path)
    assert sum(passes) == 6
    passes.clear()
    cached(dataset, tiny_model(encoder_context="padded"), tmp_path)
    cached(dataset, tiny_model(feature_extractor={"level_dbfs": -20.0}), tmp_path)
    cached(dataset, tiny_model(), tmp_path, dtype="bfloat16")
    assert sum(passes) == 18


def test_the_same_clip_twice_is_computed_once(dataset, waveforms, tmp_path, monkeypatch):
    passes = counted_passes(monkeypatch)
    (tmp_path / "other").mkdir()
    both = make_dataset(tmp_path / "other", [waveforms[2], waveforms[4], waveforms[2]])
    store = cached(both, tiny_model(), tmp_path)
    assert sum(passes) == 2
    assert torch.equal(store.subset([0])[0]["encoder_frames"], store.subset([2])[0]["encoder_frames"])
    cached(dataset, tiny_model(), tmp_path)
    assert sum(passes) == 6  # two of its six are there


def test_cut_clips_have_names_of_their_own(dataset, tmp_path, monkeypatch):
    passes = counted_passes(monkeypatch)
    whole = cached(dataset, tiny_model(), tmp_path)
    passes.clear()
    cut = cached(dataset, tiny_model(feature_extractor={"max_duration_s": 0.35}), tmp_path)
    assert sum(passes) == 2  # of 0.41 s and 0.6 s
    assert [len(cut.subset([row])[0]["encoder_frames"]) for row in range(6)] == [15, 3, 18, 1, 18, 15]
    assert [len(whole.subset([row])[0]["encoder_frames"]) for row in range(6)] == [15, 3, 21, 1, 30, 15]


# ---------------------------------------------------------------------------------------------------------------------
# Interruption and processes at once


CLIPS = {f"{number:02d}": (1.0 + number % 7 / 7, 4 * round(10 + 60 * (number % 7) / 7)) for number in range(24)}


def fake_waveform(clip: str) -> np.ndarray:
    return np.random.default_rng(int(clip)).normal(size=10 + 60 * (int(clip) % 7) // 7).astype(np.float32)


class Builder:
    """A build whose steps are seen: every computed batch is a line of a file."""

    def __init__(self, root: Path, log: Path, pause_s: float = 0.0):
        self.root, self.log, self.pause_s = root, log, pause_s

    def __call__(self) -> ShardedFeatures:
        features = ShardedFeatures(self.root, "encoder", {"dtype": "float32"})
        missing = {clip: CLIPS[clip] for clip in features.missing(CLIPS)}
        features.build(missing, fake_waveform, self.compute, progress=False)
        return features

    def compute(self, waveforms):
        time.sleep(self.pause_s)
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {float(waveforms[0][0])!r}\n")
        return [torch.from_numpy(waveform)[:, None] for waveform in waveforms]


@pytest.fixture
def shards_of_two_batches(monkeypatch):
    monkeypatch.setattr(feature_cache, "SHARD_BYTES", 600)
    monkeypatch.setattr(feature_cache, "BATCH_S", 4.0)


@pytest.fixture
def whole(tmp_path, shards_of_two_batches):
    """The files of an uninterrupted build, and its batches in their order."""
    Builder(tmp_path / "whole", tmp_path / "whole.log")()
    files = without_locks(tmp_path / "whole")
    assert 4 <= sum(name.endswith(".safetensors") for name in files) <= 12
    return files, batches_of(tmp_path / "whole.log")


def batches_of(log: Path) -> list[str]:
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []


def test_an_interrupted_build_goes_on_with_whole_shards(tmp_path, whole):
    files, batches = whole
    for stop in (0, 1, 2, 5, len(batches) - 1):
        root, log = tmp_path / f"stop{stop}", tmp_path / f"stop{stop}.log"
        builder = Builder(root, log)
        compute = builder.compute

        def interrupted(waveforms, compute=compute, log=log, stop=stop):
            if len(batches_of(log)) == stop:
                raise KeyboardInterrupt
            return compute(waveforms)

        builder.compute = interrupted
        with pytest.raises(KeyboardInterrupt):
            builder()
        written = sum(path.suffix == ".safetensors" for path in root.rglob("*"))
        features = Builder(root, log)()
        assert without_locks(root) == files
        # Those of the shard that was begun are computed again, and only those.
        again = batches_of(log)
        assert sorted(set(again)) == sorted(batches) and len(again) - len(batches) <= 3
        assert written or stop < 3
        for clip in CLIPS:
            assert torch.equal(features.read(clip)[:, 0], torch.from_numpy(fake_waveform(clip)))


def test_a_grown_corpus_goes_on_with_the_old_plan(tmp_path, whole, monkeypatch):
    files, batches = whole
    root, log = tmp_path / "grown", tmp_path / "grown.log"
    builder = Builder(root, log)
    builder.compute = lambda waveforms: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        builder()
    monkeypatch.setitem(CLIPS, "77", (1.5, 100))
    Builder(root, log)()
    grown = without_locks(root)
    assert {name: grown[name] for name in files} == files
    assert len(grown) == len(files) + 2 and len(batches_of(log)) == len(batches) + 1


fork = multiprocessing.get_context("fork")


def test_killed_builds_leave_nothing_half_written(tmp_path, whole):
    files, batches = whole
    root, log = tmp_path / "killed", tmp_path / "killed.log"
    random = np.random.default_rng(1)
    for _ in range(4):
        process = fork.Process(target=Builder(root, log, 0.02))
        process.start()
        time.sleep(random.uniform(0.05, 0.25))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for path in root.rglob("*.safetensors"):
            assert feature_cache.intact_clips(path) is not None
    Builder(root, log)()
    assert without_locks(root) == files


def test_two_processes_share_the_work(tmp_path, whole):
    files, batches = whole
    root, log = tmp_path / "two", tmp_path / "two.log"
    processes = [fork.Process(target=Builder(root, log, 0.03)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert without_locks(root) == files
    assert sorted(batches_of(log)) == sorted(batches)
    workers = [line.split()[0] for line in log.read_text().splitlines()]
    assert len(set(workers)) == 2


def test_one_finishes_what_a_killed_one_held(tmp_path, whole):
    files, batches = whole
    root, log = tmp_path / "held", tmp_path / "held.log"
    holder = fork.Process(target=Builder(root, log, 60))  # stuck in the first batch
    holder.start()
    while not list(root.rglob("*.lock")):
        time.sleep(0.01)
    other = fork.Process(target=Builder(root, log, 0.0))
    other.start()
    while len(batches_of(log)) < len(batches) - 3:
        time.sleep(0.02)
    time.sleep(0.2)
    assert other.is_alive()  # it waits for the shard that is held
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    other.join(30)
    assert other.exitcode == 0 and without_locks(root) == files
    assert sorted(batches_of(log)) == sorted(batches)


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 4]) + content[-2:]


DAMAGES = {
    "truncated": lambda content: content[:-5],
    "flipped": flip,
    "empty": lambda content: b"",
    "header": lambda content: content[:20] + b"\x00" + content[21:],
}


def command(*argv) -> str | None:
    """The feature_cache command on these arguments; the text it exits with, if it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["feature_cache", *map(str, argv)])
        try:
            feature_cache.main()
        except SystemExit as ended:
            return ended.code
    return None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_computed_again(damage, dataset, tmp_path, small_shards, monkeypatch, caplog):
    cached(dataset, tiny_model(), tmp_path)
    root = cache_root(str(tmp_path))
    before = without_locks(root)
    assert command("verify", "--cache_dir", tmp_path) is None
    shards = sorted(root.glob("encoder-*/*.safetensors"))
    assert len(shards) >= 3
    shards[1].write_bytes(DAMAGES[damage](shards[1].read_bytes()))
    message = command("verify", "--cache_dir", tmp_path)
    assert str(shards[1]) in message and str(shards[0]) not in message
    assert verify(root, progress=False) == [shards[1]]
    passes = counted_passes(monkeypatch)
    with caplog.at_level(logging.WARNING):
        cached(dataset, tiny_model(), tmp_path)
    assert f"{shards[1]} is damaged" in caplog.text
    assert 0 < sum(passes) < 6 and without_locks(root) == before
    assert command("verify", "--cache_dir", tmp_path) is None


@pytest.mark.parametrize("content", [b"[[", b"", b'[["x", 1.0, 5]]\n', b"\xff\xfe"])
@pytest.mark.parametrize("name", ["plan", "settings"])
def test_a_damaged_plan_or_settings(name, content, dataset, tmp_path, small_shards, monkeypatch, caplog, capsys):
    cached(dataset, tiny_model(), tmp_path)
    root = cache_root(str(tmp_path))
    plan, settings = (next(root.glob(f"encoder-*/{glob}.json")) for glob in ("[0-9a-f]*", "settings"))
    (damaged,) = [path for path in (plan, settings) if (path == settings) == (name == "settings")]
    if name == "plan" and plan.name == "settings.json":
        pytest.fail("no plan")
    before = settings.read_bytes()
    damaged.write_bytes(content)
    assert verify(root, progress=False) == [damaged]
    assert command("info", "--cache_dir", tmp_path) is None
    passes = counted_passes(monkeypatch)
    shard = sorted(root.glob("encoder-*/*.safetensors"))[0]
    shard.unlink()
    with caplog.at_level(logging.WARNING):
        store = cached(dataset, tiny_model(), tmp_path)
    assert f"{damaged} is damaged" in caplog.text and 0 < sum(passes) < 6
    assert settings.read_bytes() == before and verify(root, progress=False) == []
    assert len(store.subset(range(6))[4]["encoder_frames"]) == 30


# ---------------------------------------------------------------------------------------------------------------------
# Disks


def test_a_full_disk_is_said_and_nothing_half_written_believed(dataset, tmp_path, small_shards, monkeypatch):
    write = Path.write_bytes
    written = []

    def full(self, content):
        if ".safetensors." in self.name:
            written.append(self)
            if len(written) == 2:
                write(self, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CacheError, match="the disk is full.*finished stay. Make room or give a --cache_dir") as e:
            cached(dataset, tiny_model(), tmp_path)
    root = cache_root(str(tmp_path))
    assert str(root) in str(e.value)
    assert len(list(root.rglob("*.safetensors"))) == 1 and not list(root.rglob("*.tmp"))
    cached(dataset, tiny_model(), tmp_path)
    cached(dataset, tiny_model(), tmp_path / "whole")
    assert without_locks(root) == without_locks(cache_root(str(tmp_path / "whole")))


def test_too_little_room_is_said_before_anything_is_computed(dataset, tmp_path, monkeypatch):
    passes = counted_passes(monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(CacheError, match="need about .* MB, and .*camulenet_features has 0.00 MB left. Make room"):
        cached(dataset, tiny_model(), tmp_path / "new" / "folder")
    assert not passes and not (tmp_path / "new").exists()


def mounted(folder: Path, *options: str) -> None:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("nothing can be mounted here")


@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="only root mounts")
def test_a_disk_that_fills_up(dataset, tmp_path, small_shards, monkeypatch):
    mounted(tmp_path / "disk", "-o", "size=48k")
    try:
        # The estimate is passed over, as when others write meanwhile.
        monkeypatch.setattr(feature_cache, "check_room", lambda root, num_bytes: None)
        with pytest.raises(CacheError, match="the disk is full"):
            cached(dataset, tiny_model(), tmp_path / "disk", dtype="float32")
        root = cache_root(str(tmp_path / "disk"))
        assert verify(root, progress=False) == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path / "disk")], check=True)
        cached(dataset, tiny_model(), tmp_path / "disk", dtype="float32")
        cached(dataset, tiny_model(), tmp_path / "whole", dtype="float32")
        assert without_locks(root) == without_locks(cache_root(str(tmp_path / "whole")))

        # What is there can be read where nothing can be written; what is not cannot be built.
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        passes = counted_passes(monkeypatch)
        store = cached(dataset, tiny_model(), tmp_path / "disk", dtype="float32")
        assert len(store.subset([4])[0]["encoder_frames"]) == 30
        with pytest.raises(CacheError, match="cannot be written: Read-only file system"):
            cached(dataset, tiny_model(), tmp_path / "disk", dtype="bfloat16")
        assert not passes
        assert "Read-only" in command("clear", "--cache_dir", tmp_path / "disk")
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_a_file_in_the_place_of_the_folder(dataset, tmp_path, monkeypatch):
    passes = counted_passes(monkeypatch)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="file/camulenet_features cannot be .*: Not a directory"):
        cached(dataset, tiny_model(), tmp_path / "file")
    (tmp_path / "camulenet_features").write_text("x")
    with pytest.raises(CacheError, match="camulenet_features cannot be .*: Not a directory"):
        cached(dataset, tiny_model(), tmp_path)
    assert not passes


# ---------------------------------------------------------------------------------------------------------------------
# The command, other versions, what is refused


def test_info_is_true(dataset, tmp_path, small_shards, capsys):
    assert command("info", "--cache_dir", tmp_path) is None
    root = cache_root(str(tmp_path))
    assert capsys.readouterr().out == f"Nothing in {root}.\n"
    cached(dataset, tiny_model(), tmp_path)
    cached(dataset.select([0, 1]), tiny_model("wavlm, layer norm"), tmp_path, dtype="bfloat16")
    lines = info(root).splitlines()
    assert len(lines) == 6 and [line.split("-")[0] for line in lines] == [
        "encoder", "encoder", "mfcc", "mfcc", "spectrogram", "spectrogram",
    ]  # fmt: skip
    for line in lines:
        folder = root / line.split(":")[0]
        shards = list(folder.glob("*.safetensors"))
        size = sum(path.stat().st_size for path in shards) / 1e6
        clips = 2 if "bfloat16" in line else 6
        assert f"{clips} clips, {size:.1f} MB in {len(shards)} shards, " in line
    (whisper,) = [line for line in lines if "whisper" in line]
    assert "float16; whisper, weights " in whisper and "last layers, context clip" in whisper
    name = whisper.split(":")[0]
    assert info(root, [name]) == whisper

    for action in ("info", "verify", "clear"):
        message = command(action, "encoder-nonsense", name, "--cache_dir", tmp_path)
        assert f"No such features in {root}: encoder-nonsense. `info` lists" in message
    assert command("clear", name, "--cache_dir", tmp_path) is None
    assert not (root / name).exists() and len(info(root).splitlines()) == 5
    assert command("clear", "--cache_dir", tmp_path) is None
    assert not root.exists() and command("clear", "--cache_dir", tmp_path) is None


@pytest.mark.parametrize(("content", "found"), [('{"format": 7}', "7"), ("{", "None"), ("[]", "None")])
def test_another_version(content, found, dataset, tmp_path, monkeypatch):
    root = cache_root(str(tmp_path))
    root.mkdir()
    (root / "format.json").write_text(content)
    passes = counted_passes(monkeypatch)
    with pytest.raises(CacheError) as error:
        cached(dataset, tiny_model(), tmp_path)
    assert f"(format {found}, this one reads 1)" in str(error.value)
    remedy = f"python -m ser_protocol.feature_cache clear --cache_dir {tmp_path}"
    assert remedy in str(error.value) and not passes
    for action in ("info", "verify"):
        assert remedy in command(action, "--cache_dir", tmp_path)
    assert command(*remedy.split()[3:]) is None
    cached(dataset, tiny_model(), tmp_path)
    assert sum(passes) == 6


def test_features_that_half_precision_cannot_hold(dataset, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.camulenet.speech_encoder.encoder.layer_norm.bias.add_(1e5)
    with pytest.raises(CacheError, match="kind encoder are not finite in float16. Take --cache_dtype bfloat16 or"):
        cached(dataset, model, tmp_path)
    assert not list(cache_root(str(tmp_path)).rglob("*.safetensors"))
    frames = cached(dataset, model, tmp_path, dtype="bfloat16").subset([0])[0]["encoder_frames"]
    assert 9e4 < frames.float().mean() < 1.1e5


@pytest.mark.parametrize("case", CASES)
def test_sizes_are_known_before_a_build(case, dataset, tmp_path):
    encoder, fields = CASES[case]
    store = cached(dataset.select([0, 2, 4]), tiny_model(encoder, **fields), tmp_path, all_layers_confirmed=True)
    for kind, features in store.kinds.items():
        planned = 0
        for path in features.directory.glob("*.json"):
            planned += sum(row[2] for row in json.loads(path.read_text())) if path.name != "settings.json" else 0
        built = sum(2 * features.read(clips[0]).numel() for clips in store.clips)
        assert planned == pytest.approx(built, rel=0.05), kind


def test_every_layer_is_asked_for(dataset, tmp_path, monkeypatch):
    passes = counted_passes(monkeypatch)
    with pytest.raises(
        CacheError, match=r"needs every layer of the encoder: about 0.01 MB for 6 clips. Agree with --"
    ):
        cached(dataset, tiny_model(use_weighted_layer_sum=True), tmp_path)
    assert not passes
    cached(dataset, tiny_model(use_weighted_layer_sum=True), tmp_path, all_layers_confirmed=True)
    assert sum(passes) == 6
    cached(dataset, tiny_model(use_weighted_layer_sum=True), tmp_path)  # nothing is left to agree to


def test_batches_keep_to_their_seconds(dataset, tmp_path, monkeypatch):
    """In the padded context a clip costs 30 s, however short it is."""
    passes = counted_passes(monkeypatch)
    cached(dataset, tiny_model(encoder_context="padded"), tmp_path)
    assert passes == [2, 2, 2]


def test_all_bad_files_are_named_and_good_shards_stay(dataset, waveforms, tmp_path, small_shards, monkeypatch):
    nan = waveforms[0].copy()
    nan[7] = np.nan
    soundfile.write(tmp_path / "audio" / "0.wav", nan, 16000, subtype="FLOAT")
    (tmp_path / "audio" / "1.wav").write_bytes(b"no audio at all")
    with pytest.raises(CorpusError) as error:
        cached(dataset, tiny_model(), tmp_path, speed_factors=[0.9])
    message = str(error.value)
    assert message.startswith("2 audio files cannot be used")
    lines = message.splitlines()
    assert "NaN" in next(line for line in lines if "0.wav" in line)
    assert "not readable" in next(line for line in lines if "1.wav" in line)
    assert sum("wav" in line for line in lines) == 2
    shards = list(cache_root(str(tmp_path)).glob("encoder-*/*.safetensors"))
    assert shards
    (tmp_path / "audio" / "2.wav").unlink()
    with pytest.raises(CorpusError, match=r"1 audio files cannot be read:\n.*2.wav: not readable \(No such file"):
        cached(dataset, tiny_model(), tmp_path)
