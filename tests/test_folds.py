"""Folds: the rule, its committed results, and what every protocol promises."""

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts import CorpusError, builder_class, folds, load_corpus
from dataset_scripts.crema_d import WOMEN
from dataset_scripts.emodb import SPEAKERS
from dataset_scripts.folds import PARTS, Fold, Speaker, get_folds, speaker_parts
from dataset_scripts.schema import GENDERS, in_order

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY / ".." / "shared" / "data"
COMMITTED = sorted(path.stem for path in folds.SPLITS.glob("*.json") if path.stem != "speakers")


def of_genders(genders):
    return {name: Speaker(gender) for name, gender in genders.items()}


EMODB = of_genders({f"emodb/{speaker}": gender for speaker, gender in SPEAKERS.items()})
RAVDESS = of_genders({f"ravdess/{n:02d}": "male" if n % 2 else "female" for n in range(1, 25)})
CAFE = of_genders({f"cafe/{n:02d}": "male" if n % 2 else "female" for n in range(1, 13)})
IEMOCAP = {
    f"iemocap/Ses0{session}{letter}": Speaker(gender, (f"iemocap/Ses0{session}",))
    for session in range(1, 6)
    for letter, gender in (("F", "female"), ("M", "male"))
}
CHARACTERS = {"maya": "female", "indira": "male", "sahil": "male", "monisha": "female", "roshesh": "male"}
BHAVVANI = of_genders({f"bhavvani/{name}": gender for name, gender in CHARACTERS.items()} | {"bhavvani/others": None})


