"""Publishing: what is read back from the folder and from a Hub, the card, repeats, and what is refused."""

import hashlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from hub_server import TOKEN, HubServer, Repo

import dataset_scripts
from dataset_scripts import load_corpus, publish
from dataset_scripts.folds import Fold, get_folds
from dataset_scripts.schema import CorpusBuilder

ROOT = Path(__file__).parent.parent


def write_clips(folder: Path, actors=range(1, 7), emotions=("01", "03"), statements=("01", "02")) -> Path:
    """Noise under RAVDESS's names, in two containers; no two clips last equally long."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for actor in actors:
        for emotion in emotions:
            for statement in statements:
                samples = 800 + 100 * actor + 10 * int(emotion) + int(statement)
                suffix = "flac" if actor == 1 else "wav"
                path = folder / f"03-01-{emotion}-01-{statement}-01-{actor:02d}.{suffix}"
                soundfile.write(path, 0.1 * generator.normal(size=samples), 8000 * int(statement))
    return folder


def call(*argv) -> None:
    """The program on these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["publish", *map(str, argv)])
        publish.main()


def refusal(*argv) -> str:
    """The message with which the program ends."""
    with pytest.raises(SystemExit) as ended:
        call(*argv)
    message = ended.value.code
    assert isinstance(message, str) and message.startswith("publish: ")
    return message


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load(path: Path, config: str | None, cache_dir: Path) -> datasets.DatasetDict:
    loaded = datasets.load_dataset(str(path), config, cache_dir=str(cache_dir))
    return loaded.cast_column("audio", datasets.Audio(decode=False))


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory):
    """The table of the corpus, and what load_dataset prepares, go to a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def arguments(clips):
    return "ravdess", "--data_dir", clips, "--num_folds", 3


@pytest.fixture(scope="module")
def published(arguments, tmp_path_factory):
    """A publication in 3 folds of 2 speakers, whose default is fold 1. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("published") / "out"
    call(*arguments, "--fold", 1, "--output_dir", folder)
    return folder


@pytest.fixture(scope="module")
def corpus(clips):
    return load_corpus("ravdess", clips)


# ---------------------------------------------------------------------------------------------------------------------
# Reading back


def test_every_row_comes_back_with_its_bytes(published, corpus, clips, tmp_path):
    parts = load(published, "fold_00", tmp_path)
    rows = sorted((row for part in parts.values() for row in part), key=lambda row: row["utterance_id"])
    assert len(rows) == len(corpus) == 24
    for row, source in zip(rows, corpus):
        audio, original = row.pop("audio"), Path(source.pop("audio")["path"])
        assert row == source
        assert audio == {"bytes": original.read_bytes(), "path": original.name}
    assert {Path(row["path"]).suffix for row in parts["test"]["audio"]} == {".flac", ".wav"}


def test_columns_keep_their_types_and_audio_is_decoded_by_default(published, corpus):
    features = datasets.load_dataset(str(published), "fold_00", split="test").features
    assert features.pop("audio") == datasets.Audio(sampling_rate=16000)
    expected = corpus.features
    assert expected.pop("audio") == datasets.Audio(sampling_rate=16000, decode=False)
    assert features == expected and list(features) == list(expected)
    assert features["emotion"].names[:3] == ["neutral", "calm", "happiness"]


def test_configurations_are_the_folds(published, corpus, tmp_path):
    assert datasets.get_dataset_config_names(str(published)) == ["fold_00", "fold_01", "fold_02"]
    ids = list(corpus["utterance_id"])
    for fold in get_folds(corpus, "speakers", 3):
        parts = load(published, f"fold_{fold.index:02d}", tmp_path)
        assert list(parts) == ["train", "validation", "test"]
        for name, part in parts.items():
            assert sorted(part["utterance_id"]) == [ids[row] for row in getattr(fold, name)]
    assert set(load(published, "fold_01", tmp_path)["test"]["speaker_id"]) == {"ravdess/03", "ravdess/04"}


def test_the_fold_asked_for_is_the_default(published, tmp_path):
    assert set(load(published, None, tmp_path)["test"]["speaker_id"]) == {"ravdess/03", "ravdess/04"}


def test_rows_are_stored_once_and_sorted(published, corpus):
    shards = sorted(published.glob("data/*"))
    assert [path.name for path in shards] == [f"group_{index:02d}-00000-of-00001.parquet" for index in range(3)]
    tables = [datasets.Dataset.from_parquet(str(path))["utterance_id"][:] for path in shards]
    assert all(table == sorted(table) for table in tables)
    assert sorted(name for table in tables for name in table) == list(corpus["utterance_id"])


