import re

import pytest
from huggingface_hub import ModelCard
from markdown_tables import tables

from ser_protocol.card import model_card
from ser_protocol.results import build_results


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


def test_random_folds_are_not_called_unseen(predictions, fold_metrics, run):
    for metrics in fold_metrics:
        metrics["train_speakers"] = metrics["validation_speakers"] = ["x/1", "x/2", "x/3"]
    card = model_card(build_results(predictions, fold_metrics, run | {"protocol": "random"}))
    assert "unseen speakers" not in card and "are in neither" not in card and "set apart" not in card
    assert "whoever speaks" in card