def make_dataset(speakers, emotions=("neutral", "anger"), repeats=2, names=None):
    """`repeats` utterances of every speaker in every emotion, speakers interleaved.

    `names` are those of the utterances, in order, by default the speaker, the emotion and a number.
    """
    genders = in_order({*GENDERS, *(speaker.gender for speaker in speakers.values())} - {None}, GENDERS)
    rows = [
        {
            "utterance_id": f"{name}-{emotion}-{take}",
            "speaker_id": name,
            "corpus": name.split("/")[0],
            "session_id": speaker.sessions[take % len(speaker.sessions)] if speaker.sessions else None,
            "gender": speaker.gender,
            "emotion": emotion,
        }
        for take in range(repeats)
        for emotion in emotions
        for name, speaker in speakers.items()
    ]
    for row, name in zip(rows, names or ()):
        row["utterance_id"] = f"{row['corpus']}/{name}"
    features = datasets.Features(
        {
            **{name: datasets.Value("string") for name in ("utterance_id", "speaker_id", "corpus", "session_id")},
            "gender": datasets.ClassLabel(names=genders),
            "emotion": datasets.ClassLabel(names=list(emotions)),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


def speakers_of(dataset, rows):
    return sorted({dataset[row]["speaker_id"] for row in rows})


def numbers(parts, part):
    return [[name.split("/")[1] for name in fold[part]] for fold in parts]


# ---------------------------------------------------------------------------------------------------------------------
# The rule


def test_ravdess_twelve_folds():
    parts = speaker_parts(RAVDESS, "speakers", 12)
    pairs = [[f"{n:02d}", f"{n + 1:02d}"] for n in range(1, 25, 2)]
    assert numbers(parts, "test") == pairs
    assert numbers(parts, "validation") == pairs[1:] + pairs[:1]
    assert numbers(parts, "excluded") == [[]] * 12


def test_emodb_ten_folds():
    parts = speaker_parts(EMODB, "speakers", 10)
    order = ["03", "08", "10", "09", "11", "13", "12", "14", "15", "16"]
    assert numbers(parts, "test") == [[speaker] for speaker in order]
    following = [["09", "10"], ["11", "13"], ["12", "14"], ["15", "16"], ["03", "08"]]
    assert numbers(parts, "validation") == [pair for pair in following for _ in range(2)]
    assert speaker_parts(EMODB, "loso") == parts


def test_groups_of_uneven_size():
    parts = speaker_parts(EMODB, "speakers", 3)
    assert numbers(parts, "test") == [["03", "08", "09", "10"], ["11", "12", "13"], ["14", "15", "16"]]
    assert numbers(parts, "validation") == [["11", "13"], ["15", "16"], ["03", "08"]]


def test_unequal_genders_are_spread_evenly():
    genders = {f"c/m{n:02d}": "male" for n in range(48)} | {f"c/f{n:02d}": "female" for n in range(43)}
    for fold in speaker_parts(of_genders(genders), "speakers", 10):
        men = sum(speaker.startswith("c/m") for speaker in fold["test"])
        assert abs(men - len(fold["test"]) * 48 / 91) < 1
        assert [speaker[2] for speaker in fold["validation"]] == ["f", "m"]


def test_other_seeds_shuffle_within_gender():
    for seed in (1, 2):
        parts = speaker_parts(RAVDESS, "speakers", 12, seed)
        assert numbers(parts, "test") != numbers(speaker_parts(RAVDESS, "speakers", 12), "test")
        assert all({RAVDESS[name].gender for name in fold[part]} == {*GENDERS} for fold in parts for part in PARTS)
    assert numbers(speaker_parts(RAVDESS, "speakers", 12, 1), "test") != numbers(parts, "test")


@pytest.mark.parametrize("gender", ["female", None, "nonbinary"])
def test_one_gender_or_none_known(gender):
    parts = speaker_parts(of_genders(dict.fromkeys([f"c/{name}" for name in "abcdef"], gender)), "speakers", 3)
    assert numbers(parts, "test") == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert numbers(parts, "validation") == [["c", "d"], ["e", "f"], ["a", "b"]]


def test_third_genders_are_spread_like_the_others():
    genders = {"c/f1": "female", "c/f2": "female", "c/m1": "male", "c/m2": "male", "c/x1": "nonbinary"}
    parts = speaker_parts(of_genders(genders | {"c/x2": "nonbinary", "c/u": None}), "loso")
    # Two each lie at 1/4 and 3/4, the only one of unknown gender at 1/2.
    assert numbers(parts, "test") == [[name] for name in ("m1", "f1", "x1", "u", "m2", "f2", "x2")]
    # Of equals the man comes first and the woman second, whatever their names.
    parts_of_three = speaker_parts(of_genders({"c/a": "agender", "c/b": "female", "c/d": "male"}), "loso")
    assert numbers(parts_of_three, "test") == [["d"], ["b"], ["a"]]
    # A pair of a man and a woman validates.
    assert numbers(parts, "validation") == [["f2", "m2"]] * 4 + [["f1", "m1"]] * 3


SESSIONS = [[f"Ses0{n}F", f"Ses0{n}M"] for n in range(1, 6)]
FOLLOWING = SESSIONS[1:] + SESSIONS[:1]


@pytest.mark.parametrize("protocol", ["loso", "speakers"])
def test_partners_leave_the_fold(protocol):
    parts = speaker_parts(IEMOCAP, protocol, 10)
    assert numbers(parts, "test") == [[name] for woman, man in SESSIONS for name in (man, woman)]
    assert numbers(parts, "excluded") == [[name] for session in SESSIONS for name in session]
    assert numbers(parts, "validation") == [session for session in FOLLOWING for _ in range(2)]
    assert numbers(parts, "train")[8] == [name for session in SESSIONS[1:4] for name in session]  # tests Ses05M
    for fold in parts:
        assert sorted(name for part in fold.values() for name in part) == sorted(IEMOCAP)


@pytest.mark.parametrize("protocol", ["sessions", "emobox"])
def test_sessions(protocol):
    parts = speaker_parts(IEMOCAP, protocol)
    assert numbers(parts, "test") == SESSIONS
    assert numbers(parts, "validation") == FOLLOWING
    assert numbers(parts, "excluded") == [[]] * 5
    assert numbers(parts, "train")[4] == [name for session in SESSIONS[1:4] for name in session]


def test_groups_that_part_a_session_exclude_the_other_half():
    parts = speaker_parts(IEMOCAP, "speakers", 3)
    assert numbers(parts, "test") == [
        ["Ses01F", "Ses01M", "Ses02F", "Ses02M"],
        ["Ses03F", "Ses03M", "Ses04M"],
        ["Ses04F", "Ses05F", "Ses05M"],
    ]
    assert numbers(parts, "excluded") == [[], ["Ses04F"], ["Ses04M"]]
    assert numbers(parts, "validation") == [SESSIONS[2], SESSIONS[4], SESSIONS[0]]


def test_other_seeds_shuffle_sessions_as_units():
    orders = []
    for seed in (1, 2):
        tested = numbers(speaker_parts(IEMOCAP, "sessions", None, seed), "test")
        assert sorted(tested) == SESSIONS
        assert numbers(speaker_parts(IEMOCAP, "sessions", None, seed), "validation") == tested[1:] + tested[:1]
        loso = numbers(speaker_parts(IEMOCAP, "loso", None, seed), "test")
        assert loso == [[name] for session in tested for name in reversed(session)]
        orders.append(tested)
    assert orders[0] != orders[1] and SESSIONS not in orders


def test_sessions_link_through_others():
    # a and b share one session, b and c another; d and e share a third.
    sessions = {"a": "1", "b": "12", "c": "2", "d": "3", "e": "3"}
    parts = speaker_parts({f"c/{name}": Speaker(None, tuple(of)) for name, of in sessions.items()}, "loso")
    assert numbers(parts, "test") == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert numbers(parts, "excluded") == [["b", "c"], ["a", "c"], ["a", "b"], ["e"], ["d"]]
    # Beside the excluded, one group is left: it trains, and nobody validates.
    assert numbers(parts, "train") == [["d", "e"]] * 3 + [["a", "b", "c"]] * 2
    assert numbers(parts, "validation") == [[]] * 5


def test_sessions_stand_where_the_first_of_their_names_stands():
    speakers = {
        **{"c/a": Speaker("female", ("c/1",)), "c/z": Speaker("male", ("c/1",))},
        **{"c/b": Speaker("male", ("c/2",)), "c/c": Speaker("female", ("c/2",))},
    }
    assert numbers(speaker_parts(speakers, "loso"), "test") == [["z"], ["a"], ["b"], ["c"]]


def test_a_session_of_few_leaves_the_others_balanced():
    speakers = {f"c/{letter}{n}": Speaker(of, ()) for letter, of in (("a", "female"), ("b", "male")) for n in range(6)}
    unlinked = speaker_parts(speakers, "speakers", 4)
    for name in ("c/b5", "c/a0"):
        speakers[name] = speakers[name]._replace(sessions=("c/1",))
    parts = speaker_parts(speakers, "speakers", 4)
    # The order is b0, then a0 with b5, who leaves the end, and the others as without a session.
    assert numbers(parts, "test") == [["a0", "b0", "b5"], ["a1", "b1", "b2"], ["a2", "a3", "b3"], ["a4", "a5", "b4"]]
    assert numbers(unlinked, "test")[0] == ["a0", "b0", "b1"]
    # Pairs of the others, first with first: b0 and a1, b1 and a2, ...; or the two who share the session.
    assert numbers(parts, "validation") == [["a2", "b1"], ["a4", "b3"], ["a5", "b4"], ["a0", "b5"]]
    assert numbers(parts, "excluded") == [[]] * 4


def test_one_session_for_all_is_refused():
    speakers = {f"c/{name}": Speaker("male", ("c/1",)) for name in "abcde"}
    with pytest.raises(
        CorpusError,
        match="^test speakers c/a: every other speaker shares a session with them, so nobody is left to train on; "
        "is the session column what it should be[?]$",
    ):
        speaker_parts(speakers, "loso")
    with pytest.raises(CorpusError, match="^test speakers c/a, c/b, c/c: every other speaker"):
        speaker_parts(speakers, "speakers", 2)
    with pytest.raises(CorpusError, match="sessions has 1 fold here: there must be at least 2"):
        speaker_parts(speakers, "sessions")
    # A session each links nobody.
    speakers = {f"c/{name}": Speaker("male", (f"c/{name}",)) for name in "abcde"}
    assert numbers(speaker_parts(speakers, "loso"), "excluded") == [[]] * 5
    with pytest.raises(CorpusError, match="c has no sessions that speakers share; take the protocol speakers or loso"):
        speaker_parts(speakers, "sessions")


def test_unknown_people_train_and_are_never_tested():
    parts = speaker_parts(BHAVVANI, "speakers", 5)
    assert parts == speaker_parts(BHAVVANI, "loso")
    # Men lie at 1/6, 3/6 and 5/6, women at 1/4 and 3/4; pairs are indira with maya and roshesh with monisha.
    assert numbers(parts, "test") == [["indira"], ["maya"], ["roshesh"], ["monisha"], ["sahil"]]
    assert numbers(parts, "validation") == [["monisha", "roshesh"]] * 2 + [["indira", "maya"]] * 3
    assert all("bhavvani/others" in fold["train"] for fold in parts)
    with pytest.raises(CorpusError, match="nobody knows who the speakers are"):
        speaker_parts({"bhavvani/others": Speaker(None)}, "loso")


def test_unknown_people_are_enough_to_train_on():
    speakers = {f"c/{name}": Speaker("male", ("c/1",)) for name in "ab"} | {"c/others": Speaker(None, ("c/1",))}
    parts = speaker_parts(speakers, "loso")
    assert numbers(parts, "train") == [["others"]] * 2 and numbers(parts, "excluded") == [["b"], ["a"]]
    # They do not count among the four that validation needs.
    three = of_genders({"c/a": "male", "c/b": "female", "c/d": "male", "c/others": None})
    assert numbers(speaker_parts(three, "loso"), "validation") == [[]] * 3


@pytest.mark.parametrize(
    ("speakers", "groups"),
    [
        # As in PAPER.md, read off EmoBox's own files.
        (RAVDESS, "01,11,20,21 04,10,12,14 08,09,19,23 03,05,07,24 02,15,16,18 06,13,17,22"),
        (CAFE, "01,07,08,10 02,04,09,12 03,05,06,11"),
    ],
)
def test_emobox_folds(speakers, groups):
    groups = [group.split(",") for group in groups.split()]
    assert numbers(speaker_parts(speakers, "emobox"), "test") == groups
    # Another seed changes who validates and never who is tested.
    assert numbers(speaker_parts(speakers, "emobox", None, 3), "test") == groups
    # Of a part of the speakers, the folds are what is there of them.
    some = {name: speaker for name, speaker in speakers.items() if name.split("/")[1] not in ("01", *groups[1])}
    assert numbers(speaker_parts(some, "emobox"), "test") == [groups[0][1:], *groups[2:]]


@settings(derandomize=True, deadline=None)
@given(
    speakers=st.dictionaries(
        st.sampled_from([f"c/s{number:02d}" for number in range(14)] + ["c/others"]),
        st.builds(
            Speaker,
            st.sampled_from(["male", "female", None, "nonbinary"]),
            st.sets(st.sampled_from(["c/1", "c/2", "c/3", "c/4", "c/5"]), max_size=1).map(tuple),
        ),
    ),
    protocol=st.sampled_from(["speakers", "loso", "sessions"]),
    num_folds=st.integers(1, 14),
    seed=st.integers(0, 3),
)
def test_rule_keeps_its_promises(speakers, protocol, num_folds, seed):
    named = sorted(set(speakers) - {"c/others"})
    try:
        parts = speaker_parts(speakers, protocol, num_folds if protocol == "speakers" else None, seed)
    except CorpusError as error:
        sessions = {session for name in named for session in speakers[name].sessions}
        too_few = len(named) < 2 or (protocol == "speakers" and not 2 <= num_folds <= len(named))
        assert too_few or protocol == "sessions" or "shares a session" in str(error) and sessions
        return
    assert protocol != "speakers" or len(parts) == num_folds
    assert sorted(name for fold in parts for name in fold["test"]) == named
    for fold in parts:
        assert sorted(name for part in fold.values() for name in part) == sorted(speakers)
        assert all(names == sorted(names) for names in fold.values())
        assert fold["train"] and fold["test"]
        assert "c/others" not in speakers or "c/others" in fold["train"]
        tested = {session for name in fold["test"] for session in speakers[name].sessions}
        met = {s for name in fold["train"] + fold["validation"] if name in named for s in speakers[name].sessions}
        assert not tested & met
        assert all(tested & set(speakers[name].sessions) for name in fold["excluded"])
        assert not fold["validation"] or len(named) >= 4


@settings(derandomize=True, deadline=None)
@given(
    genders=st.lists(st.sampled_from(["male", "female", None]), min_size=4, max_size=14),
    num_folds=st.integers(2, 14),
    seed=st.integers(0, 3),
)
def test_groups_and_validation_are_balanced(genders, num_folds, seed):
    speakers = of_genders({f"c/s{number:02d}": gender for number, gender in enumerate(genders)})
    parts = speaker_parts(speakers, "speakers", min(num_folds, len(genders)), seed)
    sizes = {len(fold["test"]) for fold in parts}
    assert max(sizes) - min(sizes) <= 1
    for fold in parts:
        others = fold["train"] + fold["validation"]
        assert len(fold["validation"]) == (2 if len(others) > 2 else 0)
        pairs = min(genders.count("male"), genders.count("female"))
        if fold["validation"] and pairs > len(fold["test"]):  # at least one pair is not touched by the test
            assert sorted(speakers[name].gender for name in fold["validation"]) == ["female", "male"]


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def test_rows_follow_speakers():
    genders = {"tiny/a": "male", "tiny/b": "female", "tiny/c": "male", "tiny/d": "female"}
    dataset = make_dataset(of_genders(genders))
    result = get_folds(dataset, "loso")
    assert [fold.index for fold in result] == [0, 1, 2, 3]
    assert [speakers_of(dataset, fold.test) for fold in result] == [["tiny/a"], ["tiny/b"], ["tiny/c"], ["tiny/d"]]
    assert result[0].test == [0, 4, 8, 12]  # ascending row numbers of the first speaker
    assert speakers_of(dataset, result[0].validation) == ["tiny/c", "tiny/d"]
    assert speakers_of(dataset, result[0].train) == ["tiny/b"]
    assert not any(fold.leaky for fold in result) and {fold.protocol for fold in result} == {"loso"}


def test_rows_of_partners_are_in_no_part():
    dataset = make_dataset(IEMOCAP)
    for protocol, absent in (("loso", 4), ("sessions", 0)):
        for fold in get_folds(dataset, protocol):
            assert len(dataset) - len(fold.train + fold.validation + fold.test) == absent
            assert not fold.leaky
    first = get_folds(dataset, "loso")[0]
    assert speakers_of(dataset, first.test) == ["iemocap/Ses01M"]
    parted = {*range(len(dataset))} - {*first.train, *first.validation, *first.test}
    assert speakers_of(dataset, parted) == ["iemocap/Ses01F"]


def test_speaker_table():
    dataset = make_dataset(
        {"c/b": Speaker("nonbinary", ("c/2", "c/1")), "c/a": Speaker(None), "c/others": Speaker("male", ("c/1",))},
        repeats=3,
    )
    assert folds.speaker_table(dataset) == {
        "c/a": Speaker(None, (), 6),
        "c/b": Speaker("nonbinary", ("c/1", "c/2"), 6),
        "c/others": Speaker(None, ("c/1",), 6),  # unknown people are of no one gender
    }
    entry = folds.describe_speakers(dataset)
    assert entry["speakers"]["c/a"] == {"gender": None, "utterances": 6}
    assert entry["speakers"]["c/b"] == {"gender": "nonbinary", "sessions": ("c/1", "c/2"), "utterances": 6}
    # printf 'a\nb\n' | sha256sum
    assert folds.hash_ids(["b", "a"]) == "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2"


def test_default_numbers_of_folds():
    many = of_genders({f"tiny/{n:02d}": ("male", "female")[n % 2] for n in range(13)})
    five = {name: many[name] for name in list(many)[:5]}
    for protocol in ("speakers", "random"):
        assert len(get_folds(make_dataset(many), protocol)) == 10
        assert len(get_folds(make_dataset(five), protocol)) == 5
        assert len(get_folds(make_dataset(five | {"tiny/others": Speaker(None)}), protocol)) == 5
        assert len(get_folds(make_dataset(RAVDESS), protocol)) == 12
        assert len(get_folds(make_dataset(EMODB), protocol)) == 10
        assert len(get_folds(make_dataset(CAFE), protocol)) == 6
    assert len(get_folds(make_dataset(EMODB), "loso")) == 10
    assert len(get_folds(make_dataset(CAFE), "emobox")) == 3


@pytest.mark.parametrize("number", [2, 3])
def test_few_speakers_have_no_validation(number, caplog):
    result = get_folds(make_dataset(of_genders({f"tiny/{n}": "female" for n in range(number)})), "loso")
    assert [fold.validation for fold in result] == [[]] * number
    assert all(fold.train and fold.test for fold in result)
    named = ", ".join(map(str, range(number)))
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"no validation part in fold {named}: too few speakers or folds"]


def test_impossible_requests_are_refused():
    dataset = make_dataset(EMODB)
    take_another = "take the protocol speakers or loso"
    one_for_each = "there must be at least 2 folds and a speaker for each; give another num_folds"
    nobody = "nobody knows who the speakers are: such people are trained on and never tested"
    others = make_dataset({"tiny/others": Speaker(None)})
    for rows, protocol, number, message in (
        *((dataset, "speakers", n, f"{n} folds of 10 speakers: {one_for_each}") for n in (11, 1, 0, -3)),
        (dataset, "loso", 5, "loso has 10 folds here, not 5; leave num_folds out"),
        (make_dataset(CAFE), "emobox", 5, "emobox has 3 folds here, not 5; leave num_folds out"),
        (
            *(make_dataset({"tiny/a": Speaker("male")}), "loso", None),
            "loso has 1 fold here: there must be at least 2 to train and to test",
        ),
        *(
            (dataset, "random", n, f"{n} folds of 40 utterances: there must be at least 2 and one for each")
            for n in (41, 1)
        ),
        (dataset, "sessions", None, f"emodb has no sessions that speakers share; {take_another}"),
        (
            *(dataset, "emobox", None),
            f"EmoBox has no speaker-disjoint folds of emodb, only of ravdess, cafe, iemocap; {take_another}",
        ),
        (dataset, "official", None, f"emodb has no parts of its own, only bhavvani has; {take_another}"),
        (others, "speakers", None, nobody),
        (others, "loso", None, nobody),
        *(
            (
                *(dataset, protocol, None),
                f"unknown protocol '{protocol}'; there are speakers, loso, sessions, emobox, official, cross-corpus, "
                "cross-language, random, test-selected",
            )
            for protocol in ("crosscorpus", "LOSO")
        ),
    ):
        with pytest.raises(CorpusError) as error:
            get_folds(rows, protocol, number)
        assert str(error.value) == message


def test_the_check_of_folds():
    """What get_folds promises is held against every result, also where only a mistake of ours could break it."""
    dataset = make_dataset(of_genders({"c/a": "male", "c/b": "female", "c/d": "male"}), repeats=1)  # a b d a b d
    speaker_ids = dataset["speaker_id"][:]
    good = [Fold(0, [1, 4], [2, 5], [0, 3], "loso"), Fold(1, [2, 5], [0, 3], [1, 4], "loso")]
    last = Fold(2, [0, 3], [1, 4], [2, 5], "loso")
    folds._check([*good, last], dataset, speaker_ids)
    for bad, message in (
        (replace(last, train=[0, 3, 5]), "a row is in two parts"),
        (replace(last, validation=[1, 4, 5]), "a row is in two parts"),
        (replace(last, train=[0, 3, 1], validation=[4]), "a speaker is in two parts"),
        (replace(last, leaky=True), "a speaker is in two parts"),
        (replace(last, test=[2]), "a row is not tested exactly once"),
        (replace(last, train=[3], test=[0, 2, 5]), "a row is not tested exactly once"),
    ):
        with pytest.raises(AssertionError, match=f"^{message}"):
            folds._check([*good, bad], dataset, speaker_ids)
    # Deliberate leaks are none of its business, but rows are.
    folds._check([Fold(0, [], [], [*range(6)], "random")], dataset, speaker_ids)
    folds._check([replace(fold, leaky=True, protocol="random") for fold in [*good, last]], dataset, speaker_ids)
    folds._check(
        [replace(fold, validation=fold.test, leaky=True, protocol="test-selected") for fold in [*good, last]],
        *(dataset, speaker_ids),
    )


def test_unknown_people_train_in_every_fold():
    dataset = make_dataset(BHAVVANI)
    result = get_folds(dataset, "speakers")
    assert [speakers_of(dataset, fold.test) for fold in result] == [
        [f"bhavvani/{name}"] for name in ("indira", "maya", "roshesh", "monisha", "sahil")
    ]
    others = [row for row, name in enumerate(dataset["speaker_id"]) if name == "bhavvani/others"]
    for fold in result:
        assert len(others) == 4 and set(others) < set(fold.train)
        assert len(fold.train + fold.validation + fold.test) == len(dataset) == 24
    # At random, where nothing is claimed of speakers, they are tested like all.
    assert sorted(row for fold in get_folds(dataset, "random") for row in fold.test) == list(range(24))


# The speakers of make_dataset(BHAVVANI) follow each other in this order, row after row.
PART_OF = {
    "maya": "test",
    "indira": "val",
    "sahil": "train",
    "monisha": "train",
    "roshesh": "train",
    "others": "train",
}


def test_official_parts(caplog):
    names = [f"{PART_OF[name]}_{take}_{name}" for take in range(4) for name in PART_OF]
    dataset = make_dataset(BHAVVANI, names=names)
    for num_folds in (None, 1):
        (fold,) = get_folds(dataset, "official", num_folds)
        assert fold.test == [0, 6, 12, 18] and fold.validation == [1, 7, 13, 19]
        assert speakers_of(dataset, fold.train) == [f"bhavvani/{n}" for n in ("monisha", "others", "roshesh", "sahil")]
        assert (fold.index, fold.protocol, fold.leaky) == (0, "official", False)
    assert not caplog.records
    with pytest.raises(CorpusError, match="^official has 1 fold, not 5; leave num_folds out$"):
        get_folds(dataset, "official", 5)

    # One clip of a tested speaker in training, or in validation: a leak.
    for part in ("train", "val"):
        (fold,) = get_folds(make_dataset(BHAVVANI, names=[f"{part}_0_maya", *names[1:]]), "official")
        assert fold.leaky and fold.test == [6, 12, 18]
    # Unknown people on both sides count as met.
    (fold,) = get_folds(make_dataset(BHAVVANI, names=[*names[:-1], "test_3_others"]), "official")
    assert fold.leaky and fold.test == [0, 6, 12, 18, 23]


def test_official_parts_that_are_not_there(caplog):
    names = [f"{PART_OF[name]}_{take}_{name}" for take in range(4) for name in PART_OF]
    no_validation = [name.replace("val_", "train_") for name in names]
    (fold,) = get_folds(make_dataset(BHAVVANI, names=no_validation), "official")
    assert fold.validation == [] and "no validation part in fold 0" in caplog.text
    for bad, message in (
        (
            [name.replace("test_", "val_") for name in names],
            "the official test part of bhavvani is empty: is the copy complete?",
        ),
        (
            [f"test_{number}" for number in range(24)],
            "the official train part of bhavvani is empty: is the copy complete?",
        ),
        (
            [f"val_{number}" for number in range(24)],
            "the official train and test part of bhavvani is empty: is the copy",
        ),
        ([*names[:-1], "dev_3"], "bhavvani/dev_3: its name does not say which of the official parts it belongs to"),
        ([*names[:-1], "my_train_3"], "bhavvani/my_train_3: its name does not say which of the official parts"),
        ([*names[:-1], "my/train_3"], "bhavvani/my/train_3: its name does not say which of the official parts"),
    ):
        with pytest.raises(CorpusError, match=f"^{re.escape(message)}"):
            get_folds(make_dataset(BHAVVANI, names=bad), "official")
    with pytest.raises(
        CorpusError,
        match="^bhavvani and emodb has no parts of its own, only bhavvani has; take the protocol speakers or loso$",
    ):
        get_folds(make_dataset(BHAVVANI | EMODB), "official")


# ---------------------------------------------------------------------------------------------------------------------
# Several corpora


def test_merged_speakers_are_united_fold_by_fold():
    dataset = make_dataset(RAVDESS | EMODB)
    result = get_folds(dataset, "speakers")
    assert len(result) == 10
    assert speakers_of(dataset, result[0].test) == ["emodb/03", "ravdess/01", "ravdess/02", "ravdess/03"]
    assert speakers_of(dataset, result[0].validation) == ["emodb/09", "emodb/10", "ravdess/05", "ravdess/06"]
    assert speakers_of(dataset, result[9].test) == ["emodb/16", "ravdess/23", "ravdess/24"]
    assert speakers_of(dataset, result[9].validation) == ["emodb/03", "emodb/08", "ravdess/01", "ravdess/02"]
    for fold in result:
        assert sorted(fold.train + fold.validation + fold.test) == list(range(len(dataset)))
    # Two standards that differ are none; six is the number of the smaller one.
    assert len(get_folds(make_dataset(CAFE | RAVDESS), "speakers")) == 10
    few = {name: EMODB[name] for name in list(EMODB)[:6]}
    assert len(get_folds(make_dataset(RAVDESS | few), "speakers")) == 6


def test_merged_loso_tests_one_corpus_after_the_other():
    dataset = make_dataset(IEMOCAP | BHAVVANI | EMODB)
    result = get_folds(dataset, "loso")
    tested = [speakers_of(dataset, fold.test) for fold in result]
    assert len(tested) == 25 and all(len(names) == 1 for names in tested)
    assert [names[0].split("/")[0] for names in tested] == ["bhavvani"] * 5 + ["emodb"] * 10 + ["iemocap"] * 10
    for fold, (name,) in zip(result, tested):
        corpus = name.split("/")[0]
        present = speakers_of(dataset, fold.train + fold.validation + fold.test)
        absent = {*IEMOCAP, *BHAVVANI, *EMODB} - set(present)
        assert len(absent) == (1 if corpus == "iemocap" else 0)  # the dialogue partner
        assert {name.split("/")[0] for name in speakers_of(dataset, fold.validation)} == {corpus}
        assert "bhavvani/others" in speakers_of(dataset, fold.train)


def test_merged_numbers_of_folds_must_agree():
    two_sessions = {f"own/{n}": Speaker("male", (f"own/{n // 2}",)) for n in range(4)}
    with pytest.raises(CorpusError, match=r"different numbers of folds in these corpora: \{'iemocap': 5, 'own': 2\}"):
        get_folds(make_dataset(IEMOCAP | two_sessions), "sessions")
    with pytest.raises(CorpusError, match=r"different numbers of folds in these corpora: \{'cafe': 3, 'ravdess': 6\}"):
        get_folds(make_dataset(CAFE | RAVDESS), "emobox")
    with pytest.raises(CorpusError, match="EmoBox has no speaker-disjoint folds of emodb"):
        get_folds(make_dataset(CAFE | EMODB), "emobox")
    five = {f"own/{n}": Speaker("male", (f"own/{n // 2}",)) for n in range(10)}
    dataset = make_dataset(IEMOCAP | five)
    assert speakers_of(dataset, get_folds(dataset, "sessions")[1].test) == [
        *("iemocap/Ses02F", "iemocap/Ses02M", "own/2", "own/3")
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Random


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
    result = get_folds(make_dataset(EMODB), "random", 4)
    assert [(len(fold.train), len(fold.validation), len(fold.test)) for fold in result] == [(20, 10, 10)] * 4
    assert [len(fold.test) for fold in get_folds(make_dataset(EMODB), "random", 40)] == [1] * 40
    assert [len(fold.validation) for fold in get_folds(make_dataset(EMODB, repeats=3), "random", 3)] == [20] * 3


def test_random_is_what_it_was():
    # What version 0.1 dealt out: sessions and the other protocols' seeds do not touch it.
    dataset = make_dataset({"c/a": Speaker("male", ("c/1",)), "c/b": Speaker(None, ("c/1",))}, repeats=3)
    for seed, tested in (
        (0, [[0, 1, 6, 7], [2, 4, 8, 11], [3, 5, 9, 10]]),
        (5, [[3, 5, 8, 10], [2, 4, 7, 9], [0, 1, 6, 11]]),
    ):
        assert [fold.test for fold in get_folds(dataset, "random", 3, seed)] == tested


def test_class_missing_from_training_warns(caplog):
    dataset = make_dataset(EMODB, emotions=("neutral", "anger", "fear"))
    # Only speaker 03 is ever angry or afraid.
    dataset = dataset.filter(lambda row: row["emotion"] == 0 or row["speaker_id"] == "emodb/03")
    get_folds(dataset, "loso")
    warnings = [record.getMessage() for record in caplog.records]
    # 03 is tested in fold 0 and validates folds 8 and 9.
    assert warnings == [f"fold {fold}: no training utterance of class anger, fear" for fold in (0, 8, 9)]


# ---------------------------------------------------------------------------------------------------------------------
# The files of splits/


def read_split(name):
    return json.loads((folds.SPLITS / f"{name}.json").read_text(encoding="utf-8"))


def test_every_standard_split_is_committed():
    standard = [
        f"{corpus}_{protocol}_{number}"
        for corpus, numbers in folds.STANDARD_FOLDS.items()
        for protocol, number in numbers.items()
    ]
    assert sorted(standard) == COMMITTED
    assert sorted(read_split("speakers")) == sorted(folds.STANDARD_FOLDS)


SIZES = {"iemocap": 5531, "ravdess": 1440, "crema_d": 7442, "emodb": 535, "cafe": 936, "bhavvani": None}
TABLES = {
    "iemocap": IEMOCAP,
    "ravdess": RAVDESS,
    "crema_d": of_genders({f"crema_d/{n}": "female" if str(n) in WOMEN else "male" for n in range(1001, 1092)}),
    "emodb": EMODB,
    "cafe": CAFE,
    "bhavvani": BHAVVANI,
}


@pytest.mark.parametrize("corpus", folds.STANDARD_FOLDS)
def test_table_of_speakers(corpus):
    entry = read_split("speakers")[corpus]
    assert {
        name: Speaker(fields["gender"], tuple(fields.get("sessions", ())))
        for name, fields in entry["speakers"].items()
    } == TABLES[corpus]
    counts = [fields["utterances"] for fields in entry["speakers"].values()]
    if SIZES[corpus] is None:  # nobody has published how many there are
        assert counts == [None] * len(counts) and entry["utterance_ids_sha256"] is None
    else:
        assert sum(counts) == SIZES[corpus] == sum(builder_class(corpus).expected_counts.values())
        assert len(entry["utterance_ids_sha256"]) == 64


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_split_keeps_the_promises(name):
    split = read_split(name)
    corpus, protocol, number = name.rsplit("_", 2)
    assert (split["corpus"], split["protocol"], split["num_folds"], split["seed"]) == (
        corpus,
        protocol,
        int(number),
        0,
    )
    assert len(split["folds"]) == int(number)
    table = read_split("speakers")[corpus]
    assert split["utterance_ids_sha256"] == table["utterance_ids_sha256"]
    named = sorted({*table["speakers"]} - {"bhavvani/others"})
    tested = [speaker for fold in split["folds"] for speaker in fold["test"]["speakers"]]
    assert sorted(tested) == named
    for fold in split["folds"]:
        of_part = {part: content["speakers"] for part, content in fold.items()}
        assert sorted(name for names in of_part.values() for name in names) == sorted(table["speakers"])
        assert corpus != "bhavvani" or "bhavvani/others" in of_part["train"]
        # Validation is a man and a woman; of IEMOCAP a session, which is the same.
        assert sorted(TABLES[corpus][name].gender for name in of_part["validation"]) == ["female", "male"]
        assert len({name[:-1] for name in of_part["validation"]}) == 1 or corpus != "iemocap"
        # Who spoke with a test speaker is in no part.
        partners = {f"{name[:-1]}{letter}" for name in of_part["test"] for letter in "FM" if corpus == "iemocap"}
        assert {*of_part.get("excluded", ())} == partners - {*of_part["test"]}
        counts = [content["utterances"] for content in fold.values()]
        if SIZES[corpus] is None:
            assert counts == [None] * len(counts)
        else:
            assert sum(counts) == SIZES[corpus]
            for content in fold.values():
                in_table = [table["speakers"][name]["utterances"] for name in content["speakers"]]
                assert content["utterances"] == sum(in_table) > 0


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_split_is_the_rules_and_is_what_runs(name, caplog):
    split = read_split(name)
    corpus, protocol, number = name.rsplit("_", 2)
    committed = [{part: fold[part]["speakers"] for part in PARTS} for fold in split["folds"]]
    rule = speaker_parts(TABLES[corpus], protocol, int(number))
    assert committed == [{part: fold[part] for part in PARTS} for fold in rule]
    dataset = make_dataset(TABLES[corpus], emotions=("neutral",), repeats=1)
    with caplog.at_level(logging.INFO, logger="dataset_scripts.folds"):
        result = get_folds(dataset, protocol)
    assert [{part: speakers_of(dataset, getattr(fold, part)) for part in PARTS} for fold in result] == committed
    assert (f"{name}.json was made on other utterances of {corpus}" in caplog.text) == (corpus != "bhavvani")


def test_committed_emobox_folds_are_the_published():
    # As in PAPER.md.
    published = {
        "cafe_emobox_3": "01 07 08 10, 02 04 09 12, 03 05 06 11",
        "ravdess_emobox_6": "01 11 20 21, 04 10 12 14, 08 09 19 23, 03 05 07 24, 02 15 16 18, 06 13 17 22",
        "iemocap_emobox_5": "Ses01F Ses01M, Ses02F Ses02M, Ses03F Ses03M, Ses04F Ses04M, Ses05F Ses05M",
    }
    for name, groups in published.items():
        tested = [
            [speaker.split("/")[1] for speaker in fold["test"]["speakers"]] for fold in read_split(name)["folds"]
        ]
        assert tested == [group.split() for group in groups.split(", ")]


def test_committed_folds_are_used(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="dataset_scripts.folds")
    dataset = make_dataset(EMODB)
    split = folds.describe_split("emodb", folds.describe_speakers(dataset), "speakers", 10)
    split["folds"].reverse()
    (tmp_path / "emodb_speakers_10.json").write_text(json.dumps(split), encoding="utf-8")
    monkeypatch.setattr(folds, "SPLITS", tmp_path)
    assert speakers_of(dataset, get_folds(dataset, "speakers", 10)[0].test) == ["emodb/16"]
    assert speakers_of(dataset, get_folds(dataset, "speakers")[0].test) == ["emodb/16"]
    assert {fold.files for fold in get_folds(dataset, "speakers")} == {("emodb_speakers_10.json",)}
    assert not caplog.records
    # A part of the utterances keeps the folds, and is told so; other speakers, seeds and numbers go by the rule.
    assert speakers_of(dataset, get_folds(dataset.select(range(30)), "speakers", 10)[0].test) == ["emodb/16"]
    (record,) = caplog.records
    assert record.getMessage() == "emodb_speakers_10.json was made on other utterances of emodb than these"
    assert speakers_of(dataset, get_folds(dataset, "loso")[0].test) == ["emodb/03"]
    for protocol in ("loso", "random"):
        assert {fold.files for fold in get_folds(dataset, protocol, 10)} == {()}
    assert speakers_of(dataset, get_folds(dataset, "speakers", 5)[0].test) == ["emodb/03", "emodb/08"]
    expected = speaker_parts(EMODB, "speakers", 10, 1)[0]["test"]
    assert speakers_of(dataset, get_folds(dataset, "speakers", 10, 1)[0].test) == expected
    others = make_dataset({name.replace("emodb/0", "emodb/2"): EMODB[name] for name in EMODB})
    assert speakers_of(others, get_folds(others, "speakers", 10)[0].test) == ["emodb/10"]
    # Beside another corpus, its own utterances are what the hash is held against.
    caplog.clear()
    merged = make_dataset(EMODB | RAVDESS)
    assert speakers_of(merged, get_folds(merged, "speakers")[0].test)[0] == "emodb/16"
    assert get_folds(merged, "speakers")[0].files == ("emodb_speakers_10.json",)
    assert "other utterances" not in caplog.text


def test_a_partial_copy_goes_by_the_rule():
    some = {name: speaker for name, speaker in IEMOCAP.items() if "Ses02" not in name and name != "iemocap/Ses03F"}
    dataset = make_dataset(some)
    result = get_folds(dataset, "sessions")
    tested = [["Ses01F", "Ses01M"], ["Ses03M"], ["Ses04F", "Ses04M"], ["Ses05F", "Ses05M"]]
    assert [speakers_of(dataset, fold.test) for fold in result] == [
        [f"iemocap/{n}" for n in names] for names in tested
    ]
    # The man whose partner is missing is no pair to validate on.
    assert [speakers_of(dataset, fold.validation) for fold in result] == [
        [f"iemocap/{n}" for n in names] for names in [tested[2], tested[2], tested[3], tested[0]]
    ]


# ---------------------------------------------------------------------------------------------------------------------
# The command


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_command_makes_every_committed_file(tmp_path, hash_seed):
    subprocess.run(
        [sys.executable, "-m", "dataset_scripts.folds", "--output_dir", str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in folds.SPLITS.glob("*.json")}


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["folds", *map(str, arguments)])
    folds.main()


HELP = """\
usage: python -m dataset_scripts.folds [-h]
                                       [--corpus {iemocap,ravdess,crema_d,emodb,cafe,bhavvani,own,demo}]
                                       [--data_dir DATA_DIR]
                                       [--protocol {speakers,loso,sessions,emobox}]
                                       [--num_folds NUM_FOLDS]
                                       [--output_dir OUTPUT_DIR]

Write the files of splits/ again: all from speakers.json, or a corpus's from
the corpus itself.

options:
  -h, --help            show this help message and exit
  --corpus {iemocap,ravdess,crema_d,emodb,cafe,bhavvani,own,demo}
                        default: every corpus of speakers.json
  --data_dir DATA_DIR   folder that holds the corpus; its entry in
                        speakers.json is made anew
  --protocol {speakers,loso,sessions,emobox}
  --num_folds NUM_FOLDS
                        default: the corpus's standard
  --output_dir OUTPUT_DIR
                        default: the package's own splits folder
"""


def test_help_of_the_command(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, "--help")
    # Python versions fold the first lines differently.
    assert capsys.readouterr().out.split() == HELP.split()


def test_command_writes_into_a_new_folder_and_names_its_files(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "new" / "splits"
    command(monkeypatch, "--output_dir", folder)
    committed = {path.name: path.read_bytes() for path in folds.SPLITS.glob("*.json")}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == committed
    named = capsys.readouterr().out.splitlines()
    assert sorted(named) == [str(folder / name) for name in sorted(committed)]
    # Without --output_dir, and for one corpus of the table.
    monkeypatch.setattr(folds, "SPLITS", folder)
    (folder / "cafe_loso_12.json").unlink()
    command(monkeypatch, "--corpus", "cafe")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == committed
    named = capsys.readouterr().out.splitlines()
    assert named == [
        str(folder / f"{name}.json") for name in ("cafe_speakers_6", "cafe_loso_12", "cafe_emobox_3", "speakers")
    ]


def test_command_describes_a_copy(tmp_path, monkeypatch):
    """Of a corpus that is given, or is in no table, the speakers are looked up in the corpus."""
    own = {f"own/{name}": Speaker(gender, (f"own/{name in 'cd'}",)) for name, gender in zip("abcd", [*GENDERS] * 2)}
    copies = {("emodb", "DIR"): make_dataset(EMODB), ("own", None): make_dataset(own, repeats=1)}
    monkeypatch.setattr(folds, "load_corpus", lambda name, data_dir: copies[name, data_dir])
    command(monkeypatch, "--corpus", "emodb", "--data_dir", "DIR", "--output_dir", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("emodb_loso_10.json", "emodb_speakers_10.json", "speakers.json")
    ]
    table = json.loads((tmp_path / "speakers.json").read_text(encoding="utf-8"))
    assert table == read_split("speakers") | {"emodb": folds.describe_speakers(copies["emodb", "DIR"])}
    assert list(table) == sorted(table)

    command(monkeypatch, "--corpus", "own", "--protocol", "sessions", "--output_dir", tmp_path)
    table = json.loads((tmp_path / "speakers.json").read_text(encoding="utf-8"))
    sha256 = folds.hash_ids(copies["own", None]["utterance_id"])
    assert table["own"]["utterance_ids_sha256"] == sha256
    assert table["own"]["speakers"]["own/c"] == {"gender": GENDERS[0], "sessions": ["own/True"], "utterances": 2}
    ab, cd = ({"speakers": [f"own/{name}" for name in names], "utterances": 4} for names in ("ab", "cd"))
    nobody = {"speakers": [], "utterances": 0}
    assert json.loads((tmp_path / "own_sessions_2.json").read_text(encoding="utf-8")) == {
        **{"corpus": "own", "protocol": "sessions", "seed": 0, "num_folds": 2, "utterance_ids_sha256": sha256},
        "folds": [{"train": cd, "validation": nobody, "test": ab}, {"train": ab, "validation": nobody, "test": cd}],
    }


def test_command_takes_other_numbers(tmp_path, monkeypatch, capsys):
    command(monkeypatch, "--corpus", "cafe", "--protocol", "speakers", "--num_folds", 4, "--output_dir", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cafe_speakers_4.json", "speakers.json"]
    split = json.loads((tmp_path / "cafe_speakers_4.json").read_text(encoding="utf-8"))
    assert [fold["test"] for fold in split["folds"]] == [
        {"speakers": [f"cafe/{n:02d}" for n in range(first, first + 3)], "utterances": 234} for first in (1, 4, 7, 10)
    ]
    for bad, message in (
        (("emodb", "speakers", 11), "11 folds of 10 speakers"),
        (("emodb", "speakers", 0), "0 folds of 10 speakers"),
        (("emodb", "emobox", 6), "EmoBox has no speaker-disjoint folds of emodb"),
        (("emodb", "sessions", 5), "emodb has no sessions"),
    ):
        corpus, protocol, number = bad
        with pytest.raises(SystemExit):
            command(
                monkeypatch,
                *("--corpus", corpus, "--protocol", protocol, "--num_folds", number, "--output_dir", tmp_path / "no"),
            )
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_command_reads_the_corpus(tmp_path, monkeypatch):
    """A corpus's own rows, in any order, make the table and the files that are committed."""
    if not (SHARED / "emodb_2s").is_dir():
        pytest.skip("EmoDB is not on this machine")
    dataset = load_corpus("emodb", SHARED / "emodb_2s", cache_dir=tmp_path / "cache")
    turned = dataset.select(range(len(dataset) - 1, -1, -1))
    monkeypatch.setattr(folds, "load_corpus", lambda name, data_dir: {("emodb", "DIR"): turned}[name, data_dir])
    command(monkeypatch, "--corpus", "emodb", "--data_dir", "DIR", "--output_dir", tmp_path / "splits")
    made = {path.name: path.read_bytes() for path in (tmp_path / "splits").iterdir()}
    names = ("emodb_loso_10.json", "emodb_speakers_10.json", "speakers.json")
    assert made == {name: (folds.SPLITS / name).read_bytes() for name in names}


# ---------------------------------------------------------------------------------------------------------------------
# Corpora and languages left out


def with_languages(dataset, languages):
    """`languages`: corpus -> language."""
    return dataset.add_column("language", [languages[corpus] for corpus in dataset["corpus"]])


def test_one_corpus_left_out():
    dataset = make_dataset(RAVDESS | EMODB | BHAVVANI)
    parts = [
        {part: speakers_of(dataset, getattr(f, part)) for part in PARTS} for f in get_folds(dataset, "cross-corpus")
    ]
    bhavvani, emodb, ravdess = parts
    # bhavvani's unknown people are in no part of the fold that tests it, and train in the others
    assert bhavvani["test"] == sorted(set(BHAVVANI) - {"bhavvani/others"})
    assert bhavvani["validation"] == ["emodb/03", "emodb/08"]
    assert bhavvani["train"] == sorted({*EMODB, *RAVDESS} - {"emodb/03", "emodb/08"})
    assert emodb["test"] == sorted(EMODB) and emodb["validation"] == ["ravdess/01", "ravdess/02"]
    assert "bhavvani/others" in emodb["train"]
    assert ravdess["test"] == sorted(RAVDESS)
    assert ravdess["validation"] == ["bhavvani/indira", "bhavvani/maya"]  # the first man and the first woman
    with pytest.raises(CorpusError, match="^cross-corpus has 3 folds here, not 2; leave num_folds out$"):
        get_folds(dataset, "cross-corpus", 2)
    # Another seed shuffles who validates, and nothing else.
    others = get_folds(dataset, "cross-corpus", 3, seed=1)
    assert [speakers_of(dataset, fold.test) for fold in others] == [fold["test"] for fold in parts]
    assert speakers_of(dataset, others[1].validation) != emodb["validation"]


def validation_of(others, seed=0):
    """Who validates, of these speakers beside a corpus that is left out."""
    speakers = of_genders({"a/1": "male", "a/2": "female"}) | others
    (fold, _) = folds.crossed_parts(speakers, {name: name.split("/")[0] for name in speakers}, seed)
    return fold["validation"]


def test_who_validates_beside_a_corpus_left_out():
    four = {"b/1": "male", "b/2": "male", "b/3": "female", "b/4": "female"}
    assert validation_of(of_genders(four)) == ["b/1", "b/3"]
    assert validation_of({name: Speaker(four[name], (f"b/{name < 'b/3'}",)) for name in four}) == ["b/1", "b/2"]
    assert validation_of(of_genders(dict.fromkeys(four, "male"))) == ["b/1", "b/2"]
    genders = {f"b/{number}": gender for number, gender in enumerate(["male", "female"] * 4)}
    assert {tuple(validation_of(of_genders(genders), seed)) for seed in range(9)} > {("b/0", "b/1")}
    value_of = {name: name.split("/")[0] for name in RAVDESS | EMODB}
    assert folds.crossed_parts(RAVDESS | EMODB, value_of) == folds.crossed_parts(RAVDESS | EMODB, value_of, 0)
    assert folds.crossed_parts(RAVDESS | EMODB, value_of) != folds.crossed_parts(RAVDESS | EMODB, value_of, 1)
    with pytest.raises(
        CorpusError, match="^nobody knows who the speakers of b are: they are trained on and never tes"
    ):
        validation_of({"b/others": Speaker(None)})


def test_one_language_left_out():
    dataset = with_languages(
        make_dataset(RAVDESS | EMODB | IEMOCAP), {"ravdess": "en", "emodb": "de", "iemocap": "en"}
    )
    german, english = get_folds(dataset, "cross-language")
    assert speakers_of(dataset, german.test) == sorted(EMODB)
    # of the next language's first corpus, those who share a session
    assert speakers_of(dataset, german.validation) == ["iemocap/Ses01F", "iemocap/Ses01M"]
    assert speakers_of(dataset, english.test) == sorted({*RAVDESS, *IEMOCAP})
    assert not german.leaky and not english.leaky


def test_nothing_to_leave_out():
    with pytest.raises(
        CorpusError, match="^all speakers are of emodb: to leave one out and train on others takes two or more$"
    ):
        get_folds(make_dataset(EMODB), "cross-corpus")
    dataset = make_dataset(of_genders({"a/1": "male", "a/2": "female"}), repeats=1)
    dataset = dataset.add_column("language", ["en", "en", "en", "de"])
    with pytest.raises(CorpusError, match="^a/2 has more than one language: en and de$"):
        get_folds(dataset, "cross-language")


def test_a_corpus_of_three_cannot_validate():
    few = of_genders({"a/1": "male", "a/2": "female", "a/3": "male", "b/1": "male", "b/2": "female"})
    assert [fold.validation for fold in get_folds(make_dataset(few), "cross-corpus")] == [[], []]


# ---------------------------------------------------------------------------------------------------------------------
# The epoch chosen on the test speakers


def test_the_test_part_validates():
    dataset = make_dataset(RAVDESS)
    honest = get_folds(dataset, "speakers", 12)
    for fold, fair in zip(get_folds(dataset, "test-selected"), honest, strict=True):
        assert fold.test == fold.validation == fair.test
        assert fold.train == sorted([*fair.train, *fair.validation])
        assert fold.leaky and not fair.leaky