def test_all_rows_can_be_read_at_once(published, corpus):
    rows = datasets.load_dataset(str(published), data_files="data/*.parquet", split="train")
    assert sorted(rows["utterance_id"]) == list(corpus["utterance_id"])


def test_large_groups_are_cut_into_shards(arguments, corpus, tmp_path, monkeypatch, capsys):
    sizes = [os.path.getsize(audio["path"]) for audio in corpus["audio"]]
    monkeypatch.setattr(publish, "MAX_SHARD_BYTES", 3 * max(sizes))
    call(*arguments, "--output_dir", tmp_path / "out")
    names = [path.name for path in sorted((tmp_path / "out/data").iterdir())]
    assert "group_01-00002-of-00003.parquet" in names and len(names) > 6
    assert capsys.readouterr().out.count(" utterances, ") == len(names)
    parts = load(tmp_path / "out", "fold_02", tmp_path)
    assert sorted(name for part in parts.values() for name in part["utterance_id"]) == list(corpus["utterance_id"])


def test_groups_keep_dialogue_partners_apart():
    # Speakers a b | c d | e f share sessions; row 2k and 2k + 1 are those of speaker k. The partner leaves the fold.
    folds = []
    for test in range(6):
        partner, pair = test ^ 1, [(test // 2 * 2 + 2) % 6, (test // 2 * 2 + 3) % 6]
        train = [speaker for speaker in range(6) if speaker not in (test, partner, *pair)]
        rows = [[2 * k + i for k in sorted(part) for i in range(2)] for part in (train, pair, [test])]
        folds.append(Fold(test, *rows, protocol="loso"))
    groups = publish.row_groups(folds, 12)
    assert [rows for rows, _ in groups] == [[2 * k, 2 * k + 1] for k in range(6)]
    assert groups[0][1] == ["test", None, "train", "train", "validation", "validation"]
    assert groups[1][1] == [None, "test", "train", "train", "validation", "validation"]


def test_groups_that_no_fold_tests_come_last():
    folds = [Fold(0, [0, 1], [], [3], "speakers"), Fold(1, [0, 3], [], [1], "speakers")]
    assert publish.row_groups(folds, 4) == [
        ([3], ["test", "train"]),
        ([1], ["train", "test"]),
        ([0], ["train", "train"]),
        ([2], [None, None]),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# The card

TOY_DOCSTRING = """Toy: a corpus of beeps.

Provenance: a generator of noise, in a
room without windows.
Licence: ask for it.
How to obtain: beep.

Names are letters.

Oddities: none.
"""


class ToyBuilder(CorpusBuilder):
    """Files named SPEAKER_EMOTION_NUMBER; capital letters are women."""

    corpus = "toy"
    language = "de"
    emotions = ("neutral", "anger")
    license = "on request"
    redistributable = False
    citation = "A. Nobody, Beeps, 1999"
    homepage = "https://example.org/toy"
    how_to_obtain = "Beep."
    name_pattern = "SPEAKER_EMOTION_NUMBER"
    expected_counts = {"neutral": 10, "anger": 10}

    @staticmethod
    def parse(path):
        speaker, letter, _ = path.stem.split("_")
        emotion = {"N": "neutral", "A": "anger"}[letter]
        gender = "female" if speaker.isupper() else "male"
        return {"speaker": speaker, "gender": gender, "emotion": emotion, "source_label": letter}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Arguments that name a corpus of five clips of four speakers, which may not be passed on."""
    module = types.ModuleType("dataset_scripts.toy", TOY_DOCSTRING)
    module.ToyBuilder = ToyBuilder
    monkeypatch.setattr(ToyBuilder, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(dataset_scripts.CORPORA, "toy", "toy.ToyBuilder")
    folder = tmp_path / "toy"
    folder.mkdir()
    for seconds, stem in enumerate(("A_A_1", "B_N_1", "a_N_1", "a_N_2", "b_A_1"), start=1):
        soundfile.write(folder / f"{stem}.wav", np.full(1000 * seconds, 0.1), 1000)
    return "toy", "--data_dir", folder, "--num_folds", 2


CARD = """---
language:
- de
license: other
size_categories: n<1K
task_categories:
- audio-classification
pretty_name: Toy
tags:
- audio
- speech
- speech-emotion-recognition
- toy
license_name: toy-license
license_link: https://example.org/toy
configs:
- config_name: fold_00
  data_files:
  - split: train
    path:
    - data/group_01-*.parquet
  - split: test
    path:
    - data/group_00-*.parquet
  default: true
- config_name: fold_01
  data_files:
  - split: train
    path:
    - data/group_00-*.parquet
  - split: test
    path:
    - data/group_01-*.parquet
---

> **The licence of toy does not let others pass it on. Keep this repository private.**

> This is a part of the corpus: 5 of 20 utterances. Figures on a part are not figures on the corpus.

# Toy: a corpus of beeps.

5 utterances of 4 speakers (2 female, 2 male), 0.00 hours.
Languages (utterances): de (5).
Duration of an utterance in seconds: shortest 1.00, 5 % 1.20, 25 % 2.00, median 3.00, 75 % 4.00, 95 % 4.80, \
longest 5.00; mean 3.00.

The audio is as it lay in the copy that this was made from, byte for byte. Labels are mapped to common English names; \
`source_label` keeps the corpus's own word.

## Use

```python
from datasets import load_dataset

fold = load_dataset("path/to/this/folder", "fold_00")  # train, test
audio = fold["test"][0]["audio"]  # decoded to 16 kHz by torchcodec
```

Without torchcodec, with any decoder of your own:

```python
import io

import soundfile
from datasets import Audio

fold = fold.cast_column("audio", Audio(decode=False))
waveform, sampling_rate = soundfile.read(io.BytesIO(fold["test"][0]["audio"]["bytes"]))
```

All rows, for folds of your own: `load_dataset("path/to/this/folder", data_files="data/*.parquet", split="train")`.

| column | what |
| --- | --- |
| `utterance_id` | corpus and utterance; unique, also among corpora |
| `audio` | the audio file: its content and its name |
| `corpus`, `language` | name; ISO 639-1 |
| `speaker_id`, `session_id` | corpus and speaker; the recording session, where the corpus has any |
| `gender` | of the speaker, as the corpus states it; null where it does not |
| `emotion`, `source_label` | the label; the corpus's own word or code for it |
| `text_id` | which sentence is spoken, where the corpus says so |
| `duration_s` | seconds |

## Folds

2 folds, protocol `speakers`, seed 0; `fold_00` is loaded where none is named. No speaker is in the test part of a \
fold and in its training or validation part. Report figures over all folds, not over one. 5 of 5 utterances are \
tested, each in one fold. Rows are stored once and sorted by `utterance_id` within a file; the folds list the same \
files under different parts.

| fold    | train           | validation | test                 |
| ------- | --------------- | ---------- | -------------------- |
| fold_00 | 2 of 2 speakers | –          | 3 of 2 speakers: A a |
| fold_01 | 3 of 2 speakers | –          | 2 of 2 speakers: B b |

## What is in it

| emotion | the corpus's word | utterances | female | male | minutes | median (s) |
| ------- | ----------------- | ---------- | ------ | ---- | ------- | ---------- |
| neutral | N                 | 3          | 1      | 2    | 0.1     | 3.00       |
| anger   | A                 | 2          | 1      | 1    | 0.1     | 3.00       |
| all     |                   | 5          | 2      | 3    | 0.2     | 3.00       |

| speaker | gender           | neutral | anger | all | minutes |
| ------- | ---------------- | ------- | ----- | --- | ------- |
| A       | female           | 0       | 1     | 1   | 0.0     |
| B       | female           | 1       | 0     | 1   | 0.0     |
| a       | male             | 2       | 0     | 2   | 0.1     |
| b       | male             | 0       | 1     | 1   | 0.1     |
| all     | 2 female, 2 male | 3       | 2     | 5   | 0.2     |

## About the corpus

**Provenance.** a generator of noise, in a
room without windows.

**Licence.** ask for it.

**How to obtain.** beep.

Names are letters.

**Oddities.** none.

Home page: https://example.org/toy

## Licence

on request. It binds whoever uses these files.

## Citation

> A. Nobody, Beeps, 1999

## How this was made

By CAMuLeNet:

```bash
python -m dataset_scripts.publish toy --protocol speakers --num_folds 2 --split_seed 0 --data_dir DIR --output_dir OUT
```
"""


def test_the_whole_card(toy, tmp_path):
    call(*toy, "--output_dir", tmp_path / "out")
    assert (tmp_path / "out/README.md").read_text(encoding="utf-8") == CARD


def test_the_card_says_that_folds_leak(arguments, tmp_path):
    call(*arguments, "--protocol", "random", "--output_dir", tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "> Warning: these folds share speakers between training and test." in card
    assert "No speaker is in" not in card


def test_the_card_names_label_map_and_command(arguments, tmp_path):
    call(*arguments, "--label_map", "common-4", "--split_seed", 5, "--output_dir", tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Label map `common-4`: The four classes of nearly every corpus" in card
    assert "It leaves out 0 utterances." in card
    assert (
        "\npython -m dataset_scripts.publish ravdess --label_map common-4 --protocol speakers --num_folds 3 "
        "--split_seed 5 --data_dir DIR --output_dir OUT\n"
    ) in card
    assert list(load(tmp_path, "fold_00", tmp_path / "cache")["train"].features["emotion"].names) == [
        *("neutral", "happiness", "sadness", "anger")
    ]


def test_the_card_of_a_licence_that_the_hub_knows(published):
    data = publish.DatasetCard.load(published / "README.md").data
    assert (data.license, data.pretty_name, data.language) == ("cc-by-nc-sa-4.0", "RAVDESS", ["en"])
    assert "license_name" not in data.to_dict()


# ---------------------------------------------------------------------------------------------------------------------
# Repeats and refusals


def test_the_same_call_gives_the_same_files(arguments, published, tmp_path):
    call(*arguments, "--fold", 1, "--output_dir", tmp_path)
    assert files_of(tmp_path) == files_of(published)
    call(*arguments, "--fold", 1, "--output_dir", tmp_path)
    assert files_of(tmp_path) == files_of(published)


def test_an_interrupted_call_can_be_repeated(arguments, published, tmp_path, monkeypatch):
    call(*arguments, "--output_dir", tmp_path)  # an earlier publication of which the card must not stay
    written = []

    def fail_at_the_second(dataset, path):
        if written:
            Path(path).write_bytes(b"half a file")
            raise KeyboardInterrupt
        written.append(path)
        return to_parquet(dataset, path)

    to_parquet = datasets.Dataset.to_parquet
    monkeypatch.setattr(datasets.Dataset, "to_parquet", fail_at_the_second)
    (tmp_path / "data/group_07-00000-of-00001.parquet").write_bytes(b"of other folds")
    with pytest.raises(KeyboardInterrupt):
        call(*arguments, "--fold", 1, "--output_dir", tmp_path)
    assert not (tmp_path / "README.md").exists()
    there, complete = files_of(tmp_path), files_of(published)
    assert b"half a file" in there.values()
    assert all(content == complete[name] for name, content in there.items() if name.startswith("data/group_00"))

    monkeypatch.undo()
    call(*arguments, "--fold", 1, "--output_dir", tmp_path)
    assert files_of(tmp_path) == complete


def test_a_call_killed_at_its_start_can_be_repeated(arguments, tmp_path):
    (tmp_path / ".publish.json.tmp").write_text("{")
    call(*arguments, "--output_dir", tmp_path)
    assert json.loads((tmp_path / "publish.json").read_text(encoding="utf-8")) == {
        "corpus": "ravdess",
        "config_name": None,
        "label_map": None,
        "protocol": "speakers",
        "num_folds": 3,
        "split_seed": 0,
    }


def test_a_folder_that_holds_something_else_is_refused(arguments, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    message = refusal(*arguments, "--output_dir", tmp_path)
    assert f"{tmp_path} holds README.md and no publish.json" in message
    assert files_of(tmp_path) == {"README.md": b"mine"}


def test_a_folder_with_another_publication_is_refused(arguments, published):
    before = files_of(published)
    message = refusal(*arguments, "--split_seed", 1, "--output_dir", published)
    assert f"{published} holds another publication (split_seed 0 there, 1 now)" in message
    assert files_of(published) == before


def test_an_audio_file_that_has_gone_is_named(corpus, tmp_path):
    gone = corpus.map(lambda row: {"audio": {"bytes": None, "path": f"{row['audio']['path']}.gone"}})
    folds = get_folds(gone, "speakers", 3)
    with pytest.raises(FileNotFoundError, match=r"03-01-01-01-01-01-01\.flac\.gone"):
        publish.write_parquet(tmp_path, gone, folds)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--push_to_hub", "ravdess"), "give namespace/name"),
        (("--push_to_hub", "a/b/c"), "a/b/c"),
        (("--fold", 3), "--fold 3: there are folds 0 to 2"),
        (("--fold", -1), "--fold -1: there are folds 0 to 2"),
        (("--protocol", "sessions"), "no sessions that speakers share"),
        (("--config_name", "listeners"), "no configuration 'listeners'"),
        (("--label_map", "nowhere.json"), "nowhere.json"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(arguments, tmp_path, more, message):
    if "--protocol" in more:
        arguments = arguments[:-2]
    assert message in refusal(*arguments, *more, "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_flags_of_the_push_want_a_push(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        call(*arguments, "--private", "--output_dir", tmp_path / "out")
    assert "--private and --token go with --push_to_hub" in capsys.readouterr().err


def test_a_licence_that_forbids_it_is_not_pushed(toy, tmp_path):
    message = refusal(*toy, "--push_to_hub", "me/toy", "--output_dir", tmp_path / "out")
    assert "the licence of toy (on request) does not let others pass it on" in message and "--private" in message
    assert not (tmp_path / "out").exists()


def test_the_corpora_that_may_not_be_passed_on():
    forbidden = {name for name in dataset_scripts.CORPORA if not dataset_scripts.builder_class(name).redistributable}
    assert forbidden == {"iemocap", "bhavvani"}


# ---------------------------------------------------------------------------------------------------------------------
# The Hub

PUSHES = """
import json, sys
from dataset_scripts import publish
outcomes = []
for argv in json.loads(sys.argv[1]):
    sys.argv = ["publish", *argv]
    try:
        publish.main()
    except SystemExit as end:
        outcomes.append(end.code)
    else:
        outcomes.append("pushed")
json.dump(outcomes, open("outcomes.json", "w"))
"""
# Reads with `datasets` alone; writes a line for each row.
READ = """
import hashlib, json, sys
from datasets import Audio, load_dataset
repo_id, revision = sys.argv[1:]
with open("rows.jsonl", "w") as file:
    parts = load_dataset(repo_id, "fold_00", revision=revision)
    for name, part in parts.cast_column("audio", Audio(decode=False)).items():
        for row in part:
            audio = row.pop("audio")
            row |= {"part": name, "path": audio["path"], "sha256": hashlib.sha256(audio["bytes"]).hexdigest()}
            print(json.dumps(row), file=file)
assert not any(name.startswith("dataset_scripts") for name in sys.modules)
"""


@pytest.fixture
def run(tmp_path):
    """Runs Python code against a Hub, in a folder of its own that holds what it leaves."""

    def run(hub, code, *argv, **environment):
        variables = {**os.environ, **hub.environment(tmp_path / "hub"), **environment}
        return subprocess.run(
            [sys.executable, "-c", code, *argv],
            env=variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def read(run, hub, folder, *argv) -> list[dict]:
    """The rows of a dataset of the Hub, read by a process of its own."""
    finished = run(hub, READ, *argv)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_what_is_pushed_loads_from_the_hub(arguments, corpus, published, tmp_path, run):
    def argv(folder, repo_id, *more):
        return [*map(str, arguments), "--output_dir", str(tmp_path / folder), "--push_to_hub", repo_id, *more]

    with HubServer() as hub:
        hub.repos["dataset", "me/mine"] = mine = Repo(private=True)
        mine.files["train.csv"] = b"precious"
        hub.repos["dataset", "me/old"] = old = Repo(private=False)
        old.files |= {"publish.json": (published / "publish.json").read_bytes(), "notes.txt": b"kept"}
        old.files |= {"data/group_00-00001-of-00002.parquet": b"of a longer group"}
        hub.refuse_commits = 1
        token = ("--token", TOKEN)
        calls = [
            argv("out", "me/corpus", "--private", *token),  # its commit is refused
            argv("out", "me/corpus", "--private", *token),
            argv("out", "me/corpus", "--private", *token),
            argv("public", "me/old", *token),
            argv("public", "me/old", "--private", *token),
            argv("mine", "me/mine", *token),
            argv("other", "me/corpus", "--split_seed", "1", *token),
            argv("mine", "me/new"),
        ]
        finished = run(hub, PUSHES, json.dumps(calls), HF_TOKEN="", PYTHONPATH=str(ROOT))
        assert finished.returncode == 0, finished.stderr
        refused, *pushed, public, foreign, other, anonymous = json.loads((tmp_path / "outcomes.json").read_text())
        assert "no commits today" in refused and "Repeat the command" in refused
        assert pushed == ["pushed", "pushed", "pushed"]
        assert f"{hub.url}/datasets/me/old is there already and is public: nothing was sent" in public
        assert "me/mine holds train.csv and no publish.json" in foreign
        assert "me/corpus holds another publication (split_seed 0 there, 1 now)" in other
        assert "401" in anonymous

        repo = hub.repos["dataset", "me/corpus"]
        assert repo.private and repo.commits == ["ravdess: 3 folds, protocol speakers"]
        assert repo.files == {".gitattributes": b"", **files_of(tmp_path / "out")}
        assert b'load_dataset("me/corpus", "fold_00")' in repo.files["README.md"]
        assert hub.uploads == 3  # each file once, though it was the second call that committed it
        assert not old.private and len(old.commits) == 1
        assert set(old.files) == {".gitattributes", "notes.txt", *files_of(tmp_path / "public")}
        assert set(mine.files) == {".gitattributes", "train.csv"}
        assert ("dataset", "me/new") not in hub.repos

        rows = read(run, hub, tmp_path, "me/corpus", "main")
    assert {row["part"] for row in rows} == {"train", "validation", "test"}
    for row, source in zip(sorted(rows, key=lambda row: row["utterance_id"]), corpus, strict=True):
        original = Path(source.pop("audio")["path"])
        source |= {"path": original.name, "sha256": hashlib.sha256(original.read_bytes()).hexdigest()}
        assert row == {**source, "part": row["part"]}


def test_a_push_that_breaks_off_is_repeated(arguments, corpus, tmp_path, run):
    """A refused token, a server that fails in the middle or is gone; then a file changes under a reader."""
    call = [*map(str, arguments), "--output_dir", str(tmp_path / "out"), "--push_to_hub", "me/corpus", "--token"]
    with HubServer() as hub:
        hub.refuse_uploads, hub.break_uploads = 1, 1
        calls = [[*call, "hf_wrong"], [*call, TOKEN], [*call, TOKEN]]
        finished = run(hub, PUSHES, json.dumps(calls), HF_TOKEN="", PYTHONPATH=str(ROOT))
        assert finished.returncode == 0, finished.stderr
        wrong, failed, last = json.loads((tmp_path / "outcomes.json").read_text())
        assert wrong.startswith("publish: me/corpus was not pushed: ") and "401" in wrong
        assert failed.startswith("publish: me/corpus was not pushed: ") and "no large files today" in failed
        assert all(
            f"The files in {tmp_path / 'out'} are complete. Repeat the command" in text for text in (wrong, failed)
        )
        assert last == "pushed"
        # The client itself began again with the file that was cut off; each is there once, in the one commit.
        assert (hub.refuse_uploads, hub.break_uploads, hub.uploads) == (0, 0, 3)
        repo = hub.repos["dataset", "me/corpus"]
        assert len(repo.commits) == 1 and repo.files == {".gitattributes": b"", **files_of(tmp_path / "out")}
        for token in (TOKEN, "hf_wrong"):
            assert token not in finished.stdout + finished.stderr + wrong + failed
            assert [name for name, content in files_of(tmp_path / "out").items() if token.encode() in content] == []

        first, names = repo.revision, sorted(name for name in repo.files if name.endswith(".parquet"))
        rows = read(run, hub, tmp_path, "me/corpus", first)
        assert len(rows) == len(corpus)
        # In a new commit, and behind the back of the one that was read.
        changed = {names[0]: repo.files[names[1]]}
        repo.commit("the test part is another one", changed)
        repo.history[first] |= changed
        assert read(run, hub, tmp_path, "me/corpus", first) == rows
        newest = read(run, hub, tmp_path, "me/corpus", "main")
        tested = {row["speaker_id"] for row in newest if row["part"] == "test"}
        assert tested and tested.isdisjoint(row["speaker_id"] for row in rows if row["part"] == "test")

    finished = run(hub, PUSHES, json.dumps([[*call, TOKEN]]), PYTHONPATH=str(ROOT))
    (gone,) = json.loads((tmp_path / "outcomes.json").read_text())
    assert gone.startswith("publish: me/corpus was not pushed: ") and "Repeat the command" in gone
