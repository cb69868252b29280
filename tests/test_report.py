"""The report of a suite: what it reads, what it refuses, and its tables, figures and page."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from markdown_tables import tables
from PIL import Image

from ser_protocol.calibration import calibration_scores, with_temperature
from ser_protocol.figures import matrix_figure
from ser_protocol.report import (
    Cell,
    ReportError,
    comparisons_table,
    cross_corpus_matrix,
    diagnostics,
    latex,
    main,
    read_suite_folder,
    scores_frame,
    table_1,
    write_report,
)
from ser_protocol.results import build_results
from ser_protocol.statistics import (
    holm,
    mcnemar_test,
    mean_gain,
    paired_difference,
    permutation_test,
    pooled_scores,
    seed_ensemble,
)

EMOTIONS = ("anger", "fear", "sadness")


def predictions(corpus: str, right: float, seed: int, speakers: int = 8, clips: int = 12) -> pd.DataFrame:
    """Predictions of which the share `right` is right, each fold a speaker."""
    generator = np.random.default_rng(seed)
    rows = []
    for speaker in range(speakers):
        for clip in range(clips):
            emotion = EMOTIONS[clip % 3]
            answer = emotion if generator.random() < right else generator.choice(EMOTIONS)
            gender = ("female", "male")[speaker % 2]
            p = np.full(3, 0.1) + 0.7 * (np.array(EMOTIONS) == answer)
            rows.append(
                [f"{corpus}/{speaker}_{clip}", f"{corpus}/{speaker}", speaker, emotion, gender, answer, gender, *p]
            )
    names = ["utterance_id", "speaker_id", "fold", "emotion", "gender", "predicted_emotion", "predicted_gender"]
    return pd.DataFrame(rows, columns=[*names, *(f"p_{emotion}" for emotion in EMOTIONS)])


def write_run(folder, table: pd.DataFrame, language: str = "en", complete: bool = True, **fields) -> None:
    """A run's folder as run_ser.py leaves it."""
    metrics = [
        {
            "fold": int(fold),
            "train_speakers": sorted(set(table["speaker_id"]) - set(rows["speaker_id"])),
            "validation_speakers": [],
            "test_speakers": sorted(set(rows["speaker_id"])),
            "history": [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0, "grad_norm": 0.5}],
            **fields,
        }
        for fold, rows in table.groupby("fold")
    ]
    run = {"corpus": "x", "protocol": "loso", "num_folds": len(metrics), "languages": [language]}
    results = build_results(table, metrics, run | {"num_eligible_utterances": len(table)})
    for fold in metrics:
        place = folder / f"fold_{fold['fold']:02d}"
        place.mkdir(parents=True)
        (place / "metrics.json").write_text(json.dumps(fold))
    if complete:
        (folder / "results.json").write_text(json.dumps(results))
        table.to_csv(folder / "predictions.csv", index=False)


@pytest.fixture
def suite_folder(tmp_path):
    """Two corpora; the full model with two seeds, its baseline, an ablation that is half done, and a peer."""
    for corpus, language in (("one", "en"), ("two", "de")):
        for seed in (1, 2):
            folder = tmp_path / corpus / "camulenet-small" / f"seed_{seed}"
            write_run(folder, predictions(corpus, 0.8, seed), language)
        folder = tmp_path / corpus / "camulenet-small-baseline" / "seed_1"
        write_run(folder, predictions(corpus, 0.2, 3), language)
    write_run(tmp_path / "one" / "camulenet-small-concat" / "seed_1", predictions("one", 0.5, 4), complete=False)
    peer = tmp_path / "two" / "some-svm"
    write_run(peer, predictions("two", 0.5, 5), "de")
    return tmp_path


def read(path):
    return pd.read_csv(path, dtype={"fold": int})


