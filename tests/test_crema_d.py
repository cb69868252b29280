"""CREMA-D: names, tables, both configurations on trees of fake clips, and the official list and demographics."""

import csv
import logging
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_scripts import CorpusError, load_corpora
from dataset_scripts.crema_d import (
    ACTORS,
    EMOTION_CODES,
    VOTE_LETTERS,
    WOMEN,
    CremaDBuilder,
    heard_emotion,
    read_table,
)

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
DEMOGRAPHICS = '"ActorID","Age","Sex","Race","Ethnicity"\n'
VOTES = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
# clip -> listeners' vote, and the emotion that it makes; these rows are those of the real table
HEARD = {
    "1001_IEO_NEU_XX": ("N", "neutral"),
    "1001_IEO_HAP_LO": ("N", "neutral"),  # happiness was asked for
    "1001_IEO_ANG_MD": ("A:D", "anger"),  # tie: the intended emotion is among them
    "1001_IWW_SAD_XX": ("F:N", None),  # tie: it is not
    "1001_ITH_ANG_XX": ("A:D:N", "anger"),
    "1002_ITH_SAD_XX": ("D:F:S", "sadness"),
    "1003_DFA_FEA_XX": ("F:N:S", "fear"),
    "1004_TIE_DIS_XX": ("D", "disgust"),
}


def write_clip(path: Path, value: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(160, value), 16000, format="WAV")


def write_votes(root: Path, votes: dict[str, str]) -> Path:
    path = root / "processedResults" / "summaryTable.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        f'"{i}","{name}","{vote}","50","H","57","A:D","68.75:52.25"\n' for i, (name, vote) in enumerate(votes.items())
    ]
    path.write_text(VOTES + "".join(rows))
    return path


def write_genders(root: Path, sexes: dict[str, str]) -> Path:
    path = root / "VideoDemographics.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f'{actor},51,"{sex}","Caucasian","Not Hispanic"\n' for actor, sex in sexes.items()]
    path.write_text(DEMOGRAPHICS + "".join(rows))
    return path


@pytest.fixture
def release(tmp_path):
    """A part of the release with its tables and copies."""
    root = tmp_path / "data" / "CREMA-D"
    for name in HEARD:
        write_clip(root / "AudioWAV" / f"{name}.wav")
        write_clip(root / "AudioMP3" / f"{name}.mp3", value=0.5)
    (root / "VideoFlash").mkdir()
    (root / "VideoFlash" / "1001_IEO_NEU_XX.flv").write_bytes(b"FLV")
    (root / "finishedResponses.csv").write_text('"localid","pos"\n')
    write_votes(root, {name: vote for name, (vote, _) in HEARD.items()})
    write_genders(root, {actor: "Female" if actor in WOMEN else "Male" for actor in ACTORS})
    return root


@pytest.fixture(scope="module", params=["intended", "listeners"])
def builder(request, tmp_path_factory):
    """A builder of each configuration that has read its tables."""
    root = tmp_path_factory.mktemp("data")
    write_votes(root, {name: vote for name, (vote, _) in HEARD.items()})
    builder = CremaDBuilder(root, root / "cache", config_name=request.param)
    builder.read_metadata()
    return builder


def load(root, tmp_path, config_name=None, **options):
    return load_corpora(["crema_d"], [root], config_name=config_name, cache_dir=tmp_path / "cache", **options)


def load_refused(root, tmp_path, config_name=None) -> str:
    with pytest.raises(CorpusError) as error:
        load(root, tmp_path, config_name)
    return str(error.value)


def emotions_of(dataset) -> dict[str, str]:
    names = dataset.features["emotion"].int2str(list(dataset["emotion"]))
    return {name.removeprefix("crema_d/"): emotion for name, emotion in zip(dataset["utterance_id"], names)}


def test_declared_counts():
    assert sum(CremaDBuilder.expected_counts.values()) == 7442
    assert len(ACTORS) == 91 and len(WOMEN) == 43 and set(ACTORS) >= WOMEN


@pytest.mark.parametrize("folder", ["", "AudioWAV/", "CREMA-D/AudioWAV/"])
def test_parse(builder, folder):
    fields = builder.parse(PurePath(f"{folder}1001_IEO_HAP_LO.WAV"))
    heard = builder.config.name == "listeners"
    assert fields == {
        "speaker": "1001",
        "gender": "male",
        "emotion": "neutral" if heard else "happiness",
        "source_label": "N" if heard else "HAP",
        "text_id": "IEO",
    }


def test_the_name_cut_short(builder):
    assert builder.utterance_name(PurePath("AudioWAV/1040_ITH_SAD_X.wav")) == "1040_ITH_SAD_XX"
    if builder.config.name == "intended":
        assert builder.parse(PurePath("AudioWAV/1040_ITH_SAD_X.wav"))["emotion"] == "sadness"


