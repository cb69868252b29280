import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from matplotlib import get_backend
from PIL import Image

from ser_protocol.report import (
    build_results,
    console_table,
    model_card,
    results_markdown,
    write_atomically,
    write_json,
    write_plots,
)
from ser_protocol.statistics import read_predictions

PEERS = Path(__file__).parents[1] / "results" / "peers"

# utterance, speaker, fold, emotion, predicted emotion, gender, predicted gender
SIX = [
    ("x/a", "x/1", 0, "anger", "anger", "male", "male"),
    ("x/b", "x/1", 0, "anger", "fear", "male", "female"),
    ("x/c", "x/2", 0, "fear", "fear", "female", "female"),
    ("x/d", "x/2", 0, "anger", "anger", "female", "female"),
    ("x/e", "x/3", 1, "fear", "fear", "male", "male"),
    ("x/f", "x/3", 1, "fear", "neutral", "male", "male"),
]


@pytest.fixture
def predictions():
    names = ["utterance_id", "speaker_id", "fold", "emotion", "predicted_emotion", "gender", "predicted_gender"]
    return pd.DataFrame(SIX, columns=names)


@pytest.fixture
def fold_metrics():
    history = [
        {"epoch": e, "train_loss": 2 / e, "validation_loss": 1 + 1 / e, "validation_ua": e / 9, "validation_wa": 0.5}
        for e in range(1, 6)
    ]
    common = {"num_validation": 1, "best_epoch": 4, "num_epochs": 5, "peak_memory_bytes": 345_678_901}
    return [
        common
        | {
            "fold": 0,
            "train_speakers": ["x/3"],
            "validation_speakers": ["x/4"],
            "test_speakers": ["x/1", "x/2"],
            "num_train": 2,
            "num_test": 4,
            "validation": {"wa": 0.5, "ua": 0.5, "loss": 1.25},
            "test": {"wa": 0.75},
            "train_s": 150.0,
            "history": history,
        },
        common
        | {
            "fold": 1,
            "train_speakers": ["x/1", "x/2"],
            "validation_speakers": ["x/4"],
            "test_speakers": ["x/3"],
            "num_train": 4,
            "num_test": 2,
            "validation": {"wa": 0.5, "ua": 0.5, "loss": float("nan")},
            "test": {"wa": 0.5},
            "train_s": 90.0,
            "history": history,
        },
    ]


@pytest.fixture
def run():
    return {
        "corpus": "x",
        "protocol": "speakers",
        "num_folds": 2,
        "seed": 7,
        "preset": "camulenet-small",
        "encoder": "small, trained from scratch",
        "num_parameters": 1234,
        "command": "python run_ser.py --corpus x",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "licenses": ["CC BY-NC-SA 4.0"],
        "languages": ["en"],
    }


def tables(markdown):
    """Markdown tables as lists of rows of cells, headers included."""
    found = re.findall(r"(?:^\|.*\|\n)+", markdown + "\n", flags=re.MULTILINE)
    split = [[[cell.strip() for cell in row.strip("|").split(" | ")] for row in t.splitlines()] for t in found]
    return [[row for row in rows if set(row[0]) != {"-"}] for rows in split]


def test_results_by_hand(predictions, fold_metrics, run):
    results = build_results(predictions, fold_metrics, run)
    assert results["incomplete"] is None
    assert results["run"] == run
    # anger 2 of 3, fear 2 of 3; "neutral" is predicted once
    assert {name: score["value"] for name, score in results["pooled"].items()} == {
        "wa": 0.666667,
        "ua": 0.666667,
        "wf1": 0.733333,  # F1 2*2/(3+2) = .8 and 2*2/(3+3) = .667, equal support
        "macro_f1": 0.733333,
        "gender_wa": 0.833333,
    }
    assert all(score["low"] <= score["value"] <= score["high"] for score in results["pooled"].values())
    assert results["interval"] == {
        "method": "95 % percentile bootstrap over speakers",
        "num_speakers": 3,
        "num_resamples": 2000,
        "seed": 0,
        "reliable": False,
    }
    assert results["folds"]["mean"]["wa"] == 0.625
    assert results["folds"]["sd"]["wa"] == round(0.25 / math.sqrt(2), 6)
    assert results["majority_class"]["wa"] == 0.5
    assert results["per_emotion"] == {
        "anger": {"recall": 0.666667, "num_utterances": 3},
        "fear": {"recall": 0.666667, "num_utterances": 3},
    }
    # canonical order, rows true: the anger taken for fear stands right of the diagonal
    assert results["confusion_matrix"] == {
        "labels": ["neutral", "anger", "fear"],
        "counts": [[0, 0, 0], [0, 2, 1], [1, 0, 2]],
    }
    first = results["folds"]["rows"][0]
    assert (first["num_utterances"], first["wa"], first["train_s"], first["best_epoch"]) == (4, 0.75, 150.0, 4)
    assert first["validation"] == {"wa": 0.5, "ua": 0.5, "loss": 1.25}
    assert results["folds"]["rows"][1]["validation"]["loss"] is None
    assert results["unseen_speakers"] is True


