"""Emotion and gender of audio files, on the command line.

run-ser predict clip.wav --model OUT/final
run-ser predict FOLDER more.flac --model me/camulenet --output predictions.csv
run-ser predict FOLDER --model me/camulenet --timeline OUT_FOLDER --window_s 3 --hop_s 1

Without --output and --timeline a line is printed for each file. With --output a table is written, .csv or .jsonl:
`file`, `model` (MODEL@REVISION with --revision), `predicted_emotion`, `predicted_gender` and the probability of each
class, as in predictions.csv of a run; rows are added as files are done, short files first, and a repeat of the command
goes on where one was interrupted. With --timeline emotion over time is written for each file: its windows as `.csv`,
its segments as `.TextGrid` for Praat and as `.txt`, labels for Audacity. A file that cannot be used stops nothing: all
such files are named at the end.
"""

import argparse
import csv
import io
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import soundfile
from huggingface_hub.errors import HFValidationError
from tqdm.auto import tqdm
from transformers import Pipeline, PreTrainedConfig, pipeline

from .files import write_atomically

TIMELINES = "timelines.json"  # beside time lines: what made them
TIMELINE_SUFFIXES = (".csv", ".TextGrid", ".txt")
# What is looked for in folders. A file that is named is tried whatever its ending.
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".m4a", ".mp4", ".aac", ".webm")


def load_classifier(name: str, revision: str | None = None, **arguments) -> Pipeline:
    """
    The pipeline of a checkpoint.

    Args:
        name: folder or Hub id; its code is run.
        revision: commit, branch or tag of one on the Hub.
        arguments: of `CAMuLeNetPipeline`.
    Raises:
        OSError, ValueError: there is no such checkpoint, or it is none of CAMuLeNet.
    """
    classify = pipeline("audio-classification", model=name, revision=revision, trust_remote_code=True, **arguments)
    check_camulenet(name, classify.model.config)
    return classify


def check_camulenet(name: str | Path, config: PreTrainedConfig) -> None:
    """
    Refuse a checkpoint that is none of CAMuLeNet.

    Raises:
        ValueError: it is another model's.
    """
    if config.model_type != "camulenet":
        raise ValueError(f"{name} is a {config.model_type} model; expected a CAMuLeNet checkpoint.")


def audio_files(paths: Sequence[str]) -> list[str]:
    """
    The files of `paths`, and those under folders of it that are audio by their name, each once, folders in order.

    Raises:
        FileNotFoundError: a path that is not there, or a folder without audio.
    """
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not found:
                raise FileNotFoundError(f"{path} holds no audio: no name ends in {', '.join(SUFFIXES)}.")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"There is no {path}.")
    return list(dict.fromkeys(map(str, files)))


def duration_s(file: str) -> float:
    """Seconds by a file's head, or 0 where soundfile cannot read it."""
    try:
        return soundfile.info(file).duration
    except (soundfile.SoundFileError, OSError):
        return 0.0


def print_lines(files: Sequence[str], classify) -> dict[str, str]:
    """
    One line a file: the likeliest emotions and, where the model has the head, the gender, each with its probability.

    Args:
        files: audio files.
        classify: `CAMuLeNetPipeline`, whose `top_k` says how many emotions a line shows.
    Returns:
        File -> what is wrong with it, of those that cannot be used.
    """
    bad = {}
    for file in files:
        try:
            result = classify(file, return_gender=bool(classify.model.config.id2gender))
        except (ValueError, OSError) as error:
            bad[file] = str(error)
            continue
        heads = result if isinstance(result, dict) else {"emotion": result}
        shown = {name: items if name == "emotion" else items[:1] for name, items in heads.items()}
        parts = (
            f"{name} " + ", ".join(f"{item['label']} {item['score']:.2f}" for item in items)
            for name, items in shown.items()
        )
        print(f"{file}: {'; '.join(parts)}", flush=True)
    return bad


