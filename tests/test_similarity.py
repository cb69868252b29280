"""Speaker similarity: distances and correlations by hand, the two kinds of speaker encoders, a finished run."""

import json
import shutil
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

from ser_protocol.figures import similarity_figure
from ser_protocol.similarity import SimilarityError, correlation, distances, main, speaker_encoder, speaker_table
from ser_protocol.statistics import read_predictions

# Unit vectors: a and b 60 degrees apart, c at right angles to a.
VOICES = {"x/a": np.array([1.0, 0.0]), "x/b": np.array([0.5, np.sqrt(0.75)]), "x/c": np.array([0.0, 1.0])}


def test_distances_by_hand():
    away = distances(VOICES, "x/a", ["x/b", "x/c"])
    assert away == {"nearest": pytest.approx(0.5), "mean": pytest.approx(0.75)}


def test_the_training_speakers_of_each_fold_count():
    predictions = pd.DataFrame(
        {
            "utterance_id": ["x/1", "x/2", "x/3", "x/4"],
            "speaker_id": ["x/a", "x/a", "x/b", "x/c"],
            "fold": [0, 0, 1, 1],
            "emotion": ["anger", "fear", "anger", "fear"],
            "gender": "",
            "predicted_emotion": ["anger", "anger", "anger", "anger"],
            "predicted_gender": "",
        }
    )
    folds = [{"fold": 0, "train_speakers": ["x/c"]}, {"fold": 1, "train_speakers": ["x/a"]}]
    table = speaker_table([predictions], folds, VOICES)
    assert table["nearest"].to_dict() == {
        "x/a": pytest.approx(1.0),
        "x/b": pytest.approx(0.5),
        "x/c": pytest.approx(1.0),
    }
    assert table["wa"].to_dict() == {"x/a": 0.5, "x/b": 1.0, "x/c": 0.0}
    with pytest.raises(SimilarityError, match="no audio of x/a: is it the one of the run"):
        speaker_table([predictions], folds, {name: VOICES[name] for name in ("x/b", "x/c")})


def test_correlation():
    generator = np.random.default_rng(1)
    distance = generator.random(20)
    score = -distance + 0.1 * generator.random(20)
    result = correlation(distance, score, num_resamples=200)
    assert result["spearman"]["value"] == pytest.approx(stats.spearmanr(distance, score).statistic)
    assert result["pearson"]["value"] == pytest.approx(stats.pearsonr(distance, score).statistic)
    assert -1 <= result["spearman"]["low"] < result["spearman"]["value"] < result["spearman"]["high"] < 0
    assert correlation(distance, score, num_resamples=200) == result
    few = correlation([0.1, 0.2, 0.3], [0.3, 0.2, 0.1], num_resamples=200)  # some resamples are of one speaker
    assert few["spearman"] == {"value": -1.0, "low": -1.0, "high": -1.0}


@pytest.fixture(scope="module")
def xvector(tmp_path_factory):
    """A tiny WavLM for speaker verification with random weights."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (40, 8), "num_feat_extract_layers": 2}
    tdnn = {"tdnn_dim": (8, 8, 16), "tdnn_kernel": (3, 3, 1), "tdnn_dilation": (1, 1, 1), "xvector_output_dim": 6}
    torch.manual_seed(0)
    config = WavLMConfig(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **sizes, **convolutions, **tdnn)
    folder = tmp_path_factory.mktemp("wavlm-sv")
    WavLMForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_an_encoder_of_the_hub(xvector):
    waveform = np.sin(np.arange(8000) / 7).astype(np.float32)
    model = WavLMForXVector.from_pretrained(xvector).eval()
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(xvector)(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).embeddings[0].numpy()
    np.testing.assert_allclose(speaker_encoder(str(xvector))(waveform), expected, atol=1e-6)


def test_what_is_refused(xvector, tmp_path, monkeypatch):
    with pytest.raises(SimilarityError, match="--speaker_encoder .*nothing"):
        speaker_encoder(str(tmp_path / "nothing"))
    other = tmp_path / "8k"
    WavLMForXVector.from_pretrained(xvector).save_pretrained(other)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(other)
    with pytest.raises(SimilarityError, match="reads 8000 Hz, and 16000 is needed"):
        speaker_encoder(str(other))
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(SimilarityError, match="resemblyzer cannot be imported .* pip install"):
        speaker_encoder("resemblyzer")


def test_resemblyzer_is_given_what_it_wants(monkeypatch):
    class VoiceEncoder:
        def __init__(self, device, verbose):
            assert device == "cpu"

        def embed_utterance(self, waveform):
            return waveform[:2]

    module = types.SimpleNamespace(VoiceEncoder=VoiceEncoder, preprocess_wav=lambda w: w[w != 0])
    monkeypatch.setitem(sys.modules, "resemblyzer", module)
    embed = speaker_encoder("resemblyzer")
    np.testing.assert_array_equal(embed(np.array([0.0, 3.0, 4.0])), [3.0, 4.0])
    np.testing.assert_array_equal(embed(np.zeros(3)), [0.0, 0.0])  # nothing but pause: the clip as it is


def test_a_finished_run(ravdess, finished_run, xvector, tmp_path, monkeypatch, capsys):
    arguments = [finished_run, *ravdess[2:4], "--speaker_encoder", xvector, "--output_dir", tmp_path]
    monkeypatch.setattr(sys, "argv", ["similarity", *map(str, arguments)])
    main()
    content = json.loads((tmp_path / "similarity.json").read_text())
    table = read_predictions(finished_run / "predictions.csv")
    speakers = {row["speaker_id"]: row for row in content["speakers"]}
    for speaker, rows in table.groupby("speaker_id"):
        wa = (rows["emotion"] == rows["predicted_emotion"]).mean()
        assert speakers[speaker]["wa"] == pytest.approx(wa, abs=1e-6)
        assert 0 <= speakers[speaker]["nearest"] <= speakers[speaker]["mean"] <= 2
    assert (tmp_path / "similarity.png").stat().st_size > 5000
    assert "6 speakers" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["similarity", str(tmp_path), *map(str, ravdess[2:4])])
    with pytest.raises(SystemExit, match="^similarity: There is no .*arguments.json, which says what was run"):
        main()
    shutil.copy(finished_run / "arguments.json", tmp_path)
    with pytest.raises(SystemExit, match="no results.json and predictions.csv; finish the run first"):
        main()
    for name in ("results.json", "predictions.csv"):
        shutil.copy(finished_run / name, tmp_path)
    table[1:].to_csv(tmp_path / "predictions.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["similarity", str(finished_run), str(tmp_path), *map(str, ravdess[2:4])])
    with pytest.raises(SystemExit, match="are not seeds of one model on one corpus: Of .* Give each its own call"):
        main()


def test_the_figure_names_the_speakers():
    table = pd.DataFrame({"nearest": [0.1, 0.2], "mean": [0.3, 0.4], "wa": [0.5, 0.7]}, index=["x/a", "x/b"])
    values = {"spearman": {"value": 1.0, "low": 0.5, "high": 1.0}, "num_speakers": 2}
    nothing = {"spearman": {"value": None, "low": None, "high": None}, "num_speakers": 2}
    first, second = similarity_figure(table, {"near": values, "far": nothing}).axes
    assert [text.get_text() for text in first.texts] == [text.get_text() for text in second.texts] == ["a", "b"]
    assert first.get_title() == "Spearman +1.00 (95 %: +0.50 to +1.00), 2 speakers"
    assert (second.get_title(), second.get_xlabel()) == ("all 2 speakers alike: no correlation", "far (cosine)")