def test_warnings_name_what_is_wrong(predictions, fold_metrics, run):
    assert build_results(predictions, fold_metrics, run)["warnings"] == [
        "Not every emotion is spoken in the test part of fold 1: UA and macro F1 of these folds are means over fewer "
        "emotions.",
        "The intervals are unreliable: 3 speakers, and a bootstrap wants 8 or more.",
    ]
    fold_metrics[0]["validation_speakers"] = ["x/2"]
    fold_metrics[1]["test"]["wa"] = 0.9
    leaky = build_results(predictions, fold_metrics, run | {"warnings": ["from the runner"]})
    assert leaky["unseen_speakers"] is False
    assert leaky["warnings"][0] == "from the runner"
    assert (
        "Test speakers are also in training or validation: these are not unseen-speaker figures." in leaky["warnings"]
    )
    assert "Fold 1: metrics.json says WA 0.9000, its predictions say otherwise." in leaky["warnings"]
    for text in (results_markdown(leaky), console_table(leaky), model_card(leaky)):
        assert all(warning in text for warning in leaky["warnings"])


def test_an_utterance_predicted_twice_is_refused(predictions, fold_metrics, run):
    with pytest.raises(ValueError, match=r"1 predicted more than once \(x/a\)"):
        build_results(pd.concat([predictions, predictions[:1].assign(fold=1)]), fold_metrics, run)


def test_markdown_tables_hold_the_results(predictions, fold_metrics, run):
    results = build_results(predictions, fold_metrics, run)
    pooled, folds, emotions, confusion, about = tables(results_markdown(results))
    ua = results["pooled"]["ua"]
    assert pooled[0] == ["score", "pooled", "95 % interval", "folds: mean ± sd", "majority"]
    assert pooled[2] == ["UA", "0.667", f"{ua['low']:.3f} to {ua['high']:.3f}", "0.667 ± 0.236", "0.500"]
    assert [row[0] for row in pooled[1:]] == ["WA", "UA", "WF1", "macro F1", "gender WA"]
    assert pooled[5][1] == "0.833"
    assert folds[1] == ["0", "1 2", "4", "2 / 1 / 4", "4 of 5", "0.750", *folds[1][6:10], "2.5", "346"]
    assert folds[0][6:10] == ["UA", "WF1", "macro F1", "gender WA"]
    assert folds[1][6:10] == ["0.833", "0.767", "0.733", "0.750"]  # F1: anger .8, fear 2/3; weights 3 and 1
    assert emotions[1:] == [["anger", "3", "0.667"], ["fear", "3", "0.667"]]
    assert confusion[0] == ["true \\ predicted", "neutral", "anger", "fear"]
    assert confusion[3] == ["fear", "1", "0", "2"]
    assert ["encoder", "small, trained from scratch"] in about
    assert "```bash\npython run_ser.py --corpus x\n```" in results_markdown(results)
    assert "Versions: torch 2.13.0, transformers 5.23.0." in results_markdown(results)


def test_single_task_has_no_gender_anywhere(predictions, fold_metrics, run):
    results = build_results(predictions.assign(predicted_gender=""), fold_metrics, run)
    assert results["pooled"]["gender_wa"] == {"value": None, "low": None, "high": None}
    assert "gender WA" not in results_markdown(results) + console_table(results) + model_card(results)


