"""Label maps: what the committed ones say, users' files, and what they do to rows and counts."""

import json
import re

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_scripts import CORPORA, EMOTIONS, GENDERS, LABEL_MAPS, CorpusError, builder_class, merge_corpora
from dataset_scripts.label_maps import (
    _DATA,
    LabelMap,
    apply_classes,
    canonical,
    classes_under,
    default_label_map,
    emotion_counts,
    find_label_map,
    gender_of,
    one_spelling,
    with_labels,
)
from dataset_scripts.schema import in_order, row_features, validate

KNOWN = {*EMOTIONS, "excitement", "frustration", "other"}


def corpus_of(corpus, counts, genders=GENDERS, classes=None):
    """Rows of a corpus with so many utterances of each emotion, the emotions taking turns."""
    left, order = dict(counts), []
    while any(left.values()):
        for emotion in left:
            if left[emotion]:
                left[emotion] -= 1
                order.append(emotion)
    emotions = in_order(classes or counts, EMOTIONS)
    number = len(order)
    columns = {
        "utterance_id": [f"{corpus}/{n:04d}" for n in range(number)],
        "audio": [{"bytes": None, "path": f"/{corpus}/{n}.wav"} for n in range(number)],
        "corpus": [corpus] * number,
        "language": ["en"] * number,
        "speaker_id": [f"{corpus}/{n % 3}" for n in range(number)],
        "session_id": [None] * number,
        "gender": [None if n % 3 == 2 else n % 3 % len(genders) for n in range(number)],
        "emotion": [emotions.index(emotion) for emotion in order],
        "source_label": [emotion.upper() for emotion in order],
        "text_id": [None] * number,
        "duration_s": [1.0 + n for n in range(number)],
    }
    dataset = datasets.Dataset.from_dict(columns, features=row_features(emotions, genders))
    return dataset.cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))


def emotions_of(dataset):
    return [dataset.features["emotion"].names[index] for index in dataset["emotion"]]


# ---------------------------------------------------------------------------------------------------------------------
# What is committed


def test_maps_name_known_emotions():
    assert [*_DATA["maps"]] == [*LABEL_MAPS]
    for name in LABEL_MAPS:
        found = find_label_map(name)
        assert found.name == name and found.rule.endswith(".")
        assert {*found.emotions, *found.emotions.values()} <= KNOWN
        assert {*found.emotions.values()} <= {*found.emotions}  # what a class is joined to stays itself
        assert all(found.emotions[kept] == kept for kept in found.emotions.values())
        number = name.rsplit("-", 1)[1]
        assert number == "full" or int(number) == len({*found.emotions.values()})


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ("ravdess", "ravdess-8"),
        ("emodb", "emodb-7"),
        ("crema_d", "crema_d-6"),
        ("cafe", "cafe-7"),
        ("bhavvani", "bhavvani-8"),
        ("iemocap", "iemocap-full"),
    ],
)
def test_full_maps_change_nothing(corpus, name):
    emotions = builder_class(corpus).emotions
    assert find_label_map(name).emotions == {emotion: emotion for emotion in emotions}
    dataset = corpus_of(corpus, dict.fromkeys(emotions, 1))
    loaded = merge_corpora([dataset], name)
    assert loaded.dataset[:] == dataset[:] and loaded.dataset.features == dataset.features


def test_every_emotion_of_every_corpus_is_known():
    for corpus in set(CORPORA) - {"own"}:
        assert {*builder_class(corpus).emotions} <= KNOWN


