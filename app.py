"""A page on which a recording's emotion can be watched, a run walked through, and two checkpoints compared.

    python app.py [--model CHECKPOINT ...] [--runs FOLDER ...] [--data_dir DIR ...]

It runs here and, without change, as a Space of Hugging Face (spaces/README.md). Without --model it shows the
demonstration, runs/demo, which is made first where it is not there. Address and port are Gradio's to choose:
GRADIO_SERVER_NAME, GRADIO_SERVER_PORT.
"""

import argparse
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from dataset_scripts import load_corpus
from dataset_scripts.schema import read_audio
from ser_protocol import page
from ser_protocol.exploring import Run, find_runs
from ser_protocol.listening import Listener, load_listener

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parent
TEMPLATES = ROOT / "ser_protocol" / "templates"
DEMO = Path("runs", "demo")
# The README's demonstration.
DEMO_COMMAND = ("run_ser.py", "--corpus", "demo", "--num_folds", "3", "--num_train_epochs", "15", "--output_dir")
MAX_UPLOAD = "20mb"
MAX_WAITING = 64  # visitors in the queue; the next one is told to come later
KEEP_S = 1800  # how long at most an upload is kept, so that it can be heard again with another model
SWEEP_S = 60  # how often it is looked for uploads to delete
RIGHT_OR_WRONG = {"all": None, "right": True, "wrong": False}
PROBLEMS = (ValueError, OSError, ImportError, RuntimeError)
WELCOME = "Record or upload a clip of speech, or choose an example: the page says which emotion the model hears in it."
TITLE = "CAMuLeNet: which emotion does a model hear?"


def build_demo() -> None:
    """Make the demonstration's run, which takes minutes, where it is not complete; it goes on where it stopped."""
    if not (DEMO / "final" / "README.md").is_file():  # the card is written last
        print(f"Training the demonstration model into {DEMO}: a few minutes, once.", flush=True)
        command = [sys.executable, str(ROOT / DEMO_COMMAND[0]), *DEMO_COMMAND[1:], str(DEMO)]
        if subprocess.run(command).returncode:
            sys.exit(f"app: the demonstration model was not made. Name another with --model, or delete {DEMO}.")


def examples() -> list[str]:
    """Clips of the demonstration corpus, one of each emotion, by paths; none where it cannot be made here."""
    try:
        corpus = load_corpus("demo")
    except PROBLEMS:
        return []
    names = corpus.features["emotion"].names
    first = {names[emotion]: row for row, emotion in reversed(list(enumerate(corpus["emotion"][:])))}
    return [corpus[first[name]]["audio"]["path"] for name in names]


def friendly(error: Exception, path: str | None = None) -> str:
    """An error in words that show no folder of the server; one that nobody foresaw goes into its log."""
    if not isinstance(error, PROBLEMS):
        logger.error("unforeseen", exc_info=error)
        return page.problem(f"Something went wrong here ({type(error).__name__}); the server's log says what.")
    message = str(error) or type(error).__name__
    return page.problem(message.replace(path, Path(path).name) if path else message)


