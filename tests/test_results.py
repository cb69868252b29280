import json
import math
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from markdown_tables import tables

from ser_protocol.card import model_card
from ser_protocol.results import build_results, console_table, results_markdown
from ser_protocol.statistics import read_predictions

PEERS = sorted((Path(__file__).parents[1] / "results").glob("*/opensmile-*"))


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
    pooled, genders, folds, emotions, confusion, about = tables(results_markdown(results))
    ua = results["pooled"]["ua"]
    assert pooled[0] == ["score", "pooled", "95 % interval", "folds: mean ± sd", "majority"]
    assert pooled[2] == ["UA", "0.667", f"{ua['low']:.3f} to {ua['high']:.3f}", "0.667 ± 0.236", "0.500"]
    assert [row[0] for row in pooled[1:]] == ["WA", "UA", "WF1", "macro F1", "gender WA"]
    assert pooled[5][1] == "0.833"
    assert genders[0][:4] == ["gender", "utterances", "speakers", "WA (95 % interval)"]
    assert genders[1][:4] == ["female", "2", "1", "1.000"]  # one speaker: no interval
    assert genders[2][:3] == ["male", "4", "2"] and genders[2][3].startswith("0.500 (")
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


@pytest.mark.parametrize("folder", PEERS, ids=lambda folder: "-".join(folder.parts[-2:]))
def test_committed_peer_figures_follow_from_their_predictions(folder):
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    predictions = read_predictions(folder / "predictions.csv")
    again = build_results(predictions, results["folds"]["rows"], results["run"])
    assert again["pooled"] == {name: pytest.approx(score, abs=2e-6) for name, score in results["pooled"].items()}
    assert again["confusion_matrix"] == results["confusion_matrix"]
    assert results["unseen_speakers"] and not results["incomplete"]
