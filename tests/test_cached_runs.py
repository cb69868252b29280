"""run_ser.py with a frozen encoder: passes of the encoder, checkpoints that share its weights, resuming, processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_fine_tuning import ROOT, losses, probabilities, save_checkpoint
from test_lora import save_encoder
from test_runner import counted, with_interruption
from tiny_runs import call, digest, digests, refusal, write_ravdess
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Trainer

from dataset_scripts.ravdess import RavdessBuilder
from modeling_camulenet.speech_encoder_camulenet import AbsentEncoder, SpeechEncoder
from ser_protocol import feature_cache
from ser_protocol.feature_cache import CachedFeatures
from ser_protocol.feature_store import FeatureSubset
from ser_protocol.runner import ENCODER_PREFIX, FoldRunner, FoldTrainer
from ser_protocol.statistics import read_predictions

FLAGS = ("--preset", "camulenet-small", "--trainable_encoder_layers", 0)
FOLDS = ("fold_00", "fold_01", "fold_02")
TOLERANCE = 1e-3  # of probabilities, in half precision


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder("whisper", folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Arguments that name a corpus of 48 tones, and a cache of its own."""
    folder = write_ravdess(tmp_path_factory.mktemp("ravdess"))
    return "--corpus", "ravdess", "--data_dir", folder, "--cache_dir", tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def arguments(data, encoder):
    return (*data, *FLAGS, "--encoder_name_or_path", encoder)


@pytest.fixture(scope="module")
def cached_run(arguments, tmp_path_factory):
    """Output folder of a complete run, and how many clips its encoder read. Tests look at it and leave it as it is."""
    folder = tmp_path_factory.mktemp("runs") / "cached"
    with pytest.MonkeyPatch.context() as patch:
        passes = count_passes(patch)
        patch.setattr(FoldTrainer, "train", without_encoder(FoldTrainer.train))
        call(*arguments, "--num_folds", 3, "--spec_augment", "true", "--output_dir", folder)
    return folder, sum(passes)


def count_passes(patch) -> list[int]:
    passes, encode = [], SpeechEncoder.encode

    def count(self, input_features, *args, **kwargs):
        passes.append(len(input_features))
        return encode(self, input_features, *args, **kwargs)

    patch.setattr(SpeechEncoder, "encode", count)
    return passes


def without_encoder(train):
    def check(self, *args, **kwargs):
        encoder = self.model.camulenet.speech_encoder.encoder
        assert isinstance(encoder, AbsentEncoder) and not list(encoder.parameters())
        return train(self, *args, **kwargs)

    return check


def test_files_of_a_run(cached_run):
    out, num_read = cached_run
    assert num_read == 96  # 48 clips at two speeds, once for three folds and the final model
    names = {path.name for path in out.iterdir()}
    files = {"arguments.json", "predictions.csv", "results.json", "results.md", "README.md", "encoder.safetensors"}
    assert names == {*files, "plots", "final", *FOLDS}
    shards = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"}
    for folder in (*FOLDS, "final"):
        content = set(os.listdir(out / folder))
        assert {*shards, "config.json", "preprocessor_config.json", "training.json", "README.md"} <= content
        assert not content & {"model.safetensors", "trainer", "training_args.bin"}
        encoder = out / folder / "model-00001-of-00002.safetensors"
        assert encoder.samefile(out / "encoder.safetensors") and encoder.stat().st_nlink == 5


