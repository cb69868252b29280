"""Corpora of emotional speech as `datasets.Dataset`s of one row schema; see `schema.py` for its columns."""

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import datasets

from .label_maps import (
    LABEL_MAPS,
    LabelMap,
    apply_classes,
    classes_under,
    default_label_map,
    emotion_counts,
    find_label_map,
    with_labels,
)
from .schema import EMOTIONS, GENDERS, CorpusBuilder, CorpusError, in_order, listed, undecodable_rows

__all__ = [
    "CORPORA",
    "EMOTIONS",
    "GENDERS",
    "LABEL_MAPS",
    "CorpusError",
    "LoadedCorpora",
    "builder_class",
    "load_by_arguments",
    "load_corpora",
    "load_corpus",
    "merge_corpora",
]

# name -> module and builder class; imported when asked for
CORPORA = {
    "iemocap": "iemocap.IemocapBuilder",
    "ravdess": "ravdess.RavdessBuilder",
    "crema_d": "crema_d.CremaDBuilder",
    "emodb": "emodb.EmodbBuilder",
    "cafe": "cafe.CafeBuilder",
    "bhavvani": "bhavvani.BhavvaniBuilder",
    "own": "own_corpus.OwnCorpusBuilder",
    "demo": "demo.DemoBuilder",
}


class LoadedCorpora(NamedTuple):
    """One or several corpora under one set of labels.

    `counts_before` and `counts_after` give corpus -> emotion -> utterances around the label map; `left_out_files` are
    those that could not be used, with the reason.
    """

    dataset: datasets.Dataset
    label_map: LabelMap | None
    counts_before: dict[str, dict[str, int]]
    counts_after: dict[str, dict[str, int]]
    left_out_files: list[str]


def builder_class(name: str) -> type[CorpusBuilder]:
    """The builder of a corpus.

    Raises:
        CorpusError: the name is unknown.
    """
    if name not in CORPORA:
        raise CorpusError(f"unknown corpus {name!r}; known are {', '.join(CORPORA)}")
    module, class_name = CORPORA[name].split(".")
    return getattr(importlib.import_module(f".{module}", __name__), class_name)


def load_corpus(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    config_name: str | None = None,
    label_map: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    **options,
) -> datasets.Dataset:
    """Load a corpus as a validated dataset, rows sorted by utterance_id.

    Args:
        name: one of `CORPORA`.
        data_dir: folder that holds the corpus, its root or a parent of it; none for "demo".
        config_name: which set of labels, for a corpus that has several ("listeners" of crema_d).
        label_map: one of `LABEL_MAPS` or a file of one's own; the corpus's usual classes by default.
        cache_dir: where `datasets` keeps the prepared table; its usual cache by default.
        options: fields of `own_corpus.OwnCorpusConfig`, for the corpus "own".

    Raises:
        CorpusError: the name is unknown, or the files cannot be used (see `schema.CorpusBuilder`).
    """
    return load_corpora(
        [name], [data_dir], config_name=config_name, label_map=label_map, cache_dir=cache_dir, **options
    ).dataset


def load_corpora(
    names: Sequence[str],
    data_dirs: Sequence[str | os.PathLike | None] = (),
    *,
    config_name: str | None = None,
    label_map: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    skip_bad_files: bool = False,
    **options,
) -> LoadedCorpora:
    """Load one corpus or several under one label map; the other arguments are those of `load_corpus`.

    Args:
        names: some of `CORPORA`.
        data_dirs: a folder for each corpus that needs one, in the same order.
        config_name: goes to the corpora that have such a configuration.
        skip_bad_files: go on without the files that cannot be used. It reads all audio to find them.

    Raises:
        CorpusError: no name is given, or one is unknown or comes twice, folders and corpora do not match in number,
            several corpora come without a label map, or files cannot be used.
    """
    builders = [builder_class(name) for name in names]
    if not builders:
        raise CorpusError(f"no corpus is named; known are {', '.join(CORPORA)}")
    if len(set(names)) < len(names):
        raise CorpusError(f"a corpus comes twice: {' '.join(names)}")
    data_dirs = [folder for folder in data_dirs if folder is not None]
    needing = [builder for builder in builders if builder.needs_data_dir]
    if len(data_dirs) != len(needing) and (len(builders) > 1 or data_dirs and needing):
        raise CorpusError(
            f"{len(needing)} corpora need a data_dir each ({' '.join(builder.corpus for builder in needing)}), in "
            f"this order; got {len(data_dirs)}"
        )
    with_config = [builder for builder in builders if config_name in [each.name for each in builder.BUILDER_CONFIGS]]
    folders = iter(data_dirs)
    raw, left_out = [], []
    for builder in builders:
        prepared = builder(
            # What is left over is one folder too many: the builder refuses it in its own words.
            data_dir=next(folders, None) if builder.needs_data_dir or len(builders) == 1 else None,
            cache_dir=cache_dir,
            skip_bad_files=skip_bad_files,
            config_name=config_name if builder in with_config or not with_config else None,
            **(options if builder.corpus == "own" else {}),
        )
        prepared.download_and_prepare()
        raw.append(prepared.as_dataset(split="train"))
        left_out += prepared.left_out_files
    return merge_corpora(raw, label_map, skip_bad_files=skip_bad_files, left_out_files=left_out)