def test_console_table(predictions, fold_metrics, run):
    lines = console_table(build_results(predictions, fold_metrics, run)).splitlines()
    assert lines[0] == "x, protocol speakers, 2 folds"
    assert lines[1].split() == [
        "score",
        "pooled",
        "95",
        "%",
        "interval",
        "folds:",
        "mean",
        "±",
        "sd",
        "majority",
    ]
    assert lines[2].split()[:2] == ["WA", "0.667"]
    assert len({line.index(cell) for line, cell in zip(lines[1:4], ("pooled", "0.667", "0.667"))}) == 1
    assert lines[-1].startswith("warning: The intervals are unreliable")
    assert max(map(len, lines[:-2])) < 80


def test_disclaimer_stands_on_top(predictions, fold_metrics, run):
    results = build_results(predictions, fold_metrics, run | {"disclaimer": "Synthetic speech."})
    assert results_markdown(results).splitlines()[2] == "> Synthetic speech."
    assert console_table(results).splitlines()[1] == "Synthetic speech."
    assert ModelCard(model_card(results)).text.strip().startswith("> **Synthetic speech.**")


@pytest.mark.parametrize("checkpoint", [None, "final", "fold_01"])
def test_card_metadata_reads_back(predictions, fold_metrics, run, checkpoint):
    results = build_results(predictions, fold_metrics, run | {"base_model": "openai/whisper-tiny"})
    card = ModelCard(model_card(results, checkpoint, model_id="me/camulenet-x"))
    card.data.to_dict()
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores == {name: results["pooled"][name]["value"] for name in ("wa", "ua", "wf1", "macro_f1")}
    assert {result.dataset_config for result in card.data.eval_results} == {"speakers, 2 folds"}
    assert card.data.model_name == "camulenet-x"
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "audio-classification")
    assert (card.data.license, card.data.language) == ("cc-by-nc-sa-4.0", ["en"])
    assert card.data.base_model == "openai/whisper-tiny"
    assert "speech-emotion-recognition" in card.data.tags


def test_card_says_whose_figures_they_are(predictions, fold_metrics, run):
    results = build_results(predictions, fold_metrics, run)
    out, final, fold = (model_card(results, checkpoint) for checkpoint in (None, "final", "fold_01"))
    assert "The figures below belong to the fold models, not to `final/`." in out
    assert "belong to the fold models that were trained the same way, not to this checkpoint." in final
    assert "tested on the speakers 3 (2 utterances) and reached WA 0.500 and UA 0.500" in fold
    for card in (out, final, fold):
        assert "The test speakers of a fold are in neither its training nor its validation part." in card
        assert "speakers set apart from the training speakers" in card
        assert "2406.08931" in card and "Article 5(1)(f)" in card and "Article 50(3)" in card
        assert "python run_ser.py --corpus x" in card
        assert 'pipeline("audio-classification", model="path/to/' in card
        assert ["0", "1 2", "4"] in tables(card)[2]
        assert not re.search(r"\n{3}|[ \t]\n|\{[{%]|None|nan", card)


def test_card_license_of_several_corpora(predictions, fold_metrics, run):
    for licenses in (["CC BY-NC-SA 4.0", "free for research"], ["free for research"]):
        card = model_card(build_results(predictions, fold_metrics, run | {"licenses": licenses}))
        assert ModelCard(card).data.license == "other"
        assert ", ".join(licenses) in card


def test_card_names_no_local_folder_as_base_model(predictions, fold_metrics, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "whisper").mkdir(parents=True)
    for base_model in (str(tmp_path), "../whisper/", "local/whisper", None):
        results = build_results(predictions, fold_metrics, run | {"base_model": base_model})
        assert ModelCard(model_card(results)).data.base_model is None


def test_partial_runs_print_no_pooled_figures(predictions, fold_metrics, run):
    first = predictions[predictions["fold"] == 0]
    partial = build_results(first, fold_metrics[:1], run)
    assert partial["incomplete"] == "Only 1 of 2 folds are complete (0)."
    assert partial["pooled"] is None and partial["folds"]["rows"][0]["wa"] == 0.75
    for text in (results_markdown(partial), console_table(partial), model_card(partial)):
        assert "Only 1 of 2 folds are complete (0)." in text
        assert "95 % interval" not in text
    assert ModelCard(model_card(partial)).data.eval_results is None
    assert "0.750" in results_markdown(partial) and "0.750" in console_table(partial)
    missing = build_results(predictions[:5], fold_metrics, run | {"num_eligible_utterances": 6})
    assert missing["incomplete"] == "Only 5 of 6 eligible utterances are predicted."


