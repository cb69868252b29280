"""A corpus as Parquet files with a dataset card, on disk and on the Hub.

    python -m dataset_scripts.publish ravdess --data_dir DIR --output_dir OUT --push_to_hub me/ravdess

    load_dataset("OUT" or "me/ravdess", "fold_03")  # train, validation and test of a fold, without this package

Rows are stored once: utterances that no fold tells apart make a group (with protocol `speakers`, the test speakers of
a fold), a group is a set of Parquet files, and a configuration of the card lists the groups of a fold's parts. The
audio is embedded as it lies in the corpus, byte for byte.

OUT holds `publish.json` (what was published, written first), `data/group_NN-SSSSS-of-SSSSS.parquet` and `README.md`
(the card, written last). Every file appears under its name when it is complete, so a publication that was interrupted
is repeated by the same command.
"""

import argparse
import inspect
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import datasets
import pandas as pd
from datasets.table import embed_table_storage
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from . import CORPORA, LoadedCorpora, builder_class, load_corpora
from .describe import emotion_table, markdown, speaker_table, summary, utterances
from .folds import PARTS, PROTOCOLS, Fold, get_folds
from .label_maps import LabelMap
from .schema import CorpusBuilder, CorpusError

CARD_TEMPLATE = Path(__file__).with_name("templates") / "dataset_card.md"
CARD = "README.md"
SETTINGS = "publish.json"
SHARDS = "data/group_*.parquet"
TEMPORARY = "data/.group_*.tmp"  # left by a process that was killed
MAX_SHARD_BYTES = 100_000_000  # of audio; writing a shard takes several times this in memory
MAX_LISTED_SPEAKERS = 24  # of a part, in the table of folds
# What a push may fail with: huggingface_hub's own errors are OSErrors, those of a large file RuntimeErrors around
# them, and those of a connection its HTTP library's.
HUB_ERRORS = (OSError, RuntimeError, HTTPError, HFValidationError)
SIZE_CATEGORIES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
# Headings within the docstring of a corpus's module.
HEADINGS = ("Provenance", "Licence", "Citation", "How to obtain", "Configurations", "Oddities", "Expected")


# ---------------------------------------------------------------------------------------------------------------------
# Parquet


def row_groups(folds: Sequence[Fold], num_rows: int) -> list[tuple[list[int], list[str | None]]]:
    """Rows that are in the same part of every fold.

    Args:
        folds: from `get_folds`.
        num_rows: number of rows of the dataset.

    Returns:
        For each group its rows, ascending, and its part ("train", "validation", "test" or None for none) in each
        fold. Groups are in the order of the fold that tests them, those that no fold tests last.
    """
    parts = [[None] * len(folds) for _ in range(num_rows)]
    for place, fold in enumerate(folds):
        for part in PARTS:
            for row in getattr(fold, part):
                parts[row][place] = part
    groups = defaultdict(list)
    for row, of_row in enumerate(parts):
        groups[tuple(of_row)].append(row)
    first_test = {of_group: (*of_group, "test").index("test") for of_group in groups}
    return [(groups[of_group], list(of_group)) for of_group in sorted(groups, key=first_test.get)]


def write_parquet(folder: Path, dataset: datasets.Dataset, folds: Sequence[Fold]) -> list[tuple[list, str]]:
    """Write the rows with their audio into `folder/data`, each file atomically, and remove what else lies there.

    Returns:
        For each group its part in every fold and a pattern that its files match, relative to `folder`.

    Raises:
        OSError: an audio file cannot be read, or a file cannot be written.
    """
    # As a Hub user expects it: rows come decoded, unless that is switched off.
    dataset = dataset.cast_column("audio", datasets.Audio(sampling_rate=dataset.features["audio"].sampling_rate))
    groups, written = [], set()
    for index, (rows, parts) in enumerate(row_groups(folds, len(dataset))):
        group, name = dataset.select(rows), f"group_{index:02d}"
        shards = _shards(group)
        for number, shard in enumerate(shards):
            path = folder / "data" / f"{name}-{number:05d}-of-{len(shards):05d}.parquet"
            table = embed_table_storage(group.select(shard).with_format("arrow")[:])
            _appear(path, datasets.Dataset(table).to_parquet)
            written.add(path)
            print(f"{path}: {len(shard)} utterances, {path.stat().st_size / 1e6:.1f} MB", flush=True)
        groups.append((parts, f"data/{name}-*.parquet"))
    for path in {*folder.glob(SHARDS), *folder.glob(TEMPORARY)} - written:
        path.unlink()
    return groups