@pytest.mark.parametrize("path", ["AudioMP3/1001_IEO_HAP_LO.mp3", "a/audiomp3/b/1001_IEO_HAP_LO.mp3"])
def test_mp3_copies_are_left_out(builder, path):
    assert builder.parse(PurePath(path)) is None


@pytest.mark.parametrize(
    "stem",
    [
        *("", "1000_DFA_ANG_XX", "1092_DFA_ANG_XX", "1100_DFA_ANG_XX", "101_DFA_ANG_XX", "10010_DFA_ANG_XX"),
        *("1001_DFX_ANG_XX", "1001_DFA_CAL_XX", "1001_DFA_ANG_HH", "1001_DFA_ANG_", "1001_DFA_ANG", "1001-DFA-ANG-XX"),
        *(
            "1001_DFA_ANG_XX ",
            "1001_DFA_ANG_XX\n",
            "1001_DFA_ANG_XXX",
            "1001_dfa_ang_xx",
            "١001_DFA_ANG_XX",
            "03a01Fa",
        ),
    ],
)
def test_bad_names_are_refused(builder, stem):
    for folder in ("AudioWAV", "AudioMP3"):
        with pytest.raises(CorpusError, match="does not read as an actor"):
            builder.parse(PurePath(folder, f"{stem}.wav"))


FIELD = st.sampled_from(
    [*ACTORS, "1092", "DFA", "IEO", "ANG", "NEU", "LO", "X", "XX", "AudioMP3/1001", "AudioWAV/1002"]
)


@settings(derandomize=True, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(FIELD, min_size=4, max_size=4).map("_".join),
        st.tuples(st.sampled_from(ACTORS), st.just("DFA"), st.sampled_from(sorted(EMOTION_CODES)), FIELD).map(
            "_".join
        ),
        st.sampled_from(sorted(HEARD)),
    )
)
def test_any_name_is_parsed_left_out_or_refused(builder, name):
    path = PurePath(f"{name}.wav")
    try:
        fields = builder.parse(path)
    except CorpusError:
        return
    if fields is None:
        assert "AudioMP3" in path.parts or HEARD[path.stem][1] is None
    else:
        assert fields["speaker"] == path.stem[:4] and fields["gender"] == (
            "female" if path.stem[:4] in WOMEN else "male"
        )
        heard = builder.config.name == "listeners"
        assert fields["emotion"] == (HEARD[path.stem][1] if heard else EMOTION_CODES[path.stem[9:12]])
        assert fields["text_id"] == path.stem[5:8]


@pytest.mark.parametrize(
    ("vote", "intended", "emotion"),
    [
        ("A", "anger", "anger"),
        ("N", "anger", "neutral"),
        ("A:D", "disgust", "disgust"),
        ("A:D", "fear", None),
        ("", "fear", None),
    ],
)
def test_heard_emotion(vote, intended, emotion):
    assert heard_emotion(vote, intended) == emotion


def test_load_intended(release, tmp_path, caplog):
    write_clip(release / "AudioWAV" / "1040_ITH_SAD_X.wav")
    write_clip(release / "AudioWAV" / "1076_MTI_SAD_XX.wav")
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        dataset = load(release.parent, tmp_path).dataset
    names = sorted([*HEARD, "1040_ITH_SAD_XX", "1076_MTI_SAD_XX"])
    assert emotions_of(dataset) == {name: EMOTION_CODES[name[9:12]] for name in names}
    assert list(dataset["utterance_id"]) == [f"crema_d/{name}" for name in names]
    assert list(dataset["speaker_id"]) == [f"crema_d/{name[:4]}" for name in names]
    assert list(dataset["text_id"]) == [name[5:8] for name in names]
    assert list(dataset["source_label"]) == [name[9:12] for name in names]
    genders = dataset.features["gender"].int2str(list(dataset["gender"]))
    assert genders == ["female" if name[:4] in WOMEN else "male" for name in names]
    assert set(dataset["language"]) == {"en"} and set(dataset["duration_s"]) == {0.01}
    assert "8 files left out (MP3 copies in AudioMP3" in caplog.text
    assert "1076_MTI_SAD_XX is silent" in caplog.text
    assert "10 of 7442 utterances are here" in caplog.text