class Page:
    """
    What the page does, apart from how it looks.

    Args:
        models: the checkpoints that a visitor may choose.
        run_folders: where runs are looked for.
        data_dirs: where the runs' corpora lie whose folders, in the commands that made the runs, are gone.
    """

    def __init__(self, models: Sequence[str], run_folders: Sequence[Path], data_dirs: Sequence[Path]):
        self.models = list(models)
        self.runs = {str(folder): folder for folder in find_runs(run_folders)}
        self.data_dirs = list(data_dirs) or None
        self.listener = functools.cache(load_listener)
        self.run = functools.cache(self._run)

    def _run(self, name: str) -> Run:
        return Run(self.runs[name], self.data_dirs)

    def heard(self, path: str | None, model: str) -> str:
        """What a model makes of an upload, or what is wrong with it."""
        if not path:
            return page.notes([WELCOME])
        try:
            listener: Listener = self.listener(model)
            return page.hearing_html(listener, listener.listen(path))
        except Exception as error:  # a checkpoint brings code of its own
            return friendly(error, path)

    def compared(self, path: str | None, first: str, second: str) -> tuple[str, str]:
        return self.heard(path, first), self.heard(path, second)

    def opened(self, name: str | None) -> tuple:
        """The filters of a run, empty, with their choices: emotions, predicted, speakers, genders, folds; a note."""
        nothing = gr.update(choices=[], value=[])
        if not name:
            return *[nothing] * 4, gr.update(choices=[], value=None), page.notes(["No run was found."])
        try:
            run = self.run(name)
        except (*PROBLEMS, KeyError) as error:
            return *[nothing] * 4, gr.update(choices=[], value=None), friendly(error)
        folds = sorted(run.table["fold"].unique().tolist())
        pooled, about = run.results["pooled"], run.results["run"]
        note = f"{about['corpus']}, {about['preset']}, {len(run.table)} clips"
        note += f", WA {pooled['wa']['value']:.3f}" if pooled else ""
        lines = [f"{note}.", about.get("disclaimer") or "", *run.results["warnings"]]
        return (
            gr.update(choices=run.emotions, value=[]),
            gr.update(choices=run.emotions, value=[]),
            gr.update(choices=sorted(run.table["speaker_id"].unique()), value=[]),
            gr.update(choices=sorted(set(run.table["gender"]) - {""}), value=[]),
            gr.update(choices=folds, value=folds[0]),
            page.notes(lines),
        )

    def filtered(self, name, emotions, predicted, speakers, genders, answers, low, high) -> tuple:
        """The clips that meet the filters: a sentence, the table, the confusion matrix and the speakers."""
        if not name:
            return "", None, "", ""
        try:
            run = self.run(name)
        except (*PROBLEMS, KeyError):
            return "", None, "", ""
        confidence, right = (low / 100, high / 100), RIGHT_OR_WRONG[answers]
        people = {"speakers": speakers, "genders": genders, "confidence": confidence}
        table = run.chosen(emotions, predicted, right=right, **people)
        share = f", {table['right'].mean():.0%} of them right" if len(table) else ""
        listed = f"; the first {page.MAX_LISTED} are listed" if len(table) > page.MAX_LISTED else ""
        return (
            f"{len(table)} of {len(run.table)} clips{share}{listed}. Choose a row to hear it.",
            page.clips_table(table),
            # Of clips chosen by their emotions, all or none would be right.
            page.matrix_html(run.chosen(right=right, **people)),
            page.speakers_html(run.chosen(genders=genders, confidence=confidence)),
        )

    def clip(self, name: str, utterance_id: str) -> str:
        """A clip of a run, playing."""
        try:
            run = self.run(name)
            return page.clip_html(run, utterance_id, *read_audio(run.audio(utterance_id)))
        except (*PROBLEMS, KeyError) as error:
            return page.problem(f"{utterance_id} cannot be played: {error} (--data_dir tells where its corpus is.)")

    def map(self, name: str | None, fold: int | None) -> str:
        """The t-SNE of a fold."""
        if not name or fold is None:
            return page.problem("Choose a run first.")
        try:
            return page.map_html(self.run(name).map_of(fold), fold)
        except Exception as error:  # a checkpoint brings code of its own
            return friendly(error)


