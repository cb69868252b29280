"""Embeddings and co-attention of a fold's test clips: values of the model, and their figures."""

import json
import math
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

from dataset_scripts import load_corpus
from modeling_camulenet import CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol.embeddings import EmbeddingError, embed, first_of_each_emotion, main, tsne, write_figures
from ser_protocol.figures import attention_figure, embeddings_figure
from ser_protocol.statistics import read_predictions


@pytest.fixture(scope="module")
def dataset(ravdess):
    return load_corpus("ravdess", ravdess[3], cache_dir=ravdess[5])


def test_they_are_the_model_s(dataset, finished_run):
    folder = finished_run / "fold_00"
    made = embed(folder, dataset.select(range(3)))
    model = CAMuLeNetForAudioClassification.from_pretrained(folder).eval()
    extractor = CAMuLeNetFeatureExtractor.from_pretrained(folder)
    waveform, rate = soundfile.read(dataset[2]["audio"]["path"], dtype="float32")
    with torch.no_grad():
        output = model.camulenet(**extractor(waveform, rate, return_tensors="pt"))
    np.testing.assert_allclose(made["fused"][2], output.embeddings[0], atol=1e-5)
    np.testing.assert_allclose(made["encoder"][2], output.last_hidden_state[0].mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(made["attention"][2], output.co_attention_weights[0], atol=1e-5)
    np.testing.assert_allclose(made["attention"][2].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("changes", [{"encoder_context": "padded"}, {"max_duration_s": 0.25}])
def test_what_is_not_of_the_clip_is_left_out(dataset, finished_run, tmp_path, changes):
    folder = tmp_path / "fold_00"
    shutil.copytree(finished_run / "fold_00", folder)
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((folder / name).read_text())
        content |= {key: value for key, value in changes.items() if name == "config.json" or key in content}
        (folder / name).write_text(json.dumps(content))
    made = embed(folder, dataset.select([0]))
    waveform, rate = soundfile.read(dataset[0]["audio"]["path"], dtype="float32")
    read_s = min(len(waveform) / rate, changes.get("max_duration_s", 30))
    assert made["read_s"] == [read_s]
    model = CAMuLeNetForAudioClassification.from_pretrained(folder).eval()
    extractor = CAMuLeNetFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        output = model.camulenet(**extractor(waveform, rate, return_tensors="pt"))
    num_frames = math.ceil(50 * read_s)  # Whisper's
    assert (output.last_hidden_state.shape[1] == 1500) == ("encoder_context" in changes)
    np.testing.assert_allclose(made["encoder"][0], output.last_hidden_state[0, :num_frames].mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(made["attention"][0], output.co_attention_weights[0, :, :num_frames], atol=1e-5)
    np.testing.assert_allclose(made["attention"][0].sum(axis=1), 1, atol=1e-5)


def test_tsne_keeps_neighbours_and_is_repeatable():
    centres = 10 * np.eye(3)[np.arange(60) % 3]
    points = np.concatenate([centres, np.zeros((60, 1))], axis=1) + np.random.default_rng(0).normal(size=(60, 4)) / 10
    places = tsne(points, seed=1)
    np.testing.assert_array_equal(places, tsne(points, seed=1))
    nearest = np.linalg.norm(places[:, None] - places, axis=-1) + np.diag(np.full(60, np.inf))
    assert (nearest.argmin(axis=1) % 3 == np.arange(60) % 3).all()
    with pytest.raises(EmbeddingError, match="t-SNE of 4 clips"):
        tsne(points[:4])


def test_the_clips_that_are_shown():
    table = pd.DataFrame(
        {
            "utterance_id": ["x/3", "x/1", "x/2", "x/4"],
            "emotion": ["fear", "fear", "fear", "anger"],
            "predicted_emotion": ["fear", "anger", "fear", "fear"],
        }
    )
    assert sorted(first_of_each_emotion(table)) == ["x/2", "x/4"]


def test_a_folder_that_is_no_fold(finished_run, ravdess, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["embeddings", str(tmp_path / "none"), *map(str, ravdess[2:4])])
    with pytest.raises(SystemExit, match=f"^embeddings: There is no {tmp_path}/arguments.json, which says"):
        main()
    shutil.copy(finished_run / "arguments.json", tmp_path)
    with pytest.raises(SystemExit, match=f"^embeddings: There is no {tmp_path}/none/predictions.csv"):
        main()


def test_a_fold_of_a_run(dataset, ravdess, finished_run, tmp_path, monkeypatch, capsys):
    fold = finished_run / "fold_00"
    monkeypatch.setattr(sys, "argv", ["embeddings", str(fold), *map(str, ravdess[2:4]), "--output_dir", str(tmp_path)])
    main()
    assert "attention.png" in capsys.readouterr().out
    for name, size in (("embeddings.png", (2080, 1040)), ("attention.png", (2080, 840))):
        image = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert image.shape == (size[1], size[0], 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 20

    predictions = read_predictions(fold / "predictions.csv")
    with pytest.raises(EmbeddingError, match="--clips: x/nobody: not among the test clips"):
        write_figures(fold, dataset, ["x/nobody"], tmp_path)
    others = [row for row, name in enumerate(dataset["utterance_id"]) if name not in set(predictions["utterance_id"])]
    with pytest.raises(EmbeddingError, match="The corpus has 16 of the clips of .* not, like ravdess/03-01-01"):
        write_figures(fold, dataset.select(others), None, tmp_path)
    with pytest.raises(EmbeddingError, match="There is no .*predictions.csv"):
        write_figures(tmp_path, dataset, None, tmp_path)


def test_the_figures_hold_the_values():
    places = {"one": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])}
    (axes,) = embeddings_figure(places, ["fear", "anger", "fear"]).axes
    shown = {group.get_label(): group.get_offsets().tolist() for group in axes.collections}
    assert shown == {"anger": [[2.0, 3.0]], "fear": [[0.0, 1.0], [4.0, 5.0]]}
    weights = np.array([[0.5, 0.5, 0.0], [0.1, 0.3, 0.6]])
    wave, over = attention_figure({"clip": (np.zeros(16000), 8000, weights)}).axes
    (steps,) = over.patches
    np.testing.assert_allclose(steps.get_data().values, [30, 40, 30])
    np.testing.assert_allclose(steps.get_data().edges, [0, 2 / 3, 4 / 3, 2])
    assert wave.get_xlim() == (0, 2) and over.get_lines()[0].get_ydata() == pytest.approx([100 / 3] * 2)