def test_load_listeners(release, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        loaded = load(release, tmp_path, "listeners")
    assert emotions_of(loaded.dataset) == {name: emotion for name, (_, emotion) in sorted(HEARD.items()) if emotion}
    votes = {name: vote for name, (vote, emotion) in sorted(HEARD.items()) if emotion}
    assert list(loaded.dataset["source_label"]) == list(votes.values())
    assert loaded.counts_before["crema_d"]["neutral"] == 2 and loaded.counts_before["crema_d"]["happiness"] == 0
    assert "9 files left out" in caplog.text and "of 1087 neutral" not in caplog.text
    # Either configuration has a cache of its own.
    assert len(load(release, tmp_path, "intended").dataset) == len(load(release, tmp_path).dataset) == len(HEARD)
    assert len(load(release, tmp_path, "listeners").dataset) == len(votes)


def test_unknown_configuration(release, tmp_path):
    assert "no configuration 'face'; there are intended, listeners" in load_refused(release, tmp_path, "face")


def test_listeners_counts_are_not_checked(tmp_path):
    assert CremaDBuilder(tmp_path, tmp_path, config_name="listeners").expected_counts == {}
    assert CremaDBuilder(tmp_path, tmp_path).expected_counts == CremaDBuilder.expected_counts


def test_a_cut_name_and_its_repair_are_one_clip(release, tmp_path, caplog):
    for stem in ("1040_ITH_SAD_X", "1040_ITH_SAD_XX"):
        write_clip(release / "AudioWAV" / f"{stem}.wav")
    assert len(load(release, tmp_path).dataset) == len(HEARD) + 1
    assert "1 identical copies left out" in caplog.text
    write_clip(release / "AudioWAV" / "1040_ITH_SAD_X.wav", value=0.5)
    assert "different files of the same utterance" in load_refused(release, tmp_path)


def test_clips_alone(release, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        dataset = load(release / "AudioWAV", tmp_path).dataset
    assert "no VideoDemographics.csv, the genders are those in crema_d.py" in caplog.text
    genders = dataset.features["gender"].int2str(list(dataset["gender"]))
    assert dict(zip(dataset["speaker_id"], genders)) == {
        "crema_d/1001": "male",
        "crema_d/1002": "female",
        "crema_d/1003": "female",
        "crema_d/1004": "female",
    }
    message = load_refused(release / "AudioWAV", tmp_path, "listeners")
    assert "needs processedResults/summaryTable.csv" in message and "or take configuration 'intended'" in message
    assert "https://github.com/CheyneyComputerScience/CREMA-D" in message


def test_demographics_win_over_the_module(release, tmp_path, caplog):
    write_genders(release, {"1001": "Female", "1002": "female", "1003": "F"})
    dataset = load(release, tmp_path).dataset
    genders = dict(zip(dataset["speaker_id"], dataset.features["gender"].int2str(list(dataset["gender"]))))
    assert set(genders.values()) == {"female"}
    assert "VideoDemographics.csv is not the published one on actor 1001" in caplog.text


def test_bad_demographics_are_listed(release, tmp_path):
    write_genders(release, {"1001": "Male", "1002": "", "1003": "unknown"})
    write_genders(release / "again", {"1001": "Female"})
    message = load_refused(release, tmp_path)
    assert "3 genders of crema_d" in message and "Fetch the file anew" in message
    assert "VideoDemographics.csv, line 3: sex '' of actor 1002" in message
    assert "VideoDemographics.csv, line 4: sex 'unknown' of actor 1003" in message
    assert "again/VideoDemographics.csv, line 2: actor 1001 is female, and not so elsewhere" in message


def test_bad_votes_are_listed(release, tmp_path):
    with write_votes(release, {"1001_IEO_NEU_XX": "X", "1001_IEO_HAP_LO": "A:A"}).open("a") as file:
        file.write('"9","1001_DFA_ANG_XX","A","5"\n"10","1001_DFA_ANG_XX","D","5"\n"11","1001_DFA_DIS_XX","A::D"\n')
    message = load_refused(release, tmp_path, "listeners")
    assert "4 votes of crema_d" in message
    assert "summaryTable.csv, line 2: vote 'X' on 1001_IEO_NEU_XX" in message
    assert "summaryTable.csv, line 3: vote 'A:A' on 1001_IEO_HAP_LO" in message
    assert "summaryTable.csv, line 5: 'D' on 1001_DFA_ANG_XX, and 'A' elsewhere" in message
    assert "summaryTable.csv, line 6: vote 'A::D'" in message
    assert len(load(release, tmp_path).dataset) == len(HEARD)  # nobody asked for them


def test_clips_without_a_vote(release, tmp_path):
    write_votes(release, {"1001_IEO_NEU_XX": "N", "1001_IEO_HAP_LO": "NA", "1001_IEO_ANG_MD": ""})
    message = load_refused(release, tmp_path, "listeners")
    assert "5 audio files of crema_d" in message
    assert "AudioWAV/1001_IWW_SAD_XX.wav: summaryTable.csv has no row for 1001_IWW_SAD_XX" in message
    loaded = load(release, tmp_path, "listeners", skip_bad_files=True)
    assert emotions_of(loaded.dataset) == {"1001_IEO_NEU_XX": "neutral"} and len(loaded.left_out_files) == 5


def test_vote_for_the_name_cut_short(release, tmp_path):
    write_clip(release / "AudioWAV" / "1040_ITH_SAD_X.wav")
    write_votes(release, {name: vote for name, (vote, _) in HEARD.items()} | {"1040_ITH_SAD_XX": "N"})
    assert emotions_of(load(release, tmp_path, "listeners").dataset)["1040_ITH_SAD_XX"] == "neutral"


def test_pointers_in_place_of_clips_are_one_error(release, tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 73130\n"
    (release / "AudioMP3" / "1001_IEO_NEU_XX.mp3").write_bytes(pointer)  # does not matter
    assert len(load(release, tmp_path).dataset) == len(HEARD)
    for name in list(HEARD)[:3]:
        (release / "AudioWAV" / f"{name}.wav").write_bytes(pointer)
    message = load_refused(release, tmp_path)
    assert "3 files of crema_d" in message and "AudioWAV/1001_IEO_ANG_MD.wav" in message and "git lfs pull" in message
    loaded = load(release, tmp_path, skip_bad_files=True)
    assert len(loaded.dataset) == len(HEARD) - 3 and len(loaded.left_out_files) == 3


def test_read_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbf"ActorID","Sex"\r\n1001, Male \r\n"1002"\r\n')
    assert list(read_table(str(path), "Sex", "ActorID")) == [(2, ("Male", "1001")), (3, ("", "1002"))]
    for content, message in (
        (b"", "no column ActorID or Sex"),
        (b"ActorID\n1", "no column Sex"),
        (b"\xff", "not read"),
    ):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=f"table.csv: {message}"):
            list(read_table(str(path), "ActorID", "Sex"))
    with pytest.raises(CorpusError, match="none.csv: not readable as CSV .*No such file"):
        list(read_table(str(tmp_path / "none.csv"), "ActorID"))


CELL = st.one_of(
    st.sampled_from(["1001_IEO_NEU_XX", "1001", "Male", "A", "A:D", '"', "FileName", ""]), st.text(max_size=3)
)
TABLE = st.tuples(
    st.sampled_from([DEMOGRAPHICS, VOTES, "FileName,VoiceVote,ActorID,Sex\n", ""]),
    st.lists(st.lists(CELL, max_size=5).map(",".join), max_size=4).map("\n".join),
).map(lambda parts: "".join(parts).encode())


@settings(
    derandomize=True, deadline=None, max_examples=75, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.binary(), TABLE), st.one_of(st.binary(), TABLE), st.sampled_from(["intended", "listeners"]))
def test_any_tables_are_read_or_refused(tmp_path, demographics, votes, config_name):
    (tmp_path / "VideoDemographics.csv").write_bytes(demographics)
    (tmp_path / "summaryTable.csv").write_bytes(votes)
    write_clip(tmp_path / "1001_IEO_NEU_XX.wav")
    builder = CremaDBuilder(tmp_path, tmp_path / ".cache", config_name=config_name)
    try:
        rows = list(builder.rows())
    except CorpusError:
        return
    assert [row["utterance_id"] for row in rows] == ["crema_d/1001_IEO_NEU_XX"]
    assert rows[0]["gender"] in ("female", "male") and rows[0]["emotion"] in EMOTION_CODES.values()


def test_demographics_of_the_release():
    path = SHARED / "crema_d" / "VideoDemographics.csv"
    if not path.is_file():
        pytest.skip("CREMA-D's VideoDemographics.csv is not on this machine")
    sexes = dict(values for _, values in read_table(str(path), "ActorID", "Sex"))
    assert tuple(sexes) == ACTORS and Counter(sexes.values()) == {"Female": 43, "Male": 48}
    assert {actor for actor, sex in sexes.items() if sex == "Female"} == WOMEN


def test_official_list(tmp_path):
    path = SHARED / "emobox" / "cremad.csv"
    if not path.is_file():
        pytest.skip("the official file list is not on this machine")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    builder = CremaDBuilder(tmp_path, tmp_path)
    builder.read_metadata()
    counts, speakers = Counter(), set()
    for row in rows:
        fields = builder.parse(PurePath(row["path"]))
        assert fields["source_label"] == row["label"] and fields["emotion"] == EMOTION_CODES[row["label"]]
        counts[fields["emotion"]] += 1
        speakers.add(fields["speaker"])
    assert counts == CremaDBuilder.expected_counts and len(rows) == 7442
    assert speakers == set(ACTORS)
    assert set(VOTE_LETTERS.values()) == set(counts)
