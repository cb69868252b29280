"""The demonstration corpus: what is in it, that it is reproducible, and what happens when its making fails."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import soundfile

from dataset_scripts import CorpusError, demo, load_corpus, schema

pytest.importorskip("espeakng_loader", reason='espeakng-loader is not installed: pip install "camulenet[demo]"')

CLIPS = demo.plan()
SAMPLE = [clip for clip in CLIPS if clip.stem in ("de1_neutral_1", "en2_anger_3", "fr3_happiness_5", "hi3_sadness_8")]


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(cache_dir):
    return load_corpus("demo", cache_dir=cache_dir)


@pytest.fixture(scope="module")
def folder(dataset, cache_dir):
    return demo.DemoBuilder(cache_dir=cache_dir).folder


@pytest.fixture(scope="module")
def measured(dataset):
    """(speaker, emotion) -> loudness in dB, duration in s, median pitch in Hz, of its 8 clips, shape (8, 3)."""
    table = {}
    for row in dataset:
        waveform, rate = schema.read_audio(row["audio"])
        key = row["speaker_id"].removeprefix("demo/"), dataset.features["emotion"].int2str(row["emotion"])
        loudness = 10 * np.log10(np.mean(waveform**2))
        table.setdefault(key, []).append((loudness, row["duration_s"], median_pitch(waveform, rate)))
    return {key: np.array(values) for key, values in table.items()}


def median_pitch(waveform, rate):
    """Median of the best autocorrelation lag between 80 and 400 Hz over the voiced 40 ms frames."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, rate // 25)[:: rate // 50] * np.hanning(rate // 25)
    power = np.abs(np.fft.rfft(frames, 2048)) ** 2
    correlation = np.fft.irfft(power)[:, : rate // 80]
    lag = correlation[:, rate // 400 :].argmax(axis=1) + rate // 400
    strength = correlation[np.arange(len(lag)), lag] / (correlation[:, 0] + 1e-9)
    voiced = (strength > 0.5) & (correlation[:, 0] > 0.1 * correlation[:, 0].mean())
    return rate / np.median(lag[voiced])


def digests(folder):
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.flac")}


def test_every_speaker_speaks_every_sentence_in_every_emotion(dataset):
    emotion = dataset.features["emotion"].int2str
    assert dataset.features["emotion"].names == ["neutral", "happiness", "sadness", "anger"]
    cells = Counter((row["speaker_id"], emotion(row["emotion"]), row["text_id"]) for row in dataset)
    assert len(cells) == len(dataset) == 384 == 12 * 4 * 8
    assert set(cells.values()) == {1}
    assert Counter(map(emotion, dataset["emotion"])) == dict.fromkeys(demo.STYLES, 96)


def test_six_women_and_six_men_three_to_a_language(dataset):
    gender = dataset.features["gender"].int2str
    speakers = {row["speaker_id"]: (row["language"], gender(row["gender"])) for row in dataset}
    assert Counter(gender for _, gender in speakers.values()) == {"female": 6, "male": 6}
    languages = [language for language, _ in speakers.values()]
    assert Counter(languages) == {"de": 3, "en": 3, "fr": 3, "hi": 3}
    assert len(set(speakers.values())) == 8  # both genders in every language


def test_rows_follow_the_schema(dataset):
    row = dataset[0]
    assert {name: row[name] for name in ("utterance_id", "corpus", "language", "speaker_id", "source_label")} == {
        "utterance_id": "demo/de1_anger_1",
        "corpus": "demo",
        "language": "de",
        "speaker_id": "demo/de1",
        "source_label": "anger",
    }
    assert (row["session_id"], row["text_id"]) == (None, "de1")
    assert dataset["utterance_id"] == sorted(dataset["utterance_id"])


def test_it_says_that_it_is_synthetic(dataset):
    assert dataset.info.description == demo.DISCLAIMER
    assert "Synthetic" in demo.DISCLAIMER and "not results" in demo.DISCLAIMER


def test_clips_are_16_bit_mono_at_16_khz_and_not_clipped(dataset):
    for row in dataset:
        header = soundfile.info(row["audio"]["path"])
        assert (header.samplerate, header.channels, header.subtype) == (16000, 1, "PCM_16")
        assert header.frames / 16000 == row["duration_s"]
        assert 1.0 < row["duration_s"] < 2.8
        waveform, _ = schema.read_audio(row["audio"])
        assert 0.02 < np.abs(waveform).max() < 0.95
        assert not waveform[:800].any() and not waveform[-800:].any()  # 0.05 s of silence on either side


@pytest.mark.parametrize("speaker", [speaker.name for speaker in demo.SPEAKERS])
def test_emotions_differ_in_loudness_and_speed(measured, speaker):
    loudness, duration, _ = (
        {emotion: measured[speaker, emotion][:, column].mean() for emotion in demo.STYLES} for column in range(3)
    )
    assert loudness["sadness"] + 3 < loudness["neutral"] < loudness["anger"] - 3
    assert loudness["neutral"] < loudness["happiness"]
    assert duration["anger"] < duration["neutral"] < duration["sadness"]


# Men are left out: at their pitch the simple estimate above takes overtones for it.
@pytest.mark.parametrize("speaker", [speaker.name for speaker in demo.SPEAKERS if speaker.gender == "female"])
def test_happiness_is_higher_and_sadness_lower_than_neutral(measured, speaker):
    pitch = {emotion: measured[speaker, emotion][:, 2].mean() for emotion in demo.STYLES}
    assert pitch["sadness"] * 1.04 < pitch["neutral"] < pitch["happiness"] / 1.04


def test_women_speak_higher_than_men(measured):
    pitch = {speaker: np.median(measured[speaker.name, "neutral"][:, 2]) for speaker in demo.SPEAKERS}
    women = [pitch[speaker] for speaker in demo.SPEAKERS if speaker.gender == "female"]
    men = [pitch[speaker] for speaker in demo.SPEAKERS if speaker.gender == "male"]
    assert max(men) < 150 < min(women)


def test_no_single_cue_tells_the_emotions_apart(measured):
    for one, other in (("neutral", "happiness"), ("happiness", "anger"), ("neutral", "sadness")):
        for column in range(3):
            ranges = [
                np.concatenate([measured[speaker.name, emotion][:, column] for speaker in demo.SPEAKERS])
                for emotion in (one, other)
            ]
            assert max(ranges[0].min(), ranges[1].min()) < min(ranges[0].max(), ranges[1].max())


def test_plan_depends_on_the_seed_alone():
    assert demo.plan() == CLIPS == demo.plan(0)
    assert [clip.stem for clip in demo.plan(1)] == [clip.stem for clip in CLIPS]
    assert demo.plan(1) != CLIPS


def test_settings_stay_in_the_ranges_of_espeak():
    for seed in range(5):
        for clip in demo.plan(seed):
            assert 0 <= clip.pitch <= 99 and 0 <= clip.pitch_range <= 99 and 80 <= clip.rate <= 450


SYNTHESIZE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background
from dataset_scripts import demo
by_stem = {clip.stem: clip for clip in demo.plan()}
demo.synthesize([by_stem[stem] for stem in sys.argv[2:]] or demo.plan(), sys.argv[1])
"""


def test_processes_agree_whatever_else_they_synthesise(folder, tmp_path):
    stems = [clip.stem for clip in SAMPLE]
    orders = (stems, ["hi1_anger_1", *reversed(stems)])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SYNTHESIZE, tmp_path / str(number), *order],
            env=os.environ | {"PYTHONHASHSEED": str(number)},
        )
        for number, order in enumerate(orders)
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    expected = digests(folder)
    for number, order in enumerate(orders):
        assert digests(tmp_path / str(number)) == {stem: expected[stem] for stem in order}


def test_another_user_of_espeak_in_the_process_changes_nothing(folder, tmp_path):
    import ctypes

    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    assert library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0x8000) == 22050
    demo.synthesize(SAMPLE, tmp_path)
    assert library.espeak_SetVoiceByName(b"fr") == 0  # and it is still usable
    library.espeak_Terminate()
    expected = digests(folder)
    assert digests(tmp_path) == {clip.stem: expected[clip.stem] for clip in SAMPLE}


def test_missing_clips_are_made_again_and_no_others(dataset, folder, cache_dir, monkeypatch):
    expected = digests(folder)
    made, speak = [], demo.speak
    monkeypatch.setattr(demo, "speak", lambda clip, *paths: made.append(clip.stem) or speak(clip, *paths))
    for stem in ("en1_neutral_1", "fr2_anger_8"):
        (folder / f"{stem}.flac").unlink()
    again = load_corpus("demo", cache_dir=cache_dir)
    assert made == ["en1_neutral_1", "fr2_anger_8"]
    assert digests(folder) == expected
    assert again["audio"] == dataset["audio"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interrupted_synthesis_leaves_whole_clips_only(folder, tmp_path):
    process = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, "-c", SYNTHESIZE, tmp_path],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # Counted, not read: on a busy machine the interrupt must not come after the last clip.
    while process.poll() is None and sum(1 for _ in tmp_path.glob("*.flac")) < 10:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and b"KeyboardInterrupt" in errors and b"ignored" not in errors
    done, expected = digests(tmp_path), digests(folder)
    assert 10 <= len(done) < len(expected)
    assert done == {stem: expected[stem] for stem in done}
    assert {path.suffix for path in tmp_path.iterdir()} == {".flac"}  # nothing half done stays


def test_data_dir_is_where_the_clips_go(tmp_path, cache_dir):
    builder = demo.DemoBuilder(data_dir=tmp_path, cache_dir=cache_dir)
    assert builder.folder.parent == tmp_path.resolve()
    assert demo.DemoBuilder(cache_dir=cache_dir).folder.parent == (cache_dir / "camulenet_demo").resolve()


def test_other_settings_go_to_another_folder(cache_dir, folder, monkeypatch):
    monkeypatch.setattr(demo, "NEUTRAL_RATE", 180)
    assert demo.DemoBuilder(cache_dir=cache_dir).folder != folder


def test_without_the_wheel_the_error_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(CorpusError, match="pip install espeakng-loader"):
        load_corpus("demo", cache_dir=tmp_path)
    with pytest.raises(CorpusError, match="pip install espeakng-loader"):
        demo.synthesize(SAMPLE, tmp_path / "clips")
    assert not list(tmp_path.iterdir())


def test_a_voice_that_is_not_there_is_an_error(tmp_path):
    unknown = SAMPLE[0]._replace(speaker=SAMPLE[0].speaker._replace(voice="xx-nowhere"))
    with pytest.raises(CorpusError, match="de1_neutral_1: voice xx-nowhere failed: not found"):
        demo.synthesize([unknown], tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_voice_variant_sounds_different(tmp_path):
    # espeak-ng falls back to the plain voice, without an error, where it does not know a variant.
    clips = [
        SAMPLE[0]._replace(stem=variant, speaker=SAMPLE[0].speaker._replace(voice=f"de+{variant}"))
        for variant in sorted({speaker.voice.split("+")[1] for speaker in demo.SPEAKERS} | {"unknown"})
    ]
    demo.synthesize(clips, tmp_path)
    assert len(clips) == 12 and len(set(digests(tmp_path).values())) == 12


def test_data_that_are_not_there_are_an_error(tmp_path, monkeypatch):
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / "nowhere"))
    with pytest.raises(CorpusError, match="does not start with its data in .*nowhere"):
        demo.synthesize(SAMPLE, tmp_path / "clips")


def test_a_library_that_does_not_load_is_an_error(tmp_path, monkeypatch):
    import espeakng_loader

    (tmp_path / "libespeak-ng.so").write_bytes(b"not a library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(tmp_path / "libespeak-ng.so"))
    with pytest.raises(CorpusError, match="espeak-ng does not load"):
        demo.synthesize(SAMPLE, tmp_path / "clips")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(tmp_path / "gone.so"))
    with pytest.raises(CorpusError, match="espeakng-loader is incomplete"):
        demo.synthesize(SAMPLE, tmp_path / "clips")