def test_the_index_of_a_checkpoint(cached_run):
    out, _ = cached_run
    for folder in (*FOLDS, "final"):
        index = json.loads((out / folder / "model.safetensors.index.json").read_text())
        weights, places = {}, {}
        for name in sorted({*index["weight_map"].values()}):
            part = load_file(out / folder / name)
            assert not weights.keys() & part.keys()
            weights |= part
            places |= dict.fromkeys(part, name)
        assert places == index["weight_map"]
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in weights.values())
        model, report = AutoModelForAudioClassification.from_pretrained(out / folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
        assert {name for name, _ in model.named_parameters()} <= weights.keys() == model.state_dict().keys()


def test_the_encoder_is_the_one_that_was_given(cached_run, encoder):
    out, _ = cached_run
    stored = load_file(out / "encoder.safetensors")
    given = {name.removeprefix("encoder."): value for name, value in load_file(encoder / "model.safetensors").items()}
    for name, value in stored.items():
        torch.testing.assert_close(value, given[name.removeprefix(ENCODER_PREFIX)], rtol=0, atol=0)


@pytest.mark.parametrize("remote", [False, True])
def test_a_reloaded_fold_gives_its_predictions(cached_run, data, remote, tmp_path):
    out, _ = cached_run
    table = read_predictions(out / "predictions.csv").set_index("utterance_id")
    names = [f"p_{name}" for name in (*RavdessBuilder.emotions, "female", "male")]
    for number, folder in enumerate(FOLDS):
        own = table[table["fold"] == number]
        if remote:
            script = (
                "import sys, torch, json, soundfile\n"
                "from transformers import AutoModelForAudioClassification as A, AutoFeatureExtractor as F\n"
                "model = A.from_pretrained(sys.argv[1], trust_remote_code=True).eval()\n"
                "extract = F.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
                "assert type(model).__module__.startswith('transformers_modules'), type(model)\n"
                "wave, rate = soundfile.read(sys.argv[2])\n"
                "output = model(**extract(wave, sampling_rate=rate, return_tensors='pt'))\n"
                "print(json.dumps([*output.logits.softmax(-1)[0].tolist(), *output.gender_logits.softmax(-1)[0]"
                ".tolist()]))\n"
            )
            if number:
                continue
            path = data[3] / f"{own.index[3].removeprefix('ravdess/')}.wav"
            environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path), "PYTHONPATH": ""}
            command = [sys.executable, "-c", script, str(out / folder), str(path)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
            assert done.returncode == 0, done.stderr[-2000:]
            np.testing.assert_allclose(json.loads(done.stdout), own[names].to_numpy()[3], rtol=0, atol=TOLERANCE)
            continue
        model = AutoModelForAudioClassification.from_pretrained(out / folder).eval()
        extractor = AutoFeatureExtractor.from_pretrained(out / folder)
        for utterance_id in own.index:
            waveform, rate = soundfile.read(data[3] / f"{utterance_id.removeprefix('ravdess/')}.wav")
            with torch.no_grad():
                output = model(**extractor(waveform, sampling_rate=rate, return_tensors="pt"))
            heads = torch.cat((output.logits.softmax(-1), output.gender_logits.softmax(-1)), dim=1)[0]
            np.testing.assert_allclose(own.loc[utterance_id, names].tolist(), heads.tolist(), rtol=0, atol=TOLERANCE)


def test_in_single_precision_predictions_are_the_checkpoints(arguments, data, tmp_path):
    flags = ("--num_folds", 3, "--folds", 0, "--num_train_epochs", 1, "--cache_dtype", "float32")
    call(*arguments, *flags, "--output_dir", tmp_path)
    folder = tmp_path / "fold_00"
    own = read_predictions(folder / "predictions.csv").set_index("utterance_id")
    model, extractor = (
        auto.from_pretrained(folder) for auto in (AutoModelForAudioClassification, AutoFeatureExtractor)
    )
    for utterance_id in own.index:
        waveform, rate = soundfile.read(data[3] / f"{utterance_id.removeprefix('ravdess/')}.wav")
        with torch.no_grad():
            output = model.eval()(**extractor(waveform, sampling_rate=rate, return_tensors="pt"))
        emotions = own.loc[utterance_id, [f"p_{name}" for name in RavdessBuilder.emotions]]
        np.testing.assert_allclose(emotions.tolist(), output.logits.softmax(-1)[0].tolist(), rtol=0, atol=1e-5)


def test_later_runs_make_no_pass(arguments, cached_run, tmp_path, monkeypatch):
    passes = count_passes(monkeypatch)
    another = ("--seed", 7, "--num_folds", 2, "--folds", 1, "--num_train_epochs", 1)
    call(*arguments, *another, "--output_dir", tmp_path / "another")
    call(
        *arguments, *another, "--encoder_context", "clip", "--multitask", "false", "--output_dir", tmp_path / "single"
    )
    assert not passes
    # The fold's own checkpoint is fine-tuned on the same frames, and is whole itself.
    checkpoint = cached_run[0] / "fold_02"
    call(
        *arguments[:-2][:6], "--model_name_or_path", checkpoint, "--num_folds", 3, "--folds", 2,
        "--speed_factors", 0.9,
        "--num_train_epochs", 1, "--output_dir", tmp_path / "tuned",
    )  # fmt: skip
    assert not passes
    tuned = tmp_path / "tuned" / "fold_02"
    model, report = AutoModelForAudioClassification.from_pretrained(tuned, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    expected = load_file(cached_run[0] / "encoder.safetensors")
    weights = load_file(tuned / "model-00001-of-00002.safetensors")
    assert weights.keys() == expected.keys() and all(torch.equal(weights[key], expected[key]) for key in expected)
    assert digest(tuned / "model-00002-of-00002.safetensors") != digest(
        checkpoint / "model-00002-of-00002.safetensors"
    )


def test_spec_augment_and_speeds_take_effect(arguments, tmp_path, monkeypatch):
    flags = (*arguments, "--num_folds", 3, "--folds", 0, "--num_train_epochs", 1, "--do_train")
    runs = {"plain": (), "augmented": ("--spec_augment", "true"), "speeds": ("--speed_factors", 0.9)}
    runs = {"plain": ("--speed_factors", 1.0), "augmented": ("--speed_factors", 1.0, "--spec_augment", "true"), **{
        "speeds": ("--speed_factors", 0.9)}}  # fmt: skip
    for name, extra in runs.items():
        call(*flags, *extra, "--output_dir", tmp_path / name)
    train = {name: losses(tmp_path / name)[0] for name in runs}
    assert len({round(value, 5) for value in train.values()}) == 3
    masked = []
    original = FeatureSubset.__getitem__

    def look(self, index):
        item = original(self, index)
        if self.augment is not None:
            rows = item["encoder_frames"].float()
            masked.append(int((rows.std(dim=1) < 1e-6).sum()) + int((rows.std(dim=0) < 1e-6).sum()))
        return item

    monkeypatch.setattr(FeatureSubset, "__getitem__", look)
    call(*flags, *runs["augmented"], "--output_dir", tmp_path / "again")
    assert len(masked) == 16 and sum(masked) > 16


def test_an_interrupted_fold_ends_as_an_uninterrupted_one(arguments, cached_run, tmp_path, monkeypatch):
    flags = (*arguments, "--num_folds", 3, "--spec_augment", "true", "--folds", 1, "--output_dir", tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(FoldRunner, "_trainer", with_interruption(FoldRunner._trainer))
        call(*flags)
    epochs = []
    monkeypatch.setattr(Trainer, "_run_epoch", counted(Trainer._run_epoch, epochs))
    call(*flags)
    assert epochs == [1]
    for name in ("predictions.csv", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert digest(tmp_path / "out" / "fold_01" / name) == digest(cached_run[0] / "fold_01" / name), name


def test_an_interruption_between_the_model_and_its_encoder(arguments, cached_run, tmp_path, monkeypatch):
    flags = (*arguments, "--num_folds", 3, "--spec_augment", "true", "--folds", 1, "--output_dir", tmp_path / "out")

    def stop(*args):
        raise KeyboardInterrupt

    for place in ("link", "replace"):
        with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
            add = FoldRunner._add_encoder

            def interrupted(self, directory, add=add, place=place):
                with pytest.MonkeyPatch.context() as inner:
                    inner.setattr(os, place, stop)
                    add(self, directory)

            patch.setattr(FoldRunner, "_add_encoder", interrupted)
            call(*flags)
    call(*flags)
    for name in ("predictions.csv", "model-00002-of-00002.safetensors", "model.safetensors.index.json"):
        assert digest(tmp_path / "out" / "fold_01" / name) == digest(cached_run[0] / "fold_01" / name), name


def test_without_hard_links_the_encoder_is_copied(arguments, cached_run, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError(1, "Operation not permitted")))
    flags = (*arguments, "--num_folds", 3, "--spec_augment", "true", "--folds", 1, "--output_dir", tmp_path)
    call(*flags, "--do_train")
    encoder = tmp_path / "fold_01" / "model-00001-of-00002.safetensors"
    assert encoder.stat().st_nlink == 1 and digest(encoder) == digest(tmp_path / "encoder.safetensors")
    AutoModelForAudioClassification.from_pretrained(tmp_path / "fold_01")


@pytest.mark.parametrize("name", ["wav2vec2, layer norm", "wav2vec2, group norm", "wav2vec2-bert", "data2vec-audio"])
def test_other_encoders_make_whole_checkpoints(name, data, tmp_path, monkeypatch):
    before = save_encoder(name, tmp_path / "encoder")
    flags = (*FLAGS, "--encoder_name_or_path", tmp_path / "encoder", "--num_folds", 2, "--folds", 0)
    flags += ("--num_train_epochs", 1, "--use_weighted_layer_sum", "true", "--cache_all_layers", "true")
    flags += ("--cache_dtype", "float32", "--spec_augment", "true")
    call(*data, *flags, "--output_dir", tmp_path / "out")
    folder = tmp_path / "out" / "fold_00"
    model, report = AutoModelForAudioClassification.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    after = model.camulenet.speech_encoder.encoder.state_dict()
    before.pop("masked_spec_embed", None)  # SpecAugment's inside the encoder, which is left out
    assert all(torch.equal(after[key], value) for key, value in before.items()) and after.keys() == before.keys()
    assert model.camulenet.speech_encoder.layer_weights.abs().max() > 0  # learned
    own = read_predictions(folder / "predictions.csv").set_index("utterance_id")
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    for utterance_id in own.index[:6]:
        waveform, rate = soundfile.read(data[3] / f"{utterance_id.removeprefix('ravdess/')}.wav")
        with torch.no_grad():
            output = model.eval()(**extractor(waveform, sampling_rate=rate, return_tensors="pt"))
        emotions = own.loc[utterance_id, [f"p_{name}" for name in RavdessBuilder.emotions]]
        np.testing.assert_allclose(emotions.tolist(), output.logits.softmax(-1)[0].tolist(), rtol=0, atol=1e-5)


def test_what_is_refused(arguments, data, encoder, tmp_path, monkeypatch):
    passes = count_passes(monkeypatch)
    out = ("--num_folds", 3, "--output_dir", tmp_path / "out")
    message = refusal(*arguments, *out, "--gradient_checkpointing", "true")
    assert "--gradient_checkpointing has nothing to do: the frozen encoder is cached" in message
    message = refusal(*arguments, *out, "--use_weighted_layer_sum", "true")
    assert "needs every layer of the encoder: about " in message and "--cache_all_layers" in message
    assert "give one of float16, bfloat16, float32" in refusal(*arguments, *out, "--cache_dtype", "int8")
    (tmp_path / "cache" / "camulenet_features").mkdir(parents=True)
    (tmp_path / "cache" / "camulenet_features" / "format.json").write_text('{"format": 0}')
    message = refusal(*arguments, *out, "--cache_dir", tmp_path / "cache")
    assert "(format 0, this one reads 1)" in message and "clear --cache_dir" in message
    assert not passes and not (tmp_path / "out").exists()


def test_the_order_of_a_resumed_epoch(arguments, tmp_path, monkeypatch):
    """By buckets of like lengths: another order each epoch, the same one when a run goes on inside an epoch."""
    orders = []
    original = CachedFeatures._item

    def look(self, row, version=0):
        orders[-1].append((row, version))
        return original(self, row, version)

    monkeypatch.setattr(CachedFeatures, "_item", look)
    train = FoldTrainer.train

    def record(self, **kwargs):
        orders.append([])
        result = train(self, **kwargs)
        orders.append([])
        return result

    monkeypatch.setattr(FoldTrainer, "train", record)
    flags = (*arguments, "--num_folds", 3, "--folds", 0, "--num_train_epochs", 3, "--speed_factors", 1.0)
    flags += ("--per_device_train_batch_size", 4, "--do_train")
    call(*flags, "--output_dir", tmp_path / "out")
    drawn = [row for row, _ in orders[0]]
    validation = 16
    epochs = [drawn[start : start + 16] for start in range(0, len(drawn), 16 + validation)]
    assert len(epochs) == 3 and all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_two_processes_do_what_one_does(data, tmp_path, monkeypatch):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", dropout=False)
    flags = (*data[:4], "--model_name_or_path", checkpoint, "--num_folds", 3, "--folds", 0, "--learning_rate", 2e-3)
    flags += ("--warmup_steps", 0, "--num_train_epochs", 2, "--disable_tqdm", "true", "--use_cpu", "true")
    flags += ("--train_sampling_strategy", "group_by_length", "--adam_epsilon", 1e-5)
    one, two = tmp_path / "one", tmp_path / "two"
    call(*flags, "--cache_dir", tmp_path / "cache_one", "--per_device_train_batch_size", 8, "--output_dir", one)
    batch = ("--per_device_train_batch_size", 4, "--cache_dir", tmp_path / "cache_two", "--output_dir", two)
    (tmp_path / "runs.json").write_text(json.dumps([[str(flag) for flag in (*flags, *batch)]]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*torchrun, str(ROOT / "tests" / "two_processes.py"), str(tmp_path / "runs.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    np.testing.assert_allclose(probabilities(two), probabilities(one), rtol=0, atol=1e-4)
    caches = [tmp_path / name / feature_cache.FOLDER for name in ("cache_one", "cache_two")]
    files = [{name: value for name, value in digests(cache).items() if ".lock" not in name} for cache in caches]
    assert files[0] == files[1]
    index = json.loads((two / "fold_00" / "model.safetensors.index.json").read_text())
    for name, file in index["weight_map"].items():
        with safe_open(two / "fold_00" / file, "pt") as shard:
            assert name in shard.keys()  # noqa: SIM118