def test_the_table_is_the_statistics(suite_folder):
    suite = read_suite_folder(suite_folder)
    assert suite.corpora == ["one", "two"]
    assert suite.rows == ["some-svm", "camulenet-small", "camulenet-small-baseline", "camulenet-small-concat"]
    assert (suite.reference, suite.baseline) == ("camulenet-small", "camulenet-small-baseline")
    full = [read(suite_folder / "one" / "camulenet-small" / f"seed_{seed}" / "predictions.csv") for seed in (1, 2)]
    base = [read(suite_folder / "one" / "camulenet-small-baseline" / "seed_1" / "predictions.csv")]
    right = [(table["emotion"] == table["predicted_emotion"]).mean() for table in full]
    scores = suite.cells["camulenet-small", "one"].scores
    assert scores["wa"]["value"] == pytest.approx(np.mean(right))
    assert scores["wa"]["seed_sd"] == pytest.approx(np.std(right, ddof=1))
    assert scores["wa"]["low"] < np.mean(right) < scores["wa"]["high"]

    line = suite.comparisons.set_index(["row", "corpus"]).loc["camulenet-small-baseline", "one"]
    assert line["wa_difference"] == pytest.approx(paired_difference(full, base)["wa"]["difference"])
    assert line["wa_p"] == permutation_test(full, base)["wa"] == pytest.approx(2 / 2**8)
    assert len(suite.comparisons) == 3  # the baseline twice, the peer once; no line for what is not complete
    # Each corpus is a family of its own: with many more rows the few speakers of one could never be told from chance.
    for corpus, count in (("one", 1), ("two", 2)):
        lines = suite.comparisons[suite.comparisons["corpus"] == corpus]
        assert len(lines) == count
        for name in ("wa", "ua"):
            np.testing.assert_allclose(lines[f"{name}_p_holm"], holm(lines[f"{name}_p"]))

    pairs = {
        corpus: (suite.cells["camulenet-small", corpus].seeds, suite.cells["camulenet-small-baseline", corpus].seeds)
        for corpus in ("one", "two")
    }
    assert suite.gain("camulenet-small-baseline")["wa"] == mean_gain(pairs)["wa"]


def test_ensembles_stand_apart(suite_folder):
    suite = read_suite_folder(suite_folder)
    tables = suite.cells["camulenet-small", "two"].seeds
    assert suite.ensembles[["row", "corpus", "seeds"]].to_numpy().tolist() == [
        ["camulenet-small", "one", 2],
        ["camulenet-small", "two", 2],
    ]
    line = suite.ensembles.iloc[1]
    assert (
        line["wa"] == pooled_scores(seed_ensemble(tables))["wa"] != suite.cells["camulenet-small", "two"].scores["wa"]
    )
    assert line["wa_low"] < line["wa"] < line["wa_high"]
    write_report(suite, suite_folder / "report")
    assert len(pd.read_csv(suite_folder / "report" / "ensembles.csv")) == 2
    assert f"{line['wa']:.3f} ({line['wa_low']:.3f} to " in (suite_folder / "report" / "report.html").read_text()


def test_missing_cells_are_shown_as_missing(suite_folder):
    suite = read_suite_folder(suite_folder)
    rows = {row[0]: row[1:] for row in table_1(suite)}
    assert rows["some-svm"][0] == "missing"
    assert rows["camulenet-small-concat"] == ["seed 1: 8 folds, not pooled", "missing", ""]
    value = suite.cells["camulenet-small", "two"].scores
    wa, wf1 = value["wa"], value["wf1"]["value"]
    interval = f"({wa['low']:.3f} to {wa['high']:.3f})"
    assert rows["camulenet-small (2 seeds)"][1] == f"{wa['value']:.3f} {interval} / {wf1:.3f}"
    below = {row[0]: row[1:] for row in table_1(suite, below=True)}
    assert below["camulenet-small (2 seeds)"][1] == f"{wa['value']:.3f} / {wf1:.3f}\n{interval}"
    assert rows["camulenet-small-baseline"][0].split(" / ")[0].endswith(")*")
    assert below["camulenet-small-baseline"][0].split(" / ")[0].endswith("*")
    assert rows["camulenet-small-baseline"][2].endswith("2 corpora")
    frame = scores_frame(suite).set_index(["row", "corpus", "score"])
    assert np.isnan(frame.loc[("some-svm", "one", "wa"), "value"])
    assert frame.loc[("some-svm", "two", "wa"), "value"] > 0


