"""Loading one corpus or several: folders, configurations, options and bad files, on small fake builders."""

import io
import sys
import types

import datasets
import numpy as np
import pytest
import soundfile

import dataset_scripts
from dataset_scripts import CORPORA, CorpusError, builder_class, load_corpora, load_corpus, merge_corpora
from dataset_scripts.schema import CorpusBuilder, validate

CLIP = io.BytesIO()
soundfile.write(CLIP, np.full(800, 0.25), 8000, format="WAV")


class FakeBuilder(CorpusBuilder):
    """Names are SPEAKER_EMOTION; speakers are women."""

    language = "en"
    emotions = ("neutral", "happiness", "boredom")
    license = "none"
    citation = ""
    homepage = ""
    how_to_obtain = "Ask."
    name_pattern = "SPEAKER_EMOTION"

    def parse(self, path):
        speaker, _, emotion = path.stem.partition("_")
        if emotion not in self.emotions:
            raise CorpusError("no emotion")
        return {"speaker": speaker, "gender": "female", "emotion": emotion, "source_label": self.config.name}


class OneBuilder(FakeBuilder):
    corpus = "one"


class TwoBuilder(FakeBuilder):
    BUILDER_CONFIGS = [datasets.BuilderConfig(name="plain"), datasets.BuilderConfig(name="loud")]
    DEFAULT_CONFIG_NAME = "plain"
    corpus = "two"


class ThreeBuilder(TwoBuilder):
    BUILDER_CONFIGS = [datasets.BuilderConfig(name="quiet"), datasets.BuilderConfig(name="loud")]
    DEFAULT_CONFIG_NAME = "quiet"
    corpus = "three"


class MadeBuilder(FakeBuilder):
    """A corpus that makes its own audio."""

    corpus = "made"
    needs_data_dir = False

    def rows(self):
        fields = {"speaker": "m", "gender": "female", "emotion": "neutral", "source_label": "made"}
        yield self.row("m_neutral", fields, {"bytes": CLIP.getvalue(), "path": "m_neutral.wav"}, 0.1)


FAKES = (OneBuilder, TwoBuilder, ThreeBuilder, MadeBuilder)


@pytest.fixture(autouse=True)
def fake_corpora(monkeypatch):
    module = types.ModuleType("dataset_scripts.fakes")
    for builder in FAKES:
        setattr(module, builder.__name__, builder)
        monkeypatch.setitem(CORPORA, builder.corpus, f"fakes.{builder.__name__}")
    monkeypatch.setitem(sys.modules, "dataset_scripts.fakes", module)


@pytest.fixture
def folders(tmp_path):
    """Folder of each fake corpus, with a neutral and a bored clip."""
    found = {}
    for corpus in ("one", "two", "three"):
        found[corpus] = tmp_path / corpus
        found[corpus].mkdir()
        for name in ("a_neutral", "b_boredom"):
            (found[corpus] / f"{name}.wav").write_bytes(CLIP.getvalue())
    return found


@pytest.fixture
def load(tmp_path):
    def call(names, data_dirs=(), **options):
        return load_corpora(names.split(), data_dirs, cache_dir=tmp_path / "cache", **options)

    return call


# ---------------------------------------------------------------------------------------------------------------------
# Names and folders


def test_builders_of_all_corpora():
    for name in set(CORPORA) - {builder.corpus for builder in FAKES}:
        assert builder_class(name).corpus == name and issubclass(builder_class(name), CorpusBuilder)
    assert builder_class("one") is OneBuilder
    with pytest.raises(CorpusError, match="unknown corpus 'ONE'; known are iemocap, ravdess"):
        builder_class("ONE")
    assert set(dataset_scripts.__all__) <= set(vars(dataset_scripts))


