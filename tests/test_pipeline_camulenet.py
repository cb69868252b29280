"""The pipeline: every form of a recording gives one answer, batches change nothing, errors name the file."""

import http.server
import io
import logging
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import transformers

from modeling_camulenet import (
    CAMuLeNetConfig,
    CAMuLeNetFeatureExtractor,
    CAMuLeNetForAudioClassification,
    pipeline_camulenet,
)
from modeling_camulenet.pipeline_camulenet import CAMuLeNetPipeline

RATE = 16000
EMOTIONS = ["neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise"]


def tiny_classifier(**kwargs) -> CAMuLeNetPipeline:
    torch.manual_seed(0)
    encoder = {
        "model_type": "whisper",
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
    }
    config = CAMuLeNetConfig(
        encoder_config=encoder,
        width_multiplier=0.125,
        branch_size=64,
        id2label=dict(enumerate(EMOTIONS)),
        label2id={name: index for index, name in enumerate(EMOTIONS)},
        **kwargs,
    )
    model = CAMuLeNetForAudioClassification(config)
    return CAMuLeNetPipeline(
        model=model, feature_extractor=CAMuLeNetFeatureExtractor.from_model_config(config), device="cpu"
    )


def make_clip(duration_s: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A buzz of changing loudness in noise, float32, on the grid of 16-bit files."""
    random = np.random.default_rng(seed)
    time = np.arange(round(duration_s * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * (120 + 30 * seed) * n * time) / n for n in range(1, 9))
    signal = 0.2 * buzz * np.abs(np.sin(5 * time + seed)) + 0.01 * random.standard_normal(len(time))
    return (np.round(signal * 2**15) / 2**15).clip(-1, 1 - 2**-15).astype(np.float32)


def file_bytes(samples: np.ndarray, rate: int = RATE, file_format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype=subtype)
    return file.getvalue()


def by_label(result: list[dict]) -> np.ndarray:
    scores = {row["label"]: row["score"] for row in result}
    return np.array([scores[name] for name in EMOTIONS])


def assert_same(result: list[dict], expected: list[dict], atol: float = 1e-5):
    np.testing.assert_allclose(by_label(result), by_label(expected), rtol=0, atol=atol)


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier()


@pytest.fixture(scope="module")
def clip():
    return make_clip(1.0)


@pytest.fixture(scope="module")
def expected(classifier, clip):
    return classifier(clip)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clip):
    folder = tmp_path_factory.mktemp("audio")
    for name, content in {
        "clip.wav": file_bytes(clip),
        "clip.flac": file_bytes(clip, file_format="FLAC"),
        "stereo.wav": file_bytes(np.stack((clip, clip), axis=1)),
        "two.wav": file_bytes(np.stack((clip, np.zeros_like(clip)), axis=1), subtype="FLOAT"),
        "empty.wav": file_bytes(clip[:0]),
        "nan.wav": file_bytes(np.full(100, np.nan, np.float32), subtype="FLOAT"),
        "text.mp4": b"no audio at all",
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """Address of a web server of the folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def decoder(samples):
    """What a datasets column `Audio()` yields."""
    samples = SimpleNamespace(data=torch.tensor(samples)[None], sample_rate=RATE)
    return SimpleNamespace(get_all_samples=lambda: samples)


def test_the_answer_depends_on_the_recording(expected, classifier):
    other = by_label(classifier(make_clip(1.5, seed=1)))
    assert np.abs(by_label(expected) - other).max() > 1e-3


FORMS = {
    "path": lambda clip, folder: str(folder / "clip.wav"),
    "pathlib": lambda clip, folder: folder / "clip.wav",
    "flac": lambda clip, folder: folder / "clip.flac",
    "stereo file": lambda clip, folder: folder / "stereo.wav",
    "bytes": lambda clip, folder: (folder / "clip.wav").read_bytes(),
    "bytearray": lambda clip, folder: bytearray((folder / "clip.flac").read_bytes()),
    "file in memory": lambda clip, folder: io.BytesIO((folder / "clip.wav").read_bytes()),
    "open file": lambda clip, folder: open(folder / "clip.wav", "rb"),  # noqa: SIM115
    "float64": lambda clip, folder: clip.astype(np.float64),
    "int16": lambda clip, folder: (clip * 2**15).astype(np.int16),
    "int32": lambda clip, folder: (clip.astype(np.float64) * 2**31).astype(np.int32),
    "tensor": lambda clip, folder: torch.tensor(clip, requires_grad=True),
    "int16 tensor": lambda clip, folder: torch.tensor((clip * 2**15).astype(np.int16)),
    "one channel": lambda clip, folder: clip[None],
    "stereo": lambda clip, folder: np.stack((1.5 * clip, 0.5 * clip)),
    "stereo int16 tensor": lambda clip, folder: torch.tensor(np.stack([(clip * 2**15).astype(np.int16)] * 2)),
    "raw": lambda clip, folder: {"raw": clip, "sampling_rate": RATE},
    "array": lambda clip, folder: {"array": clip, "sampling_rate": RATE, "path": "gone.wav"},
    "array of a list": lambda clip, folder: {"array": clip.tolist(), "sampling_rate": RATE},
    "array of a tensor": lambda clip, folder: {"array": torch.tensor(clip), "sampling_rate": float(RATE)},
    "row with bytes": lambda clip, folder: {"bytes": (folder / "clip.flac").read_bytes(), "path": "gone.flac"},
    "row with a path": lambda clip, folder: {"bytes": None, "path": str(folder / "clip.flac")},
    "decoder": lambda clip, folder: decoder(clip),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, classifier, clip, folder, expected):
    result = classifier(FORMS[form](clip, folder))
    assert_same(result, expected)
    assert [row["score"] for row in result] == sorted((row["score"] for row in result), reverse=True)


def test_bfloat16_tensor(classifier, clip):
    rounded = torch.tensor(clip).bfloat16()
    assert_same(classifier(rounded), classifier(rounded.float().numpy()))


def test_channels_are_averaged(classifier, clip, folder):
    assert_same(classifier(folder / "two.wav"), classifier(clip / 2))


def test_url(classifier, server, expected, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert_same(classifier(f"{server}/clip.flac"), expected)
    with pytest.raises(OSError, match="/gone.wav: .*404"):
        classifier(f"{server}/gone.wav")


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_sampling_rates(rate, classifier, folder, expected):
    clip = make_clip(1.0, rate=rate)
    resampled = classifier(classifier.feature_extractor.prepare_waveform(clip, rate))
    assert_same(classifier({"array": clip, "sampling_rate": rate}), resampled)
    assert_same(classifier({"raw": np.stack((clip, clip)), "sampling_rate": rate}), resampled)
    assert_same(classifier(file_bytes(clip, rate)), resampled)
    # Read at the wrong rate it is another recording.
    assert np.abs(by_label(classifier(clip)) - by_label(resampled)).max() > 1e-3


@pytest.mark.parametrize("encoder_context", ["clip", "padded"])
def test_batches_give_the_results_of_one_by_one(encoder_context):
    classifier = tiny_classifier(encoder_context=encoder_context)
    clips = [make_clip(duration_s, seed) for seed, duration_s in enumerate((0.58, 0.1, 2.0, 1 / RATE, 1.3))]
    clips.append(np.zeros(8000, np.float32))
    single = [classifier(clip) for clip in clips]
    for batch_size in (1, 4, 6):
        for inputs in (clips, tuple(clips), iter(clips), (clip for clip in clips)):
            results = list(classifier(inputs, batch_size=batch_size, return_gender=True))
            assert len(results) == len(clips)
            for result, one in zip(results, single):
                assert_same(result["emotion"], one)


def test_a_batch_may_mix_forms(classifier, clip, folder, expected):
    for result in classifier([form(clip, folder) for form in FORMS.values()], batch_size=8):
        assert_same(result, expected)


def test_lists_give_lists_and_generators_are_read_as_they_are_asked_for(classifier, clip, expected):
    assert classifier([]) == []
    assert isinstance(classifier([clip]), list)
    read = []

    def endless():
        while True:
            read.append(1)
            yield clip

    results = classifier(endless(), batch_size=2)
    assert_same(next(iter(results)), expected)
    assert len(read) <= 4


def test_datasets_columns(classifier, clip, folder, expected):
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": file_bytes(clip), "path": "a.wav"}, {"bytes": None, "path": str(folder / "clip.flac")}]
    features = datasets.Features({"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
    dataset = datasets.Dataset.from_dict({"audio": rows}, features=features)
    dataset = dataset.cast_column("audio", datasets.Audio(sampling_rate=RATE, decode=False))
    results = classifier(dataset["audio"], batch_size=2)
    assert isinstance(results, list) and len(results) == 2
    for result in [*results, *classifier(dataset.to_iterable_dataset()["audio"])]:
        assert_same(result, expected)
    with pytest.raises(ValueError, match=r'dataset\["audio"\]'):
        list(classifier(dataset))


def test_top_k_and_function_to_apply(classifier, clip, expected):
    assert len(expected) == len(EMOTIONS)
    assert sum(row["score"] for row in classifier(clip, top_k=None)) == pytest.approx(1, abs=1e-6)
    assert classifier(clip, top_k=2) == expected[:2]
    assert classifier(clip, top_k=99) == expected
    best = CAMuLeNetPipeline(model=classifier.model, feature_extractor=classifier.feature_extractor, top_k=1)
    assert best(clip) == expected[:1]
    assert best(clip, top_k=None) == expected

    inputs = classifier.preprocess(clip)
    with torch.no_grad():
        logits = classifier.model(**inputs).logits[0]
    for function, scores in {"none": logits, "sigmoid": logits.sigmoid(), "softmax": logits.softmax(-1)}.items():
        result = by_label(classifier(clip, function_to_apply=function))
        np.testing.assert_allclose(result, scores.numpy(), atol=1e-6)


def test_return_gender(classifier, clip, expected):
    inputs = classifier.feature_extractor(clip, return_tensors="pt")
    with torch.no_grad():
        probabilities = classifier.model(**inputs).gender_logits[0].softmax(-1)
    result = classifier(clip, return_gender=True, top_k=1)
    assert set(result) == {"emotion", "gender"}
    assert result["emotion"] == expected[:1]
    genders = {row["label"]: row["score"] for row in result["gender"]}
    assert genders["female"] == pytest.approx(float(probabilities[0]), abs=1e-5)
    assert genders["male"] == pytest.approx(float(probabilities[1]), abs=1e-5)
    assert result["gender"][0]["score"] >= result["gender"][1]["score"]


def test_single_task_model(clip):
    classifier = tiny_classifier(id2gender={})
    assert len(classifier([clip, clip], batch_size=2)) == 2
    with pytest.raises(ValueError, match="gender head"):
        classifier(clip, return_gender=True)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ("empty.wav", ValueError, "empty.wav: .*empty"),
        ("nan.wav", ValueError, "nan.wav: .*NaN"),
        ("text.mp4", ValueError, "text.mp4: .*cannot be decoded"),
        ("gone.wav", FileNotFoundError, "gone.wav"),
        (b"", ValueError, "cannot be decoded"),
        ({"bytes": b"x", "path": "row.wav"}, ValueError, "row.wav: "),
        ({"array": np.zeros(0), "sampling_rate": RATE, "path": "row.wav"}, ValueError, "row.wav: .*empty"),
        ({"array": np.zeros(9)}, ValueError, "sampling_rate"),
        ({"array": np.zeros(9), "sampling_rate": 0}, ValueError, "sampling_rate"),
        ({"audio": np.zeros(9)}, ValueError, "keys.*audio"),
        (np.zeros(0), ValueError, "empty"),
        (np.array([0.0, np.inf]), ValueError, "infinite"),
        (np.zeros((2, 2, 100)), ValueError, "shape"),
        (np.zeros((100, 2)), ValueError, "transpose"),
        (np.float32(0.5), TypeError, "float32"),
        ([0.1, 0.2], TypeError, "float"),
        (None, TypeError, "NoneType"),
        (io.StringIO("text"), TypeError, "str"),
    ],
)
def test_errors(inputs, error, message, classifier, folder):
    with pytest.raises(error, match=message):
        classifier(folder / inputs if isinstance(inputs, str) else inputs)


def test_wrong_parameters(classifier, clip):
    with pytest.raises(ValueError, match="top_k"):
        classifier(clip, top_k=0)
    with pytest.raises(ValueError, match="function_to_apply"):
        classifier(clip, function_to_apply="tanh")
    with pytest.raises(TypeError, match="topk"):
        classifier(clip, topk=3)


def test_ffmpeg_is_the_fall_back(classifier, clip, folder, expected, monkeypatch):
    monkeypatch.setattr(pipeline_camulenet, "ffmpeg_read", lambda content, rate: {RATE: clip}[rate])
    assert_same(classifier(folder / "text.mp4"), expected)

    def missing(content, rate):
        raise ValueError("ffmpeg was not found")

    monkeypatch.setattr(pipeline_camulenet, "ffmpeg_read", missing)
    monkeypatch.setattr(pipeline_camulenet, "soundfile", None)
    with pytest.raises(ValueError, match=r"clip.wav: .*pip install soundfile.*ffmpeg was not found"):
        classifier(folder / "clip.wav")
    assert_same(classifier(clip), expected)


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_silence(seconds, classifier):
    scores = by_label(classifier(np.zeros(round(seconds * RATE), np.float32)))
    assert np.isfinite(scores).all() and scores.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, clip, expected):
    classifier = tiny_classifier()
    classifier.model.to(dtype)
    assert classifier.dtype == dtype
    assert classifier.preprocess(clip)["input_values"].dtype == torch.float32
    result = classifier([clip, clip[:5000]], batch_size=2, return_gender=True)[0]
    assert_same(result["emotion"], expected, atol=0.05)
    assert sum(row["score"] for row in result["emotion"]) == pytest.approx(1, abs=1e-6)


def test_a_model_in_training_is_put_into_evaluation_mode(clip, expected):
    classifier = tiny_classifier()
    model = classifier.model.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert_same(model.pipeline(classifier.feature_extractor, device="cpu")(clip), expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_pipeline_function_around_a_model_in_memory(classifier, clip, expected, caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    # Saving notes the custom pipeline in the config.
    classifier.model.save_pretrained(tmp_path)
    made = transformers.pipeline(
        "audio-classification",
        model=classifier.model,
        feature_extractor=classifier.feature_extractor,
        pipeline_class=CAMuLeNetPipeline,
        device="cpu",
    )
    assert isinstance(made, transformers.AudioClassificationPipeline)
    assert_same(made(clip), expected)
    assert "not supported" not in caplog.text


def test_save_pretrained_of_the_pipeline(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    names = {path.name for path in Path(tmp_path).iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "pipeline_camulenet.py"} <= names