def write_table(files: Sequence[str], classify, model: str, output: Path, batch_size: int = 8) -> dict[str, str]:
    """
    The predictions of files as a table, .csv or .jsonl, a row for each file that it does not hold yet.

    Args:
        files: audio files.
        classify: `CAMuLeNetPipeline`.
        model: name of the model, for the column of that name.
        output: the table; what it holds already is kept.
        batch_size: files that the model sees at once, of like lengths.
    Returns:
        File -> what is wrong with it, of those that cannot be used.
    Raises:
        ValueError: the table is of another model or another kind, or an emotion and a gender have one name.
    """
    config = classify.model.config
    emotions, genders = list(config.id2label.values()), list(config.id2gender.values())
    shared = sorted(set(emotions) & set(genders))
    if shared:
        raise ValueError(
            f"{model} has an emotion and a gender of one name, {', '.join(shared)}, for which the table has but one "
            "column: rename one in id2label or id2gender of its config.json."
        )
    columns = ["file", "model", "predicted_emotion", "predicted_gender", *(f"p_{name}" for name in emotions + genders)]
    done = _rows_done(output, columns, model)
    to_do = sorted((file for file in files if file not in done), key=duration_s)
    bad = {}
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "a", encoding="utf-8", newline="") as table, tqdm(total=len(to_do), unit=" files") as bar:
        if output.suffix == ".csv" and not done and table.tell() == 0:
            csv.writer(table, lineterminator="\n").writerow(columns)
        for start in range(0, len(to_do), batch_size):
            batch = to_do[start : start + batch_size]
            for file, result in _classified(batch, classify, bad).items():
                heads = result if isinstance(result, dict) else {"emotion": result}
                row = {"file": file, "model": model, "predicted_gender": None}
                for head, items in heads.items():
                    row[f"predicted_{head}"] = items[0]["label"]
                    row |= {f"p_{item['label']}": round(item["score"], 6) for item in items}
                row = {name: row[name] for name in columns}
                if output.suffix == ".csv":
                    csv.writer(table, lineterminator="\n").writerow(row.values())
                else:
                    table.write(json.dumps(row) + "\n")
            table.flush()
            bar.update(len(batch))
    return bad


def _classified(files: Sequence[str], classify, bad: dict[str, str]) -> dict[str, list | dict]:
    """File -> the pipeline's result, of a batch; what is wrong with a file that cannot be used goes into `bad`."""
    waveforms, results = {}, {}
    for file in files:
        try:
            waveforms[file] = classify.preprocess(file)["input_values"][0].numpy()
        except (ValueError, OSError) as error:
            bad[file] = str(error)
    arguments = {"return_gender": bool(classify.model.config.id2gender), "top_k": None}
    try:
        answers = classify([*waveforms.values()], batch_size=len(files), **arguments)
        return dict(zip(waveforms, answers, strict=True))
    except ValueError:
        pass  # The model refuses one that can be read (fusion="gate" a long one), and so its batch: which one?
    for file, waveform in waveforms.items():
        try:
            results[file] = classify(waveform, **arguments)
        except ValueError as error:
            bad[file] = str(error)
    return results


def _rows_done(output: Path, columns: list[str], model: str) -> set[str]:
    """The files that a table holds; what an interrupted call wrote half of its last line is cut off."""
    if output.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{output}: the table's name ends in .csv or .jsonl.")
    if not output.exists():
        return set()
    content = output.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    # A file's name may hold a line's end, between quotes: a half one leaves a quote open.
    while output.suffix == ".csv" and whole.count(b'"') % 2:
        whole = whole[: whole[:-1].rfind(b"\n") + 1]
    if whole != content:
        write_atomically(output, whole)
    text = io.StringIO(whole.decode(), newline="")
    reader = csv.DictReader(text) if output.suffix == ".csv" else None
    rows = list(reader or map(json.loads, text))
    if reader and reader.fieldnames not in (None, columns):
        raise ValueError(
            f"{output} is there already, with other columns than those of {model}: give another --output, or delete "
            "it."
        )
    for row in rows:
        if list(row) != columns or row["model"] != model:
            raise ValueError(
                f"{output} is there already, with predictions of {row.get('model', 'something else')}, not of "
                f"{model}: give another --output, or delete it."
            )
    return {row["file"] for row in rows}


