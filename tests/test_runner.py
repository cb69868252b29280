"""The runner of folds: where models come from, what is trained on what, interruption, scores."""

import dataclasses
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score
from tiny_runs import FINISHED, TINY_PRESET, call, digest, digests, put_tiny_preset
from torch.utils.data import DataLoader, Subset
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments, WhisperConfig, WhisperModel

from dataset_scripts import load_corpus
from dataset_scripts.folds import get_folds
from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetForAudioClassification
from ser_protocol import runner
from ser_protocol.augmentation import SpecAugment
from ser_protocol.feature_store import IGNORED_LABEL, FeatureStore
from ser_protocol.files import damaged_files, read_checksums, sha256, write_checksums
from ser_protocol.runner import (
    FoldRunner,
    ModelSource,
    RunError,
    TrainingClips,
    compute_metrics,
    dataset_hash,
    entropy_share,
    median_best_epoch,
)
from ser_protocol.statistics import read_predictions

RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture
def tiny_preset(monkeypatch):
    put_tiny_preset(monkeypatch)


@pytest.fixture(scope="module")
def dataset(ravdess):
    arguments = dict(zip(ravdess[::2], ravdess[1::2]))
    return load_corpus(arguments["--corpus"], arguments["--data_dir"], cache_dir=arguments["--cache_dir"])


@pytest.fixture
def fold_runner(dataset, tmp_path, tiny_preset):
    """Builds a `FoldRunner` over `dataset`; keyword arguments are TrainingArguments'."""

    def build(dataset=dataset, augment=None, crop_s=None, **arguments) -> FoldRunner:
        arguments = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "disable_tqdm": True, **arguments}
        args = TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, learning_rate=5e-3, **arguments)
        source = ModelSource("camulenet-small")
        extractor = source.build(dataset, []).camulenet.feature_extractor
        return FoldRunner(dataset, extractor, source, args, augment, crop_s=crop_s)

    return build


@pytest.mark.parametrize(
    ("preset", "overrides", "num_genders"),
    [
        ("camulenet-small", {}, 2),
        ("camulenet-small", {"id2gender": {}}, 0),
        ("camulenet-small-no-multitask", {}, 0),
        ("camulenet-small-no-multitask", {"id2gender": {0: "female", 1: "male"}}, 2),
    ],
)
def test_a_preset_of_one_task_stays_one(dataset, tiny_preset, preset, overrides, num_genders):
    model = ModelSource(preset, overrides=overrides).build(dataset, [])
    assert model.config.num_genders == num_genders and model.config.num_labels == 8


def test_without_an_encoder_nothing_is_cached(dataset, tiny_preset):
    assert ModelSource("camulenet", "some-encoder").caches_encoder
    assert not ModelSource("camulenet-no-encoder").caches_encoder
    source = ModelSource("camulenet", overrides={"fusion": "branches", "width_multiplier": 1 / 16})
    assert not source.caches_encoder
    assert not any("encoder" in name for name in source.build(dataset, []).state_dict())


# ---------------------------------------------------------------------------------------------------------------------
# Interruption