def test_what_a_suite_has_planned_is_missing(suite_folder):
    rows = ("camulenet-small-gate", "camulenet-small-baseline", "camulenet-small", "camulenet-small-concat")
    runs = [
        {"corpus": corpus, "preset": row, "seed": seed, "num_folds": 9 if row.endswith("concat") else 8}
        for row in rows
        for corpus in ("two", "one")
        for seed in (1, 10, 3)
    ]
    (suite_folder / "suite.json").write_text(json.dumps({"runs": runs}))
    (suite_folder / "one" / "camulenet-small" / "seed_3").mkdir()
    (suite_folder / "one" / "other" / "seed_2").mkdir(parents=True)
    (suite_folder / "one" / "other" / "seed_2" / "run.yaml").write_text("num_folds: 8")
    suite = read_suite_folder(suite_folder)
    assert suite.corpora == ["two", "one"] and suite.rows == ["other", "some-svm", *rows]
    assert suite.cells["camulenet-small-gate", "two"].missing == "; ".join(
        f"seed {seed}: no fold yet" for seed in (1, 3, 10)
    )
    assert suite.cells["camulenet-small-concat", "one"].open[0] == "seed 1: 8 of 9 folds"
    assert suite.cells["other", "one"].missing == "seed 2: no fold yet"
    table = {row[0]: row for row in table_1(suite)}
    assert table["camulenet-small (2 seeds)"][2].endswith("; seed 3: no fold yet; seed 10: no fold yet")
    write_report(suite, suite_folder / "report")
    page = (suite_folder / "report" / "report.html").read_text()
    assert "camulenet-small on one: seed 3: no fold yet; seed 10: no fold yet" in page


def test_before_any_run_is_pooled(suite_folder):
    for path in suite_folder.rglob("results.json"):
        path.unlink()
    suite = read_suite_folder(suite_folder)
    assert table_1(suite)[2][1] == "seed 1: 8 folds, not pooled; seed 2: 8 folds, not pooled"
    write_report(suite, suite_folder / "report")
    assert pd.read_csv(suite_folder / "report" / "comparisons.csv").empty
    assert "Holm" not in (suite_folder / "report" / "table_1.md").read_text()


def test_what_few_speakers_can_say(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "few" / "camulenet-small" / f"seed_{seed}", predictions("few", 0.9, seed, speakers=5))
    write_run(tmp_path / "few" / "camulenet-small-baseline" / "seed_2", predictions("few", 0.1, 3, speakers=5))
    suite = read_suite_folder(tmp_path)
    (line,) = suite.comparisons.to_dict("records")
    assert line["wa_p"] == line["smallest_p"] == 2 / 2**5 and not line["reliable"]
    ours, theirs = (suite.cells[row, "few"].tables["2"] for row in ("camulenet-small", "camulenet-small-baseline"))
    assert line["mcnemar_p"] == mcnemar_test(ours, theirs)["p"] and line["mcnemar_seed"] == "2"
    write_report(suite, tmp_path / "report")
    text = (tmp_path / "report" / "table_1.md").read_text()
    assert re.search(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)† / ", text) and "†: over fewer than 8 speakers" in text
    assert "On few no row can be marked: its speakers are too few for a p value below 0.062" in text
    assert re.search(r"\+0\.\d{3} \(\+0\.\d{3} to \+0\.\d{3}\)†, 1 corpus", text)
    assert not pd.read_csv(tmp_path / "report" / "scores.csv")["reliable"].any()


def test_calibration(suite_folder):
    for fold in range(8):
        path = suite_folder / "one" / "camulenet-small-baseline" / "seed_1" / f"fold_{fold:02d}" / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature": 2.0}))
    suite = read_suite_folder(suite_folder)
    lines = suite.calibration.set_index(["row", "corpus"])
    full = lines.loc["camulenet-small", "one"]
    tables = suite.cells["camulenet-small", "one"].seeds
    assert full["nll"] == pytest.approx(np.mean([calibration_scores(table)["nll"] for table in tables]))
    assert np.isnan(full["ece_after_temperature"])
    scaled = with_temperature(suite.cells["camulenet-small-baseline", "one"].seeds[0], 2.0)
    assert lines.loc["camulenet-small-baseline", "one"]["brier_after_temperature"] == pytest.approx(
        calibration_scores(scaled)["brier"]
    )
    write_report(suite, suite_folder / "report")
    assert len(pd.read_csv(suite_folder / "report" / "calibration.csv")) == 5


def test_a_folder_that_is_no_suite(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit, match=f"^report: .*{tmp_path}"):
        main()


