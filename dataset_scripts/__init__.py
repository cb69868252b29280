"""Corpora of emotional speech as `datasets.Dataset`s of one row schema; see `schema.py` for its columns."""

import importlib
import os

import datasets

from .schema import EMOTIONS, GENDERS, CorpusError

__all__ = ["CORPORA", "EMOTIONS", "GENDERS", "CorpusError", "load_corpus"]

# name (also the module's) -> builder class; imported when asked for
CORPORA = {"ravdess": "RavdessBuilder", "emodb": "EmodbBuilder", "demo": "DemoBuilder"}


def load_corpus(
    name: str, data_dir: str | os.PathLike | None = None, *, cache_dir: str | os.PathLike | None = None
) -> datasets.Dataset:
    """Load a corpus as a validated dataset, rows sorted by utterance_id.

    Args:
        name: one of `CORPORA`.
        data_dir: folder that holds the corpus, its root or a parent of it; none for "demo".
        cache_dir: where `datasets` keeps the prepared table; its usual cache by default.

    Raises:
        CorpusError: the name is unknown, or the files cannot be used (see `schema.CorpusBuilder`).
    """
    if name not in CORPORA:
        raise CorpusError(f"unknown corpus {name!r}; known are {', '.join(CORPORA)}")
    module = importlib.import_module(f".{name}", __name__)
    builder = getattr(module, CORPORA[name])(data_dir=data_dir, cache_dir=cache_dir)
    builder.download_and_prepare()
    return builder.as_dataset(split="train")
