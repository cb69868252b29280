"""run_ser.py from its arguments to its outputs, on a corpus of tones: one complete run, looked at from all sides."""

import dataclasses
import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from datasets.table import embed_table_storage
from huggingface_hub import ModelCard
from safetensors import SafetensorError
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score
from tiny_runs import EMOTIONS, FINISHED, TINY_PRESET, call, digest, digests, files_of, refusal, write_ravdess
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, TrainingArguments

import run_ser
from dataset_scripts import load_corpus
from dataset_scripts.folds import get_folds
from dataset_scripts.ravdess import RavdessBuilder
from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol import presets, runner
from ser_protocol.statistics import read_predictions

ROOT = Path(__file__).parent.parent
LABELS = RavdessBuilder.emotions
HEAD = ["utterance_id", "speaker_id", "fold", "emotion", "gender", "predicted_emotion", "predicted_gender"]
SCORES = ("wa", "ua", "wf1", "macro_f1", "gender_wa")


def read_json(path: Path):
    return json.loads(path.read_text())


def scikit_scores(table: pd.DataFrame) -> dict[str, float]:
    truth, predicted = table["emotion"], table["predicted_emotion"]
    present = {"labels": sorted(set(truth)), "zero_division": 0}
    return {
        "wa": accuracy_score(truth, predicted),
        "ua": recall_score(truth, predicted, average="macro", **present),
        "wf1": f1_score(truth, predicted, average="weighted", **present),
        "macro_f1": f1_score(truth, predicted, average="macro", **present),
        "gender_wa": accuracy_score(table["gender"], table["predicted_gender"]),
    }


@pytest.fixture(scope="module")
def dataset(ravdess):
    arguments = dict(zip(ravdess[::2], ravdess[1::2]))
    return load_corpus(arguments["--corpus"], arguments["--data_dir"], cache_dir=arguments["--cache_dir"])


@pytest.fixture(scope="module")
def folds(dataset):
    return get_folds(dataset, "speakers", 3)


@pytest.fixture(scope="module")
def predictions(finished_run):
    return read_predictions(finished_run / "predictions.csv")


@pytest.fixture(scope="module")
def results(finished_run):
    return read_json(finished_run / "results.json")


# ---------------------------------------------------------------------------------------------------------------------
# A complete run


def test_the_files_of_a_run(finished_run):
    names = {path.name for path in finished_run.iterdir()}
    files = {"arguments.json", "predictions.csv", "results.json", "results.md", "README.md"}
    assert names == {*files, "plots", "final", "fold_00", "fold_01", "fold_02"}
    checkpoint = {"config.json", "model.safetensors", "preprocessor_config.json", "training.json", "README.md"}
    for folder in ("fold_00", "fold_01", "fold_02"):
        assert checkpoint | {"predictions.csv", "metrics.json"} <= set(os.listdir(finished_run / folder))
    assert checkpoint <= set(os.listdir(finished_run / "final"))
    left_over = [
        name
        for name in files_of(finished_run)
        if any(part in name for part in ("trainer", "optimizer", ".tmp", ".bin"))
    ]
    assert left_over == []


def test_every_utterance_is_predicted_once_by_its_fold(predictions, dataset, folds, finished_run):
    probabilities = [f"p_{name}" for name in (*LABELS, "female", "male")]
    assert list(predictions.columns) == HEAD + probabilities
    assert sorted(predictions["utterance_id"]) == list(dataset["utterance_id"]) and len(predictions) == 48
    table = predictions.set_index("utterance_id")
    for fold in folds:
        own = read_predictions(finished_run / f"fold_{fold.index:02d}" / "predictions.csv")
        assert list(own["utterance_id"]) == [dataset[row]["utterance_id"] for row in fold.test]
        pd.testing.assert_frame_equal(own.set_index("utterance_id"), table[table["fold"] == fold.index])
    for row in dataset:
        predicted = table.loc[row["utterance_id"]]
        assert predicted["speaker_id"] == row["speaker_id"]
        assert predicted["emotion"] == EMOTIONS[row["utterance_id"].split("-")[2]]
        assert predicted["gender"] == ("male" if int(row["speaker_id"][-2:]) % 2 else "female")


def test_probabilities_sum_to_one_and_name_the_prediction(predictions):
    for column, names in (("predicted_emotion", LABELS), ("predicted_gender", ("female", "male"))):
        values = predictions[[f"p_{name}" for name in names]].to_numpy()
        np.testing.assert_allclose(values.sum(axis=1), 1, rtol=0, atol=5e-6)
        assert values.min() >= 0
        assert list(predictions[column]) == [names[best] for best in values.argmax(axis=1)]


def test_a_reloaded_fold_gives_the_predictions_of_its_own_clips(finished_run, predictions, folds, ravdess):
    # Clips differ in length, and each is heard alone here: a prediction in another clip's row would be seen.
    table = predictions.set_index("utterance_id")
    for fold in folds:
        folder = finished_run / f"fold_{fold.index:02d}"
        model = AutoModelForAudioClassification.from_pretrained(folder).eval()
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        own = table[table["fold"] == fold.index]
        lengths, expected = set(), []
        for utterance_id in own.index:
            waveform, rate = soundfile.read(ravdess[3] / f"{utterance_id.removeprefix('ravdess/')}.wav")
            lengths.add(len(waveform))
            with torch.no_grad():
                output = model(**extractor(waveform, sampling_rate=rate, return_tensors="pt"))
            expected.append(torch.cat((output.logits.softmax(-1), output.gender_logits.softmax(-1)), dim=1)[0])
        expected = torch.stack(expected).numpy()
        written = own[[f"p_{name}" for name in (*LABELS, "female", "male")]].to_numpy()
        np.testing.assert_allclose(written, expected, rtol=0, atol=1e-5)
        apart = np.abs(expected[:, None] - expected[None]).max(axis=2) + np.eye(len(own))
        assert len(lengths) == 16 and apart.min() > 1e-4


def test_metrics_are_those_of_the_predictions(finished_run, predictions, folds, dataset):
    for fold in folds:
        metrics = read_json(finished_run / f"fold_{fold.index:02d}" / "metrics.json")
        for name, value in scikit_scores(predictions[predictions["fold"] == fold.index]).items():
            assert metrics["test"][name] == pytest.approx(value, abs=1e-6), name
        for part in ("train", "validation", "test"):
            rows = getattr(fold, part)
            assert metrics[f"num_{part}"] == len(rows) == 16
            assert metrics[f"{part}_speakers"] == sorted({dataset[row]["speaker_id"] for row in rows})
        assert [epoch["epoch"] for epoch in metrics["history"]] == [1, 2] and metrics["num_epochs"] == 2
        # The checkpoint is that of the best epoch, the first of equally good ones.
        scores = [epoch["validation_ua"] for epoch in metrics["history"]]
        assert metrics["best_epoch"] == 1 + scores.index(max(scores))
        assert metrics["validation"]["ua"] == max(scores)
        best = metrics["history"][metrics["best_epoch"] - 1]
        assert metrics["validation"]["loss"] == pytest.approx(best["validation_loss"], abs=1e-4)
        assert metrics["train_s"] > 0 and metrics["peak_memory_bytes"] > 1e6