# corpus -> utterances of each emotion, as published (IEMOCAP's as its module says).
SIX = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")
PUBLISHED = {
    "iemocap": {
        **{"neutral": 1708, "happiness": 595, "sadness": 1084, "anger": 1103, "excitement": 1041},
        **{"frustration": 1849, "surprise": 107, "fear": 40, "other": 3, "disgust": 2},
    },
    "ravdess": {"neutral": 96, "calm": 192} | dict.fromkeys(SIX, 192),
    "crema_d": {"neutral": 1087} | dict.fromkeys(SIX[:-1], 1271),
    "emodb": {
        **{"neutral": 79, "happiness": 71, "sadness": 62, "anger": 127, "fear": 69, "disgust": 46, "boredom": 81}
    },
    "cafe": {"neutral": 72} | dict.fromkeys(SIX, 144),
}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        # By hand: of IEMOCAP, happiness 595 + excitement 1041 = 1636.
        ("iemocap-4", {"iemocap": "neutral 1708, happiness 1636, sadness 1084, anger 1103"}),
        ("iemocap-5", {"iemocap": "neutral 1708, happiness 1636, sadness 1084, anger 1103, frustration 1849"}),
        (
            "iemocap-6",
            {"iemocap": "neutral 1708, happiness 595, sadness 1084, anger 1103, excitement 1041, frustration 1849"},
        ),
        (
            "common-4",
            {
                "iemocap": "neutral 1708, happiness 1636, sadness 1084, anger 1103",
                "ravdess": "neutral 96, happiness 192, sadness 192, anger 192",
                "crema_d": "neutral 1087, happiness 1271, sadness 1271, anger 1271",
                "emodb": "neutral 79, happiness 71, sadness 62, anger 127",
                "cafe": "neutral 72, happiness 144, sadness 144, anger 144",
            },
        ),
        (
            "common-5",
            {
                "iemocap": "neutral 1708, happiness 1636, sadness 1084, anger 1103, fear 40",
                "emodb": "neutral 79, happiness 71, sadness 62, anger 127, fear 69",
            },
        ),
        (
            "common-6",
            {
                "crema_d": "neutral 1087, happiness 1271, sadness 1271, anger 1271, fear 1271, disgust 1271",
                "emodb": "neutral 79, happiness 71, sadness 62, anger 127, fear 69, disgust 46",
            },
        ),
        (
            "common-7",
            {
                "ravdess": "neutral 96, happiness 192, sadness 192, anger 192, fear 192, disgust 192, surprise 192",
                "cafe": "neutral 72, happiness 144, sadness 144, anger 144, fear 144, disgust 144, surprise 144",
            },
        ),
    ],
)
def test_counts_of_the_published_corpora(name, counts):
    for corpus, text in counts.items():
        expected = {emotion: int(number) for emotion, number in (pair.split() for pair in text.split(", "))}
        dataset = corpus_of(corpus, PUBLISHED[corpus])
        loaded = merge_corpora([dataset], name)
        assert loaded.label_map.name == name
        assert loaded.counts_before == {corpus: PUBLISHED[corpus]}
        assert loaded.counts_after == {corpus: expected}
        assert loaded.dataset.features["emotion"].names == list(expected)
        assert len(loaded.dataset) == sum(expected.values())
    assert name != "iemocap-4" or len(loaded.dataset) == 5531


def test_bhavvani_joins_contempt_to_disgust():
    emotions = builder_class("bhavvani").emotions
    dataset = corpus_of("bhavvani", {emotion: number for number, emotion in enumerate(emotions, start=1)})
    seven = {"neutral": 1, "happiness": 2, "sadness": 3, "anger": 4, "fear": 5, "disgust": 6 + 8, "surprise": 7}
    assert merge_corpora([dataset]).counts_after == {"bhavvani": seven}
    assert merge_corpora([dataset], "bhavvani-4").counts_after == {"bhavvani": dict(list(seven.items())[:4])}
    # Elsewhere contempt is dropped: common sets hold what its name says.
    assert merge_corpora([dataset], "common-7").counts_after == {"bhavvani": seven | {"disgust": 6}}


def test_default_maps():
    for corpus in (*CORPORA, "anything"):
        default = default_label_map([corpus])
        assert (default and default.name) == {"iemocap": "iemocap-4", "bhavvani": "bhavvani-7"}.get(corpus)
    with pytest.raises(
        CorpusError, match="emodb and cafe together need a label map: --label_map with one of common-4"
    ):
        default_label_map(["emodb", "cafe"])
    with pytest.raises(CorpusError, match="emodb and cafe together need a label map"):
        merge_corpora([corpus_of("emodb", {"fear": 1}), corpus_of("cafe", {"fear": 1})])


# ---------------------------------------------------------------------------------------------------------------------
# Words


def test_every_word_has_one_meaning():
    for names in _DATA["aliases"].values():
        words = [word for name, aliases in names.items() for word in [name, *aliases]]
        assert len(words) == len(set(words))
        assert all(word == word.lower().strip() for word in words)
    # Each is among its own words, so that "Calm" is calm.
    assert set(_DATA["aliases"]["emotion"]) == KNOWN and set(_DATA["aliases"]["gender"]) == set(GENDERS)