def test_random_folds_are_not_called_unseen(predictions, fold_metrics, run):
    for metrics in fold_metrics:
        metrics["train_speakers"] = metrics["validation_speakers"] = ["x/1", "x/2", "x/3"]
    card = model_card(build_results(predictions, fold_metrics, run | {"protocol": "random"}))
    assert "unseen speakers" not in card and "are in neither" not in card and "set apart" not in card
    assert "whoever speaks" in card


def test_plots_show_something(tmp_path, predictions, fold_metrics):
    backend = get_backend(auto_select=False)
    paths = write_plots(predictions, fold_metrics, tmp_path / "plots")
    assert get_backend(auto_select=False) == backend
    assert [path.name for path in paths] == ["confusion_matrix.png", "speakers.png", "learning_curves.png"]
    assert sorted(os.listdir(tmp_path / "plots")) == sorted(path.name for path in paths)
    # 3 emotions: 2.5 + 3 * 0.75 inches high, an inch wider; 3 speakers: 1.6 + 3 * 0.36; one band of two folds
    for path, size in zip(paths, [(575, 475), (800, 268), (620, 500)]):
        image = np.asarray(Image.open(path).convert("RGB"))
        assert image.shape == (size[1], size[0], 3)
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert len(write_plots(predictions, [{"fold": 0}], tmp_path)) == 2


def test_learning_curves_hold_the_history(fold_metrics):
    from ser_protocol.report import _curves_figure

    figure = _curves_figure({f: fold_metrics[0] | {"fold": f} for f in range(5)})  # two bands, the second not full
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 10
    loss, recall = shown[0], [axes for axes in shown if axes.get_ylabel() == "UA (0 to 1)"][0]
    lines = {line.get_label(): line.get_ydata() for line in loss.get_lines()}
    np.testing.assert_allclose(lines["training loss"], [2, 1, 2 / 3, 0.5, 0.4])
    np.testing.assert_allclose(lines["validation loss"], [2, 1.5, 4 / 3, 1.25, 1.2])
    np.testing.assert_allclose(recall.get_lines()[0].get_ydata(), np.arange(1, 6) / 9)
    assert loss.get_lines()[-1].get_xdata() == [4, 4]  # the epoch kept


def test_confusion_plot_is_normalised_by_row(predictions):
    from ser_protocol.report import _confusion_figure

    axes = _confusion_figure(predictions).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0, 0, 0], [0, 2 / 3, 1 / 3], [1 / 3, 0, 2 / 3]])
    assert [text.get_text() for text in axes.texts][4:6] == ["67%\n2", "33%\n1"]


def test_writes_are_atomic(tmp_path, monkeypatch):
    path = tmp_path / "new" / "results.md"
    write_atomically(path, "one é")
    assert path.read_text(encoding="utf-8") == "one é"
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "two")
    assert path.read_text(encoding="utf-8") == "one é"
    assert os.listdir(path.parent) == ["results.md"]


def test_json_is_plain(tmp_path):
    content = {
        "b": np.float32(0.5),
        "a": [np.int64(3), float("nan"), math.inf, 1 / 3],
        "path": Path("x"),
        "list": np.arange(2),
    }
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"b": 0.5, "a": [3, None, None, 0.333333], "path": "x", "list": [0, 1]}
    assert text.startswith('{\n  "b"')


@pytest.mark.parametrize("folder", sorted(PEERS.iterdir()) if PEERS.is_dir() else [], ids=lambda folder: folder.name)
def test_committed_peer_figures_follow_from_their_predictions(folder):
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    predictions = read_predictions(folder / "predictions.csv")
    again = build_results(predictions, results["folds"]["rows"], results["run"])
    assert again["pooled"] == {name: pytest.approx(score, abs=2e-6) for name, score in results["pooled"].items()}
    assert again["confusion_matrix"] == results["confusion_matrix"]
    assert results["unseen_speakers"] and not results["incomplete"]