def load_by_arguments(
    arguments: Mapping,
    data_dirs: Sequence[str | os.PathLike] = (),
    *,
    cache_dir: str | os.PathLike | None = None,
    token: str | None = None,
) -> LoadedCorpora:
    """Load what a run is about.

    Args:
        arguments: run_ser.py's data arguments, or all of them as a run's arguments.json keeps them.
        data_dirs: a folder for each corpus that needs one, in the same order.
        cache_dir: where `datasets` keeps the prepared table; its usual cache by default.
        token: for a dataset of the Hub.

    Raises:
        CorpusError: as of `load_corpora`.
    """
    from .own_corpus import COLUMNS, load_dataset_rows

    columns = {kind: arguments[f"{kind}_column_name"] for kind in COLUMNS}
    own = {
        "corpus_name": arguments["corpus_name"],
        "language": arguments["language"],
        "columns": {kind: name for kind, name in columns.items() if name},
    }
    label_map, skip_bad_files = arguments["label_map"], arguments["skip_bad_files"]
    if arguments["dataset_name"]:
        rows, left_out = load_dataset_rows(
            arguments["dataset_name"],
            arguments["dataset_config_name"],
            cache_dir=cache_dir,
            token=token,
            skip_bad_files=skip_bad_files,
            **own,
        )
        return merge_corpora([rows], label_map, skip_bad_files=skip_bad_files, left_out_files=left_out)
    return load_corpora(
        arguments["corpus"],
        data_dirs,
        config_name=arguments["dataset_config_name"],
        label_map=label_map,
        cache_dir=cache_dir,
        skip_bad_files=skip_bad_files,
        file_pattern=arguments["file_pattern"],
        **own,
    )


def merge_corpora(
    corpora: Sequence[datasets.Dataset],
    label_map: str | os.PathLike | None = None,
    *,
    skip_bad_files: bool = False,
    left_out_files: Sequence[str] = (),
) -> LoadedCorpora:
    """Put datasets of one corpus each under one label map, one after the other.

    Args:
        corpora: rows of `schema.py` with the corpus's own labels.
        label_map: see `load_corpus`.
        skip_bad_files: decode all audio and go on without what cannot be decoded.
        left_out_files: what was left out before.

    Raises:
        CorpusError: two corpora have one name; there are several and no label map; or nothing is left of one, of which
            no audio can be decoded or which the map drops altogether.
    """
    names = [dataset["corpus"][0] for dataset in corpora]
    if len(set(names)) < len(names):
        raise CorpusError(f"two corpora of one name: {' '.join(names)}; give your own another corpus_name")
    chosen = find_label_map(label_map) if label_map is not None else default_label_map(names)
    left_out = list(left_out_files)
    if skip_bad_files:
        for index, dataset in enumerate(corpora):
            problems = undecodable_rows(dataset)
            left_out += problems.values()
            if len(problems) == len(dataset):
                raise CorpusError(f"no audio of {names[index]} can be decoded:\n{listed([*problems.values()])}")
            corpora = [*corpora]
            corpora[index] = dataset.select([row for row in range(len(dataset)) if row not in problems])
    before = {corpus: counts for dataset in corpora for corpus, counts in emotion_counts(dataset).items()}
    classes = [classes_under(chosen, dataset) for dataset in corpora]
    emotions = in_order((name for of_corpus in classes for name in of_corpus.values() if name), EMOTIONS)
    genders = in_order((name for dataset in corpora for name in dataset.features["gender"].names), GENDERS)
    mapped = []
    for dataset, of_corpus in zip(corpora, classes):
        old = dataset.features["gender"].names
        if old != genders:
            values = [None if index is None else genders.index(old[index]) for index in dataset["gender"][:]]
            dataset = with_labels(dataset, "gender", values, genders)
        mapped.append(dataset if chosen is None else apply_classes(dataset, of_corpus, emotions))
    dataset = mapped[0] if len(mapped) == 1 else datasets.concatenate_datasets(mapped)
    return LoadedCorpora(dataset, chosen, before, emotion_counts(dataset), left_out)