def test_what_is_written(suite_folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", str(suite_folder)])
    main()
    printed = capsys.readouterr().out
    folder = suite_folder / "report"
    (table,) = tables((folder / "table_1.md").read_text())
    assert "| camulenet-small (2 seeds) |" in printed and table[0][1] == "one, WA / WF1"
    tex = (folder / "table_1.tex").read_text()
    rows = table[1:]
    assert tex.count(r" \\") == 1 + 2 * len(rows) - 1  # the half done row has no intervals
    assert r"\textsuperscript{*} / " in tex and r"& {\scriptsize (0." in tex and r"p \textless{} 0.05" in tex
    groups = pd.read_csv(folder / "groups.csv").set_index(["row", "corpus", "kind", "group"])
    women = groups.loc[("camulenet-small-baseline", "one", "gender", "female")]
    rows = read(suite_folder / "one" / "camulenet-small-baseline" / "seed_1" / "predictions.csv").query(
        "gender == 'female'"
    )
    assert women["num_utterances"] == len(rows) == 48
    assert women["wa"] == pytest.approx((rows["emotion"] == rows["predicted_emotion"]).mean(), abs=1e-6)
    assert {"de", "en"} <= {group for *_, kind, group in groups.index if kind == "language"}
    for path in (folder / "figures").glob("*.png"):
        image = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
        assert min(image.shape[:2]) > 200 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    assert names == {
        f"{c}_{kind}" for c in ("one", "two") for kind in ("rows", "confusion", "speakers", "reliability", "curves")
    }

    page = (folder / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)  # nothing is fetched
    assert page.count("data:image/png;base64,") == len(names)
    assert "camulenet-small-concat on one: seed 1: 8 folds, not pooled" in page
    assert all(f'<th scope="col">{name}</th>' in page for name in ("p, Holm", "McNemar&#39;s p (secondary)"))
    # A report beside the corpora is none of them.
    assert read_suite_folder(suite_folder).corpora == ["one", "two"]


def test_figures_that_were_drawn_before_are_shown(suite_folder):
    run = suite_folder / "one" / "camulenet-small" / "seed_2" / "plots"
    similarity = suite_folder / "two" / "similarity" / "similarity.png"
    for path in (run / "attention.png", similarity, run.parent / "similarity.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())
    files = write_report(read_suite_folder(suite_folder), suite_folder / "report")
    page = files[-1].read_text()
    for name in ("attention.png", "similarity.png"):
        assert f"data:image/png;base64,{base64.b64encode(name.encode()).decode()}" in page
    for corpus in ("one", "two"):
        assert (suite_folder / "report" / "figures" / f"{corpus}_similarity.png").read_bytes() == b"similarity.png"


def test_names_of_users_are_text(suite_folder):
    (suite_folder / "two" / "some-svm").rename(suite_folder / "two" / "<b>svm_1")
    suite = read_suite_folder(suite_folder)
    write_report(suite, suite_folder / "report")
    page = (suite_folder / "report" / "report.html").read_text()
    assert "<b>svm" not in page and "&lt;b&gt;svm" in page
    assert r"\textless{}b\textgreater{}svm\_1" in latex(table_1(suite), "")
    assert latex([["", "x"], ["a\\b~{^}", "-0.5 of 5-6$"]], "").splitlines()[8] == (
        r"a\textbackslash{}b\textasciitilde{}\{\textasciicircum{}\} & $-$0.5 of 5-6\$ \\"
    )


def test_diagnostics():
    folds = [
        {"fold": 0, "train": {"wa": 1.0}, "test": {"wa": 0.5, "co_attention_entropy": 0.99}, "history": []},
        {"fold": 1, "train": {"wa": 0.9}, "test": {"wa": 0.7, "co_attention_entropy": 0.97}},
    ]
    pulls = {"emotion_grad_norm": 0.2, "gender_grad_norm": 0.3}
    folds[1]["history"] = [{"epoch": 1, "train_emotion_loss": 3.0}, {"epoch": 2, "train_emotion_loss": 1.5, **pulls}]
    rows, warnings = diagnostics(Cell("c", "r", metrics={"1": folds}))
    values = dict(rows[1:])
    assert values["WA on the training speakers"] == "0.950"
    assert values["WA on the validation speakers"] == "not noted"
    assert values["WA on unseen speakers"] == "0.600"
    assert values["emotion loss in the last epoch (nats)"] == "1.500"
    assert values["weighted emotion loss's gradient norm at the embedding, last epoch"] == "0.200"
    assert values["weighted gender loss's gradient norm at the embedding, last epoch"] == "0.300"
    wide, uniform, gender = warnings
    assert wide.startswith("WA is 0.35 higher") and uniform.startswith("The co-attention's entropy is 98%")
    assert gender.startswith("The gender loss pulls at the embedding 1.5 times as hard as the emotion loss")
    folds[1]["history"][-1]["gender_grad_norm"] = 0.1
    assert diagnostics(Cell("c", "r", metrics={"1": folds}))[1] == [wide, uniform]


def test_comparisons_as_text(suite_folder):
    header, *lines = comparisons_table(read_suite_folder(suite_folder))
    assert len(header) == 11 and {len(line) for line in lines} == {11}
    line = next(line for line in lines if line[:2] == ["camulenet-small-baseline", "one"])
    assert line[2] == "2, 1" and line[4] == "0.008" and line[9].endswith(" (seed 1)")
    assert re.fullmatch(r"\+0\.\d{3}\n\(\+0\.\d{3} to \+0\.\d{3}\)", line[3])


def test_across_corpora(tmp_path):
    both = pd.concat([predictions("one", 0.6, 1).assign(fold=0), predictions("two", 0.4, 2).assign(fold=1)])
    write_run(tmp_path / "one+two" / "camulenet-small" / "seed_1", both)
    write_run(tmp_path / "one" / "camulenet-small" / "seed_1", predictions("one", 0.9, 3))
    suite = read_suite_folder(tmp_path)
    matrix = cross_corpus_matrix(suite.crossed)
    right = both["emotion"] == both["predicted_emotion"]
    assert matrix.loc["two", "one"] == pytest.approx(right[both["fold"] == 0].mean())
    assert matrix.loc["one", "two"] == pytest.approx(right[both["fold"] == 1].mean())
    assert matrix.loc["one", "one"] > 0.85 and np.isnan(matrix.loc["two", "two"])
    assert set(suite.crossed["classes"]) == {"anger; fear; sadness"}
    write_report(suite, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Across corpora" in page and len(pd.read_csv(tmp_path / "report" / "crossed.csv")) == 3
    texts = [text.get_text() for text in matrix_figure(matrix).axes[0].texts]
    assert texts == [f"{matrix.loc['one', 'one']:.3f}", f"{matrix.loc['one', 'two']:.3f}"] + [
        f"{matrix.loc['two', 'one']:.3f}",
        "missing",
    ]


def test_classes_across_corpora_are_emotions(tmp_path):
    both = pd.concat([predictions("one", 0.6, 1).assign(fold=0), predictions("two", 0.4, 2).assign(fold=1)])
    both = both.rename(columns={"p_fear": "p_great fear"}).replace({"fear": "great fear"})
    for row, more in (("camulenet-small", {"p_female": 0.4, "p_male": 0.6}), ("camulenet-small-no-multitask", {})):
        write_run(tmp_path / "one+two" / row / "seed_1", both.assign(**more))
    suite = read_suite_folder(tmp_path)
    assert set(suite.crossed["classes"]) == {"anger; great fear; sadness"}
    write_report(suite, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Classes: anger, great fear, sadness." in page and page.count("<td>3</td><td>96</td>") == 4


def test_within_corpora_alone_nothing_is_crossed(suite_folder):
    assert read_suite_folder(suite_folder).crossed.empty


def test_what_is_refused(suite_folder, tmp_path_factory):
    with pytest.raises(ReportError, match="holds no runs"):
        read_suite_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ReportError, match="--reference: paper is none of the rows"):
        read_suite_folder(suite_folder, "paper")
    with pytest.raises(ReportError, match="--baseline: paper is none of the rows"):
        read_suite_folder(suite_folder, baseline="paper")
    peers = tmp_path_factory.mktemp("peers")
    write_run(peers / "one" / "svm", predictions("one", 0.5, 5))
    with pytest.raises(ReportError, match="Give --reference, .* has no camulenet or camulenet-small, but svm"):
        read_suite_folder(peers)
    run = suite_folder / "two" / "some-svm"
    table = read(run / "predictions.csv")
    table[:-1].to_csv(run / "predictions.csv", index=False)
    with pytest.raises(ReportError, match="predictions.csv: it has 95 of 96 eligible utterances"):
        read_suite_folder(suite_folder)
    pd.concat([table, table[:1]]).to_csv(run / "predictions.csv", index=False)
    with pytest.raises(ReportError, match=r"1 predicted more than once \(two/0_0\)"):
        read_suite_folder(suite_folder)
    table["utterance_id"] = table["utterance_id"].str.replace("two", "three")
    table.to_csv(run / "predictions.csv", index=False)
    with pytest.raises(
        ReportError, match="were tested on different clips or labels: Of 96 eligible utterances: 96 not predicted"
    ):
        read_suite_folder(suite_folder)
    table["utterance_id"] = table["utterance_id"].str.replace("three", "two")
    table.replace("anger", "rage").rename(columns={"p_anger": "p_rage"}).to_csv(run / "predictions.csv", index=False)
    with pytest.raises(
        ReportError, match="different clips or labels: The two tables differ in emotion of 32 utterances"
    ):
        read_suite_folder(suite_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="speaker_id"), "there is no column speaker_id"),
        (
            lambda table: table.assign(predicted_emotion=table["predicted_emotion"].where(table.index > 0, "")),
            "1 utterances have no answer, such as two/0_0",
        ),
        (
            lambda table: table.assign(p_anger=table["p_anger"].where(table.index > 0)),
            "could not convert string to float",
        ),
        (lambda table: table.assign(p_anger=0.9), "must sum to 1 in every row"),
        (
            lambda table: table.assign(predicted_emotion=table["predicted_emotion"].replace("fear", "joy")),
            "the answers joy are none of the model's emotions, anger, fear, sadness",
        ),
        (
            lambda table: table.assign(predicted_emotion=table["emotion"]),
            r"its WA is 1.0000, and results.json says 0\.\d",
        ),
    ],
)
def test_predictions_that_are_not_those_of_the_run(suite_folder, change, message):
    path = suite_folder / "two" / "some-svm" / "predictions.csv"
    change(read(path)).to_csv(path, index=False)
    with pytest.raises(ReportError, match=f"some-svm/predictions.csv: .*{message}.* pool the folds again"):
        read_suite_folder(suite_folder)


