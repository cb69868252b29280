"""IEMOCAP: names, label files, trees of fake clips, and the list of the benchmark's 5531 utterances."""

import csv
import logging
import shutil
from collections import Counter, defaultdict
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_scripts import CorpusError, load_corpora, load_corpus
from dataset_scripts.iemocap import EMOTION_WORDS, NAME, IemocapBuilder, read_labels
from dataset_scripts.schema import EMOTIONS, in_order

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
# dialogue -> its turns and their labels
LABELS = {
    "Ses01F_impro01": "F000 neu, F001 neu, M000 fru, M001 xxx, M002 fru, F002 ang",
    "Ses01F_script01_1": "F000 sad, F001 xxx, M000 neu, M001 hap",
    "Ses01M_impro07": "F000 exc, M000 exc, M001 hap",
    "Ses02M_script03_2": "F000 ang, FXX0 ang, M000 dis, MXX1 fru, M001 fea",
    "Ses02F_impro08": "F000 oth, M000 sur",
    "Ses03M_impro05a": "F000 sad, M000 sad, M001 sad",
    "Ses03M_impro05b": "F000 neu, M000 xxx",
    "Ses04F_script02_2": "F010 hap, F011 exc, M010 sur, M011 fea, M012 neu",
    "Ses05M_script01_1b": "F000 fru, F001 ang, M000 ang, M001 xxx",
    "Ses05F_impro03": "F000 exc, F001 hap, M000 exc, M001 neu, M002 sad, M003 fru",
}
UTTERANCES = {
    f"{dialogue}_{turn}": word
    for dialogue, turns in LABELS.items()
    for turn, word in (each.split() for each in turns.split(", "))
}
HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def label_lines(name: str, word: str) -> str:
    """What EmoEvaluation says of one utterance, annotators' own words among it."""
    return (
        f"[6.2901 - 8.2357]\t{name}\t{word}\t[2.5000, 2.5000, 3.0000]\n"
        "C-E2:\tNeutral;\t()\nC-E3:\tAnger; Frustration;\t([1.0 - 2.0] tired)\nC-F1:\tOther;\t()\n"
        "A-E3:\tval 3; act 2; dom  2;\t()\nA-E4:\tval 2; act 3; dom  3;\t(mildly agravated)\nA-F1:\tval 3; act 2;\n\n"
    )


def dialogue_of(name: str) -> str:
    return name.rpartition("_")[0]


def label_path(root: Path, name: str) -> Path:
    return root / f"Session{name[4]}" / "dialog" / "EmoEvaluation" / f"{dialogue_of(name)}.txt"


def write_labels(root: Path, words: dict[str, str]) -> None:
    """Label files of these utterances, as in the release."""
    of_file = defaultdict(list)
    for name, word in words.items():
        of_file[label_path(root, name)].append(label_lines(name, word))
    for path, lines in of_file.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + "".join(lines))


def write_clip(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(160), 16000)


