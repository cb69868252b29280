"""Label maps: which classes of a corpus are used, and which are joined.

The maps, the words that name the same emotion or gender, those that say that a gender is not known, and the map that a
corpus takes by default lie in `label_maps.json`. A map says for each emotion that it keeps what it becomes; an emotion
that it does not name, or maps to null, is dropped with its utterances. A key `<corpus>/<emotion>` holds for that
corpus only and wins. Keys may be any word for an emotion that is known here, like "angry" for anger, in upper or lower
case.
"""

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import yaml

from .schema import CorpusError
from .yaml_files import load_yaml

_DATA = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
LABEL_MAPS = tuple(_DATA["maps"])
_WORDS = {
    kind: {word: name for name, words in names.items() for word in [name, *words]}
    for kind, names in _DATA["aliases"].items()
}
NO_GENDER = frozenset(_DATA["no_gender"])  # what cells hold where nobody knows the gender


class LabelMap(NamedTuple):
    """`emotions`: emotion, or `<corpus>/<emotion>`, to the class that it becomes, or None where it is dropped."""

    name: str
    rule: str  # in words
    emotions: Mapping[str, str | None]


def canonical(kind: str, word: str) -> str:
    """The canonical name for a corpus's word, as it is where nobody knows it.

    Args:
        kind: "emotion" or "gender".
        word: in any case, like "boredem", "Angry" or "F", with accents in either form of Unicode.
    """
    name = unicodedata.normalize("NFC", word).strip()  # names of folders come decomposed from macOS
    return _WORDS[kind].get(name.casefold(), name)


def gender_of(word: str | None) -> str | None:
    """The canonical name of a gender's word; None for none and for words like "n/a"."""
    name = canonical("gender", word or "")
    return None if name.casefold() in NO_GENDER else name


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """name -> the spelling that stands for all that differ in case alone: the one in lower case, if there is one."""
    names = sorted(set(names))  # upper case comes first, and the last one wins
    spelling = {name.casefold(): name for name in names}
    return {name: spelling[name.casefold()] for name in names}


def find_label_map(name: str | os.PathLike) -> LabelMap:
    """One of `LABEL_MAPS`, or a user's own file.

    Args:
        name: the map's name, or the path of a JSON or YAML file that maps emotions to classes.

    Raises:
        CorpusError: there is neither such a map nor such a file, or the file holds something else.
    """
    if name in LABEL_MAPS:
        return LabelMap(name, **_DATA["maps"][name])
    path = os.path.expanduser(name)
    if not os.path.isfile(path):
        raise CorpusError(f"label map {str(name)!r} is neither a file nor one of {', '.join(LABEL_MAPS)}")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        emotions = json.loads(text) if path.lower().endswith(".json") else load_yaml(text)
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise CorpusError(f"label map {path} cannot be read: {error}") from error
    is_map = isinstance(emotions, dict) and any(emotions.values())
    words = [*emotions, *(word for word in emotions.values() if word is not None)] if is_map else []
    # YAML reads some words without quotes as other things: `no` as false.
    if not is_map or not all(isinstance(word, str) and word and word == word.strip() for word in words):
        raise CorpusError(f"label map {path} must map emotions to classes (or null), one a line, like `calm: neutral`")
    spelling = one_spelling(name for name in emotions.values() if name)
    emotions = {word: name and spelling[name] for word, name in emotions.items()}
    return LabelMap(os.path.basename(path), "the user's own file", emotions)


def default_label_map(corpora: Iterable[str]) -> LabelMap | None:
    """The map that a corpus is used under where none is asked for; None where its own labels are.

    Raises:
        CorpusError: there are several corpora, which share labels under a map only.
    """
    corpora = list(corpora)
    if len(corpora) > 1:
        raise CorpusError(
            f"{' and '.join(corpora)} together need a label map: --label_map with one of {', '.join(LABEL_MAPS)}, "
            "or a file of your own"
        )
    name = _DATA["defaults"].get(corpora[0])
    return find_label_map(name) if name else None


def emotion_counts(dataset: datasets.Dataset) -> dict[str, dict[str, int]]:
    """corpus -> emotion -> number of utterances, for every emotion of the label set."""
    names = dataset.features["emotion"].names
    counts = Counter(zip(dataset["corpus"][:], dataset["emotion"]))
    return {
        corpus: {name: counts[corpus, index] for index, name in enumerate(names)}
        for corpus in sorted(set(dataset["corpus"][:]))
    }


def classes_under(label_map: LabelMap | None, dataset: datasets.Dataset) -> dict[str, str | None]:
    """Emotion of a corpus's own label set -> class under the map, None where it is dropped.

    Args:
        label_map: the map; without one every emotion is its own class.
        dataset: rows of `schema.py`, of one corpus.

    Raises:
        CorpusError: the map keeps nothing, or gives one emotion two classes.
    """
    corpus, emotions = dataset["corpus"][0], dataset.features["emotion"].names
    if label_map is None:
        return {name: name for name in emotions}

    prefix, special, general = f"{corpus}/", {}, {}
    for word in label_map.emotions:
        words = special if word.startswith(prefix) else general
        other = words.setdefault(canonical("emotion", word.removeprefix(prefix)).casefold(), word)
        if label_map.emotions[other] != label_map.emotions[word]:
            raise CorpusError(
                f"label map {label_map.name} gives one emotion two classes: "
                f"{other}: {label_map.emotions[other] or 'null'} and {word}: {label_map.emotions[word] or 'null'}; "
                "leave one of them out"
            )
    class_of = {emotion: label_map.emotions[word] for emotion, word in (general | special).items()}
    classes = {name: class_of.get(canonical("emotion", name).casefold()) for name in emotions}
    if not any(classes.values()):
        raise CorpusError(
            f"label map {label_map.name} keeps nothing of {corpus}, whose emotions are {', '.join(emotions)}; it "
            f"names {', '.join(label_map.emotions)}"
        )
    return classes


def apply_classes(
    dataset: datasets.Dataset, classes: Mapping[str, str | None], names: Sequence[str]
) -> datasets.Dataset:
    """The utterances that are kept, under their classes; the order of the rows stays.

    Args:
        dataset: rows of `schema.py`, of one corpus.
        classes: emotion -> class, from `classes_under`.
        names: every class, of the corpora that go with this one, too, in their order.

    Raises:
        CorpusError: no utterance is kept.
    """
    old, corpus = dataset.features["emotion"].names, dataset["corpus"][0]
    index_of = {emotion: list(names).index(name) if name else None for emotion, name in classes.items()}
    values = [index_of[old[emotion]] for emotion in dataset["emotion"][:]]
    kept = [row for row, value in enumerate(values) if value is not None]
    if not kept:
        raise CorpusError(f"no utterance of {corpus} has one of the emotions that are kept: {', '.join(names)}")
    dataset = with_labels(dataset, "emotion", values, names)  # first: a column is added to whole tables without a copy
    return dataset if len(kept) == len(values) else dataset.select(kept)


def with_labels(
    dataset: datasets.Dataset, column: str, values: Sequence[int | None], names: Sequence[str]
) -> datasets.Dataset:
    """The dataset with other values and names in a ClassLabel column; the order of the columns stays."""
    order = dataset.column_names
    feature = datasets.ClassLabel(names=list(names))
    return dataset.remove_columns(column).add_column(column, list(values), feature=feature).select_columns(order)