def test_results_are_those_of_the_predictions(finished_run, predictions, results):
    pooled = scikit_scores(predictions)
    for name in SCORES:
        assert results["pooled"][name]["value"] == pytest.approx(pooled[name], abs=1e-6)
        folds = [scikit_scores(rows)[name] for _, rows in predictions.groupby("fold")]
        assert results["folds"]["mean"][name] == pytest.approx(np.mean(folds), abs=1e-6)
        assert results["folds"]["sd"][name] == pytest.approx(np.std(folds, ddof=1), abs=1e-6)
    counts = results["confusion_matrix"]
    truth, predicted = predictions["emotion"], predictions["predicted_emotion"]
    assert counts["counts"] == confusion_matrix(truth, predicted, labels=counts["labels"]).tolist()
    assert results["incomplete"] is None and results["unseen_speakers"] is True
    assert results["run"]["num_eligible_utterances"] == 48 and results["run"]["num_speakers"] == 6
    assert (results["run"]["corpus"], results["run"]["protocol"], results["run"]["num_folds"]) == (
        "ravdess",
        "speakers",
        3,
    )
    assert results["run"]["licenses"] == ["CC BY-NC-SA 4.0"] and results["run"]["languages"] == ["en"]
    (source,) = results["run"]["sources"]
    assert (source["corpus"], source["license_id"]) == ("ravdess", "cc-by-nc-sa-4.0")
    assert source["citation"].startswith("S. R. Livingstone and F. A. Russo, ")
    assert not any("unseen" in warning or "Leak" in warning for warning in results["warnings"])

    text = (finished_run / "results.md").read_text()
    for name, shown in (("wa", "WA"), ("ua", "UA"), ("wf1", "WF1"), ("macro_f1", "macro F1"), ("gender_wa", "gender")):
        assert f"| {shown}{' WA' if shown == 'gender' else ''} | {pooled[name]:.3f} |" in text


def test_cards_and_plots(finished_run, predictions):
    pooled = scikit_scores(predictions)
    card = ModelCard.load(finished_run / "README.md")
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == pytest.approx({name: pooled[name] for name in ("wa", "ua", "wf1", "macro_f1")}, abs=1e-6)
    assert "tested on the speakers 03 04" in (finished_run / "fold_01" / "README.md").read_text()
    assert "no speaker is left to test it on" in (finished_run / "final" / "README.md").read_text()
    plots = files_of(finished_run / "plots")
    assert sorted(plots) == ["confusion_matrix.png", "learning_curves.png", "speakers.png"]
    assert all(content.startswith(b"\x89PNG") and len(content) > 5000 for content in plots.values())


def test_checkpoints_know_whom_they_met(finished_run, folds, dataset):
    everybody = {f"ravdess/{number:02d}" for number in range(1, 7)}
    for fold in folds:
        config = CAMuLeNetConfig.from_pretrained(finished_run / f"fold_{fold.index:02d}")
        test = {dataset[row]["speaker_id"] for row in fold.test}
        assert config.training_speakers == sorted(everybody - test) and len(test) == 2
    assert CAMuLeNetConfig.from_pretrained(finished_run / "final").training_speakers == sorted(everybody)