class Interruption(TrainerCallback):
    """Ctrl-C after the first epoch is saved."""

    def on_save(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


def with_interruption(make_trainer):
    def make(*args, **kwargs):
        trainer = make_trainer(*args, **kwargs)
        trainer.add_callback(Interruption())
        return trainer

    return make


def test_an_interrupted_run_ends_as_an_uninterrupted_one(ravdess, finished_run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    arguments = [*ravdess, *FINISHED, "--output_dir", out]
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(FoldRunner, "_trainer", with_interruption(FoldRunner._trainer))
        call(*arguments)
    assert {path.name for path in (out / "fold_00").iterdir()} == {"trainer"}
    (written,) = (out / "fold_00" / "trainer").iterdir()
    half_written = written.with_name("checkpoint-999")  # what a kill in the middle of writing leaves
    half_written.mkdir()
    shutil.copy(written / "model.safetensors", half_written)

    epochs = []
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_run_epoch", counted(Trainer._run_epoch, epochs))
        call(*arguments, "--folds", 0)
    assert epochs == [1]  # the second one only
    assert "Only 1 of 3 folds are complete (0). No pooled figures yet." in capsys.readouterr().out
    for name in ("predictions.csv", "model.safetensors", "config.json"):
        assert digest(out / "fold_00" / name) == digest(finished_run / "fold_00" / name)
    metrics, expected = (json.loads((folder / "fold_00/metrics.json").read_text()) for folder in (out, finished_run))
    assert metrics["train_s"] is None and expected["train_s"] > 0
    timeless = ("train_s", "peak_memory_bytes")
    assert {n: v for n, v in metrics.items() if n not in timeless} == {
        n: v for n, v in expected.items() if n not in timeless
    }
    assert not (out / "fold_00" / "trainer").exists() and not (out / "results.json").exists()

    # The other folds in a call of their own: the same seed, the same predictions, pooled at the end.
    before = digests(out / "fold_00")
    call(*arguments, "--folds", 2, 1)
    after = digests(out / "fold_00")
    assert after.pop("README.md") and after == before
    for name in ("predictions.csv", "final/model.safetensors", "fold_02/model.safetensors"):
        assert digest(out / name) == digest(finished_run / name)
    results, expected = (json.loads((folder / "results.json").read_text()) for folder in (out, finished_run))
    assert results["pooled"] == expected["pooled"] and results["interval"] == expected["interval"]


def counted(run_epoch, epochs: list):
    def run(self, *args, **kwargs):
        epochs.append(kwargs["epoch"])
        return run_epoch(self, *args, **kwargs)

    return run


def damage(path: Path) -> None:
    """Flips a bit of a file, in place."""
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


def test_damaged_files_of_finished_folds_are_made_again(ravdess, finished_run, tmp_path, monkeypatch, caplog):
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    damage(out / "fold_00" / "predictions.csv")
    (out / "fold_01" / "metrics.json").write_text("{")
    damage(out / "fold_02" / "model.safetensors")
    damage(out / "final" / "config.json")
    epochs = []
    monkeypatch.setattr(Trainer, "_run_epoch", counted(Trainer._run_epoch, epochs))
    call(*ravdess, *FINISHED, "--output_dir", out)
    said = [record.getMessage().removeprefix(f"{out}/") for record in caplog.records if record.name == runner.__name__]
    assert said == [
        "fold_00: damaged predictions.csv. Made again without training.",
        "fold_01: damaged metrics.json. Made again without training.",
        "fold_02: damaged model.safetensors. The model is trained again.",
        "final: damaged config.json. The model is trained again.",
    ]
    num_final = len(json.loads((finished_run / "final" / "training.json").read_text())["history"])
    assert epochs == [0, 1, *range(num_final)]  # of fold 2 and of the final model
    names = [f"fold_0{fold}/{name}" for fold in (0, 1, 2) for name in ("predictions.csv", "model.safetensors")]
    for name in (*names, "fold_00/metrics.json", "fold_01/metrics.json", "final/config.json", "predictions.csv"):
        assert digest(out / name) == digest(finished_run / name), name
    for folder in ("fold_00", "fold_01", "fold_02", "final"):
        assert damaged_files(out / folder) == []
        checked = read_checksums(out / folder).keys()
        assert {"config.json", "model.safetensors", "training.json"} <= checked and "README.md" not in checked
        assert {"predictions.csv", "metrics.json"} <= checked or folder == "final"


def test_folds_of_versions_without_checksums_stay_complete(fold_runner, finished_run, tmp_path, caplog):
    built = fold_runner()
    (committed,) = RESULTS.glob("ravdess/camulenet-small/seed_43/fold_00")
    shutil.copytree(committed, built.fold_dir(0))
    shutil.copytree(finished_run / "fold_01", built.fold_dir(1))
    (built.fold_dir(1) / "model.safetensors").unlink()  # someone saves room
    before = digests(built.output_dir)
    assert "fold_00/metrics.json" in before and "fold_00/SHA256SUMS" not in before
    for fold in (0, 1):
        built.reopen_if_damaged(built.fold_dir(fold))
        assert built.is_complete(fold)
    assert digests(built.output_dir) == before and not caplog.records


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "model.safetensors"])
def test_a_damaged_checkpoint_is_not_resumed_from(name, ravdess, finished_run, tmp_path, monkeypatch, caplog):
    arguments = [*ravdess, *FINISHED, "--folds", 0, "--output_dir", tmp_path]
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(FoldRunner, "_trainer", with_interruption(FoldRunner._trainer))
        call(*arguments)
    (written,) = (tmp_path / "fold_00" / "trainer").iterdir()
    damage(written / name)
    epochs = []
    monkeypatch.setattr(Trainer, "_run_epoch", counted(Trainer._run_epoch, epochs))
    call(*arguments)
    assert epochs == [0, 1] and f"{written}: damaged" in caplog.text
    assert digest(tmp_path / "fold_00/predictions.csv") == digest(finished_run / "fold_00/predictions.csv")