def test_predictions_that_are_not_those_of_the_folds(suite_folder):
    run = suite_folder / "two" / "some-svm"
    table = read(run / "predictions.csv")
    for fold, rows in table.groupby("fold"):
        rows.to_csv(run / f"fold_{fold:02d}" / "predictions.csv", index=False)
    read_suite_folder(suite_folder)
    table.replace({"two/0_0": "two/x"}).to_csv(run / "predictions.csv", index=False)
    with pytest.raises(ReportError, match=r"predictions.csv: its folds predict other utterances. .*\(two/x\)"):
        read_suite_folder(suite_folder)


@pytest.mark.parametrize("name", ["results.json", "fold_01/metrics.json", "predictions.csv"])
def test_files_that_cannot_be_read(suite_folder, name):
    path = suite_folder / "one" / "camulenet-small" / "seed_1" / name
    path.write_text('{"run' if name.endswith("json") else "")
    with pytest.raises(ReportError, match=rf"{path} cannot be read \(.*\). Delete it"):
        read_suite_folder(suite_folder)


@pytest.mark.parametrize("name", ["suite.json", "results.json", "fold_01/metrics.json"])
@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"runs": [{"corpus": "one"}], "incomplete": null, "run": {}}'])
def test_json_of_other_things(suite_folder, name, content):
    path = suite_folder / ("" if name == "suite.json" else "one/camulenet-small/seed_1") / name
    path.write_text(content)
    with pytest.raises(ReportError, match=f"{path} cannot be read .*Delete it"):
        read_suite_folder(suite_folder)