def _shards(group: datasets.Dataset) -> list[range]:
    """Rows in stretches of at most `MAX_SHARD_BYTES` of audio, or of one row that has more."""
    stretches, start, total = [], 0, 0
    for row, audio in enumerate(group.cast_column("audio", datasets.Audio(decode=False))["audio"]):
        size = os.path.getsize(audio["path"]) if audio["bytes"] is None else len(audio["bytes"])
        if row > start and total + size > MAX_SHARD_BYTES:
            stretches.append(range(start, row))
            start, total = row, 0
        total += size
    return [*stretches, range(start, len(group))]


def _appear(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a file that appears as `path` when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    os.replace(temporary, path)


def _write_text(path: Path, text: str) -> None:
    _appear(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


# ---------------------------------------------------------------------------------------------------------------------
# The card


def dataset_card(
    loaded: LoadedCorpora,
    builder: type[CorpusBuilder],
    folds: Sequence[Fold],
    groups: Sequence[tuple[list, str]],
    settings: Mapping,
    default_fold: int = 0,
    repo_id: str | None = None,
) -> str:
    """README.md with the Hub's metadata.

    Args:
        loaded: what is published, from `load_corpora`.
        builder: the corpus's.
        folds: from `get_folds`.
        groups: from `write_parquet`.
        settings: from `publication_settings`.
        default_fold: the fold that `load_dataset` takes where none is named.
        repo_id: what the examples load, a placeholder by default.
    """
    frame = utterances(loaded.dataset)
    title, _, about = inspect.getdoc(sys.modules[builder.__module__]).partition("\n")
    before = loaded.counts_before[builder.corpus]
    present = sum(before.get(emotion, 0) for emotion in builder.expected_counts)
    complete = sum(builder.expected_counts.values())
    configs = [_config(fold, place, groups, place == default_fold) for place, fold in enumerate(folds)]
    card = DatasetCard.from_template(
        DatasetCardData(
            language=sorted(frame["language"].unique()),
            task_categories=["audio-classification"],
            pretty_name=title.split(":")[0].rstrip("."),
            size_categories=next((name for size, name in SIZE_CATEGORIES.items() if len(frame) < size), "n>1M"),
            tags=["audio", "speech", "speech-emotion-recognition", builder.corpus],
            **_license(builder),
            configs=configs,
        ),
        template_path=str(CARD_TEMPLATE),
        title=title,
        about=_paragraphs(about),
        builder=builder,
        disclaimer=loaded.dataset.info.description,
        # A configuration has other labels, and with them other counts.
        part=f"{present} of {complete}" if present < complete and not settings["config_name"] else None,
        repo_id=repo_id or "path/to/this/folder",
        settings=settings,
        folds=folds,
        default=configs[default_fold]["config_name"],
        splits=", ".join(files["split"] for files in configs[default_fold]["data_files"]),
        leaky=any(fold.leaky for fold in folds),
        tested=f"{sum(len(fold.test) for fold in folds)} of {len(frame)}",
        fold_table=markdown(_fold_table(folds, frame)),
        dropped=sum(before.values()) - len(frame),
        summary=summary(frame),
        emotion_table=markdown(emotion_table(frame)),
        speaker_table=markdown(speaker_table(frame)),
        command=" ".join(_command(settings)),
    )
    return str(card).rstrip() + "\n"


def _command(settings: Mapping) -> list[str]:
    """The words that make the same publication, but for where the corpus lies and where the files go."""
    words = ["python", "-m", "dataset_scripts.publish", settings["corpus"]]
    for name, value in settings.items():
        if name != "corpus" and value is not None:
            words += [f"--{name}", str(value["name"] if name == "label_map" else value)]
    return words


def _config(fold: Fold, place: int, groups: Sequence[tuple[list, str]], default: bool) -> dict:
    """A fold as a configuration of the card's metadata."""
    paths = {part: [pattern for parts, pattern in groups if parts[place] == part] for part in PARTS}
    data_files = [{"split": part, "path": paths[part]} for part in PARTS if paths[part]]
    return {
        "config_name": f"fold_{fold.index:02d}",
        "data_files": data_files,
        **({"default": True} if default else {}),
    }


def _license(builder: type[CorpusBuilder]) -> dict[str, str]:
    """Licence fields of the metadata; where the Hub has no id for it, a name and where to read of it."""
    if builder.license_id != "other":
        return {"license": builder.license_id}
    name = f"{builder.corpus.replace('_', '-')}-license"
    link = {"license_link": builder.homepage} if builder.homepage else {}
    return {"license": "other", "license_name": name, **link}


def _paragraphs(text: str) -> str:
    """The docstring of a corpus's module as Markdown: each of `HEADINGS` begins a paragraph."""
    return (
        re.sub(rf"^({'|'.join(HEADINGS)}): ", r"\n**\1.** ", text, flags=re.MULTILINE)
        .replace("\n\n\n", "\n\n")
        .strip()
    )


def _fold_table(folds: Sequence[Fold], frame: pd.DataFrame) -> list[list[str]]:
    """Cells of the table of folds: utterances of each part, and who speaks in validation and test."""
    rows = [["fold", "train", "validation", "test"]]
    for fold in folds:
        cells = []
        for part in PARTS:
            own = frame.iloc[getattr(fold, part)]
            names = sorted(own["speaker"].unique())
            listed = "" if part == "train" or len(names) > MAX_LISTED_SPEAKERS else f": {' '.join(names)}"
            cells.append(f"{len(own)} of {len(names)} speakers{listed}" if names else "–")
        rows.append([f"fold_{fold.index:02d}", *cells])
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# The folder and the Hub


def publication_settings(
    corpus: str, config_name: str | None, label_map: LabelMap | None, folds: Sequence[Fold], seed: int
) -> dict:
    """All that decides what is published, beside the files of the corpus; the content of publish.json."""
    return {
        "corpus": corpus,
        "config_name": config_name,
        "label_map": label_map and label_map._asdict(),
        "protocol": folds[0].protocol,
        "num_folds": len(folds),
        "split_seed": seed,
    }


def refuse_others(place: str, names: Iterable[str], read_settings: Callable[[], str], settings: Mapping) -> None:
    """Refuse a folder or repository that holds something else than a publication with these settings.

    Args:
        place: its name, for the message.
        names: of the files in it.
        read_settings: gives the text of its publish.json; called if that is among the names.
        settings: from `publication_settings`.

    Raises:
        CorpusError: it does.
    """
    names = sorted(name for name in names if not name.startswith("."))  # .gitattributes; what a killed process left
    if not names:
        return
    if SETTINGS not in names:
        raise CorpusError(
            f"{place} holds {names[0]} and no {SETTINGS}: it was not made by this program; name another place"
        )
    earlier = json.loads(read_settings())
    changes = [
        f"{name} {earlier.get(name)} there, {value} now"
        for name, value in settings.items()
        if earlier.get(name) != value
    ]
    if changes:
        raise CorpusError(f"{place} holds another publication ({'; '.join(changes)}); name another place")


def push(folder: Path, settings: Mapping, repo_id: str, private: bool, token: str | None) -> str:
    """Upload a publication in one commit: readers see the earlier one or this one, never a part.

    Files that a call before brought up already, though it was interrupted, are not sent again.

    Returns:
        URL of the dataset.

    Raises:
        CorpusError: the repository is public but should be private, or holds something else.
    """
    api = HfApi(token=token)
    url = api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
    info = api.repo_info(repo_id, repo_type="dataset")
    if private and not info.private:
        raise CorpusError(f"{url} is there already and is public: nothing was sent; make it private or name another")

    def read_settings() -> str:
        return Path(api.hf_hub_download(repo_id, SETTINGS, repo_type="dataset")).read_text(encoding="utf-8")

    there = [file.rfilename for file in info.siblings]
    refuse_others(str(url), there, read_settings, settings)
    paths = [folder / CARD, folder / SETTINGS, *sorted(folder.glob(SHARDS))]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    stale = [name for name in there if PurePosixPath(name).match(SHARDS) and name not in files]
    # Not upload_folder, which makes several commits of a long upload and the card's the first.
    api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(name, path) for name, path in files.items()),
            *(CommitOperationDelete(name) for name in stale),
        ],
        repo_type="dataset",
        commit_message=f"{settings['corpus']}: {settings['num_folds']} folds, protocol {settings['protocol']}",
    )
    return str(url)