def test_the_checkpoint_before_goes_when_the_next_is_whole(tmp_path):
    for step in (2, 4, 6):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        best = str(tmp_path / "checkpoint-2") if step > 2 else None
        (folder / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": best}))
        if step < 6:  # the last one is half written
            write_checksums(folder, {"trainer_state.json": sha256(folder / "trainer_state.json")})
    assert runner._usable_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    assert runner._usable_checkpoint(tmp_path) is None  # the best one is damaged
    assert not list(tmp_path.iterdir())
    assert runner._usable_checkpoint(tmp_path / "nowhere") is None


def test_a_part_of_a_run_is_one_calls(fold_runner):
    one, other = fold_runner(), fold_runner()
    with one.claimed("fold_00") as mine, other.claimed("fold_00") as theirs, other.claimed("fold_01") as another:
        assert (mine, theirs, another) == (True, False, True)
    with other.claimed("fold_00") as theirs:
        assert theirs


def test_a_trained_fold_that_was_not_tested_is_not_trained_again(ravdess, tmp_path, finished_run, monkeypatch):
    arguments = [*ravdess, *FINISHED, "--folds", 1, "--output_dir", tmp_path]
    call(*arguments, "--do_train")
    fold = tmp_path / "fold_01"
    assert not (fold / "predictions.csv").exists() and not (fold / "metrics.json").exists()
    weights = (fold / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(Trainer, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    call(*arguments, "--do_predict")
    assert (fold / "model.safetensors").stat().st_mtime_ns == weights
    assert (fold / "predictions.csv").read_text() == (finished_run / "fold_01/predictions.csv").read_text()
    assert "validation" not in json.loads((fold / "metrics.json").read_text())  # not asked for


# ---------------------------------------------------------------------------------------------------------------------
# One fold


def test_unknown_genders(dataset, fold_runner, capsys):
    genders = [None if row["speaker_id"] in ("ravdess/02", "ravdess/05") else row["gender"] for row in dataset]
    features = dataset.features
    partly = dataset.remove_columns("gender").add_column("gender", genders).cast(features)
    folds = get_folds(dataset, "speakers", 3)
    fold_runner(partly, disable_tqdm=False).run(folds[0])

    directory = fold_runner().fold_dir(0)
    table = read_predictions(directory / "predictions.csv")
    assert set(table["gender"][table["speaker_id"] == "ravdess/02"]) == {""}
    assert set(table["gender"][table["speaker_id"] == "ravdess/01"]) == {"male"}
    assert set(table["predicted_gender"]) <= {"female", "male"} and len(table) == 16
    known = table[table["gender"] != ""]
    test = json.loads((directory / "metrics.json").read_text())["test"]
    assert test["gender_wa"] == pytest.approx(accuracy_score(known["gender"], known["predicted_gender"]), abs=1e-6)
    assert "fold 0, epoch 1: train loss" in capsys.readouterr().out


def test_training_features_alone_are_augmented(dataset, fold_runner, monkeypatch):
    subsets = {"training": [], "other": []}
    for name, calls in (("training_subset", subsets["training"]), ("subset", subsets["other"])):
        original = getattr(FeatureStore, name)
        monkeypatch.setattr(FeatureStore, name, recorded(original, calls))
    fold = get_folds(dataset, "speakers", 3)[1]

    def silence(item):
        return {name: torch.zeros_like(tensor) if tensor.ndim == 2 else tensor for name, tensor in item.items()}

    fold_runner(augment=silence, crop_s=0.25).run(fold)
    (training,) = subsets["training"]
    assert training["rows"] == fold.train and training["result"].augment is silence
    assert {len(item["input_features"]) for item in training["result"]} == {25}
    assert not training["result"][0]["mfcc"].any()
    tested = [sorted(call["rows"]) for call in subsets["other"]]
    assert tested == [fold.validation, fold.train, fold.validation, fold.test]
    for call_ in subsets["other"]:
        assert call_["result"].augment is None and call_["result"].stretch is None
        assert all(bool(call_["result"][place]["mfcc"].any()) for place in range(16))


def test_what_a_fold_notes(finished_run):
    metrics = json.loads((finished_run / "fold_00" / "metrics.json").read_text())
    for part in ("train", "validation", "test"):
        assert {"wa", "ua", "loss", "gender_wa"} <= metrics[part].keys()
        assert 0 < metrics[part]["co_attention_entropy"] <= 1
    for epoch in metrics["history"]:
        assert epoch["train_emotion_loss"] > 0 and epoch["train_gender_loss"] > 0 and epoch["grad_norm"] > 0
        assert epoch["emotion_grad_norm"] > 0 and epoch["gender_grad_norm"] > 0


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.2)])
def test_how_hard_each_head_pulls_at_the_embedding(dataset, fold_runner, bf16, tolerance):
    built = fold_runner(bf16=bf16, save_strategy="no")
    model = built.source.build(dataset, []).train()
    model.config.emotion_loss_weight, model.config.gender_loss_weight = 0.5, 0.25
    batch = runner.collate([built.store.subset(range(8))[row] for row in range(8)])
    expected = {}
    for head, weight in (("emotion", 0.5), ("gender", 0.25)):
        torch.manual_seed(1)
        output = model(**batch)
        (gradient,) = torch.autograd.grad(output[f"{head}_loss"], output.embeddings)
        expected[f"{head}_grad_norm"] = weight * gradient.norm().item()
    trainer = built._trainer(
        model, built.fold_dir(0), "fold", TrainingClips(built.store.subset(range(8)), [""] * 8, 0)
    )
    logged = {}
    trainer.add_callback(Logged(logged))
    wrapped = trainer.accelerator.prepare(model)
    torch.manual_seed(1)
    trainer.compute_loss(wrapped, batch).backward()  # the graph is still there
    trainer.log({"loss": 0.0})
    assert {name: logged[name] for name in expected} == pytest.approx(expected, rel=tolerance)
    assert expected["emotion_grad_norm"] > expected["gender_grad_norm"] > 0
    assert not model.camulenet._forward_hooks