def test_a_fold_whose_folder_is_gone(suite_folder):
    (suite_folder / "one" / "camulenet-small" / "seed_1" / "fold_03" / "metrics.json").unlink()
    suite = read_suite_folder(suite_folder)
    assert [fold["fold"] for fold in suite.cells["camulenet-small", "one"].metrics["1"]] == list(range(8))
    assert suite.crossed.empty


def test_two_columns_that_train_and_test_on_the_same(tmp_path):
    both = pd.concat([predictions("one", 0.6, 1).assign(fold=0), predictions("two", 0.4, 2).assign(fold=1)])
    write_run(tmp_path / "one+two" / "camulenet-small" / "seed_1", both)
    for column, right in (("one", 0.9), ("one-again", 0.2)):
        write_run(tmp_path / column / "camulenet-small" / "seed_1", predictions("one", right, 3))
    suite = read_suite_folder(tmp_path)
    lines = suite.crossed.query("train == 'one' and test == 'one'").set_index("corpus")
    assert set(lines.index) == {"one", "one-again"}
    assert (
        cross_corpus_matrix(suite.crossed).loc["one", "one"] == lines.loc["one", "wa"] > lines.loc["one-again", "wa"]
    )
    path = tmp_path / "one" / "camulenet-small" / "seed_1" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unseen_speakers": False}))
    write_report(read_suite_folder(tmp_path), tmp_path / "report")
    assert "never met its speaker, but for the rows named last; " in (tmp_path / "report" / "table_1.md").read_text()
    assert r"\caption{Speech emotion recognition.}" in (tmp_path / "report" / "table_1.tex").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<h1>Speech emotion recognition</h1>" in page
    assert "never among those trained on" not in page
    assert "test; NOT unseen speakers, or not known to be: camulenet-small" in page