def write_timelines(
    files: dict[str, str], classify, model: str, folder: Path, batch_size: int, window_s: float, hop_s: float
) -> dict[str, str]:
    """
    Emotion over time of each file: <name>.csv, <name>.TextGrid and <name>.txt. Files whose .txt is there are done.

    Args:
        files: audio file -> its name in `folder`, without ending.
        classify: `CAMuLeNetPipeline`.
        model: its name; timelines.json keeps it beside the time lines.
        folder: where the time lines go.
        batch_size: windows that the model sees at once.
        window_s, hop_s: in seconds.
    Returns:
        File -> what is wrong with it, of those that cannot be used.
    Raises:
        ValueError: `folder` has time lines of another model or other windows, or files that are no time lines where
            some would be written.
    """
    _check_timelines(folder, files.values(), {"model": model, "window_s": window_s, "hop_s": hop_s})
    bad = {}
    to_do = [file for file in files if not (folder / f"{files[file]}.txt").exists()]
    for file in tqdm(to_do, unit=" files"):
        try:
            result = classify(file, timeline=True, window_s=window_s, hop_s=hop_s, batch_size=batch_size, top_k=None)
        except (ValueError, OSError) as error:
            bad[file] = str(error)
            continue
        names = classify.model.config.id2label.values()
        path = folder / files[file]
        write_atomically(Path(f"{path}.csv"), windows_csv(result["windows"], names))
        end_s = result["windows"][-1]["end_s"]
        write_atomically(Path(f"{path}.TextGrid"), textgrid(result["segments"], end_s))
        write_atomically(Path(f"{path}.txt"), audacity_labels(result["segments"]))
    return bad


def _check_timelines(folder: Path, names: Iterable[str], made_by: dict) -> None:
    """Note what makes the time lines of a folder, or hold it against what made those that are there."""
    path = folder / TIMELINES
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else made_by
    for name in names:
        there = [place for suffix in TIMELINE_SUFFIXES if (place := Path(f"{folder / name}{suffix}")).exists()]
        if there and not path.is_file():
            raise ValueError(
                f"{there[0]} is there already and no time line of ours ({folder} has no {TIMELINES}): give another "
                "--timeline folder."
            )
        if there and there[-1].suffix == ".txt" and len(there) < len(TIMELINE_SUFFIXES):  # ours is written last
            raise ValueError(
                f"{there[-1]} is there already and no time line of ours, which would have a .csv and a .TextGrid "
                "beside it: give another --timeline folder, or delete it."
            )
    changed = [
        f"{name} {before.get(name)}, not {value}" for name, value in made_by.items() if before.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{folder} has time lines of {', '.join(changed)}: give another --timeline folder, or delete it."
        )
    write_atomically(path, json.dumps(made_by, indent=2) + "\n")