class Logged(TrainerCallback):
    def __init__(self, logged: dict):
        self.logged = logged

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logged |= logs


def test_entropy_as_a_share_of_equal_weights():
    weights = torch.tensor([[[0.5, 0.5, 0.0]], [[0.25, 0.75, 0.0]], [[1.0, 0.0, 0.0]]])
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    torch.testing.assert_close(entropy_share(weights), torch.tensor([1.0, quarter, 0.0]))
    both = torch.cat([weights[:1], weights[2:]], dim=1)  # two heads of one clip
    torch.testing.assert_close(entropy_share(both), torch.tensor([0.5]))


def recorded(method, calls: list):
    def call_and_record(self, rows, *args):
        result = method(self, rows, *args)
        calls.append({"rows": list(rows), "result": result})
        return result

    return call_and_record


def test_steps_in_place_of_epochs(dataset, fold_runner):
    fold = get_folds(dataset, "speakers", 3)[0]
    built = fold_runner(max_steps=3, logging_first_step=True)  # one and a half of epochs of two steps
    built.run(fold)
    metrics = json.loads((built.fold_dir(0) / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["history"]] == [1, 2]
    scores = [epoch["validation_ua"] for epoch in metrics["history"]]
    assert metrics["best_epoch"] == 1 + int(np.argmax(scores))
    assert metrics["validation"]["ua"] == max(scores)


def test_a_loss_that_is_no_number_stops_the_fold(dataset, fold_runner):
    fold = get_folds(dataset, "speakers", 3)[0]
    built = fold_runner()
    poisoned = fold.train[3]
    built.store.items[poisoned]["mfcc"] = torch.full_like(built.store.items[poisoned]["mfcc"], torch.nan)
    with pytest.raises(RunError, match=r"^fold 0: the loss is nan at step [12], epoch 1, on the batch of ") as error:
        built.run(fold)
    ids = str(error.value).split("on the batch of ")[1].split(". ")[0].split(", ")
    assert len(set(ids)) == 8 and set(ids) <= set(dataset.select(fold.train)["utterance_id"])
    assert dataset[poisoned]["utterance_id"] in ids
    assert not built.is_complete(0)


def test_what_a_clip_draws_is_a_function_of_seed_epoch_and_place(dataset, fold_runner):
    built = fold_runner(crop_s=0.2)
    built.speed_factors = [0.9, 1.1]
    rows, ids = range(6), [f"clip {row}" for row in range(6)]

    def drawn(epoch=0, seed=3, workers=0, order=range(6)):
        clips = TrainingClips(built.store.training_subset(rows, built.augment, built.crop_s), ids, seed)
        loader = DataLoader(Subset(clips, list(order)), num_workers=workers, persistent_workers=workers > 0)
        for current in range(epoch + 1):
            clips.epoch.value = current
            items = {int(item["place"]): item["mfcc"][0] for item in loader}
        return [items[place] for place in sorted(items)]

    built.augment = SpecAugment()
    first = drawn()
    for again in (drawn(), drawn(workers=1), drawn(workers=2), drawn(order=[5, 0, 3, 1, 4, 2])):
        assert all(map(torch.equal, first, again))
    for other in (drawn(epoch=1), drawn(seed=4)):
        assert sum(map(torch.equal, first, other)) <= 1
    assert all(map(torch.equal, drawn(epoch=1), drawn(epoch=1, workers=2)))  # workers that live on see the epoch
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    clips = TrainingClips(built.store.training_subset(rows, built.augment, built.crop_s), ids, 3)
    _ = [clips[place] for place in rows]
    assert torch.equal(torch.rand(3), expected)  # dropout draws on its own


def test_the_seed_reaches_every_generator(dataset, fold_runner, monkeypatch):
    fold = get_folds(dataset, "speakers", 3)[0]
    drawn, seeds = [], []

    def look(self, *args, **kwargs):
        drawn.append((random.random(), float(np.random.random()), float(torch.rand(()))))
        return build(self, *args, **kwargs)

    class Recorder(runner.FoldTrainer):
        def train(self, **kwargs):
            sampler = self.get_train_dataloader().batch_sampler.sampler
            seeds.append((self.args.seed, self.train_dataset.seed, sampler.seed))
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "FoldTrainer", Recorder)
    build = ModelSource.build
    for arguments in ({"seed": 3}, {"seed": 4}, {"seed": 3, "data_seed": 5}):
        built = fold_runner(train_sampling_strategy="group_by_length", **arguments)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ModelSource, "build", look)
            built.run(fold)
    expected = []
    for seed in (3, 4, 3):
        random.seed(seed)
        expected.append((random.random(), np.random.RandomState(seed).random_sample()))
        generator = torch.Generator().manual_seed(seed)
        expected[-1] += (float(torch.rand((), generator=generator)),)
    assert drawn == expected
    assert seeds == [(3, 3, 3), (4, 4, 4), (3, 5, 5)]