@pytest.mark.parametrize(
    ("kind", "word", "name"),
    [
        ("emotion", "boredem", "boredom"),
        ("emotion", " Angry ", "anger"),
        ("emotion", "COLÈRE", "anger"),
        ("emotion", "Enjoyment", "happiness"),
        ("emotion", "Contempt", "contempt"),
        ("emotion", "Calm", "calm"),
        ("emotion", "SURPRISE", "surprise"),
        ("emotion", "Cole\u0300re", "anger"),  # as macOS names folders
        ("emotion", " Weltschmerz ", "Weltschmerz"),
        ("emotion", "Ne\u0301", "N\u00e9"),
        ("emotion", "m", "m"),
        ("gender", "F", "female"),
        ("gender", "Male", "male"),
        ("gender", "w", "female"),
        ("gender", "nonbinary", "nonbinary"),
        ("gender", "sad", "sad"),
    ],
)
def test_canonical(kind, word, name):
    assert canonical(kind, word) == name


def test_genders_that_nobody_knows():
    unknown = ["NA", "nan", "Unknown", "n/a", "NONE", "null", "-", "?", "", " ", None]
    assert [gender_of(word) for word in unknown] == [None] * len(unknown)
    assert [gender_of(word) for word in ("W", "Man", "Nonbinary")] == ["female", "male", "Nonbinary"]


def test_one_spelling():
    assert one_spelling(["Stressed", "STRESSED", "Élan", "élan", "x"]) == {
        **{"Stressed": "Stressed", "STRESSED": "Stressed", "Élan": "élan", "élan": "élan", "x": "x"}
    }


@settings(derandomize=True, deadline=None)
@given(kind=st.sampled_from(["emotion", "gender"]), word=st.text(max_size=8))
def test_canonical_twice_is_once(kind, word):
    name = canonical(kind, word)
    assert canonical(kind, name) == name and name == name.strip()


# ---------------------------------------------------------------------------------------------------------------------
# A user's own map


@pytest.fixture
def map_file(tmp_path):
    def write(content, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.yaml", "calm: neutral\nneutral: neutral\n# a remark\nfear:\n"),
        ("mine.json", '{"calm": "neutral",\n\t"neutral": "neutral",\n\t"fear": null}'),  # YAML knows no tabs
        ("mine.JSON", '\ufeff{"calm": "neutral", "neutral": "neutral", "fear": null}'),
        ("mine", "{calm: neutral, neutral: neutral, fear: null}"),
    ],
)
def test_own_files(map_file, name, content):
    path = map_file(content, name)
    for given_name in (path, str(path)):
        found = find_label_map(given_name)
        assert found == LabelMap(name, "the user's own file", {"calm": "neutral", "neutral": "neutral", "fear": None})


def test_classes_that_differ_in_case_are_one(map_file):
    path = map_file("calm: Neutral\nneutral: neutral\nfear:\nzeal: HIGH\n")
    assert find_label_map(path).emotions == {"calm": "neutral", "neutral": "neutral", "fear": None, "zeal": "HIGH"}


def test_home_folder(map_file, monkeypatch):
    monkeypatch.setenv("HOME", str(map_file("calm: x").parent))
    assert find_label_map("~/mine.yaml").emotions == {"calm": "x"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "calm",
        "[calm, neutral]",
        "calm: null\n",
        "calm: 3\n",
        "calm: [neutral]\n",
        "calm: {neutral: 1}\n",
        "calm: ' '\nfear: x\n",
        "calm: ' x'\n",
        "3: neutral\n",
        "'': neutral\n",
        "no: neutral\ncalm: x\n",  # YAML's false
        "calm: no\nfear: x\n",
        "calm: 0\nfear: x\n",
    ],
)
def test_files_that_hold_something_else(map_file, content):
    path = map_file(content)
    with pytest.raises(CorpusError, match="must map emotions to classes") as error:
        find_label_map(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.yaml", "calm: [neutral\n"),
        ("mine.yaml", "calm: neutral\ncalm: fear\n"),
        ("mine.yaml", "calm: 2001-99-99\n"),  # a date for YAML, until it looks at it
        ("mine.yaml", b"calm: \xff\n"),
        ("mine.yaml", "[" * 1500),
        ("mine.json", "calm: neutral\n"),
        ("mine.json", "[" * 100_000),
    ],
)
def test_files_that_cannot_be_read(map_file, name, content):
    with pytest.raises(CorpusError, match="cannot be read: "):
        find_label_map(map_file(content, name))


