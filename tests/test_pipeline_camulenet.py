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
from transformers.pipelines.pt_utils import KeyDataset

from modeling_camulenet import (
    CAMuLeNetConfig,
    CAMuLeNetFeatureExtractor,
    CAMuLeNetForAudioClassification,
    pipeline_camulenet,
)
from modeling_camulenet.configuration_camulenet import FUSIONS, FUSIONS_WITH_WEIGHTS
from modeling_camulenet.pipeline_camulenet import CAMuLeNetPipeline, segments_of

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


def damaged(content: bytes) -> bytes:
    """A file whose head is good and whose second half is zeros."""
    return content[: len(content) // 2] + bytes(len(content) // 2)


def by_label(result: list[dict]) -> np.ndarray:
    scores = {row["label"]: row["score"] for row in result}
    return np.array([scores[name] for name in EMOTIONS])


def assert_rows(result: list[dict], expected: list[dict]):
    """The same labels in the same order, with the same scores."""
    assert [row["label"] for row in result] == [row["label"] for row in expected]
    assert [row["score"] for row in result] == pytest.approx([row["score"] for row in expected], abs=1e-5)


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
        "silent.wav": file_bytes(np.zeros(9000, np.float32)),
        "damaged.flac": damaged(file_bytes(make_clip(4.0), file_format="FLAC")),
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


def test_return_embedding_and_attention(classifier, clip, expected):
    """Of each recording of a batch what the model makes of it alone."""
    clips = [clip, make_clip(0.3, seed=1), make_clip(2.0, seed=2)]
    results = classifier(clips, batch_size=3, return_embedding=True, return_attention=True, top_k=2)
    assert set(results[0]) == {"emotion", "embedding", "attention"}
    assert_rows(results[0]["emotion"], expected[:2])
    for each, result in zip(clips, results):
        with torch.no_grad():
            alone = classifier.model(**classifier.feature_extractor(each, return_tensors="pt"))
        for name, value in (("embedding", alone.embeddings), ("attention", alone.co_attention_weights)):
            assert result[name].dtype == np.float32
            np.testing.assert_allclose(result[name], value[0].numpy(), rtol=0, atol=1e-5)
        # A frame of Whisper's encoder is 20 ms.
        assert result["attention"].shape == (classifier.model.config.num_attention_heads, len(each) // 320)
        np.testing.assert_allclose(result["attention"].sum(axis=1), 1, atol=1e-5)
    assert set(classifier(clip, return_gender=True, return_embedding=True)) == {"emotion", "gender", "embedding"}


@pytest.mark.parametrize("encoder_context", ["clip", "padded"])
def test_attention_of_any_length(encoder_context):
    """The gate's weights are 0 on real frames, too: the frames are counted, not found by their weights."""
    classifier = tiny_classifier(encoder_context=encoder_context, fusion="gate")
    for num_samples in (1, 320, 321, 9280):
        (result,) = classifier([make_clip(num_samples / RATE + 0.5)[-num_samples:]], return_attention=True)
        assert result["attention"].shape == (1, -(-num_samples // 320))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_attention_of_the_fusions_that_have_weights(clip, fusion):
    classifier = tiny_classifier(fusion=fusion, **({"branches": []} if fusion == "none" else {}))
    with torch.no_grad():
        has_weights = classifier.model(input_values=torch.from_numpy(clip)[None]).co_attention_weights is not None
    assert has_weights == (fusion in FUSIONS_WITH_WEIGHTS)
    if has_weights:
        assert classifier(clip, return_attention=True)["attention"].shape[1] == len(clip) // 320
    else:
        with pytest.raises(ValueError, match=f"needs weights over frames; fusion='{fusion}' has none"):
            classifier(clip, return_attention=True)


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
        ("silent.wav", ValueError, "silent.wav: .*silent"),
        ("text.mp4", ValueError, "text.mp4: .*cannot be decoded"),
        ("gone.wav", FileNotFoundError, "gone.wav"),
        (b"", ValueError, "cannot be decoded"),
        ({"bytes": b"x", "path": "row.wav"}, ValueError, "row.wav: "),
        ({"array": np.zeros(0), "sampling_rate": RATE, "path": "row.wav"}, ValueError, "row.wav: .*empty"),
        ({"array": np.zeros(9)}, ValueError, "sampling_rate"),
        ({"array": np.zeros(9), "sampling_rate": 0}, ValueError, "sampling_rate"),
        ({"audio": np.zeros(9)}, ValueError, "keys.*audio"),
        (np.zeros(0), ValueError, "empty"),
        (np.zeros(9000), ValueError, "silent"),
        (np.full(9000, 128, np.uint8), ValueError, "silent"),
        (np.array(0.5), ValueError, r"got \(\)"),
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


# ---------------------------------------------------------------------------------------------------------------------
# The time line


def window(start_s, **scores):
    return {"start_s": start_s, "end_s": start_s + 2, "emotion": [{"label": n, "score": s} for n, s in scores.items()]}


def test_segments_by_hand():
    windows = [
        window(0, calm=0.7, anger=0.3),
        window(1, calm=0.45, anger=0.55),  # higher, by no more than the hysteresis
        window(2, calm=0.2, anger=0.8),
        window(3, calm=0.52, anger=0.48),
        window(4),  # silent
        window(5, calm=0.6, anger=0.4),
        {**window(5.5, calm=0.8, anger=0.2)},
    ]
    # The middles of the windows are 1, 2, 3, 4, 5, 6, 6.5 s.
    assert segments_of(windows, 0.1) == [
        {"start_s": 0, "end_s": 2.5, "label": "calm", "score": pytest.approx((0.7 + 0.45) / 2)},
        {"start_s": 2.5, "end_s": 4.5, "label": "anger", "score": pytest.approx((0.8 + 0.48) / 2)},
        {"start_s": 5.5, "end_s": 7.5, "label": "calm", "score": pytest.approx(0.7)},
    ]
    plain = segments_of(windows, 0.0)
    assert [(row["start_s"], row["label"]) for row in plain] == [
        (0, "calm"),
        (1.5, "anger"),
        (3.5, "calm"),
        (5.5, "calm"),
    ]


def test_timeline(classifier, folder, tmp_path):
    """Each window is what the pipeline says of that stretch; the last one ends with the recording."""
    long = make_clip(4.3, seed=3)
    result = classifier(long, timeline=True, window_s=1.5, hop_s=0.5, batch_size=4)
    assert set(result) == {"windows", "segments"}
    starts = [0, 0.5, 1, 1.5, 2, 2.5, 2.8]
    assert [row["start_s"] for row in result["windows"]] == pytest.approx(starts)
    assert [row["end_s"] for row in result["windows"]] == pytest.approx([start + 1.5 for start in starts])
    for start_s, row in zip(starts, result["windows"]):
        first = round(start_s * RATE)
        assert_same(row["emotion"], classifier(long[first : first + round(1.5 * RATE)]))
    assert result["segments"] == segments_of(result["windows"], 0.1)
    assert result["segments"][0]["start_s"] == 0 and result["segments"][-1]["end_s"] == pytest.approx(4.3)

    (tmp_path / "long.flac").write_bytes(file_bytes(np.stack((long, long), 1), file_format="FLAC"))
    arguments = {"timeline": True, "window_s": 1.5, "hop_s": 0.5}
    rows = [tmp_path / "long.flac", {"raw": np.stack((long, long)), "sampling_rate": RATE}]
    for same in [*classifier(rows, **arguments), *classifier(iter(rows), batch_size=3, **arguments)]:
        for one, other in zip(same["windows"], result["windows"], strict=True):
            assert one["start_s"] == pytest.approx(other["start_s"])
            assert_same(one["emotion"], other["emotion"])


def test_timeline_of_a_torch_dataset(classifier):
    """One that knows rows by their place alone, as a `KeyDataset` does; it is read as far as it is asked."""
    clips = [make_clip(1.2, seed=5), make_clip(0.7, seed=6)]
    rows = [{"audio": {"array": each, "sampling_rate": RATE}} for each in clips]
    results = classifier(KeyDataset([*rows, {}], "audio"), timeline=True, window_s=0.5, hop_s=0.5)
    for each in clips:
        assert next(results) == classifier(each, timeline=True, window_s=0.5, hop_s=0.5)
    with pytest.raises(KeyError):
        next(results)


def test_timeline_of_another_rate_and_of_a_short_recording(classifier):
    clip = make_clip(1.0, rate=44100)
    (row,) = classifier({"raw": clip, "sampling_rate": 44100}, timeline=True)["windows"]
    assert (row["start_s"], row["end_s"]) == (0, 1)
    assert_same(row["emotion"], classifier({"raw": clip, "sampling_rate": 44100}))
    result = classifier({"raw": make_clip(3.5, rate=44100), "sampling_rate": 44100}, timeline=True, hop_s=0.25)
    assert [row["start_s"] for row in result["windows"]] == [0, 0.25, 0.5]


def test_timeline_with_the_other_options(classifier):
    long = make_clip(3.0, seed=4)
    arguments = {"timeline": True, "window_s": 1.0, "hop_s": 1.0}
    whole = classifier(long, **arguments)
    result = classifier(long, top_k=1, return_gender=True, return_embedding=True, **arguments)
    assert result["segments"] == whole["segments"]  # of all the scores, whatever is shown of them
    for row, other in zip(result["windows"], whole["windows"], strict=True):
        assert set(row) == {"start_s", "end_s", "emotion", "gender", "embedding"}
        assert_rows(row["emotion"], other["emotion"][:1])


def test_silent_stretches_have_no_emotion(classifier):
    clip = make_clip(1.0)
    recording = np.concatenate((clip, np.zeros(3 * RATE, np.float32), clip))
    result = classifier(recording, timeline=True, window_s=1.0, hop_s=1.0, batch_size=2)
    assert [bool(row["emotion"]) for row in result["windows"]] == [True, False, False, False, True]
    assert [(row["start_s"], row["end_s"]) for row in result["segments"]] == [(0, 1), (4, 5)]
    assert set(result["windows"][1]) == {"start_s", "end_s", "emotion"}


def test_a_long_file_is_never_held_whole(classifier, tmp_path, monkeypatch):
    """Ten minutes in windows of 1 s: no read asks for more, and the model sees a window at a time."""
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for minute in range(10):
            file.write(make_clip(60.0, seed=minute % 3))
    asked = []

    class Sound(soundfile.SoundFile):
        def read(self, frames=-1, **kwargs):
            asked.append(frames)
            return super().read(frames, **kwargs)

    monkeypatch.setattr(pipeline_camulenet.soundfile, "SoundFile", Sound)
    monkeypatch.setattr(
        classifier, "_forward", lambda inputs, **_: {"logits": torch.zeros(len(inputs["input_values"]), len(EMOTIONS))}
    )
    windows = classifier(path, timeline=True, window_s=1.0, hop_s=1.0)["windows"]
    assert len(windows) == 600 and windows[-1]["end_s"] == 600
    assert set(asked) == {RATE}


@pytest.mark.parametrize(
    ("inputs", "arguments", "error", "message"),
    [
        ("empty.wav", {}, ValueError, "empty.wav: .*empty"),
        ("nan.wav", {}, ValueError, "nan.wav: .*NaN"),
        ("silent.wav", {}, ValueError, "silent.wav: .*silent"),
        ("text.mp4", {}, ValueError, "text.mp4: .*cannot be decoded"),
        ("gone.wav", {}, FileNotFoundError, "gone.wav"),
        ("clip.wav", {"hop_s": 0}, ValueError, "`hop_s` is 0"),
        ("clip.wav", {"hop_s": 4}, ValueError, "at most `window_s`, 3.0"),
        ("clip.wav", {"window_s": -1.0}, ValueError, "`hop_s`"),
        ("clip.wav", {"top_k": 0}, ValueError, "top_k"),
        ("clip.wav", {"topk": 3}, TypeError, "topk"),
        (np.zeros((2, 2, 100)), {}, ValueError, "shape"),
        (None, {}, TypeError, "NoneType"),
    ],
)
def test_errors_of_the_timeline(inputs, arguments, error, message, classifier, folder):
    with pytest.raises(error, match=message):
        classifier(folder / inputs if isinstance(inputs, str) else inputs, timeline=True, **arguments)


def test_files_are_closed(classifier, folder, tmp_path, monkeypatch):
    """By the pipeline, not by the garbage collector."""
    clip = tmp_path / "clip.wav"
    clip.write_bytes(file_bytes(make_clip(1.0)))
    opened, open_sound = [], soundfile.SoundFile.__init__

    def noted(self, *args, **kwargs):
        opened.append(self)
        open_sound(self, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", noted)
    for recording in (clip, str(clip), clip.read_bytes()):
        classifier(recording)
        classifier(recording, timeline=True, window_s=0.5, hop_s=0.5)
    for timeline in (False, True):
        with pytest.raises(ValueError, match="damaged"):
            classifier(folder / "damaged.flac", timeline=timeline)
    assert len(opened) == 8 and all(sound.closed for sound in opened)


@pytest.mark.parametrize("timeline", [False, True])
def test_a_damaged_file_is_named(timeline, classifier, folder):
    with pytest.raises(ValueError, match="damaged.flac: the audio is damaged"):
        classifier(folder / "damaged.flac", timeline=timeline)


def test_timeline_belongs_to_the_call(classifier):
    with pytest.raises(TypeError, match="timeline.*call"):
        CAMuLeNetPipeline(model=classifier.model, feature_extractor=classifier.feature_extractor, timeline=True)