def test_the_same_seed_gives_the_same_fold(ravdess, tmp_path):
    flags = (*ravdess, "--num_folds", 3, "--folds", 0, "--spec_augment", "true", "--crop_s", 0.25)
    runs = {"one": (), "again": (), "workers": ("--dataloader_num_workers", 2), "other": ("--seed", 7)}
    found = {}
    for name, extra in runs.items():
        call(*flags, *extra, "--output_dir", tmp_path / name)
        fold = tmp_path / name / "fold_00"
        found[name] = [digest(fold / file) for file in ("model.safetensors", "predictions.csv")]
    assert found["one"] == found["again"] == found["workers"]
    assert not set(found["one"]) & set(found["other"])


def test_the_final_model_trains_for_the_best_epoch(dataset, fold_runner, tmp_path, monkeypatch):
    seen = []

    class Recorder(runner.FoldTrainer):
        def train(self, **kwargs):
            seen.append((self.args.num_train_epochs, self.args.max_steps, len(self.train_dataset), self.eval_dataset))
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "FoldTrainer", Recorder)
    for num_epochs in (7, None):
        with pytest.raises(KeyboardInterrupt):
            fold_runner(max_steps=3).train_final(tmp_path / "final", num_epochs)
    assert seen == [(7, -1, 48, None), (1, 3, 48, None)]