def windows_csv(windows: list[dict], names: Sequence[str]) -> str:
    """`start_s`, `end_s` and a column `p_<emotion>` of each window; empty where it is silent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["start_s", "end_s", *(f"p_{name}" for name in names)])
    for window in windows:
        scores = {row["label"]: round(row["score"], 6) for row in window["emotion"]}
        writer.writerow([f"{window['start_s']:.3f}", f"{window['end_s']:.3f}", *map(scores.get, names)])
    return text.getvalue()


def audacity_labels(segments: list[dict]) -> str:
    """A label track of Audacity: start, end (seconds) and emotion, between tabs."""
    return "".join(f"{row['start_s']:.6f}\t{row['end_s']:.6f}\t{row['label']}\n" for row in segments)


def textgrid(segments: list[dict], end_s: float) -> str:
    """A TextGrid of Praat with one tier, whose intervals go without a gap from 0 to `end_s`; silent ones are empty."""
    intervals, reached = [], 0.0
    for row in [*segments, {"start_s": end_s, "end_s": end_s, "label": ""}]:
        if row["start_s"] > reached:
            intervals.append((reached, row["start_s"], ""))
        if row["end_s"] > row["start_s"]:
            intervals.append((row["start_s"], row["end_s"], row["label"]))
        reached = row["end_s"]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s}"]
    lines += ["tiers? <exists>", "size = 1", "item []:", "    item [1]:", '        class = "IntervalTier"']
    lines += ['        name = "emotion"', "        xmin = 0", f"        xmax = {end_s}"]
    lines += [f"        intervals: size = {len(intervals)}"]
    for index, (first, last, label) in enumerate(intervals, start=1):
        text = label.replace('"', '""')
        lines += [f"        intervals [{index}]:", f"            xmin = {first}", f"            xmax = {last}"]
        lines += [f'            text = "{text}"']
    return "\n".join(lines) + "\n"


def names_of(files: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """
    File -> its name in an output folder, without ending: its path under the folder among `paths` that it is in.

    Raises:
        ValueError: two files would have one name.
    """
    folders = [Path(path) for path in paths if Path(path).is_dir()]
    names = {}
    for file in map(Path, files):
        inside = next((file.relative_to(folder) for folder in folders if folder in file.parents), Path(file.name))
        names[str(file)] = str(inside.with_suffix(""))
    owners = {name: file for file, name in names.items()}
    for file, name in names.items():
        if owners[name] != file:
            raise ValueError(f"{file} and {owners[name]} would have one time line, {name}: give them apart.")
    return names


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry."""
    parser = argparse.ArgumentParser(
        "run-ser predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", help="audio files, and folders of such")
    parser.add_argument("--model", required=True, help="a checkpoint's folder or Hub id; its code is run")
    parser.add_argument("--revision", help="commit, branch or tag of a model on the Hub")
    parser.add_argument("--top_k", type=int, default=3, help="how many emotions a printed line shows")
    parser.add_argument("--output", type=Path, help="table to write, .csv or .jsonl")
    parser.add_argument("--timeline", type=Path, metavar="FOLDER", help="folder for emotion over time")
    parser.add_argument("--window_s", type=float, default=3.0, help="length of a time line's windows")
    parser.add_argument("--hop_s", type=float, default=1.0, help="from one window's start to the next one's")
    parser.add_argument("--batch_size", type=int, default=8, help="files, or windows, that the model sees at once")
    arguments = parser.parse_args(argv)
    if arguments.output and arguments.timeline:
        parser.error("give either --output or --timeline")
    if arguments.batch_size < 1:
        parser.error(f"--batch_size {arguments.batch_size}: give at least 1")
    if not 0 < arguments.hop_s <= arguments.window_s:
        parser.error(f"--hop_s {arguments.hop_s}: give more than 0 and at most --window_s, {arguments.window_s}")
    try:
        files, unnameable = audio_files(arguments.files), {}
        for file in files:
            try:
                file.encode()
            except UnicodeEncodeError:
                unnameable[file] = "its name is not valid UTF-8; rename it"
        usable = [file for file in files if file not in unnameable]
        try:
            classify = load_classifier(arguments.model, arguments.revision, top_k=arguments.top_k)
        except (OSError, HFValidationError) as error:
            where = "" if Path(arguments.model).is_dir() else " (there is no such folder here)"
            sys.exit(f"predict: the model {arguments.model}{where} cannot be loaded: {error}")
        # What another revision made is not taken for done.
        model = f"{arguments.model}@{arguments.revision}" if arguments.revision else arguments.model
        if arguments.output:
            bad = write_table(usable, classify, model, arguments.output, arguments.batch_size)
        elif arguments.timeline:
            names = names_of(usable, arguments.files)
            lengths = (arguments.batch_size, arguments.window_s, arguments.hop_s)
            bad = write_timelines(names, classify, model, arguments.timeline, *lengths)
        else:
            bad = print_lines(usable, classify)
        bad = unnameable | bad
    except (ValueError, OSError) as error:
        sys.exit(f"predict: {error}")
    except KeyboardInterrupt:
        kept = "; the same command goes on from here" if arguments.output or arguments.timeline else ""
        print(f"predict: stopped{kept}.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)  # as a shell has it
    if bad:
        listed = "\n".join(
            f"  {message if file in message else f'{file}: {message}'}" for file, message in bad.items()
        )
        sys.exit(f"predict: {len(bad)} of {len(files)} files cannot be used:\n{listed}")


if __name__ == "__main__":
    main()