@pytest.mark.parametrize("name", ["common-9", "", "~nobody/map.yaml", "a" * 300, "a\0b", "."])
def test_maps_that_are_not_there(name):
    with pytest.raises(CorpusError, match="is neither a file nor one of common-4, common-5"):
        find_label_map(name)


@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=40),
        st.text(st.sampled_from("calm: x\n-{}[],\"'&*!|>%@`#?~0123456789.eE+_=<"), max_size=40).map(str.encode),
        st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=4) | st.integers(), max_size=3).map(
            lambda content: json.dumps(content).encode()
        ),
    ),
    name=st.sampled_from(["any.yaml", "any.json"]),
)
def test_any_file(map_file, content, name):
    path = map_file(content, name)
    try:
        found = find_label_map(path)
    except CorpusError as error:
        assert str(path) in str(error)
    else:
        assert any(found.emotions.values())
        assert all(isinstance(word, str) and word.strip() == word != "" for word in found.emotions)


# ---------------------------------------------------------------------------------------------------------------------
# What a map does


def test_keys_of_a_corpus_win():
    dataset = corpus_of("tiny", {"neutral": 1, "calm": 1, "anger": 1, "zeal": 1})
    for emotions, expected in (
        ({"calm": "x", "tiny/calm": "y"}, {"calm": "y"}),
        ({"tiny/calm": "y", "calm": "x"}, {"calm": "y"}),
        ({"calm": "x", "big/calm": "y"}, {"calm": "x"}),
        ({"calm": "x", "anger": "x", "tiny/calm": None}, {"anger": "x"}),
        ({"calm": None, "tiny/calm": "y"}, {"calm": "y"}),
        ({"zeal": "zeal", "joy": "x"}, {"zeal": "zeal"}),
        # Words that are known stand for the emotion.
        ({"angry": "x", "neu": "y"}, {"anger": "x", "neutral": "y"}),
        ({"tiny/Angry": "x", "anger": "y"}, {"anger": "x"}),
        # Upper and lower case are the same, known or not.
        ({"Zeal": "x"}, {"zeal": "x"}),
        ({"tiny/ZEAL": "x", "zeal": "y"}, {"zeal": "x"}),
    ):
        nothing = dict.fromkeys(dataset.features["emotion"].names)
        assert classes_under(LabelMap("m", "", emotions), dataset) == nothing | expected


@pytest.mark.parametrize(
    ("emotions", "told"),
    [
        ({"angry": "x", "calm": "z", "Anger": "y"}, "angry: x and Anger: y"),
        ({"tiny/anger": None, "tiny/ANGRY": "x"}, "tiny/anger: null and tiny/ANGRY: x"),
    ],
)
def test_an_emotion_has_one_class(emotions, told):
    dataset = corpus_of("tiny", {"anger": 1, "calm": 1})
    with pytest.raises(CorpusError) as error:
        classes_under(LabelMap("m.yaml", "", emotions), dataset)
    assert str(error.value) == f"label map m.yaml gives one emotion two classes: {told}; leave one of them out"
    classes = classes_under(LabelMap("m.yaml", "", {"angry": "x", "Anger": "x", "tiny/anger": "y"}), dataset)
    assert classes == {"anger": "y", "calm": None}


def test_the_map_of_a_file_is_used(map_file):
    path = map_file("happy: positive\nneutral: neutral\ntiny/neutral: dull\n")
    tiny = corpus_of("tiny", {"neutral": 1, "happiness": 2, "anger": 3})
    big = corpus_of("big", {"neutral": 4, "happiness": 5})
    loaded = merge_corpora([tiny, big], path)
    assert loaded.counts_before == {
        "tiny": {"neutral": 1, "happiness": 2, "anger": 3},
        "big": {"neutral": 4, "happiness": 5},
    }
    # Classes that no canonical emotion names come last, sorted.
    assert loaded.counts_after == {
        "big": {"neutral": 4, "dull": 0, "positive": 5},
        "tiny": {"neutral": 0, "dull": 1, "positive": 2},
    }
    assert loaded.dataset.features["emotion"].names == ["neutral", "dull", "positive"]
    validate(loaded.dataset)


def test_without_a_map_nothing_changes():
    dataset = corpus_of("emodb", {"boredom": 2, "fear": 1})
    loaded = merge_corpora([dataset])
    assert loaded.dataset is dataset and loaded.label_map is None and loaded.left_out_files == []
    assert loaded.counts_before == loaded.counts_after == {"emodb": {"fear": 1, "boredom": 2}}
    assert classes_under(None, dataset) == {"fear": "fear", "boredom": "boredom"}