def reason_of(error: Exception) -> str:
    """What one of `HUB_ERRORS` says, in a word: why a large file was not taken stands in the cause of its error."""
    return f"{error} {error.__cause__}" if isinstance(error, RuntimeError) and error.__cause__ else str(error)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dataset_scripts.publish", description=__doc__.split("\n")[0])
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--data_dir", help="folder that holds the corpus")
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="new, or of an earlier call with these settings"
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, default="speakers", help="default: speakers")
    parser.add_argument("--num_folds", type=int, help="default: the corpus's standard")
    parser.add_argument("--fold", type=int, default=0, help="the fold that is loaded where none is named; default: 0")
    parser.add_argument("--split_seed", type=int, default=0, help="of the folds; default: 0")
    parser.add_argument("--label_map", help="map of its emotions to others; see load_corpus")
    parser.add_argument("--config_name", help="variant of the corpus, where it has several")
    parser.add_argument("--push_to_hub", metavar="ID", help="also push it to the dataset namespace/name of the Hub")
    parser.add_argument("--private", action="store_true", help="push to a private repository only")
    parser.add_argument("--token", help="of the Hub; default: the one you are logged in with")
    arguments = parser.parse_args()
    if not arguments.push_to_hub and (arguments.private or arguments.token):
        parser.error("--private and --token go with --push_to_hub")
    try:
        _publish(arguments)
    except (CorpusError, HFValidationError) as error:
        sys.exit(f"publish: {error}")
    except OSError as error:
        sys.exit(f"publish: {error}\nRepeat the command when that is mended.")