def test_the_final_model_trains_for_the_median_best_epoch(finished_run, tmp_path):
    best = [read_json(finished_run / f"fold_{index:02d}" / "metrics.json")["best_epoch"] for index in range(3)]
    history = read_json(finished_run / "final" / "training.json")["history"]
    assert [epoch["epoch"] for epoch in history] == list(range(1, sorted(best)[1] + 1))
    assert all(not any(name.startswith("validation") for name in epoch) for epoch in history)
    model, report = AutoModelForAudioClassification.from_pretrained(finished_run / "final", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    first = AutoModelForAudioClassification.from_pretrained(finished_run / "fold_00")
    assert not torch.equal(model.classifier.weight, first.classifier.weight)


def test_validation_speakers_can_be_trained_on(ravdess, tmp_path, folds, dataset):
    arguments = ("--num_folds", 3, "--folds", 1, "--train_on_validation", "true", "--output_dir", tmp_path)
    call(*ravdess, *arguments, "--branches", "mfcc", "--fusion", "concat")
    metrics = read_json(tmp_path / "fold_01" / "metrics.json")
    seen = sorted({dataset[row]["speaker_id"] for row in [*folds[1].train, *folds[1].validation]})
    assert (metrics["train_speakers"], metrics["validation_speakers"]) == (seen, [])
    assert (metrics["num_train"], metrics["num_validation"], metrics["num_test"]) == (32, 0, 16)
    assert metrics["best_epoch"] is None and "validation" not in metrics
    assert [epoch["epoch"] for epoch in metrics["history"]] == [1, 2]
    assert not any(name.startswith("validation") for epoch in metrics["history"] for name in epoch)
    config = AutoConfig.from_pretrained(tmp_path / "fold_01")
    assert config.training_speakers == seen
    assert (config.branches, config.fusion) == (["mfcc"], "concat")


def test_the_command_makes_the_run(results, finished_run):
    command = shlex.split(results["run"]["command"])
    assert command[:2] == ["python", "run_ser.py"]
    model_args, data_args, training_args = run_ser.parse_arguments(command[2:])
    assert (data_args.corpus, data_args.num_folds, model_args.spec_augment) == (["ravdess"], 3, True)
    assert Path(training_args.output_dir) == finished_run


def test_the_command_is_that_of_the_whole_run_without_tokens():
    argv = shlex.split("'a b.yaml' --do_train True --folds 0 1 --seed -1 --do-eval --folds=2 --preset=x")
    assert run_ser.whole_command(argv) == "python run_ser.py 'a b.yaml' --seed -1 --preset=x"
    argv = ["--token", "hf_1", "--hub_token=hf_2", "--hub-token", "hf_3", "--do_predict"]
    assert run_ser.whole_command(argv) == "python run_ser.py --token ... --hub_token=... --hub-token ..."


# ---------------------------------------------------------------------------------------------------------------------
# The same OUT again


def test_a_complete_run_is_not_redone_though_free_arguments_change(ravdess, finished_run, tmp_path, capsys):
    out = tmp_path / "moved"
    shutil.copytree(finished_run, out)
    data_dir = tmp_path / "data"
    shutil.copytree(ravdess[3], data_dir)

    def state():
        kept = [path for path in out.glob("f*/*") if path.name != "README.md"]
        return {path: (path.stat().st_mtime_ns, digest(path)) for path in kept}

    before = state()
    free = ("--logging_steps", 3, "--folds", 0, 1, "--per_device_eval_batch_size", 3, "--save_total_limit", 5)
    call(*ravdess, *FINISHED, *free, "--data_dir", data_dir, "--output_dir", out)
    assert state() == before and len(before) > 30
    assert "validation: " not in capsys.readouterr().out  # the line of a fold that is run
    results, expected = read_json(out / "results.json"), read_json(finished_run / "results.json")
    assert "--logging_steps 3" in results["run"].pop("command") and expected["run"].pop("command")
    assert results == expected


def test_other_arguments_are_refused(ravdess, finished_run):
    before = digests(finished_run)
    changed = ("--learning_rate", "1.5e-7", "--seed", 7, "--dataloader_drop_last", "true", "--speed_factors", 0.9, 1.1)
    message = refusal(*ravdess, *FINISHED, *changed, "--output_dir", finished_run)
    lines = [line for line in message.splitlines() if line.startswith("  ")]
    assert sorted(lines) == [
        "  dataloader_drop_last: False before, True now",
        "  learning_rate: 0.005 before, 1.5e-07 now",
        "  seed: 42 before, 7 now",
        "  speed_factors: [0.9] before, [0.9, 1.1] now",
    ]
    assert "holds a run with other arguments" in message and "Give another --output_dir" in message
    assert "num_folds: 3 before, 2 now" in refusal(*ravdess, *FINISHED, "--num_folds", 2, "--output_dir", finished_run)
    assert digests(finished_run) == before


def test_other_data_are_refused(ravdess, finished_run, tmp_path):
    data_dir = write_ravdess(tmp_path, emotions=("01", "03", "04"))
    message = refusal(*ravdess, *FINISHED, "--data_dir", data_dir, "--output_dir", finished_run)
    assert "dataset_sha256" in message and len([line for line in message.splitlines() if line.startswith("  ")]) == 1


def test_small_learning_rates_are_held_unrounded(ravdess, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.FoldRunner, "run", lambda *args, **kwargs: None)
    arguments = [*ravdess, "--num_folds", 3, "--do_train", "--output_dir", tmp_path, "--learning_rate"]
    call(*arguments, "1.23456789e-6")
    call(*arguments, "1.23456789e-6")
    assert "learning_rate" in refusal(*arguments, "1.2345e-6")


# ---------------------------------------------------------------------------------------------------------------------
# Ablations


ONE_FOLD = ("--num_folds", 3, "--folds", 0, "--num_train_epochs", 1)


@pytest.mark.parametrize(
    ("flags", "num_genders"),
    [
        (("--preset", "camulenet-small-no-multitask"), 0),
        (("--preset", "camulenet-small-no-multitask", "--multitask", "true"), 2),
        (("--preset", "camulenet-small-concat", "--multitask", "false"), 0),
        (("--preset", "camulenet-small-adversarial-gender"), 2),
    ],
)
def test_the_task_of_a_run(ravdess, tmp_path, flags, num_genders):
    call(*ravdess, *ONE_FOLD, *flags, "--output_dir", tmp_path)
    config = CAMuLeNetConfig.from_pretrained(tmp_path / "fold_00")
    assert config.num_genders == num_genders
    assert config.adversarial_gender == ("adversarial" in flags[1])
    assert ("gender_wa" in read_json(tmp_path / "fold_00/metrics.json")["test"]) == (num_genders > 0)


@pytest.mark.parametrize(
    "flags",
    [("--preset", "camulenet-no-encoder"), ("--fusion", "branches"), ("--preset", "camulenet-spectrogram-only")],
)
def test_a_run_without_an_encoder(ravdess, tmp_path, flags):
    call(*ravdess, *ONE_FOLD, "--num_folds", 2, "--folds", 0, 1, *flags, "--output_dir", tmp_path)
    run = read_json(tmp_path / "results.json")["run"]
    assert (run["encoder"], run["fusion"], run["cache_dtype"]) == ("none", "branches", None)
    assert run["num_parameters"] == run["num_trainable_parameters"]
    assert not any("encoder" in name for name in load_file(tmp_path / "final/model.safetensors"))
    classify = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "final").pipeline(
        CAMuLeNetFeatureExtractor.from_pretrained(tmp_path / "final")
    )
    tone = np.sin(np.arange(8000, dtype=np.float32))
    assert sum(emotion["score"] for emotion in classify(tone)) == pytest.approx(1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Protocol random, single task, no validation


@pytest.fixture(scope="module")
def random_run(ravdess, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "random"
    arguments = ("--protocol", "random", "--num_folds", 2, "--multitask", "false", "--num_train_epochs", 1)
    call(*ravdess, *arguments, "--output_dir", folder, "--token", "hf_secret", "--hub_token=hf_secret")
    return folder


def test_protocol_random_marks_every_output(random_run):
    results = read_json(random_run / "results.json")
    assert results["unseen_speakers"] is False
    assert any("Protocol random" in warning for warning in results["warnings"])
    for name in ("results.md", "README.md", "fold_00/README.md", "fold_01/README.md", "final/README.md"):
        text = (random_run / name).read_text()
        assert "Protocol random" in text and "not unseen-speaker figures" in text, name


def test_an_epoch_chosen_on_the_test_speakers_marks_every_output(ravdess, tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_runs.presets.TRAIN_ON_VALIDATION", ("camulenet-small",))
    arguments = ("--protocol", "test-selected", "--num_folds", 2, "--output_dir", tmp_path / "out")
    call(*ravdess, *arguments, "--final_model", "none")
    results = read_json(tmp_path / "out" / "results.json")
    assert results["unseen_speakers"] is False and results["run"]["train_on_validation"] is False
    assert results["run"]["audit"]["verdict"].startswith("LEAK: 3 of 3 test speakers are in the validation part")
    for name in ("results.md", "README.md", "fold_00/README.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "Protocol test-selected: test speakers are in the validation part" in text, name
        assert "not unseen-speaker figures" in text, name
    for fold in (0, 1):
        metrics = read_json(tmp_path / "out" / f"fold_{fold:02d}" / "metrics.json")
        assert metrics["validation_speakers"] == metrics["test_speakers"]
        assert set(metrics["train_speakers"]).isdisjoint(metrics["test_speakers"])
        assert metrics["best_epoch"] is not None and metrics["validation"]["wa"] == metrics["test"]["wa"]
    message = refusal(*ravdess, *arguments, "--train_on_validation", "true")
    assert "would train on the test speakers" in message


def test_a_single_task_says_nothing_of_gender(random_run):
    table = read_predictions(random_run / "predictions.csv")
    assert list(table.columns) == HEAD + [f"p_{name}" for name in LABELS]
    assert set(table["predicted_gender"]) == {""} and set(table["gender"]) == {"female", "male"}
    results = read_json(random_run / "results.json")
    assert results["pooled"]["gender_wa"]["value"] is None and results["run"]["multitask"] is False
    assert "gender WA" not in (random_run / "results.md").read_text()
    for index in (0, 1):
        metrics = read_json(random_run / f"fold_{index:02d}" / "metrics.json")
        rows = table[table["fold"] == index]
        assert "gender_wa" not in metrics["test"]
        assert metrics["test"]["ua"] == pytest.approx(
            recall_score(rows["emotion"], rows["predicted_emotion"], average="macro", labels=list(EMOTIONS.values())),
            abs=1e-6,
        )
        assert metrics["best_epoch"] is None and "validation" not in metrics
    assert CAMuLeNetConfig.from_pretrained(random_run / "final").id2gender == {}
    assert len(read_json(random_run / "final" / "training.json")["history"]) == 1


def test_tokens_stay_out_of_the_outputs(random_run):
    files = files_of(random_run)
    assert [name for name, content in files.items() if b"hf_secret" in content] == []
    assert b"--token ... --hub_token=..." in files["results.json"]


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def test_evaluate_trains_nothing(finished_run, tmp_path):
    folder = write_ravdess(tmp_path / "strangers", actors=range(7, 11))
    checkpoint = ("--model_name_or_path", finished_run / "fold_00")
    data = ("--corpus", "ravdess", "--data_dir", folder, "--cache_dir", tmp_path / "cache", "--num_folds", 2)
    call("evaluate", *data, *checkpoint, "--output_dir", tmp_path / "out")
    results = read_json(tmp_path / "out" / "results.json")
    table = read_predictions(tmp_path / "out" / "predictions.csv")
    assert len(table) == 32 and results["unseen_speakers"] is True
    expected = accuracy_score(table["emotion"], table["predicted_emotion"])
    assert results["pooled"]["wa"]["value"] == pytest.approx(expected, abs=1e-6)
    assert results["run"]["command"].startswith("run-ser evaluate --corpus ravdess --data_dir ")
    assert [source["corpus"] for source in run_ser.sources_of(["emodb", "ravdess", "x"])] == ["emodb", "ravdess"]
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    # Nothing is said of a training that there was not.
    met = read_json(finished_run / "fold_00" / "config.json")["training_speakers"]
    for row in results["folds"]["rows"]:
        assert row["train_speakers"] == met and row["validation_speakers"] == [] and row["num_epochs"] is None
        assert (row["num_train"], row["num_validation"], row["num_test"]) == (0, 0, 16)
    assert {results["run"][name] for name in run_ser.OF_TRAINING} == {None}
    card = (tmp_path / "out" / "README.md").read_text()
    assert f'pipeline("audio-classification", model="{finished_run / "fold_00"}"' in card
    assert "Nothing was trained for it." in card and "The checkpoint was trained on none of them." in card
    assert "epoch" not in card.split("## Protocol")[1].split("## Data")[0] and "batch_size" not in card

    assert "give --model_name_or_path" in refusal("evaluate", *data, "--output_dir", tmp_path / "2")
    wrong = ("--do_train", "--preset", "camulenet-small", "--output_dir", tmp_path / "3")
    assert "leave out --do_train, --preset" in refusal("evaluate", *data, *checkpoint, *wrong)
    assert "nonsense is neither a configuration file" in refusal("nonsense", *data)


def test_evaluate_on_a_corpus_with_fewer_labels(finished_run, tmp_path):
    write_ravdess(tmp_path / "strangers", actors=range(7, 11))
    (tmp_path / "map.yaml").write_text("neutral: neutral\nanger: anger\n")
    arguments = ("--corpus", "ravdess", "--data_dir", tmp_path / "strangers", "--cache_dir", tmp_path / "cache")
    checkpoint = ("--model_name_or_path", finished_run / "fold_00", "--num_folds", 2)
    for name, more in (("all", ()), ("two", ("--label_map", tmp_path / "map.yaml"))):
        call("evaluate", *arguments, *checkpoint, *more, "--output_dir", tmp_path / name)
    every, two = (read_predictions(tmp_path / name / "predictions.csv") for name in ("all", "two"))
    expected = every[every["emotion"].isin(["neutral", "anger"])].sort_values("utterance_id", ignore_index=True)
    two = two.sort_values("utterance_id", ignore_index=True)
    assert set(two["emotion"]) == {"neutral", "anger"} and list(two.columns) == list(every.columns)
    assert two["predicted_emotion"].tolist() == expected["predicted_emotion"].tolist()
    score = read_json(tmp_path / "two" / "fold_00" / "metrics.json")["test"]["wa"]
    fold = two[two["fold"] == 0]
    assert score == pytest.approx(accuracy_score(fold["emotion"], fold["predicted_emotion"]), abs=1e-6)

    (tmp_path / "map.yaml").write_text("neutral: calmness\nanger: anger\n")
    message = refusal(
        "evaluate", *arguments, *checkpoint, "--label_map", tmp_path / "map.yaml", "--output_dir", tmp_path / "3"
    )
    assert "not anger, calmness" in message or "not calmness, anger" in message
    assert "--label_map" in message


def test_an_emotion_and_a_gender_of_one_name(tmp_path):
    for speaker in range(4):
        for emotion in "012":
            path = tmp_path / "own" / emotion / f"{speaker}_{emotion}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(speaker).normal(scale=0.1, size=8000)
            soundfile.write(path, noise, 16000)
    rows = [
        {
            "file_name": f"{emotion}/{speaker}_{emotion}.wav",
            "speaker": speaker,
            "emotion": emotion,
            "gender": speaker % 2,
        }
        for speaker in range(4)
        for emotion in "012"
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "own" / "metadata.csv", index=False)
    message = refusal("--corpus", "own", "--data_dir", tmp_path / "own", "--output_dir", tmp_path / "out")
    assert message.startswith("run-ser: 0, 1: the corpus has an emotion and a gender of that name")


def test_audit_is_a_subcommand(finished_run, random_run, monkeypatch, capsys):
    for folder, status, verdict in ((finished_run, 0, "CLEAN: no test speaker"), (random_run, 1, "LEAK: ")):
        monkeypatch.setattr(sys, "argv", ["run-ser", "audit", str(folder / "predictions.csv")])
        assert run_ser.main() == status
        assert capsys.readouterr().out.startswith(verdict)


def test_a_checkpoint_is_tested_on_speakers_it_never_met(ravdess, finished_run, tmp_path):
    checkpoint = ("--model_name_or_path", finished_run / "fold_00")
    call(*ravdess, "--num_folds", 3, *checkpoint, "--do_predict", "--folds", 0, "--output_dir", tmp_path / "0")
    written = (tmp_path / "0" / "fold_00" / "predictions.csv").read_text()
    assert written == (finished_run / "fold_00" / "predictions.csv").read_text()
    assert set(os.listdir(tmp_path / "0" / "fold_00")) == {"predictions.csv", "metrics.json", "SHA256SUMS"}

    message = refusal(*ravdess, "--num_folds", 3, *checkpoint, "--output_dir", tmp_path / "1")
    assert "Leak: " in message and "--allow_leak" in message
    assert "4 of the speakers to test on: ravdess/03, ravdess/04, ravdess/05, ravdess/06" in message
    assert not (tmp_path / "1").exists()


def test_an_allowed_leak_is_marked_in_every_output(ravdess, finished_run, tmp_path, capsys):
    # The call that pools tests a fold without a leak: those of the others are not forgotten.
    for folds in ((1, 2), (0,)):
        checkpoint = ("--model_name_or_path", finished_run / "fold_00", "--allow_leak")
        call(*ravdess, "--num_folds", 3, *checkpoint, "--do_predict", "--folds", *folds, "--output_dir", tmp_path)
    results = read_json(tmp_path / "results.json")
    assert any("Leak, allowed by --allow_leak" in warning for warning in results["warnings"])
    assert results["unseen_speakers"] is False and results["run"]["warnings"]
    for name in ("results.md", "README.md"):
        assert "Leak, allowed by --allow_leak" in (tmp_path / name).read_text()
    assert "warning: Leak, allowed" in capsys.readouterr().out
    assert not (tmp_path / "final").exists()  # nothing was to be trained


@pytest.fixture(scope="module")
def emodb(tmp_path_factory):
    """Arguments that name an EmoDB-like corpus: 8 tones of 4 speakers, angry or bored."""
    folder = tmp_path_factory.mktemp("emodb")
    for stem in ("03a01Wa", "03a07La", "08a01Wa", "08a02La", "09a02Wb", "09a02La", "10a01Wa", "10a02Lb"):
        time = np.arange(4000 + 50 * int(stem[:2])) / 16000
        pitch = 300 if "W" in stem else 100
        soundfile.write(folder / f"{stem}.wav", 0.3 * np.sin(2 * np.pi * pitch * time), 16000)
    return "--corpus", "emodb", "--data_dir", folder, "--cache_dir", tmp_path_factory.mktemp("cache")


def test_fine_tuning_for_other_labels(emodb, finished_run, tmp_path):
    checkpoint = finished_run / "fold_00"
    # At a learning rate of 0 every weight must still be the checkpoint's, but for the new head's.
    still = ("--learning_rate", 0, "--num_train_epochs", 1)
    call(*emodb, "--num_folds", 2, "--model_name_or_path", checkpoint, *still, "--output_dir", tmp_path)
    # The licence of what the checkpoint was trained on before binds it still.
    run = read_json(tmp_path / "results.json")["run"]
    assert [source["corpus"] for source in run["sources"]] == ["emodb", "ravdess"]
    assert run["licenses"] == ["CC BY-NC-SA 4.0", "free for research"]
    met = [f"ravdess/{number:02d}" for number in (3, 4, 5, 6)]
    table = read_predictions(tmp_path / "predictions.csv")
    names = ["neutral", "happiness", "sadness", "anger", "fear", "disgust", "boredom"]
    assert [column for column in table if column.startswith("p_")] == [
        f"p_{name}" for name in (*names, "female", "male")
    ]
    assert set(table["emotion"]) == {"anger", "boredom"} and len(table) == 8
    before = dict(CAMuLeNetForAudioClassification.from_pretrained(checkpoint).named_parameters())
    for folder, speakers in (("fold_00", 2), ("final", 4)):
        model = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / folder)
        assert list(model.config.id2label.values()) == names and model.config.label2id["boredom"] == 6
        after = dict(model.named_parameters())
        new = {name for name in before if before[name].shape != after[name].shape}
        assert new == {"classifier.weight", "classifier.bias"} and before.keys() == after.keys()
        for name in before.keys() - new:
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
        assert set(met) < set(model.config.training_speakers) and len(model.config.training_speakers) == 4 + speakers
    results = read_json(tmp_path / "results.json")
    assert results["unseen_speakers"] is True and not any("Leak" in warning for warning in results["warnings"])


# ---------------------------------------------------------------------------------------------------------------------
# Data


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Folder of a corpus of one's own: 8 tones of 4 speakers of unknown gender, and a file that is no audio."""
    folder = tmp_path_factory.mktemp("own")
    lines = ["file_name,mood,speaker"]
    for number in range(8):
        time = np.arange(4000 + 400 * number) / 16000
        soundfile.write(
            folder / f"clip{number}.wav", 0.3 * np.sin(2 * np.pi * (100 + 200 * (number % 2)) * time), 16000
        )
        lines.append(f"clip{number}.wav,{('Angry', 'weary')[number % 2]},{'abcd'[number // 2]}")
    (folder / "noise.wav").write_bytes(b"no sound")
    (folder / "metadata.csv").write_text("\n".join([*lines, "noise.wav,weary,a"]) + "\n")
    return folder


def test_a_corpus_of_ones_own(own, tmp_path):
    data = ("--corpus", "own", "--data_dir", own, "--corpus_name", "mine", "--label_column_name", "mood")
    call(*data, "--language", "de", "--skip_bad_files", "true", "--num_folds", 2, "--output_dir", tmp_path)
    table = read_predictions(tmp_path / "predictions.csv")
    assert sorted(table["utterance_id"]) == [f"mine/clip{number}" for number in range(8)]
    assert set(table["emotion"]) == {"anger", "weary"} and set(table["gender"]) == {""}
    assert [column for column in table if column.startswith("p_")] == ["p_anger", "p_weary"]
    results = read_json(tmp_path / "results.json")
    run = results["run"]
    assert (run["corpus"], run["languages"], run["multitask"]) == ("mine", ["de"], False)
    assert run["data"]["utterances"] == {"mine": {"anger": 4, "weary": 4}} and run["data"]["label_map"] is None
    (left_out,) = run["data"]["left_out_files"]
    assert left_out.startswith(f"{own / 'noise.wav'}: not readable as audio")
    assert "No two genders of speakers are known: the model learns the emotion alone." in results["warnings"]
    assert run["audit"]["clean"] and run["audit"]["verdict"].startswith("CLEAN: no test speaker")
    for name in ("README.md", "results.md"):
        text = (tmp_path / name).read_text()
        assert "Files left out because they cannot be used: 1 (" in text and "Audit of the folds: CLEAN" in text
    model = CAMuLeNetForAudioClassification.from_pretrained(tmp_path / "final")
    assert model.config.training_speakers == [f"mine/{speaker}" for speaker in "abcd"]


def test_two_corpora_under_a_label_map(ravdess, emodb, tmp_path):
    folders = (ravdess[3], emodb[3])
    data = ("--corpus", "ravdess", "emodb", "--data_dir", *folders, "--cache_dir", ravdess[5])
    (tmp_path / "map.yaml").write_text("neutral: neutral\nanger: tense\nboredom: neutral\nravdess/happiness: tense\n")
    options = ("--label_map", tmp_path / "map.yaml", "--num_folds", 2, "--num_train_epochs", 1)
    call(*data, *options, "--output_dir", tmp_path / "out")
    table = read_predictions(tmp_path / "out" / "predictions.csv").set_index("utterance_id")
    assert len(table) == 36 + 8 and set(table["emotion"]) == {"neutral", "tense"}
    assert table.loc["ravdess/03-01-03-01-01-01-01", "emotion"] == "tense"
    assert table.loc["emodb/03a07La", "emotion"] == "neutral"
    run = read_json(tmp_path / "out" / "results.json")["run"]
    assert run["corpus"] == "ravdess + emodb" and run["languages"] == ["de", "en"] and len(run["licenses"]) == 2
    assert run["data"]["utterances"]["ravdess"] == {"neutral": 12, "tense": 24}
    assert run["data"]["utterances_before"]["ravdess"]["sadness"] == 12
    # Fold k of both together: each fold tests speakers of both.
    for _, rows in table.groupby("fold"):
        assert {name.split("/")[0] for name in rows["speaker_id"]} == {"ravdess", "emodb"}


def test_each_corpus_tested_by_a_model_of_the_other(ravdess, emodb, tmp_path):
    data = ("--corpus", "ravdess", "emodb", "--data_dir", ravdess[3], emodb[3], "--cache_dir", ravdess[5])
    (tmp_path / "map.yaml").write_text("neutral: neutral\nanger: anger\nboredom: neutral\n")
    out = tmp_path / "out"
    options = ("--label_map", tmp_path / "map.yaml", "--protocol", "cross-corpus", "--num_train_epochs", 1)
    call(*data, *options, "--final_model", "none", "--output_dir", out)
    results = read_json(out / "results.json")
    assert results["unseen_speakers"] is True and results["run"]["num_folds"] == 2
    folds = [read_json(out / f"fold_{fold:02d}" / "metrics.json") for fold in (0, 1)]
    corpora = [
        {part: {name.split("/")[0] for name in fold[f"{part}_speakers"]} for part in ("train", "validation", "test")}
        for fold in folds
    ]
    assert corpora == [
        {"train": {"ravdess"}, "validation": {"ravdess"}, "test": {"emodb"}},
        {"train": {"emodb"}, "validation": {"emodb"}, "test": {"ravdess"}},
    ]
    table = read_predictions(out / "predictions.csv")
    for corpus, rows in table.groupby(table["speaker_id"].str.split("/").str[0]):
        scores = results["per_corpus"][corpus]
        assert scores["wa"]["value"] == pytest.approx(
            accuracy_score(rows["emotion"], rows["predicted_emotion"]), abs=1e-6
        )
        assert (scores["num_utterances"], scores["num_speakers"]) == (len(rows), rows["speaker_id"].nunique())
        for name in ("results.md", "README.md"):
            line = f"| {corpus} | {len(rows)} | {rows['speaker_id'].nunique()} | {scores['wa']['value']:.3f} ("
            assert line in (out / name).read_text()
    assert "Each fold tests all speakers of one corpus" in (out / "README.md").read_text()


def test_unknown_people_train_and_are_not_in_the_headline(tmp_path):
    people = {"Maya": "F", "Indira": "M", "Monisha": "F", "Sahil": "M", "Roshesh": "M", "A guest": "F"}
    lines = ["clip,emotion,speaker,gender"]
    for number, (speaker, gender) in enumerate(people.items()):
        for emotion, part in (("Anger", "train"), ("Contempt", "test")):
            name = f"{part}_{number}"
            tone = 0.3 * np.sin(2 * np.pi * (100 + 100 * number) * np.arange(4000) / 16000)
            (tmp_path / "data").mkdir(exist_ok=True)
            soundfile.write(tmp_path / "data" / f"{name}.wav", tone, 16000)
            lines.append(f"{name}.mp4,{emotion},{speaker},{gender}")
    (tmp_path / "data" / "final_annotation.csv").write_text("\n".join(lines) + "\n")
    data = ("--corpus", "bhavvani", "--data_dir", tmp_path / "data", "--cache_dir", tmp_path / "cache")
    short = ("--num_train_epochs", 1)
    call(*data, *short, "--num_folds", 2, "--output_dir", tmp_path / "speakers")
    results = read_json(tmp_path / "speakers" / "results.json")
    table = read_predictions(tmp_path / "speakers" / "predictions.csv")
    assert results["run"]["num_eligible_utterances"] == len(table) == 10 and not results["incomplete"]
    assert "bhavvani/others" not in set(table["speaker_id"]) and set(table["emotion"]) == {"anger", "disgust"}
    assert all("bhavvani/others" in row["train_speakers"] for row in results["folds"]["rows"])
    assert results["run"]["audit"]["clean"]

    call(*data, *short, "--protocol", "official", "--output_dir", tmp_path / "official")
    results = read_json(tmp_path / "official" / "results.json")
    assert results["run"]["num_eligible_utterances"] == 6 and results["unseen_speakers"] is False
    assert "LEAK: 6 of 6 test speakers are in the training part" in results["run"]["audit"]["verdict"]
    assert any("Protocol official: test speakers are in the training part" in line for line in results["warnings"])
    assert "LEAK" in (tmp_path / "official" / "README.md").read_text()


def test_dataset_name_gives_the_rows_of_the_corpus(ravdess, dataset, tmp_path):
    embedded = dataset.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
    embedded.to_parquet(tmp_path / "ravdess.parquet")
    arguments = ["--dataset_name", str(tmp_path / "ravdess.parquet"), "--output_dir", str(tmp_path)]
    _, data_args, _ = run_ser.parse_arguments(arguments)
    loaded = run_ser.load_data(data_args, str(tmp_path / "cache"), None).dataset
    columns = [name for name in dataset.column_names if name != "audio"]
    assert loaded.select_columns(columns)[:] == dataset.select_columns(columns)[:]
    assert [audio["bytes"] for audio in loaded["audio"]] == [
        Path(audio["path"]).read_bytes() for audio in dataset["audio"]
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Give either --corpus, with its --data_dir, or --dataset_name."),
        (
            ["--corpus", "own", "--dataset_name", "x/y"],
            "Give either --corpus, with its --data_dir, or --dataset_name.",
        ),
        (["--corpus", "ravdess", "emodb"], "2 corpora need a data_dir each (ravdess emodb), in this order; got 0"),
        (["--corpus", "ravdess", "--data_dir", "RAVDESS", "--language", "de"], "--language: not read for these data"),
        (["--dataset_name", "x/y", "--file_pattern", "(?P<speaker>.)"], "--file_pattern: not read for these data"),
        (["--corpus", "own", "--data_dir", "OWN"], "has no column for the label"),
        (["--corpus", "own", "--data_dir", "OWN", "--label_column_name", "mood"], "1 audio files of own in"),
        (
            ["--corpus", "ravdess", "--data_dir", "RAVDESS", "--label_map", "common-9"],
            "neither a file nor one of common-4",
        ),
        (
            ["--corpus", "ravdess", "--data_dir", "RAVDESS", "--protocol", "official"],
            "ravdess has no parts of its own",
        ),
    ],
)
def test_data_that_cannot_be_used(own, ravdess, tmp_path, argv, message):
    argv = [{"OWN": own, "RAVDESS": ravdess[3]}.get(argument, argument) for argument in argv]
    assert message in refusal(*argv, "--cache_dir", tmp_path / "cache", "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Arguments

DATA = ("--corpus", "ravdess", "--data_dir", "somewhere", "--output_dir", "out")


def parsed(*argv) -> dict:
    model_args, data_args, training_args = run_ser.parse_arguments([str(argument) for argument in argv])
    return dataclasses.asdict(model_args) | dataclasses.asdict(data_args) | training_args.to_dict()


def test_a_file_equals_flags(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "corpus: ravdess\ndata_dir: somewhere\noutput_dir: out\nfolds: [0, 2]\nmultitask: false\nseed: -1\n"
        "learning_rate: 1e-3\nnum_train_epochs: 3\nwarmup_steps: null\nnote: two words\n"
        "lr_scheduler_type: cosine_with_restarts\nlr_scheduler_kwargs: {num_cycles: 2}\n"
    )
    flags = ("--folds", 0, 2, "--multitask", "false", "--seed", -1, "--learning_rate", 1e-3, "--note", "two words")
    scheduler = ("--lr_scheduler_type", "cosine_with_restarts", "--lr_scheduler_kwargs", '{"num_cycles": 2}')
    from_file, from_flags = parsed(path), parsed(*DATA, *flags, "--num_train_epochs", 3, *scheduler)
    assert from_file == from_flags
    assert from_file["lr_scheduler_kwargs"] == {"num_cycles": 2} and from_file["folds"] == [0, 2]
    later = parsed(path, "--learning_rate", 0.5, "--folds", 1)
    assert (later["learning_rate"], later["folds"], later["num_train_epochs"]) == (0.5, [1], 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("corpus: ravdess\nlearnin_rate: 1\nfoldz: 1\n", "Unknown arguments: --learnin_rate, --foldz"),
        ("- corpus\n", "must map argument names to values"),
        ("corpus: [ravdess\n", "config.yaml is not YAML"),
        ("corpus: ravdess\n", "--output_dir says where the run goes"),
        (b"note: Caf\xe9\n", "config.yaml is not YAML in UTF-8"),
        ("corpus: ravdess\noutput_dir: out\nnum_train_epochs: 0\n", "--num_train_epochs 0 trains nothing"),
    ],
)
def test_bad_files(tmp_path, content, message):
    assert refusal(tmp_path / "absent.yaml") == f"run-ser: There is no configuration file {tmp_path / 'absent.yaml'}."
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refusal(path)


def test_empty_lists_of_a_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("corpus: ravdess\noutput_dir: out\nbranches: []\nspeed_factors: []\n")
    arguments = parsed(path)
    assert arguments["branches"] == [] and arguments["speed_factors"] == []


def test_flags_win_over_the_preset():
    preset = presets.TRAINING["camulenet-small"]
    from_preset = parsed(*DATA)
    assert {name: from_preset[name] for name in preset} == preset
    assert from_preset["speed_factors"] == presets.SPEED_FACTORS["camulenet-small"]
    # Each of these is TrainingArguments' own default.
    flags = {
        "learning_rate": 5e-5,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 3.0,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "dataloader_pin_memory": True,
    }
    given = parsed(*DATA, *(text for name, value in flags.items() for text in (f"--{name}", value)))
    assert {name: given[name] for name in flags} == flags
    defaults = TrainingArguments("out").to_dict()
    assert all(defaults[name] == value for name, value in flags.items())
    assert parsed(*DATA, "--speed_factors", 0.8, 1, 1.2)["speed_factors"] == [0.8, 1.2]
    assert parsed(*DATA, "--speed_factors", 1)["speed_factors"] == []
    assert from_preset["crop_s"] == presets.CROP_S["camulenet-small"]
    assert [parsed(*DATA, "--crop_s", seconds)["crop_s"] for seconds in (1.5, 0)] == [1.5, None]
    assert parsed(*DATA, "--preset", "paper")["crop_s"] is None
    assert from_preset["equalizer_db"] == presets.EQUALIZER_DB["camulenet-small"]
    assert [parsed(*DATA, "--equalizer_db", value)["equalizer_db"] for value in (1.5, 0)] == [1.5, None]
    assert from_preset["train_on_validation"] is True
    assert parsed(*DATA, "--train_on_validation", "false")["train_on_validation"] is False
    paper = parsed(*DATA, "--preset", "paper")
    assert (paper["equalizer_db"], paper["train_on_validation"]) == (None, False)


def test_an_ablation_trains_as_its_base():
    base = parsed(*DATA)
    for name in ("concat", "no-encoder", "baseline"):
        preset = f"camulenet-small-{name}"
        multitask = {"multitask": False} if name == "baseline" else {}
        assert parsed(*DATA, "--preset", preset) == base | {"preset": preset} | multitask
    assert parsed(*DATA, "--preset", "baseline")["learning_rate"] == presets.TRAINING["camulenet"]["learning_rate"]


def test_a_preset_decides_the_task_and_a_flag_wins():
    for preset, multitask in (("camulenet-small", True), ("camulenet-no-multitask", False), ("baseline", False)):
        assert parsed(*DATA, "--preset", preset)["multitask"] is multitask
        for flag in (True, False):
            assert parsed(*DATA, "--preset", preset, "--multitask", flag)["multitask"] is flag
    assert parsed(*DATA, "--preset", "baseline", "--no_multitask")["multitask"] is False
    assert parsed(*DATA, "--model_name_or_path", "x")["multitask"] is True


def test_help_lists_presets_by_their_parts(capsys):
    with pytest.raises(SystemExit):
        run_ser.parse_arguments(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"One of {presets.PRESETS_IN_WORDS}. Default:".replace("- ", "-") in text.replace("- ", "-")
    assert "camulenet-small-gate" not in text


def test_an_encoder_decides_the_preset():
    assert parsed(*DATA)["preset"] == "camulenet-small"
    assert parsed(*DATA, "--encoder_name_or_path", "openai/whisper-base")["preset"] == "camulenet"
    assert parsed(*DATA, "--encoder_name_or_path", "x", "--preset", "paper")["preset"] == "paper"
    assert parsed(*DATA, "--model_name_or_path", "x")["preset"] is None  # a checkpoint brings its own


def test_spellings_that_transformers_allows():
    expected = parsed(*DATA, "--multitask", "false", "--num_folds", 4)
    assert expected["multitask"] is False and expected["num_folds"] == 4
    assert parsed(*DATA[:4], "--output-dir=out", "--no_multitask", "--num-folds", 4) == expected


def test_training_arguments_reach_the_trainer(ravdess, tmp_path, monkeypatch):
    seen = []

    class Recorder(runner.FoldTrainer):
        def train(self, **kwargs):
            seen.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "FoldTrainer", Recorder)
    flags = {
        "max_grad_norm": 0.3,
        "gradient_accumulation_steps": 4,
        "max_steps": 7,
        "adam_beta2": 0.9,
        "optim": "sgd",
        "seed": 3,
        "eval_strategy": "epoch",
        "train_sampling_strategy": "random",
    }
    argv = [text for name, value in flags.items() for text in (f"--{name}", value)]
    with pytest.raises(SystemExit, match="130"):  # --eval_strategy has TrainingArguments set do_eval: it still trains
        call(*ravdess, "--num_folds", 3, *argv, "--label_smoothing_factor", 0.1, "--output_dir", tmp_path)
    (trainer,) = seen
    assert {name: getattr(trainer.args, name) for name in flags} == flags
    # The Trainer's own smoothing would leave out the gender's loss: the model does it.
    assert trainer.args.label_smoothing_factor == 0 and trainer.model.config.label_smoothing == 0.1
    assert isinstance(trainer.get_train_dataloader().batch_sampler.sampler, torch.utils.data.RandomSampler)


# ---------------------------------------------------------------------------------------------------------------------
# Errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_becomes_another_error_on_its_way(tmp_path, monkeypatch, capsys, number):
    def run(*_):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:  # as an extension in C may do with what is raised inside it
            raise TypeError("incompatible arguments") from error

    monkeypatch.setattr(run_ser, "run", run)
    with pytest.raises(SystemExit) as ended:
        call("--corpus", "demo", "--output_dir", tmp_path)
    assert ended.value.code == 128 + number
    assert f"run-ser: stopped by {number.name}. Finished epochs and folds are kept" in capsys.readouterr().err
    monkeypatch.setattr(run_ser, "run", lambda *_: [].pop())
    with pytest.raises(IndexError):  # without a signal it is what it is
        call("--corpus", "demo", "--output_dir", tmp_path)


@pytest.mark.parametrize("has_gpu", [True, False])
def test_a_gpu_is_asked_for_the_same_numbers_again(has_gpu, monkeypatch):
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "mine")  # is kept
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    try:
        run_ser.ask_for_determinism()
        assert torch.are_deterministic_algorithms_enabled() == (has_gpu or before[0])
        assert torch.is_deterministic_algorithms_warn_only_enabled() == has_gpu
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == "mine"
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders that are no data or no checkpoint."""
    folder = tmp_path_factory.mktemp("folders")
    for name, model_type in (("bert", "bert"), ("weightless", "whisper"), ("unknown", "no-such-model")):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "empty").mkdir()
    write_ravdess(folder / "misnamed", actors=(1, 2))
    (folder / "misnamed" / "03-01-01-01-01-01-01.wav").rename(folder / "misnamed" / "03-01-09-01-01-01-01.wav")
    write_ravdess(folder / "broken", actors=(1, 2))
    (folder / "broken" / "03-01-01-01-01-01-01.wav").write_bytes(b"no audio at all")
    soundfile.write(folder / "broken" / "03-01-05-01-02-01-02.wav", np.zeros(0), 16000)
    write_ravdess(folder / "nan", actors=(1, 2))
    for name in ("03-01-01-01-01-01-01.wav", "03-01-05-01-02-01-02.wav"):
        soundfile.write(folder / "nan" / name, np.full(4000, np.nan), 16000, subtype="FLOAT")
    return folder


@pytest.mark.parametrize(
    ("argv", "messages"),
    [
        (["--corpus", "nope"], ["unknown corpus 'nope'", "ravdess"]),
        (["--preset", "big"], ["Unknown preset 'big'", "camulenet-small"]),
        (["--protocol", "sessions"], ["ravdess has no sessions"]),
        (["--folds", "0", "3", "-1"], ["--folds 3 -1: there are 3 folds, 0 to 2"]),
        (["--num_folds", "7"], ["7 folds of 6 speakers"]),
        (["--no_such_flag", "1"], ["Unknown arguments: --no_such_flag"]),
        (["--data_dir", "{}/missing"], ["missing is not a directory", "zenodo"]),
        (["--data_dir", "{}/empty"], ["no audio of ravdess", "zenodo"]),
        (["--data_dir", "{}/misnamed"], ["1 audio files", "03-01-09-01-01-01-01.wav"]),
        (["--corpus", "emodb"], ["no audio of emodb", "does not read as a known speaker"]),
        (
            ["--data_dir", "{}/broken", "--num_folds", "2"],
            ["03-01-01-01-01-01-01.wav: not readable", "03-01-05-01-02-01-02.wav: holds no samples"],
        ),
        (
            ["--data_dir", "{}/nan", "--num_folds", "2"],
            ["2 audio files cannot be used", "03-01-01-01-01-01-01.wav: holds NaN", "03-01-05-01-02-01-02.wav"],
        ),
        (["--preset", "camulenet"], ["freezes its encoder", "--preset camulenet-small"]),
        (["--encoder_name_or_path", "{}/missing"], ["missing"]),
        (["--encoder_name_or_path", "{}/bert"], ["'bert' checkpoint", "whisper"]),
        (["--encoder_name_or_path", "{}/weightless"], ["weightless", "model.safetensors"]),
        (["--encoder_name_or_path", "{}/unknown"], ["no-such-model"]),
        (["--model_name_or_path", "{}/missing"], ["missing"]),
        (["--model_name_or_path", "{}/weightless"], ["'whisper' checkpoint, not a CAMuLeNet one"]),
        (["--encoder_context", "whole"], ["`encoder_context` is 'whole'"]),
        (["--label_smoothing_factor", "1.5"], ["label_smoothing"]),
        (
            ["--preset", "camulenet-no-encoder", "--encoder_name_or_path", "{}/weightless"],
            ["weightless cannot be used: fusion='branches' is the branches alone: leave the encoder out"],
        ),
        (
            ["--preset", "camulenet-small-adversarial-gender", "--no_multitask"],
            ["camulenet-small-adversarial-gender cannot be used: ", "`adversarial_gender` is True; expected False"],
        ),
        (
            ["--fusion", "branches", "--use_weighted_layer_sum", "true"],
            ["`use_weighted_layer_sum` is True; expected False"],
        ),
        (["--speed_factors", "1.1", "0"], ["--speed_factors [1.1, 0.0]: a speed must be above 0"]),
        (["--crop_s", "-1"], ["--crop_s -1.0: give a number of seconds"]),
        (["--equalizer_db", "-1"], ["--equalizer_db -1.0: give a deviation in decibels"]),
        (["--load_best_model_at_end", "true"], ["load_best_model_at_end"]),
        (["--do_predict"], ["fold 0 is not trained yet"]),
        (["--model_name_or_path", "x", "--preset", "paper"], ["brings its own encoder and preset"]),
        (["--final_model", "best"], ["--final_model best: give all, none, or a fold like fold_03."]),
        (
            ["--final_model", "none", "--push_to_hub", "--hub_model_id", "me/x"],
            ["--push_to_hub with --final_model none: there is no model to push. Give all, or fold_NN."],
        ),
        (["--final_model", "fold_03"], ["--final_model fold_03: there are 3 folds, fold_00 to fold_02."]),
    ],
    ids=lambda value: " ".join(value[:2]) if value[0].startswith("--") else "",
)
def test_what_the_user_can_mend_is_said_without_a_traceback(ravdess, folders, tmp_path, argv, messages):
    argv = [argument.format(folders) for argument in argv]
    message = refusal(*ravdess, "--num_folds", 3, "--output_dir", tmp_path / "out", *argv)
    for part in messages:
        assert part in message
    assert "Traceback" not in message
    assert not list((tmp_path / "out").glob("fold_*/*"))


def test_mending_the_audio_is_no_change_of_arguments(ravdess, folders, tmp_path):
    message = refusal(*ravdess, "--data_dir", folders / "nan", "--num_folds", 2, "--output_dir", tmp_path / "out")
    assert "NaN" in message and not (tmp_path / "out").exists()


def test_predictions_that_lack_an_utterance_are_not_pooled(ravdess, finished_run, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    (out / "fold_01" / "SHA256SUMS").unlink()  # a version that wrote none
    path = out / "fold_01" / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    message = refusal(*ravdess, *FINISHED, "--output_dir", out)
    assert f"{out}: Of 48 eligible utterances: 1 not predicted (ravdess/" in message
    assert message.endswith("Remove the folders of the folds concerned, and call again.")


def test_an_output_folder_that_cannot_be_written(ravdess, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(run_ser, "load_data", lambda *args: pytest.fail("found out too late"))
    message = refusal(*ravdess, "--output_dir", tmp_path / "file" / "out")
    assert message.endswith(f"file/out: {tmp_path / 'file'} cannot be written. Give a folder that can be.")


def test_damaged_arguments_are_refused(ravdess, finished_run, tmp_path):
    shutil.copy(finished_run / "arguments.json", tmp_path)
    with open(tmp_path / "arguments.json", "r+b") as file:
        file.truncate(100)
    message = refusal(*ravdess, *FINISHED, "--output_dir", tmp_path)
    assert f"{tmp_path / 'arguments.json'} is damaged" in message and "remove that file and call again" in message


def test_a_truncated_checkpoint_to_fine_tune_is_refused(ravdess, finished_run, tmp_path):
    shutil.copytree(finished_run / "fold_00", tmp_path / "checkpoint")
    with open(tmp_path / "checkpoint" / "model.safetensors", "r+b") as file:
        file.truncate(1000)
    model = ("--model_name_or_path", tmp_path / "checkpoint", "--allow_leak")
    message = refusal(*ravdess, "--num_folds", 3, *model, "--output_dir", tmp_path / "out")
    assert f"{tmp_path / 'checkpoint'} cannot be used: " in message and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "out/x"), "out/x: Read-only file system"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device"),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nmore"),
            "unexpected pos 64",
        ),
    ],
)
def test_a_disk_that_takes_nothing_is_said(ravdess, tmp_path, monkeypatch, error, reason):
    def full(*args):
        raise error

    monkeypatch.setattr(run_ser, "load_data", full)
    message = refusal(*ravdess, "--output_dir", tmp_path)
    assert reason in message and "Make room" in message and "the same command goes on from there" in message
    assert "\n" not in message


def test_other_errors_keep_their_traceback(ravdess, tmp_path, monkeypatch):
    for error in (OSError(errno.ENOENT, "No such file"), RuntimeError("shapes")):
        monkeypatch.setattr(run_ser, "load_data", lambda *args, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            call(*ravdess, "--output_dir", tmp_path)


def test_no_output_dir(ravdess):
    assert "--output_dir says where the run goes" in refusal(*ravdess)


# ---------------------------------------------------------------------------------------------------------------------
# Launchers, in processes of their own


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory):
    """A CAMuLeNet checkpoint that met nobody: how a process that has no tiny preset gets a tiny model."""
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: index for index, name in enumerate(LABELS)}}
    model = CAMuLeNetForAudioClassification(CAMuLeNetConfig(**TINY_PRESET, **labels))
    folder = tmp_path_factory.mktemp("tiny_checkpoint")
    model.save_pretrained(folder)
    CAMuLeNetFeatureExtractor.from_model_config(model.config).save_pretrained(folder)
    return folder


def launch(launcher: list, *argv) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*launcher, ROOT / "run_ser.py", *argv, "--use_cpu", "true", "--disable_tqdm", "true"]
    return subprocess.run(map(str, command), capture_output=True, text=True, env=environment, timeout=280)


def check_launched_run(folder: Path, num_processes: int):
    results = read_json(folder / "results.json")
    assert results["run"]["num_processes"] == num_processes and results["incomplete"] is None
    table = read_predictions(folder / "predictions.csv")
    assert len(table) == table["utterance_id"].nunique() == 48
    assert results["pooled"]["ua"]["value"] == pytest.approx(scikit_scores(table)["ua"], abs=1e-6)
    names = {path.name for path in folder.iterdir()}
    files = {"arguments.json", "predictions.csv", "results.json", "results.md", "README.md"}
    assert names == {*files, "plots", "final", "fold_00", "fold_01"}


@pytest.mark.slow
def test_two_processes(ravdess, tiny_checkpoint, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    arguments = ("--num_folds", 2, "--num_train_epochs", 2, "--per_device_train_batch_size", 4)
    done = launch(
        torchrun, *ravdess, "--model_name_or_path", tiny_checkpoint, *arguments, "--output_dir", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_launched_run(tmp_path / "out", num_processes=2)
    assert done.stdout.count("score ") == 1 and done.stdout.count("the model to use is") == 1
    assert read_json(tmp_path / "out" / "results.json")["run"]["batch_size"] == 8

    # One process on the checkpoint of a fold predicts what the two did.
    checkpoint = ("--model_name_or_path", tmp_path / "out" / "fold_00", "--do_predict", "--folds", 0)
    call(*ravdess, "--num_folds", 2, *checkpoint, "--output_dir", tmp_path / "alone")
    tables = [read_predictions(tmp_path / name / "fold_00" / "predictions.csv") for name in ("out", "alone")]
    pd.testing.assert_frame_equal(*tables, check_exact=False, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_accelerate_launch(ravdess, tiny_checkpoint, tmp_path):
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", 1]
    arguments = ("--num_folds", 2, "--num_train_epochs", 1, "--model_name_or_path", tiny_checkpoint)
    done = launch(accelerate, *ravdess, *arguments, "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    check_launched_run(tmp_path / "out", num_processes=1)


@pytest.mark.slow
def test_an_error_ends_the_process_with_code_1_and_its_message(ravdess, tmp_path):
    done = launch([sys.executable], *ravdess, "--num_folds", 3, "--folds", 99, "--output_dir", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1] == "run-ser: --folds 99: there are 3 folds, 0 to 2."
    assert "Traceback" not in done.stderr