def test_one_corpus(folders, load, tmp_path):
    loaded = load("one", [folders["one"]])
    assert loaded.dataset["utterance_id"][:] == ["one/a_neutral", "one/b_boredom"]
    assert loaded.counts_before == loaded.counts_after == {"one": {"neutral": 1, "happiness": 0, "boredom": 1}}
    assert loaded.label_map is None and loaded.left_out_files == []
    dataset = load_corpus("one", folders["one"], cache_dir=tmp_path / "cache", label_map="common-4")
    assert dataset["utterance_id"][:] == ["one/a_neutral"]
    assert dataset.features["emotion"].names == ["neutral", "happiness"]


def test_several_corpora(folders, load):
    loaded = load("two made one", [folders["two"], folders["one"]], label_map="common-4")
    validate(loaded.dataset)
    assert loaded.dataset["utterance_id"][:] == ["two/a_neutral", "made/m_neutral", "one/a_neutral"]
    before = {"neutral": 1, "happiness": 0, "boredom": 1}
    assert loaded.counts_before == {"two": before, "one": before, "made": before | {"boredom": 0}}
    assert loaded.counts_after == dict.fromkeys(["one", "two", "made"], {"neutral": 1, "happiness": 0})
    assert [audio["path"] for audio in loaded.dataset["audio"]] == [
        *(str(folders["two"] / "a_neutral.wav"), "m_neutral.wav", str(folders["one"] / "a_neutral.wav"))
    ]
    assert load("made").dataset["utterance_id"][:] == ["made/m_neutral"]
    assert load("made", [None]).dataset["utterance_id"][:] == ["made/m_neutral"]
    assert len(load("made one", [None, folders["one"]], label_map="common-4").dataset) == 2


def test_numbers_of_folders(folders, load):
    both = [folders["one"], folders["two"]]
    for names, data_dirs, message in (
        ("one two", both[:1], r"2 corpora need a data_dir each \(one two\), in this order; got 1"),
        ("one two", [], "got 0"),
        ("one", both, r"1 corpora need a data_dir each \(one\), in this order; got 2"),
        ("one made", both, r"1 corpora need a data_dir each \(one\), in this order; got 2"),
        ("made demo", both[:1], r"0 corpora need a data_dir each \(\), in this order; got 1"),
        ("one", [], "one needs a data_dir. Ask."),
        ("one", [folders["one"] / "no"], "no is not a directory. Ask."),
        ("made", both[:1], "made brings its own audio and takes no data_dir"),
        ("one one", both, "a corpus comes twice: one one"),
        ("one nine", both, "unknown corpus 'nine'"),
        ("", [], "no corpus is named; known are iemocap"),
    ):
        with pytest.raises(CorpusError, match=message):
            load(names, data_dirs, label_map="common-4")


def test_several_need_a_map(folders, load):
    with pytest.raises(CorpusError, match="one and two together need a label map: --label_map"):
        load("one two", [folders["one"], folders["two"]])
    with pytest.raises(CorpusError, match="label map 'common' is neither a file nor one of"):
        load("one two", [folders["one"], folders["two"]], label_map="common")


# ---------------------------------------------------------------------------------------------------------------------
# Configurations and options


def test_a_configuration_goes_where_there_is_one(folders, load):
    three = [folders["one"], folders["two"], folders["three"]]

    def labels(config_name):
        dataset = load("one two three", three, label_map="common-4", config_name=config_name).dataset
        return dict(zip(dataset["corpus"], dataset["source_label"]))

    assert labels(None) == {"one": "default", "two": "plain", "three": "quiet"}
    assert labels("loud") == {"one": "default", "two": "loud", "three": "loud"}
    assert labels("quiet") == {"one": "default", "two": "plain", "three": "quiet"}
    with pytest.raises(CorpusError, match="one has no configuration 'nine'; it has one only: leave the name out"):
        labels("nine")
    with pytest.raises(CorpusError, match="two has no configuration 'nine'; there are plain, loud"):
        load("two", [folders["two"]], config_name="nine")


