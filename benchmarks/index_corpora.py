"""How well and how fast the official files of each corpus are read.

    python benchmarks/index_corpora.py --lists DIR

For every list in DIR (`cafe.csv`, `cremad.csv`, `emodb.csv`, `iemocap.csv`, `ravdess.csv` with the columns path, label
and seconds: the metadata of EmoBox, Ma et al. 2024) it makes the official tree out of silent 16 kHz files of the right
names and lengths, loads the corpus from a cold cache in a process of its own, holds every label against the list, and
prints a table. IEMOCAP's labels lie in text files, which are written in the official format. The files are sparse: the
trees take a few megabytes on disk.
"""

import argparse
import csv
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from dataset_scripts import load_corpus
from dataset_scripts.label_maps import canonical

NAMES = {"cafe": "cafe", "cremad": "crema_d", "emodb": "emodb", "iemocap": "iemocap", "ravdess": "ravdess"}
SAMPLING_RATE = 16000  # Hz


def write_silence(path: Path, seconds: float) -> None:
    """A 16-bit mono WAV file whose samples are a hole in the file."""
    size = 2 * round(seconds * SAMPLING_RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        form = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLING_RATE, 2 * SAMPLING_RATE, 2, 16)
        file.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size))
        file.truncate(44 + size)


def write_tree(rows: list[dict], root: Path) -> None:
    """The files of a list, and IEMOCAP's labels."""
    dialogues = defaultdict(list)
    for row in rows:
        path = PurePosixPath(row["path"])
        write_silence(root / path, float(row["seconds"]))
        if "sentences" in path.parts:
            dialogues[path.parts[0], path.parent.name].append(f"[0.0 - 1.0]\t{path.stem}\t{row['label']}\t[3, 3, 3]\n")
    for (session, dialogue), lines in dialogues.items():
        labels = root / session / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(lines))


def load(corpus: str, data_dir: str, cache_dir: str) -> dict:
    """Load a corpus from a cold cache; what came out and what it cost."""
    start = time.perf_counter()
    dataset = load_corpus(corpus, data_dir, cache_dir=cache_dir)
    seconds = time.perf_counter() - start
    names = dataset.features["emotion"].names
    return {
        "seconds": seconds,
        "emotions": dict(zip(dataset["utterance_id"], [names[index] for index in dataset["emotion"]])),
        "speakers": len(set(dataset["speaker_id"])),
        # Linux counts in kilobytes.
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lists", type=Path, required=True, help="folder of the lists")
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)  # corpus, tree and cache: this process loads
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load(*arguments.load)))
        return
    print("| corpus | listed paths | parsed | labels right | speakers | classes | s, cold | utterances/s | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, corpus in NAMES.items():
        with open(arguments.lists / f"{name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with tempfile.TemporaryDirectory() as folder:
            write_tree(rows, Path(folder, "tree"))
            command = [sys.executable, __file__, "--lists", arguments.lists, "--load", corpus]
            output = subprocess.run(
                [*command, os.path.join(folder, "tree"), os.path.join(folder, "cache")],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        found = json.loads(output.splitlines()[-1])
        listed = {f"{corpus}/{PurePosixPath(row['path']).stem}": row["label"] for row in rows}
        # The benchmark joins excitement to happiness, as the corpus's usual label map does.
        wanted = {key: canonical("emotion", word).replace("excitement", "happiness") for key, word in listed.items()}
        # CaFE's list gives the letter of the French word, which is the middle of the name.
        if corpus == "cafe":
            letters = dict(zip("cdjnpst", ["colère", "dégoût", "joie", "neutre", "peur", "surprise", "tristesse"]))
            wanted = {key: canonical("emotion", letters[word]) for key, word in listed.items()}
        right = sum(found["emotions"].get(key) == label for key, label in wanted.items())
        classes = len(Counter(found["emotions"].values()))
        cells = [corpus, len(rows), len(found["emotions"]), right, found["speakers"], classes]
        cells += [f"{found['seconds']:.1f}", f"{len(rows) / found['seconds']:.0f}", f"{found['peak_mb']:.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