def interface(does: Page, keep_s: float = KEEP_S, sweep_s: float = SWEEP_S) -> gr.Blocks:
    """
    The page.

    Args:
        does: what it does.
        keep_s: how long at most an upload is kept.
        sweep_s: how often it is looked for uploads to delete; less than `keep_s`.
    """
    age_s = keep_s - sweep_s  # what is a little younger stays until the next time
    clickable = {"js_on_load": (TEMPLATES / "page.js").read_text(encoding="utf-8"), "padding": True}
    models = does.models
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(sweep_s, age_s)) as blocks:
        gr.Markdown(f"# {TITLE}\nEmotion is what a model reads into a voice, not what a person feels.")
        with gr.Tab("Listen"):
            with gr.Row():
                with gr.Column(scale=2, min_width=280):
                    sound = gr.Audio(type="filepath", label="Recording", editable=False)
                    model = gr.Dropdown(models, value=models[0], label="Model", interactive=len(models) > 1)
                    clips = examples()
                    if clips:
                        gr.Examples(clips, sound, label="Examples (synthetic speech)")
                with gr.Column(scale=3, min_width=280):
                    heard = gr.HTML(page.notes([WELCOME]), **clickable)
            gr.on([sound.change, model.change], does.heard, [sound, model], heard, api_name="listen")
        with gr.Tab("Explore"):
            _explore(does, blocks, clickable)
        with gr.Tab("Compare"):
            both = gr.Audio(type="filepath", label="Recording for both", editable=False)
            with gr.Row():
                with gr.Column(min_width=280):
                    first = gr.Dropdown(models, value=models[0], label="First model")
                    left = gr.HTML(page.notes([WELCOME]), **clickable)
                with gr.Column(min_width=280):
                    second = gr.Dropdown(models, value=models[-1], label="Second model")
                    right = gr.HTML(page.notes([WELCOME]), **clickable)
            gr.on(
                [both.change, first.change, second.change],
                does.compared,
                [both, first, second],
                [left, right],
                api_name="compare",
            )
    # The model uses all cores for one clip; visitors wait in line.
    return blocks.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def _explore(does: Page, blocks: gr.Blocks, clickable: dict) -> None:
    names = list(does.runs)
    run = gr.Dropdown(names, value=names[0] if names else None, label="Run")
    about = gr.HTML()
    with gr.Row():
        emotions = gr.Dropdown([], multiselect=True, label="True emotion")
        predicted = gr.Dropdown([], multiselect=True, label="Predicted emotion")
        speakers = gr.Dropdown([], multiselect=True, label="Speakers")
        genders = gr.CheckboxGroup([], label="Gender")
    with gr.Row():
        answers = gr.Radio(list(RIGHT_OR_WRONG), value="all", label="Answers")
        low = gr.Slider(0, 100, 0, step=1, label="Confidence at least (%)")
        high = gr.Slider(0, 100, 100, step=1, label="Confidence at most (%)")
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            matrix = gr.HTML(**clickable)
        with gr.Column(scale=2, min_width=280):
            by_speaker = gr.HTML(**clickable)
    told = gr.Markdown()
    clip = gr.HTML(padding=True)
    table = gr.Dataframe(label="Clips", interactive=False, max_height=420)
    with gr.Row():
        fold = gr.Dropdown([], label="Fold")
        draw = gr.Button("Draw the fold's map (t-SNE)")
    drawn = gr.HTML(**clickable)
    filters = [run, emotions, predicted, speakers, genders, answers, low, high]
    shown = [told, table, matrix, by_speaker]
    private = {"api_visibility": "private", "show_progress": "hidden"}
    opens = [emotions, predicted, speakers, genders, fold, about]
    gr.on([blocks.load, run.change], does.opened, run, opens, **private).then(does.filtered, filters, shown, **private)
    # What a person changes; what the page itself sets, it follows up itself.
    gr.on(
        [emotions.input, predicted.input, speakers.input, genders.input, answers.input, low.release, high.release],
        does.filtered,
        filters,
        shown,
        **private,
    )

    def of_cell(event: gr.EventData):
        return [event.truth], [event.predicted]

    def of_speaker(event: gr.EventData):
        return [event.speaker]

    def of_row(name: str, event: gr.SelectData):
        return does.clip(name, event.row_value[0])

    def of_dot(name: str, event: gr.EventData):
        return does.clip(name, event.clip)

    matrix.click(of_cell, None, [emotions, predicted], **private).then(does.filtered, filters, shown, **private)
    by_speaker.click(of_speaker, None, speakers, **private).then(does.filtered, filters, shown, **private)
    table.select(of_row, run, clip, **private)
    drawn.click(of_dot, run, clip, **private)
    draw.click(does.map, [run, fold], drawn, api_visibility="private")


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        nargs="+",
        default=os.environ.get("CAMULENET_MODEL", "").split(),
        help="checkpoints, folders or Hub ids, whose code is run; by default those of the variable CAMULENET_MODEL, "
        "then the demonstration",
    )
    parser.add_argument("--runs", nargs="+", type=Path, default=[Path("runs")], help="folders under which runs lie")
    parser.add_argument("--data_dir", nargs="+", type=Path, default=[], help="where corpora lie that have moved since")
    arguments = parser.parse_args(argv)
    models = arguments.model
    if not models:
        build_demo()
        models = [str(DEMO / name) for name in ("final", "fold_00")]
    does = Page(models, arguments.runs, arguments.data_dir)
    try:
        for model in models:
            does.listener(model)  # what is wrong with one is said now, and not to the first visitor
    except PROBLEMS as error:
        sys.exit(f"app: {error}")
    system = ["system-ui", "sans-serif"]  # no font from elsewhere
    interface(does).launch(
        max_file_size=MAX_UPLOAD,
        theme=gr.themes.Default(font=system, font_mono=["ui-monospace", "monospace"]),
        css_paths=[TEMPLATES / "page.css"],
        footer_links=[],
    )


if __name__ == "__main__":
    main()