def test_options_go_to_the_users_own_corpus(folders, load, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.wav").write_bytes(CLIP.getvalue())
    (mine / "metadata.csv").write_text("clip,mood,who,sex\na.wav,Happy,x,nonbinary\n", encoding="utf-8")
    options = {
        "columns": {"audio": "clip", "label": "mood", "speaker": "who"},
        "corpus_name": "mine",
        "language": "de",
        "file_pattern": None,
    }
    loaded = load("one own", [folders["one"], mine], label_map="common-4", **options)
    assert loaded.dataset["utterance_id"][:] == ["one/a_neutral", "mine/a"]
    assert loaded.dataset["language"][:] == ["en", "de"]
    assert loaded.dataset.features["gender"].names == ["female", "male", "nonbinary"]
    assert loaded.dataset["gender"][:] == [0, 2]
    assert loaded.counts_after == {
        "one": {"neutral": 1, "happiness": 0},
        "mine": {"neutral": 0, "happiness": 1},
    }
    validate(loaded.dataset)
    assert len(load("one", [folders["one"]], **options).dataset) == 2


# ---------------------------------------------------------------------------------------------------------------------
# Bad files


def write_bad_clips(folder):
    """Clips whose headers are good and whose samples are not; the name says why, and that there is a good one."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    soundfile.write(folder / "cut.flac", noise, 16000)
    content = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").unlink()
    (folder / "cut_boredom.flac").write_bytes(content[: len(content) // 2])
    for name, value in (("nan", np.nan), ("inf", -np.inf)):
        noise[50] = value
        soundfile.write(folder / f"{name}_neutral.wav", noise, 16000, subtype="FLOAT")


def test_bad_files_are_left_out_and_named(folders, load):
    one, two = folders["one"], folders["two"]
    write_bad_clips(one)
    (two / "c_neutral.wav").write_bytes(b"no header")
    (two / "c.wav").write_bytes(CLIP.getvalue())
    with pytest.raises(CorpusError, match="2 audio files of two"):
        load("one two", [one, two], label_map="common-4")
    loaded = load("one two", [one, two], label_map="common-4", skip_bad_files=True)
    assert loaded.dataset["utterance_id"][:] == ["one/a_neutral", "two/a_neutral"]
    # First what has no name or header, then what does not decode; of each in the order of the corpora.
    assert [problem.split(":")[0] for problem in loaded.left_out_files] == [
        *("c.wav", str(two / "c_neutral.wav")),
        *(str(one / "cut_boredom.flac"), str(one / "inf_neutral.wav"), str(one / "nan_neutral.wav")),
    ]
    assert loaded.left_out_files[0] == "c.wav: no emotion"
    assert all("not readable as audio" in loaded.left_out_files[number] for number in (1, 2))
    assert all("holds NaN or infinite samples" in problem for problem in loaded.left_out_files[3:])
    # Counts before the map are those of the files that can be used.
    assert loaded.counts_before == dict.fromkeys(["one", "two"], {"neutral": 1, "happiness": 0, "boredom": 1})
    again = load("one two", [one, two], label_map="common-4", skip_bad_files=True)
    assert again.left_out_files == loaded.left_out_files and again.dataset[:] == loaded.dataset[:]


def test_without_the_flag_headers_are_enough(folders, load):
    write_bad_clips(folders["one"])
    loaded = load("one", [folders["one"]])
    assert loaded.dataset["utterance_id"][:] == [
        *("one/a_neutral", "one/b_boredom", "one/cut_boredom", "one/inf_neutral", "one/nan_neutral")
    ]
    assert loaded.left_out_files == []
    merged = merge_corpora([loaded.dataset], "common-4", skip_bad_files=True, left_out_files=["before: bad"])
    assert merged.dataset["utterance_id"][:] == ["one/a_neutral"]
    assert merged.left_out_files[0] == "before: bad" and len(merged.left_out_files) == 4


def test_nothing_can_be_decoded(folders, load):
    for name in ("a_neutral", "b_boredom"):
        (folders["one"] / f"{name}.wav").unlink()
    write_bad_clips(folders["one"])
    with pytest.raises(CorpusError, match="no audio of one can be decoded:\n.*cut_boredom.flac: not readable"):
        load("one", [folders["one"]], skip_bad_files=True)
