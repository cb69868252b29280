"""Folds: the rule, its committed results, and what every protocol promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts import GENDERS, CorpusError, folds, load_corpus
from dataset_scripts.emodb import SPEAKERS, EmodbBuilder
from dataset_scripts.folds import PARTS, get_folds, speaker_parts
from dataset_scripts.ravdess import RavdessBuilder

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY / ".." / "shared" / "data"
EMODB = {f"emodb/{speaker}": gender for speaker, gender in SPEAKERS.items()}
RAVDESS = {f"ravdess/{n:02d}": "male" if n % 2 else "female" for n in range(1, 25)}


def make_dataset(genders, emotions=("neutral", "anger"), repeats=2, corpus="tiny"):
    """`repeats` utterances of every speaker in every emotion, speakers interleaved."""
    rows = [
        {
            "utterance_id": f"{speaker}-{emotion}-{take}",
            "speaker_id": speaker,
            "corpus": corpus,
            "gender": gender,
            "emotion": emotion,
        }
        for take in range(repeats)
        for emotion in emotions
        for speaker, gender in genders.items()
    ]
    features = datasets.Features(
        {
            **{name: datasets.Value("string") for name in ("utterance_id", "speaker_id", "corpus")},
            "gender": datasets.ClassLabel(names=list(GENDERS)),
            "emotion": datasets.ClassLabel(names=list(emotions)),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


def speakers_of(dataset, rows):
    return sorted({dataset[row]["speaker_id"] for row in rows})


def numbers(parts, part):
    return [[name.split("/")[1] for name in fold[part]] for fold in parts]


def test_ravdess_twelve_folds():
    parts = speaker_parts(RAVDESS, 12)
    pairs = [[f"{n:02d}", f"{n + 1:02d}"] for n in range(1, 25, 2)]
    assert numbers(parts, "test") == pairs
    assert numbers(parts, "validation") == pairs[1:] + pairs[:1]


def test_emodb_ten_folds():
    parts = speaker_parts(EMODB, 10)
    order = ["03", "08", "10", "09", "11", "13", "12", "14", "15", "16"]
    assert numbers(parts, "test") == [[speaker] for speaker in order]
    following = [["09", "10"], ["11", "13"], ["12", "14"], ["15", "16"], ["03", "08"]]
    assert numbers(parts, "validation") == [pair for pair in following for _ in range(2)]


def test_groups_of_uneven_size():
    parts = speaker_parts(EMODB, 3)
    assert numbers(parts, "test") == [["03", "08", "09", "10"], ["11", "12", "13"], ["14", "15", "16"]]
    assert numbers(parts, "validation") == [["11", "13"], ["15", "16"], ["03", "08"]]


def test_unequal_genders_are_spread_evenly():
    genders = {f"m{n:02d}": "male" for n in range(48)} | {f"f{n:02d}": "female" for n in range(43)}
    for fold in speaker_parts(genders, 10):
        men = sum(speaker.startswith("m") for speaker in fold["test"])
        assert abs(men - len(fold["test"]) * 48 / 91) < 1
        assert [speaker[0] for speaker in fold["validation"]] == ["f", "m"]


def test_other_seeds_shuffle_within_gender():
    for seed in (1, 2):
        parts = speaker_parts(RAVDESS, 12, seed)
        assert numbers(parts, "test") != numbers(speaker_parts(RAVDESS, 12), "test")
        assert all({RAVDESS[name] for name in fold[part]} == {*GENDERS} for fold in parts for part in PARTS)
    assert numbers(speaker_parts(RAVDESS, 12, 1), "test") != numbers(parts, "test")


def test_rule_does_not_depend_on_the_hash_seed():
    code = (
        "from dataset_scripts.folds import speaker_parts;"
        "print(speaker_parts({str(n): ('male', 'female', None)[n % 3] for n in range(20)}, 4, seed=7))"
    )
    other_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": other_seed},
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    expected = speaker_parts({str(n): ("male", "female", None)[n % 3] for n in range(20)}, 4, seed=7)
    assert result.stdout.strip() == str(expected)


@settings(derandomize=True, deadline=None)
@given(
    genders=st.lists(st.sampled_from(["male", "female", None]), min_size=2, max_size=14),
    num_folds=st.integers(2, 14),
    seed=st.integers(0, 3),
)
def test_rule_keeps_its_promises(genders, num_folds, seed):
    genders = {f"s{number:02d}": gender for number, gender in enumerate(genders)}
    if num_folds > len(genders):
        with pytest.raises(CorpusError, match=f"{num_folds} folds of {len(genders)} speakers"):
            speaker_parts(genders, num_folds, seed)
        return
    parts = speaker_parts(genders, num_folds, seed)
    sizes = {len(fold["test"]) for fold in parts}
    assert len(parts) == num_folds and max(sizes) - min(sizes) <= 1
    assert sorted(speaker for fold in parts for speaker in fold["test"]) == sorted(genders)
    paired = {"male", "female"} <= set(genders.values())
    for fold in parts:
        assert sorted(fold["train"] + fold["validation"] + fold["test"]) == sorted(genders)
        assert fold["train"]
        assert len(fold["validation"]) == (
            2 if len(genders) >= 4 and len(fold["train"] + fold["validation"]) > 2 else 0
        )
        if paired and len(fold["test"]) == 1 and fold["validation"]:
            women = [s for s in fold["validation"] if genders[s] == "female"]
            pairs = min(list(genders.values()).count("male"), list(genders.values()).count("female"))
            assert len(women) == 1 or pairs == 1  # the only pair may be the test speaker's


@pytest.mark.parametrize("gender", ["female", None])
def test_one_gender_or_none_known(gender):
    parts = speaker_parts(dict.fromkeys("abcdef", gender), 3)
    assert [fold["test"] for fold in parts] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert [fold["validation"] for fold in parts] == [["c", "d"], ["e", "f"], ["a", "b"]]


def test_rows_follow_speakers():
    genders = {"tiny/a": "male", "tiny/b": "female", "tiny/c": "male", "tiny/d": "female"}
    dataset = make_dataset(genders)
    result = get_folds(dataset, "loso")
    assert [fold.index for fold in result] == [0, 1, 2, 3]
    assert [speakers_of(dataset, fold.test) for fold in result] == [["tiny/a"], ["tiny/b"], ["tiny/c"], ["tiny/d"]]
    assert result[0].test == [0, 4, 8, 12]  # ascending row numbers of the first speaker
    assert speakers_of(dataset, result[0].validation) == ["tiny/c", "tiny/d"]
    assert speakers_of(dataset, result[0].train) == ["tiny/b"]
    assert not any(fold.leaky for fold in result) and {fold.protocol for fold in result} == {"loso"}


def test_default_numbers_of_folds():
    many = {f"tiny/{n:02d}": ("male", "female")[n % 2] for n in range(13)}
    assert len(get_folds(make_dataset(many), "speakers")) == 10
    assert len(get_folds(make_dataset({name: many[name] for name in list(many)[:5]}), "speakers")) == 5
    assert len(get_folds(make_dataset(RAVDESS, corpus="ravdess"), "speakers")) == 12
    assert len(get_folds(make_dataset(EMODB, corpus="emodb"), "speakers")) == 10
    assert len(get_folds(make_dataset(EMODB, corpus="emodb"), "loso")) == 10


@pytest.mark.parametrize("number", [2, 3])
def test_few_speakers_have_no_validation(number, caplog):
    result = get_folds(make_dataset({f"tiny/{n}": "female" for n in range(number)}), "loso")
    assert [fold.validation for fold in result] == [[]] * number
    assert all(fold.train and fold.test for fold in result)
    assert "no validation part in fold 0, 1" in caplog.text


def test_impossible_requests_are_refused():
    dataset = make_dataset(EMODB)
    with pytest.raises(CorpusError, match="11 folds of 10 speakers"):
        get_folds(dataset, "speakers", 11)
    for number in (1, 0, -3):
        with pytest.raises(CorpusError, match=f"{number} folds of 10 speakers"):
            get_folds(dataset, "speakers", number)
    with pytest.raises(CorpusError, match="one fold a speaker: 10, not 5"):
        get_folds(dataset, "loso", 5)
    with pytest.raises(CorpusError, match="1 folds of 1 speakers"):
        get_folds(make_dataset({"tiny/a": "male"}), "loso")
    with pytest.raises(CorpusError, match="41 folds of 40 utterances"):
        get_folds(dataset, "random", 41)
    for protocol in ("sessions", "emobox", "official", "cross-corpus", "LOSO"):
        with pytest.raises(CorpusError, match=f"unknown protocol '{protocol}'; there are loso, speakers, random"):
            get_folds(dataset, protocol)


def test_random_leaks_and_says_so():
    dataset = make_dataset(EMODB, repeats=5)
    result = get_folds(dataset, "random", 5)
    assert all(fold.leaky for fold in result)
    for fold in result:
        assert len(fold.test) == len(fold.validation) == 20
        assert sorted(dataset[row]["emotion"] for row in fold.test) == [0] * 10 + [1] * 10
        assert set(speakers_of(dataset, fold.test)) & set(speakers_of(dataset, fold.train))
    assert [fold.validation for fold in result] == [fold.test for fold in result[1:] + result[:1]]


def test_random_depends_on_seed_and_ids_alone():
    dataset = make_dataset(EMODB, repeats=5)
    ids = [[dataset[row]["utterance_id"] for row in fold.test] for fold in get_folds(dataset, "random", 5)]
    turned = dataset.select(range(len(dataset) - 1, -1, -1))
    turned_ids = [[turned[row]["utterance_id"] for row in fold.test] for fold in get_folds(turned, "random", 5)]
    assert [sorted(part) for part in turned_ids] == [sorted(part) for part in ids]
    assert get_folds(dataset, "random", 5, seed=1)[0].test != get_folds(dataset, "random", 5)[0].test


def test_random_two_folds_have_no_validation():
    result = get_folds(make_dataset(EMODB), "random", 2)
    assert [(len(fold.train), len(fold.validation), len(fold.test)) for fold in result] == [(20, 0, 20)] * 2


def test_class_missing_from_training_warns(caplog):
    dataset = make_dataset(EMODB)
    # Only speaker 03 is ever angry.
    dataset = dataset.filter(lambda row: row["emotion"] == 0 or row["speaker_id"] == "emodb/03")
    get_folds(dataset, "loso")
    warnings = [record.getMessage() for record in caplog.records]
    # 03 is tested in fold 0 and validates folds 8 and 9.
    assert warnings == [f"fold {fold}: no training utterance of class anger" for fold in (0, 8, 9)]


@pytest.mark.parametrize(
    ("name", "genders", "builder"),
    [
        ("ravdess_speakers_12", RAVDESS, RavdessBuilder),
        ("ravdess_loso_24", RAVDESS, RavdessBuilder),
        ("emodb_speakers_10", EMODB, EmodbBuilder),
    ],
)
def test_committed_folds_are_the_rules(name, genders, builder):
    split = json.loads((folds.SPLITS / f"{name}.json").read_text(encoding="utf-8"))
    corpus, protocol, num_folds = name.split("_")
    assert (split["corpus"], split["protocol"], split["num_folds"], split["seed"]) == (
        *(corpus, protocol, int(num_folds)),
        0,
    )
    committed = [{part: fold[part]["speakers"] for part in PARTS} for fold in split["folds"]]
    assert committed == speaker_parts(genders, int(num_folds))
    total = sum(builder.expected_counts.values())
    assert all(sum(fold[part]["utterances"] for part in PARTS) == total for fold in split["folds"])
    assert sum(fold["test"]["utterances"] for fold in split["folds"]) == total


def test_committed_folds_are_used(tmp_path, monkeypatch, caplog):
    dataset = make_dataset(EMODB, corpus="emodb")
    split = folds.describe_split(dataset, "speakers", 10)
    split["folds"].reverse()
    (tmp_path / "emodb_speakers_10.json").write_text(json.dumps(split), encoding="utf-8")
    monkeypatch.setattr(folds, "SPLITS", tmp_path)
    assert speakers_of(dataset, get_folds(dataset, "speakers", 10)[0].test) == ["emodb/16"]
    assert not caplog.records
    # A part of the utterances keeps the folds, and is told so; other speakers, seeds and numbers go by the rule.
    assert speakers_of(dataset, get_folds(dataset.select(range(30)), "speakers", 10)[0].test) == ["emodb/16"]
    assert "emodb_speakers_10.json was made on other utterances of emodb" in caplog.text
    assert speakers_of(dataset, get_folds(dataset, "loso")[0].test) == ["emodb/03"]
    assert speakers_of(dataset, get_folds(dataset, "speakers", 5)[0].test) == ["emodb/03", "emodb/08"]
    expected = numbers(speaker_parts(EMODB, 10, 1), "test")[0]
    assert speakers_of(dataset, get_folds(dataset, "speakers", 10, 1)[0].test) == [
        f"emodb/{name}" for name in expected
    ]
    others = make_dataset({name.replace("emodb/0", "emodb/2"): EMODB[name] for name in EMODB}, corpus="emodb")
    assert speakers_of(others, get_folds(others, "speakers", 10)[0].test) == ["emodb/10"]


def test_command_makes_the_committed_file(tmp_path):
    if not (SHARED / "emodb_2s").is_dir():
        pytest.skip("EmoDB is not on this machine")
    command = [sys.executable, "-m", "dataset_scripts.folds", "--corpus", "emodb", "--protocol", "speakers"]
    subprocess.run(
        [*command, "--data_dir", str(SHARED / "emodb_2s"), "--num_folds", "10", "--output_dir", str(tmp_path)],
        env={**os.environ, "HF_HOME": str(tmp_path / "cache")},
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    name = "emodb_speakers_10.json"
    assert (tmp_path / name).read_bytes() == (folds.SPLITS / name).read_bytes()


def test_ravdess_files_are_made_from_the_corpus(tmp_path, monkeypatch):
    if not (SHARED / "ravdess").is_dir():
        pytest.skip("RAVDESS is not on this machine")
    dataset = load_corpus("ravdess", SHARED / "ravdess", cache_dir=tmp_path / "cache")
    monkeypatch.setattr(folds, "load_corpus", lambda name, data_dir: dataset)
    for protocol, num_folds in (("speakers", 12), ("loso", 24)):
        arguments = ["folds", "--corpus", "ravdess", "--protocol", protocol, "--output_dir", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", arguments)
        folds.main()
        name = f"ravdess_{protocol}_{num_folds}.json"
        assert (tmp_path / name).read_bytes() == (folds.SPLITS / name).read_bytes()