def test_nothing_random_predicts(dataset, fold_runner, tmp_path):
    fold = get_folds(dataset, "speakers", 3)[0]
    with pytest.raises(RunError, match="fold 0 is not trained yet: --do_train"):
        fold_runner().run(fold, do_train=False)

    source = ModelSource("camulenet-small")
    others = {
        "two": ({"id2label": {0: "calm", 1: "fear"}}, "calm, fear, female, male"),
        "single": ({"id2gender": {}}, "neutral, calm, .*, surprise"),
    }
    for name, (fields, predicted) in others.items():
        config = source.build(dataset, []).config
        other = CAMuLeNetConfig.from_dict({**config.to_dict(), **fields})
        CAMuLeNetForAudioClassification(other).save_pretrained(tmp_path / name)
        built = fold_runner()
        built.source = ModelSource("camulenet-small", model_name_or_path=str(tmp_path / name))
        with pytest.raises(
            RunError, match=f"{name} predicts {predicted}, not neutral, calm, .*Test it on .*or fine-tune it"
        ):
            built.run(fold, do_train=False)
    # Without the gender the single-task checkpoint serves as it is.
    built.source = dataclasses.replace(built.source, overrides={"id2gender": {}})
    built.run(fold, do_train=False)
    assert not (read_predictions(built.fold_dir(0) / "predictions.csv")["predicted_gender"] != "").any()