def wav_path(root: Path, name: str) -> Path:
    return root / f"Session{name[4]}" / "sentences" / "wav" / dialogue_of(name) / f"{name}.wav"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A tree as it is unpacked: utterances, labels, and all that lies around them."""
    root = tmp_path_factory.mktemp("data") / "IEMOCAP_full_release"
    write_labels(root, UTTERANCES)
    for name in UTTERANCES:
        write_clip(wav_path(root, name))
    session = root / "Session1"
    write_clip(session / "dialog" / "wav" / "Ses01F_impro01.wav")
    evaluation = session / "dialog" / "EmoEvaluation"
    for path, text in (
        (evaluation / "Attribute" / "Ses01F_impro01_e2_atr.txt", "Ses01F_impro01_F000 :act 1; :val 1; ()\n"),
        (evaluation / "Categorical" / "Ses01F_impro01_e2_cat.txt", "[bad] Ses01F_impro01_F000 :Anger; ()\n"),
        (evaluation / "Self-evaluation" / "Ses01F_impro01_f1_cat.txt", "[bad] Ses01F_impro01_F000 :Anger; ()\n"),
        (evaluation / "._Ses01F_impro01.txt", "[bad]\n"),
        (session / "dialog" / "transcriptions" / "Ses01F_impro01.txt", "Ses01F_impro01_F000 [006.2901]: Excuse me.\n"),
        (session / "sentences" / "ForcedAlignment" / "Ses01F_impro01" / "Ses01F_impro01_F000.wdseg", "SFrm EFrm\n"),
        (session / "sentences" / "wav" / "Ses01F_impro01" / "._Ses01F_impro01_F000.wav", "\0"),
        (session / "dialog" / "avi" / "DivX" / "Ses01F_impro01.avi", "\0"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def copy(release, tmp_path):
    """The same for a test that changes it."""
    return shutil.copytree(release, tmp_path / "data" / release.name)


@pytest.fixture(scope="module")
def builder(release, tmp_path_factory):
    """A builder that has read the labels."""
    builder = IemocapBuilder(release, tmp_path_factory.mktemp("cache"))
    builder.read_metadata()
    return builder


def test_emotions_are_in_order():
    assert list(IemocapBuilder.emotions) == in_order(IemocapBuilder.emotions, EMOTIONS)
    assert sum(IemocapBuilder.expected_counts.values()) == 5531


@pytest.mark.parametrize(
    ("name", "speaker", "gender", "emotion"),
    [
        ("Ses01F_impro01_F000", "Ses01F", "female", "neutral"),
        ("Ses01F_impro01_M000", "Ses01M", "male", "frustration"),  # the dialogue is F, the talker is not
        ("Ses01M_impro07_F000", "Ses01F", "female", "excitement"),
        ("Ses02M_script03_2_MXX1", "Ses02M", "male", "frustration"),
        ("Ses03M_impro05a_M001", "Ses03M", "male", "sadness"),
        ("Ses05M_script01_1b_F001", "Ses05F", "female", "anger"),
    ],
)
@pytest.mark.parametrize("folder", ["", "Session{}/sentences/wav/", "a/session{}/"])
def test_parse(builder, folder, name, speaker, gender, emotion):
    assert builder.parse(PurePath(f"{folder.format(name[4])}{name}.wav")) == {
        "speaker": speaker,
        "session_id": f"iemocap/{name[:5]}",
        "gender": gender,
        "emotion": emotion,
        "source_label": UTTERANCES[name],
    }


@pytest.mark.parametrize("stem", ["Ses01F_impro01_M001", "Ses01F_impro01", "Ses05M_script01_1b", "Ses03M_impro05a"])
def test_dialogues_and_disagreement_are_left_out(builder, stem):
    assert builder.parse(PurePath(f"{stem}.wav")) is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Ses06F_impro01_F000", "does not read as"),
        ("Ses00F_impro01_F000", "does not read as"),
        ("Ses01X_impro01_F000", "does not read as"),
        ("Ses01F_impro1_F000", "does not read as"),
        ("Ses01F_script01_F000", "does not read as"),
        ("Ses01F_impro01_X000", "does not read as"),
        ("Ses01F_impro01_F00", "does not read as"),
        ("Ses01F_impro01_F٠٠٠", "does not read as"),
        ("ses01f_impro01_f000", "does not read as"),
        ("Ses01F_impro01\n", "does not read as"),
        ("03a01Fa", "does not read as"),
        ("Ses01F_impro01_F000_1", "like a cut of an utterance"),
        ("Ses01F_impro01_F000_000_300", "like a cut of an utterance"),
        ("Ses01F_impro01_F0001", "like a cut of an utterance"),
        ("Ses01F_impro01_F000 (1)", "like a cut of an utterance"),
        ("Ses01F_impro01_F000\n", "like a cut of an utterance"),
        ("Session2/sentences/wav/Ses01F_impro01_F000", "lies in Session2, but its name is of session 1"),
        ("Session12/dialog/wav/Ses01F_impro01", "lies in Session12, but its name is of session 1"),
        ("Ses01F_impro01_F099", "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt has no line for it"),
        ("Ses04M_impro04_F000", "Session4/dialog/EmoEvaluation/Ses04M_impro04.txt is missing"),
    ],
)
def test_bad_names_are_refused(builder, path, message):
    with pytest.raises(CorpusError, match=message):
        builder.parse(PurePath(f"{path}.wav"))


PIECE = st.sampled_from(["Ses01F", "Ses09F", "Session1/Ses02M", "impro01", "script01", "1b", "F000", "MXX0", "X", "/"])


@settings(derandomize=True, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.sampled_from(sorted(UTTERANCES)),
        st.lists(st.one_of(PIECE, st.text(max_size=2)), min_size=1, max_size=5).map("_".join),
    )
)
def test_any_name_is_parsed_left_out_or_refused(builder, name):
    path = PurePath(f"{name}.wav")
    try:
        fields = builder.parse(path)
    except CorpusError:
        return
    match = NAME.fullmatch(path.stem)
    if fields is None:
        assert match["talker"] is None or UTTERANCES[path.stem] == "xxx"
    else:
        assert fields["emotion"] == EMOTION_WORDS[UTTERANCES[path.stem]]
        assert fields["speaker"] == f"Ses0{path.stem[4]}{'F' if fields['gender'] == 'female' else 'M'}"


def test_read_labels(tmp_path):
    path = tmp_path / "labels.txt"
    text = HEADER + label_lines("Ses01F_impro01_F000", "neu") + label_lines("Ses01F_impro01_F001", "xxx")
    path.write_bytes(text.replace("\n", "\r\n").replace("tired", "fatigu\xe9").encode("latin-1"))
    assert read_labels(str(path)) == ({"Ses01F_impro01_F000": "neu", "Ses01F_impro01_F001": "xxx"}, [])


def test_read_labels_lists_what_is_wrong(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(
        HEADER
        + "[1.0 - 2.0]\ta\tneu\t[1, 2, 3]\n[1.0 - 2.0]\tb\tjoy\t[1, 2, 3]\n[1.0 - 2.0]\tc\n"
        + "[1.0 - 2.0]\ta\tneu\t[1, 2, 3]\n[1.0 - 2.0]\ta\tang\t[1, 2, 3]\n"
    )
    labels, problems = read_labels(str(path))
    assert labels == {"a": "neu"}
    assert [problem[:25] for problem in problems] == [
        "line 4: unknown emotion '",
        "line 5: not '[start - end",
        "line 7: a is ang, and neu",
    ]


LINE = st.lists(
    st.one_of(
        st.sampled_from(["[1.0 - 2.0]", "Ses01F_impro01_F000", "neu", "ang", "xxx", "[1, 2, 3]", "[", "]", "C-E2:"]),
        st.text(max_size=4),
    ),
    max_size=5,
).map("\t".join)


@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(), st.lists(LINE, max_size=5).map("\n".join).map(lambda text: text.encode())))
def test_any_label_file_is_read_or_its_lines_listed(tmp_path, content):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    labels, problems = read_labels(str(path))
    assert set(labels.values()) <= {*EMOTION_WORDS, "xxx"}
    assert all(problem.startswith("line ") for problem in problems)


@pytest.mark.parametrize("folder", [".", "IEMOCAP_full_release"])
def test_load_a_release(release, tmp_path, caplog, folder):
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        loaded = load_corpora(
            ["iemocap"], [release.parent / folder], label_map="iemocap-full", cache_dir=tmp_path / "cache"
        )
    dataset = loaded.dataset
    agreed = {name: word for name, word in UTTERANCES.items() if word != "xxx"}
    assert list(dataset["utterance_id"]) == [f"iemocap/{name}" for name in sorted(agreed)]
    assert list(dataset["source_label"]) == [agreed[name] for name in sorted(agreed)]
    emotions = dataset.features["emotion"].int2str(list(dataset["emotion"]))
    assert emotions == [EMOTION_WORDS[agreed[name]] for name in sorted(agreed)]
    assert set(zip(dataset["session_id"], dataset["speaker_id"])) == {
        (f"iemocap/Ses0{session}", f"iemocap/Ses0{session}{talker}") for session in range(1, 6) for talker in "FM"
    }
    genders = dataset.features["gender"].int2str(list(dataset["gender"]))
    assert all(speaker.endswith(gender[0].upper()) for speaker, gender in zip(dataset["speaker_id"], genders))
    assert set(dataset["language"]) == {"en"} and set(dataset["text_id"]) == {None}
    assert "5 files left out (whole dialogues, or no agreement on a label)" in caplog.text
    assert "missing are 1702 of 1708 neutral" in caplog.text


def test_label_maps(release, tmp_path):
    agreed = Counter(EMOTION_WORDS[word] for word in UTTERANCES.values() if word != "xxx")
    four = {"neutral": agreed["neutral"], "happiness": agreed["happiness"] + agreed["excitement"]}
    four |= {"sadness": agreed["sadness"], "anger": agreed["anger"]}
    six = {name: agreed[name] for name in ("neutral", "happiness", "sadness", "anger", "excitement", "frustration")}
    expected = {
        None: four,
        "iemocap-5": four | {"frustration": agreed["frustration"]},
        "iemocap-6": six,
        "iemocap-full": {name: agreed[name] for name in IemocapBuilder.emotions},
    }
    for label_map, counts in expected.items():
        loaded = load_corpora(["iemocap"], [release], label_map=label_map, cache_dir=tmp_path)
        assert loaded.counts_before == {"iemocap": expected["iemocap-full"]}
        assert loaded.counts_after == {"iemocap": counts}
        assert loaded.dataset.features["emotion"].names == list(counts)


def test_load_some_sessions(copy, tmp_path, caplog):
    for session in (1, 3, 4):
        shutil.rmtree(copy / f"Session{session}")
    dataset = load_corpus("iemocap", copy, cache_dir=tmp_path / "cache")
    assert {speaker[:13] for speaker in dataset["speaker_id"]} == {"iemocap/Ses02", "iemocap/Ses05"}
    assert "all of speaker Ses01F, Ses01M, Ses03F, Ses03M, Ses04F, Ses04M" in caplog.text
    dataset = load_corpus("iemocap", copy / "Session5", cache_dir=tmp_path / "cache")
    assert set(dataset["speaker_id"]) == {"iemocap/Ses05F", "iemocap/Ses05M"}


def load_refused(root, tmp_path) -> str:
    with pytest.raises(CorpusError) as error:
        load_corpus("iemocap", root, cache_dir=tmp_path / "cache")
    return str(error.value)


def test_no_labels_at_all_is_one_error(copy, tmp_path):
    message = load_refused(copy / "Session1" / "sentences", tmp_path)
    assert "no labels of iemocap" in message and "found 13 audio files" in message and message.count("\n") == 0
    assert "give the folder that holds Session1 to Session5" in message


def test_missing_labels_are_listed(copy, tmp_path):
    label_path(copy, "Ses05F_impro03_F000").unlink()
    write_labels(copy, {"Ses02F_impro08_F000": "oth"})  # and no more of M000
    message = load_refused(copy, tmp_path)
    assert "7 audio files of iemocap" in message
    assert (
        "Ses02F_impro08_M000.wav: has no label: Session2/dialog/EmoEvaluation/Ses02F_impro08.txt has no line"
        in message
    )
    assert message.count("Session5/dialog/EmoEvaluation/Ses05F_impro03.txt is missing") == 6
    loaded = load_corpora(["iemocap"], [copy], cache_dir=tmp_path / "cache", skip_bad_files=True)
    assert len(loaded.left_out_files) == 7 and len(loaded.dataset) == 20


def test_bad_label_lines_are_listed_with_file_and_line(copy, tmp_path):
    for name in ("Ses01F_impro01_F000", "Ses04F_script02_2_F010"):
        with label_path(copy, name).open("a") as file:
            file.write(f"[1.0 - 2.0]\t{name}\tjoy\t[1, 2, 3]\n")
    message = load_refused(copy, tmp_path)
    assert "2 labels of iemocap" in message
    assert "EmoEvaluation/Ses01F_impro01.txt, line 51: unknown emotion 'joy' of Ses01F_impro01_F000" in message
    assert "EmoEvaluation/Ses04F_script02_2.txt, line 43: unknown emotion 'joy'" in message
    assert "Unpack these files anew" in message


def test_labels_that_contradict_each_other_are_refused(copy, tmp_path):
    write_labels(copy / "other_copy", {"Ses01F_impro01_F000": "neu"})  # says the same
    assert len(load_corpus("iemocap", copy, cache_dir=tmp_path / "cache")) == 25
    write_labels(copy / "other_copy", {"Ses01F_impro01_F000": "ang"})
    message = load_refused(copy, tmp_path)
    assert "1 labels of iemocap" in message and "point data_dir at one" in message
    assert "Ses01F_impro01_F000 is ang, and neu in Session1/dialog/EmoEvaluation/Ses01F_impro01.txt" in message


def test_unreadable_labels_are_listed(copy, tmp_path):
    path = label_path(copy, "Ses01F_impro01_F000")
    path.unlink()
    path.symlink_to("nowhere")
    assert "Ses01F_impro01.txt: cannot be read (No such file or directory)" in load_refused(copy, tmp_path)


def test_cuts_and_misplaced_files_are_refused(copy, tmp_path):
    write_clip(copy / "Session1" / "segments" / "Ses01F_impro01_F000_1.wav")
    write_clip(copy / "Session3" / "sentences" / "wav" / "Ses01F_impro01_F000.wav")
    message = load_refused(copy, tmp_path)
    assert "2 audio files of iemocap" in message and "since cuts of one would fall into" in message
    assert "lies in Session3, but its name is of session 1" in message


def test_changed_labels_are_read_anew(copy, tmp_path):
    for word, emotion in (("fru", "frustration"), ("surp", None), ("oth", "other")):
        text = HEADER + label_lines("Ses02F_impro08_F000", word) + label_lines("Ses02F_impro08_M000", "sur")
        label_path(copy, "Ses02F_impro08_F000").write_text(text)
        if emotion is None:
            assert "unknown emotion 'surp'" in load_refused(copy, tmp_path)
            continue
        dataset = load_corpus("iemocap", copy, label_map="iemocap-full", cache_dir=tmp_path / "cache")
        row = list(dataset["utterance_id"]).index("iemocap/Ses02F_impro08_F000")
        assert dataset.features["emotion"].int2str(dataset["emotion"][row]) == emotion


TREE = st.lists(
    st.tuples(
        st.sampled_from(["Session1/sentences/wav", "Session2", "Session1/dialog/EmoEvaluation", "EmoEvaluation", "a"]),
        st.sampled_from(["Ses01F_impro01_F000.wav", "Ses01F_impro01.wav", "Ses01F_impro01.txt", "Ses02.txt", "b.wav"]),
        st.sampled_from([b"", b"[", b"[1 - 2]\tSes01F_impro01_F000\tneu\t[1, 2, 3]\n", b"RIFF"]),
    ),
    max_size=6,
)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(TREE)
def test_any_tree_is_loaded_or_refused(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")
    for folder, name, content in tree:
        (root / folder).mkdir(parents=True, exist_ok=True)
        if name.endswith(".wav") and content == b"RIFF":
            write_clip(root / folder / name)
        else:
            (root / folder / name).write_bytes(content)
    builder = IemocapBuilder(root, root / ".cache")
    try:
        rows = list(builder.rows())
    except CorpusError:
        return
    assert [row["utterance_id"] for row in rows] == ["iemocap/Ses01F_impro01_F000"]
    assert rows[0]["emotion"] == "neutral"


def test_official_list(tmp_path):
    path = SHARED / "emobox" / "iemocap.csv"
    if not path.is_file():
        pytest.skip("the official file list is not on this machine")
    with path.open(encoding="utf-8") as file:
        rows = {PurePath(row["path"]): row["label"] for row in csv.DictReader(file)}
    write_labels(tmp_path / "data", {path.stem: word for path, word in rows.items()})
    builder = IemocapBuilder(tmp_path / "data", tmp_path / "cache")
    builder.read_metadata()
    counts, speakers = Counter(), set()
    for path, word in rows.items():
        fields = builder.parse(path)
        assert fields["source_label"] == word and fields["emotion"] == EMOTION_WORDS[word]
        assert (fields["gender"] == "male") == (path.stem[-4] == "M")
        counts[fields["emotion"]] += 1
        speakers.add(fields["speaker"])
    assert counts == IemocapBuilder.expected_counts and len(rows) == 5531
    assert speakers == set(IemocapBuilder.expected_speakers)
