import re

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from markdown_tables import tables

from ser_protocol.card import model_card
from ser_protocol.results import PLACED_FIELDS, build_results


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
        assert any(["0", "1 2", "4"] in table for table in tables(card))
        assert not re.search(r"\n{3}|[ \t]\n|\{[{%]|None|nan", card)


SOURCES = [
    {"corpus": "x", "license": "CC BY-NC-SA 4.0", "license_id": "cc-by-nc-sa-4.0", "citation": "A. Nobody, X",
     "homepage": "https://x.org"},
    {"corpus": "y", "license": "ODbL 1.0", "license_id": "odbl", "citation": "", "homepage": ""},
]  # fmt: skip


def cell_of(value):
    """A value of a run, as its table has it."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def cell(score):
    """A score with its interval, as a table has it."""
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def test_every_cell_is_of_the_results(predictions, fold_metrics, run):
    """Of a run over two corpora of two languages, with calibration: no cell of the card says anything else."""
    other = predictions.copy()
    for column in ("utterance_id", "speaker_id"):
        other[column] = other[column].str.replace("x/", "y/")
    other["predicted_emotion"] = "fear"
    both = pd.concat([predictions, other]).assign(p_anger=0.2, p_fear=0.7, p_neutral=0.1)
    for metrics in fold_metrics:
        metrics |= {"temperature": 1.5}
    more = {"language_of_corpus": {"x": "en", "y": "hi"}, "sources": SOURCES, "fold_files": ["x.json", "y.json"]}
    results = build_results(both, fold_metrics, run | more)
    card = model_card(results)
    pooled, corpora, languages, genders, emotions, folds, sources, about = tables(card)
    names = {"WA": "wa", "UA": "ua", "WF1": "wf1", "macro F1": "macro_f1", "gender WA": "gender_wa"}
    for title, value, interval, spread, majority in pooled[1:]:
        name = names[title]
        score, over_folds = results["pooled"][name], results["folds"]
        assert value == f"{score['value']:.3f}"
        assert interval == f"{score['low']:.3f} to {score['high']:.3f}"
        assert spread == f"{over_folds['mean'][name]:.3f} ± {over_folds['sd'][name]:.3f}"
        assert majority == f"{results['majority_class'][name]:.3f}"
    assert len(pooled) == 6
    for kind, table in (("corpus", corpora), ("language", languages), ("gender", genders)):
        groups = results[f"per_{kind}"]
        assert [row[0] for row in table[1:]] == list(groups)
        for group, clips, speakers, *scores in table[1:]:
            assert (int(clips), int(speakers)) == (groups[group]["num_utterances"], groups[group]["num_speakers"])
            assert scores == [cell(groups[group][name]) for name in names.values()]
    assert list(results["per_corpus"]) == ["x", "y"] and list(results["per_language"]) == ["en", "hi"]
    assert results["per_corpus"]["y"]["wa"]["value"] == 0.5  # three of six are fear
    for emotion, clips, recall in emotions[1:]:
        assert [int(clips), recall] == [
            results["per_emotion"][emotion]["num_utterances"],
            f"{results['per_emotion'][emotion]['recall']:.3f}",
        ]
    for row, (fold, tested, validated) in zip(results["folds"]["rows"], folds[1:], strict=True):
        people = [" ".join(name.split("/")[1] for name in row[f"{part}_speakers"]) for part in ("test", "validation")]
        assert [str(row["fold"]), *people] == [fold, tested, validated]
    assert sources[1:] == [["x", "CC BY-NC-SA 4.0", "A. Nobody, X (https://x.org)"], ["y", "ODbL 1.0", "unknown"]]
    told = dict(map(tuple, about[1:]))
    assert told == {name: cell_of(value) for name, value in results["run"].items() if name not in PLACED_FIELDS}
    assert told["num_parameters"] == "1234" and told["fold_files"] == "x.json, y.json"
    fixed = "fixed in x.json, y.json (`dataset_scripts/splits/` of the code)"
    assert f"{fixed}. The test speakers" in card
    card = model_card(build_results(both, fold_metrics, run | more | {"train_on_validation": True}))
    assert f"{fixed}; its validation parts are trained on, too. The test speakers" in card
    calibration = results["calibration"]
    assert f"as is {calibration['as_is']['ece']:.3f}, after temperature scaling" in card
    assert "2.0 minutes a fold (median of 2, 4 minutes together) and 0.3 GB of memory at most" in card


def test_the_card_says_who_chose_the_epoch(predictions, fold_metrics, run):
    texts = ("the epoch is chosen on a validation part", "part in some folds: there the", "part in any fold: the")
    for place, text in enumerate(texts):
        card = model_card(build_results(predictions, fold_metrics, run))
        assert [other in card for other in texts] == [other == text for other in texts]
        fold_metrics[min(place, 1)]["validation_speakers"] = []


def test_the_card_of_a_pushed_model_names_what_lies_beside_it(predictions, fold_metrics, run):
    results = build_results(predictions, fold_metrics, run | {"hub_model_id": "me/camulenet"})
    cards = {name: model_card(results, name) for name in (None, "final", "fold_01")}
    assert [name for name, card in cards.items() if "[`plots/`](plots)" in card] == ["final"]
    assert "[`plots/`](plots)" not in model_card(build_results(predictions, fold_metrics, run), "final")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"fusion": "co_attention", "branches": ["spectrogram", "mfcc"], "multitask": True},
         "joins a speech encoder to a spectrogram branch and an MFCC branch by co-attention: the branches ask, and "
         "the encoder's frames answer. It learns the emotion together with the speaker's gender."),
        ({"fusion": "concat", "branches": ["mfcc"], "multitask": False},
         "to an MFCC branch by concatenation with the mean of the encoder's frames. It learns the emotion alone."),
        ({"fusion": "branches", "branches": ["spectrogram"], "multitask": True, "adversarial_gender": True},
         "The model is a spectrogram branch, without a speech encoder. It learns the emotion, and to hide the"),
        ({"fusion": "image", "branches": [], "multitask": False}, "A small CNN reads the frames of a speech encoder"),
        ({"fusion": "none", "branches": [], "multitask": False}, "The mean frame of a speech encoder is all that is"),
        ({"fusion": "attention", "branches": [], "multitask": False}, "A learnt query attends to the frames"),
        ({"fusion": "gate", "branches": ["mfcc"], "multitask": False}, "by the released model's gate"),
    ],
)  # fmt: skip
def test_the_card_describes_the_model_that_ran(predictions, fold_metrics, run, fields, text):
    assert text in model_card(build_results(predictions, fold_metrics, run | fields))


def test_card_license_of_several_corpora(predictions, fold_metrics, run):
    for licenses in (["CC BY-NC-SA 4.0", "free for research"], ["free for research"]):
        card = model_card(build_results(predictions, fold_metrics, run | {"licenses": licenses}))
        assert ModelCard(card).data.license == "other"
        assert ", ".join(licenses) in card
    for sources, license in ((SOURCES, "other"), (SOURCES[:1], "cc-by-nc-sa-4.0"), (SOURCES[1:], "odbl")):
        card = model_card(build_results(predictions, fold_metrics, run | {"sources": sources}))
        assert ModelCard(card).data.license == license


def test_card_names_no_local_folder_as_base_model(predictions, fold_metrics, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "whisper").mkdir(parents=True)
    for base_model in (str(tmp_path), "../whisper/", "local/whisper", None):
        results = build_results(predictions, fold_metrics, run | {"base_model": base_model})
        assert ModelCard(model_card(results)).data.base_model is None


def test_random_folds_are_not_called_unseen(predictions, fold_metrics, run):
    for metrics in fold_metrics:
        metrics["train_speakers"] = metrics["validation_speakers"] = ["x/1", "x/2", "x/3"]
    card = model_card(build_results(predictions, fold_metrics, run | {"protocol": "random"}))
    assert "unseen speakers" not in card and "are in neither" not in card and "set apart" not in card
    assert "whoever speaks" in card