# ---------------------------------------------------------------------------------------------------------------------
# Models


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Folder of a tiny Whisper checkpoint."""
    torch.manual_seed(3)
    sizes = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 20}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    folder = tmp_path_factory.mktemp("whisper")
    WhisperModel(WhisperConfig(**sizes, **decoder, **tokens)).save_pretrained(folder)
    return folder


def test_model_from_scratch(dataset, tiny_preset):
    model = ModelSource("camulenet-small", overrides={"dropout": 0.25}).build(dataset, ["b", "a", "b"])
    assert list(model.config.id2label.values()) == dataset.features["emotion"].names
    assert model.config.label2id["surprise"] == 7 and model.config.id2gender == {0: "female", 1: "male"}
    assert model.config.training_speakers == ["a", "b"]
    assert model.config.dropout == 0.25 and model.config.branch_size == TINY_PRESET["branch_size"]


def test_model_around_an_encoder(dataset, whisper, tiny_preset):
    model = ModelSource("camulenet-small", str(whisper)).build(dataset, [])
    expected = WhisperModel.from_pretrained(whisper).encoder.state_dict()
    encoder = model.camulenet.speech_encoder.encoder.state_dict()
    assert expected.keys() == encoder.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(encoder[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("preset", ["camulenet", "paper", "paper-fixed"])
def test_a_frozen_encoder_with_random_weights_is_refused(dataset, preset):
    with pytest.raises(RunError, match=f"The preset {preset} freezes its encoder.*random.*camulenet-small"):
        ModelSource(preset).build(dataset, [])


def test_an_encoder_in_the_place_of_a_model(dataset, whisper):
    with pytest.raises(RunError, match="'whisper' checkpoint.*--encoder_name_or_path"):
        ModelSource("camulenet-small", model_name_or_path=str(whisper)).prior_speakers()


def test_a_checkpoint_gets_new_heads_and_keeps_the_rest(dataset, finished_run):
    part = dataset.select_columns(["utterance_id", "emotion", "gender"])
    features = part.features.copy()
    features["emotion"] = type(features["emotion"])(names=["anger", "boredom"])
    two = part.map(lambda row: {"emotion": row["emotion"] % 2}, load_from_cache_file=False).cast(features)
    checkpoint = finished_run / "fold_02"
    source = ModelSource("camulenet-small", model_name_or_path=str(checkpoint))
    torch.manual_seed(5)
    model = source.build(two, ["emodb/03"])
    assert model.config.id2label == {0: "anger", 1: "boredom"} and model.config.num_labels == 2
    assert model.config.training_speakers == ["emodb/03", *(f"ravdess/{number:02d}" for number in (1, 2, 3, 4))]
    assert model.config.branch_size == TINY_PRESET["branch_size"]
    before, after = CAMuLeNetForAudioClassification.from_pretrained(checkpoint).state_dict(), model.state_dict()
    new = {name for name in before if before[name].shape != after[name].shape}
    assert new == {"classifier.weight", "classifier.bias"} and before.keys() == after.keys()
    for name in before.keys() - new:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


# ---------------------------------------------------------------------------------------------------------------------
# Scores


def test_compute_metrics():
    logits = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 3], [1, 0, 0], [0, 1, 0]])
    gender_logits = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [1, 0]])
    labels = np.array([0, 1, 1, 0, 0])
    genders = np.array([0, 1, 1, IGNORED_LABEL, IGNORED_LABEL])
    scores = compute_metrics(EvalPrediction((logits, gender_logits), (labels, genders)))
    predicted = [0, 1, 2, 0, 1]
    assert scores["wa"] == pytest.approx(accuracy_score(labels, predicted)) == 0.6
    expected = recall_score(labels, predicted, labels=[0, 1], average="macro")
    assert scores["ua"] == pytest.approx(expected) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["gender_wa"] == pytest.approx(2 / 3)

    unknown = np.full(5, IGNORED_LABEL)
    assert "gender_wa" not in compute_metrics(EvalPrediction((logits, gender_logits), (labels, unknown)))
    single = compute_metrics(EvalPrediction(logits, (labels, genders)))
    assert "gender_wa" not in single and single["ua"] == scores["ua"]


def test_median_best_epoch():
    def folds(*best):
        return [{"best_epoch": epoch} for epoch in best]

    assert median_best_epoch(folds(3, 9, 4)) == 4
    assert median_best_epoch(folds(3, 4)) == 4
    assert median_best_epoch(folds(None, 2, None)) == 2
    assert median_best_epoch([*folds(None), {}]) is None


def test_dataset_hash_knows_what_is_learnt(dataset):
    known = dataset_hash(dataset)
    assert known == dataset_hash(dataset.select(range(len(dataset)))) and len(known) == 64
    assert dataset_hash(dataset.select(range(len(dataset) - 1))) != known
    for column, value in (("emotion", 1), ("gender", None), ("speaker_id", "ravdess/99"), ("duration_s", 1.0)):
        values = [value, *list(dataset[column])[1:]]
        table = dataset.remove_columns(column).add_column(column, values)
        assert dataset_hash(table) != known, column


def test_predictions_and_metrics_of_complete_folds_only(finished_run, fold_runner, tmp_path):
    built = fold_runner()
    built.output_dir = finished_run
    expected = pd.concat(read_predictions(finished_run / f"fold_{index:02d}/predictions.csv") for index in (0, 1, 2))
    pd.testing.assert_frame_equal(built.predictions(3), expected)
    assert [metrics["fold"] for metrics in built.metrics(2)] == [0, 1]
    assert built.is_complete(2) and not built.is_complete(3)