def test_a_map_that_keeps_nothing():
    dataset = corpus_of("tiny", {"boredom": 2, "contempt": 1})
    message = (
        "label map common-4 keeps nothing of tiny, whose emotions are boredom, contempt; it names neutral, happiness, "
        "excitement, sadness, anger"
    )
    for corpora in ([dataset], [corpus_of("big", {"anger": 1}), dataset]):
        with pytest.raises(CorpusError, match=re.escape(message)):
            merge_corpora(corpora, "common-4")
    # Its label set has one of the map's, its utterances have not.
    dataset = corpus_of("tiny", {"boredom": 2}, classes=("anger", "boredom"))
    with pytest.raises(CorpusError, match="no utterance of tiny has one of the emotions that are kept: anger"):
        merge_corpora([dataset], "common-4")


def test_rows_keep_order_audio_and_ids():
    dataset = corpus_of("tiny", {"neutral": 2, "calm": 3, "excitement": 2, "anger": 1})
    assert emotions_of(dataset) == [
        *("neutral", "calm", "excitement", "anger", "neutral", "calm", "excitement", "calm")
    ]
    mapped = merge_corpora([dataset], "common-4").dataset
    kept = [0, 2, 3, 4, 6]
    assert emotions_of(mapped) == ["neutral", "happiness", "anger", "neutral", "happiness"]
    same = [name for name in dataset.column_names if name != "emotion"]
    assert mapped.column_names == dataset.column_names
    assert mapped.select_columns(same)[:] == dataset.select(kept).select_columns(same)[:]
    assert mapped.features["audio"] == dataset.features["audio"]
    assert mapped["source_label"][:] == ["NEUTRAL", "EXCITEMENT", "ANGER", "NEUTRAL", "EXCITEMENT"]
    # The label set of a map is what this corpus has of it.
    assert mapped.features["emotion"].names == ["neutral", "happiness", "anger"]


def test_several_corpora_follow_each_other():
    first = corpus_of("b", {"anger": 1, "calm": 1, "sadness": 1}, genders=("female", "male", "nonbinary"))
    second = corpus_of("a", {"neutral": 1, "anger": 2}, genders=("male", "agender"))
    loaded = merge_corpora([first, second], "common-4")
    dataset = loaded.dataset
    validate(dataset)
    assert dataset["utterance_id"][:] == ["b/0000", "b/0002", "a/0000", "a/0001", "a/0002"]
    assert emotions_of(dataset) == ["anger", "sadness", "neutral", "anger", "anger"]
    assert dataset.features["emotion"].names == ["neutral", "sadness", "anger"]
    # The names of both, each row's own as before.
    assert dataset.features["gender"].names == ["female", "male", "agender", "nonbinary"]
    names = dataset.features["gender"].names
    assert [value if value is None else names[value] for value in dataset["gender"]] == [
        *("female", None, "male", "agender", None)
    ]
    assert [audio["path"] for audio in dataset["audio"]] == [
        "/b/0.wav",
        "/b/2.wav",
        "/a/0.wav",
        "/a/1.wav",
        "/a/2.wav",
    ]
    assert dataset["duration_s"][:] == [1.0, 3.0, 1.0, 2.0, 3.0]
    assert loaded.counts_after == {
        "a": {"neutral": 1, "sadness": 0, "anger": 2},
        "b": {"neutral": 0, "sadness": 1, "anger": 1},
    }


def test_two_corpora_of_one_name():
    with pytest.raises(CorpusError, match="two corpora of one name: tiny tiny; give your own another corpus_name"):
        merge_corpora([corpus_of("tiny", {"fear": 1}), corpus_of("tiny", {"fear": 1})], "common-5")


def test_the_parts():
    dataset = corpus_of("tiny", {"neutral": 2, "fear": 1})
    assert emotion_counts(dataset) == {"tiny": {"neutral": 2, "fear": 1}}
    assert emotion_counts(dataset.select([])) == {}
    mapped = apply_classes(dataset, {"neutral": None, "fear": "fear"}, ["anger", "fear"])
    assert mapped["emotion"][:] == [1] and mapped["utterance_id"][:] == ["tiny/0001"]
    relabelled = with_labels(dataset, "gender", [None, 0, 1], ["x", "y"])
    assert relabelled.column_names == dataset.column_names
    assert relabelled["gender"][:] == [None, 0, 1] and relabelled.features["gender"].names == ["x", "y"]
