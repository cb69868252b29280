"""A peer without deep learning: openSMILE functionals and a support vector machine, on the project's own folds.

    pip install -e ".[benchmark]"
    python benchmarks/opensmile_svm.py --corpus ravdess --data_dir DIR --protocol speakers --num_folds 12 \
        --feature_set ComParE_2016 --kernel linear --output_dir OUT

One feature vector a clip (ComParE_2016: 6373 functionals, Weninger et al. 2013; eGeMAPSv02: 88, Eyben et al. 2016),
extracted once and kept in OUT. In each fold the features are standardised and the SVM is fitted on the training and
validation speakers together, as nothing is selected on the validation speakers; the test speakers are in neither.
`C` is fixed, or chosen with `--choose_C` by a cross-validation that keeps those fitting speakers apart (UA decides).

OUT gets predictions.csv in the project's format (no gender, no probabilities), results.json and results.md.
openSMILE is free for research and private use only (its licence comes with the package).
"""

import argparse
import platform
import shlex
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import opensmile
import pandas as pd
from datasets.utils import tqdm
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from dataset_scripts import CORPORA, load_corpus
from dataset_scripts.folds import PROTOCOLS, get_folds
from dataset_scripts.schema import read_audio
from ser_protocol.files import write_atomically, write_json
from ser_protocol.metrics.ser_metrics import ser_scores
from ser_protocol.results import build_results, console_table, results_markdown
from ser_protocol.statistics import check_predictions

FEATURE_SETS = ("ComParE_2016", "eGeMAPSv02")
C_CHOICES = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]


def parse_arguments():
    parser = argparse.ArgumentParser(description="openSMILE functionals and an SVM on the project's folds.")
    parser.add_argument("--corpus", required=True, choices=CORPORA)
    parser.add_argument("--data_dir", help="folder that holds the corpus")
    parser.add_argument("--protocol", default="speakers", choices=PROTOCOLS)
    parser.add_argument("--num_folds", type=int, help="default: the corpus's standard")
    parser.add_argument("--seed", type=int, default=0, help="of the folds; the SVM itself draws nothing")
    parser.add_argument("--feature_set", default="ComParE_2016", choices=FEATURE_SETS)
    parser.add_argument("--kernel", default="linear", choices=("linear", "rbf"))
    parser.add_argument("--C", type=float, default=1.0, help="weight of the errors in the SVM")
    parser.add_argument("--choose_C", action="store_true", help=f"choose C of {C_CHOICES} on the fitting speakers")
    parser.add_argument("--note", help="what to know of this copy of the corpus, on top of the results")
    parser.add_argument("--output_dir", required=True, type=Path)
    return parser.parse_args()


def load_features(dataset, feature_set, path):
    """Functionals of all clips, shape (clips, features), from the table at `path` or, with progress, computed."""
    ids = list(dataset["utterance_id"])
    if path.is_file():
        table = pd.read_parquet(path)
        if table.index.tolist() == ids:
            return table.to_numpy()
    smile = opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)
    rows = [smile.process_signal(*read_audio(audio)) for audio in tqdm(dataset["audio"], desc=feature_set)]
    table = pd.concat(rows).set_index(pd.Index(ids, name="utterance_id")).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, table.to_parquet())
    return table.to_numpy()


def fit(features, emotions, speakers, kernel, C, choose_C):
    """Standardise and fit on these clips; the classifier, with `C` chosen on their speakers if asked to."""
    classifier = make_pipeline(StandardScaler(), SVC(kernel=kernel, C=C))
    if choose_C:
        folds = GroupKFold(min(5, len(set(speakers))))
        classifier = GridSearchCV(classifier, {"svc__C": C_CHOICES}, scoring=_ua, cv=folds)
        return classifier.fit(features, emotions, groups=speakers).best_estimator_
    return classifier.fit(features, emotions)


def _ua(classifier, features, emotions):
    return ser_scores(classifier.predict(features), emotions)["ua"]


def predict_folds(dataset, folds, features, arguments):
    """Fit and predict each fold: the predictions table, and one metrics dict a fold."""
    names = dataset.features["emotion"].names
    emotions = np.array([names[emotion] for emotion in dataset["emotion"]])
    speakers, ids = np.array(dataset["speaker_id"]), np.array(dataset["utterance_id"])
    tables, metrics = [], []
    for fold in tqdm(folds, desc="Folds"):
        rows, start = fold.train + fold.validation, time.perf_counter()
        classifier = fit(
            features[rows], emotions[rows], speakers[rows], arguments.kernel, arguments.C, arguments.choose_C
        )
        train_s = time.perf_counter() - start
        tables.append(
            pd.DataFrame(
                {
                    "utterance_id": ids[fold.test],
                    "speaker_id": speakers[fold.test],
                    "fold": fold.index,
                    "emotion": emotions[fold.test],
                    "gender": "",
                    "predicted_emotion": classifier.predict(features[fold.test]),
                    "predicted_gender": "",
                }
            )
        )
        metrics.append(
            {
                "fold": fold.index,
                "train_speakers": sorted(set(speakers[rows])),
                "validation_speakers": [],
                "test_speakers": sorted(set(speakers[fold.test])),
                "num_train": len(rows),
                "num_validation": 0,
                "num_test": len(fold.test),
                "train_s": train_s,
                "C": classifier.named_steps["svc"].C,
            }
        )
    return pd.concat(tables, ignore_index=True), metrics


def main():
    arguments = parse_arguments()
    dataset = load_corpus(arguments.corpus, arguments.data_dir)
    folds = get_folds(dataset, arguments.protocol, arguments.num_folds, arguments.seed)
    out = arguments.output_dir
    features = load_features(dataset, arguments.feature_set, out / f"{arguments.feature_set}.parquet")
    predictions, metrics = predict_folds(dataset, folds, features, arguments)
    check_predictions(predictions, dataset["utterance_id"])

    note = f" --note {shlex.quote(arguments.note)}" if arguments.note else ""
    C = "--choose_C" if arguments.choose_C else f"--C {arguments.C:g}"
    run = {
        "corpus": arguments.corpus,
        "protocol": arguments.protocol,
        "num_folds": len(folds),
        "seed": arguments.seed,
        "num_utterances": len(dataset),
        "model": f"openSMILE {arguments.feature_set} ({features.shape[1]} functionals), {arguments.kernel} SVM",
        "C": [fold["C"] for fold in metrics] if arguments.choose_C else arguments.C,
        "fitted_on": "training and validation speakers of each fold",
        "command": f"python benchmarks/opensmile_svm.py --corpus {arguments.corpus} --data_dir DIR"
        f" --protocol {arguments.protocol} --num_folds {len(folds)} --seed {arguments.seed}"
        f" --feature_set {arguments.feature_set} --kernel {arguments.kernel} {C}{note} --output_dir OUT",
        "disclaimer": arguments.note,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("opensmile", "scikit-learn", "numpy")},
        },
    }
    results = build_results(predictions, metrics, run)
    write_atomically(out / "predictions.csv", predictions.to_csv(index=False))
    write_json(out / "results.json", results)
    write_atomically(out / "results.md", results_markdown(results))
    print(console_table(results))


if __name__ == "__main__":
    main()