def _publish(arguments: argparse.Namespace) -> None:
    """Check, load, write and push; what the arguments say."""
    builder = builder_class(arguments.corpus)
    if arguments.push_to_hub:
        validate_repo_id(arguments.push_to_hub)
        if "/" not in arguments.push_to_hub:
            raise CorpusError(f"--push_to_hub {arguments.push_to_hub}: give namespace/name, as load_dataset wants it")
        if not builder.redistributable and not arguments.private:
            raise CorpusError(
                f"the licence of {arguments.corpus} ({builder.license}) does not let others pass it on; with "
                "--private it goes to a repository that is not public"
            )
    loaded = load_corpora(
        [arguments.corpus], [arguments.data_dir], config_name=arguments.config_name, label_map=arguments.label_map
    )
    folds = get_folds(loaded.dataset, arguments.protocol, arguments.num_folds, arguments.split_seed)
    if not 0 <= arguments.fold < len(folds):
        raise CorpusError(f"--fold {arguments.fold}: there are folds 0 to {len(folds) - 1}")
    settings = publication_settings(
        arguments.corpus, arguments.config_name, loaded.label_map, folds, arguments.split_seed
    )

    folder = arguments.output_dir
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    refuse_others(str(folder), names, lambda: (folder / SETTINGS).read_text(encoding="utf-8"), settings)
    datasets.disable_progress_bars()  # one for every file; what is written is printed instead
    _write_text(folder / SETTINGS, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    (folder / CARD).unlink(missing_ok=True)
    groups = write_parquet(folder, loaded.dataset, folds)
    card = dataset_card(loaded, builder, folds, groups, settings, arguments.fold, arguments.push_to_hub)
    _write_text(folder / CARD, card)
    print(folder / CARD)
    if arguments.push_to_hub:
        try:
            print(push(folder, settings, arguments.push_to_hub, arguments.private, arguments.token))
        except HUB_ERRORS as error:
            raise CorpusError(
                f"{arguments.push_to_hub} was not pushed: {reason_of(error)}\nThe files in {folder} are complete. "
                "Repeat the command when that is mended."
            ) from error


if __name__ == "__main__":
    main()
