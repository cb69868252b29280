"""What is in a corpus: one picture and one table of its emotions, speakers, genders and durations.

    python -m dataset_scripts.describe ravdess --data_dir DIR --output_dir OUT

writes `OUT/ravdess.png` and `OUT/ravdess.md`, and prints the table.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import CORPORA, load_corpus
from .schema import CorpusError

UNKNOWN = "unknown"  # gender where the corpus does not say it
SEVERAL = "several"
# Okabe and Ito's colours (2008): told apart with every common form of colour blindness, and the first three in grey.
COLOURS = {"female": "#D55E00", "male": "#56B4E9", UNKNOWN: "#999999"}
OTHER_COLOURS = ("#009E73", "#F0E442", "#CC79A7", "#0072B2")  # of genders by other names
GREYS = ListedColormap(colormaps["Greys"](np.linspace(0.02, 0.4, 256)))  # black print can be read on all of them
QUANTILES = {"shortest": 0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "longest": 1}
MIN_WIDTH, MAX_WIDTH = 9, 16  # inches, of the picture
MAX_NUMBERED = 30  # more speakers leave no room for numbers in their cells
MAX_UPRIGHT = 90  # letters; names that need more are turned
MAX_NAMES = 110  # more speakers' names cannot be read in a picture of MAX_WIDTH
DPI = 150


def utterances(dataset: datasets.Dataset) -> pd.DataFrame:
    """What the pictures and tables are made of, a line for each row of the dataset.

    Returns:
        Columns `speaker` (without the corpus), `language`, `source_label`, `duration_s` (seconds) and, as ordered
        categories, `gender` (those that occur, with "unknown" for None) and `emotion` (all of the label set).
    """
    columns = ["speaker_id", "gender", "emotion", "language", "source_label", "duration_s"]
    rows = dataset.select_columns(columns).to_pandas()
    names = [*dataset.features["gender"].names, UNKNOWN]
    genders = [names[-1 if np.isnan(code) else int(code)] for code in rows["gender"].astype(float)]
    return pd.DataFrame(
        {
            "speaker": rows["speaker_id"].str.split("/", n=1).str[1],
            "gender": pd.Categorical(genders, [name for name in names if name in genders], ordered=True),
            "emotion": pd.Categorical.from_codes(rows["emotion"], dataset.features["emotion"].names, ordered=True),
            "language": rows["language"],
            "source_label": rows["source_label"],
            "duration_s": rows["duration_s"],
        }
    )


def speaker_table(frame: pd.DataFrame) -> list[list[str]]:
    """Cells of the table of speakers, header first and sums last.

    Columns: speaker, gender, language (where there are several), the utterances of each emotion and of all, minutes.
    """
    several = frame["language"].nunique() > 1

    def row(name: str, gender: str, own: pd.DataFrame) -> list[str]:
        numbers = [*own["emotion"].value_counts(sort=False), len(own)]
        language = [_joined(own["language"])] if several else []
        return [name, gender, *language, *map(str, numbers), _minutes(own)]

    header = ["speaker", "gender", *(["language"] if several else []), *frame["emotion"].cat.categories]
    genders = _gender_of(frame)
    speakers = [row(name, genders[name], own) for name, own in frame.groupby("speaker")]
    return [[*header, "all", "minutes"], *speakers, row("all", _genders(frame), frame)]


def emotion_table(frame: pd.DataFrame) -> list[list[str]]:
    """Cells of the table of emotions, header first and sums last.

    Columns: emotion, the corpus's own words for it, utterances, those of each gender, minutes, seconds of the median
    utterance.
    """
    genders = list(frame["gender"].cat.categories)

    def row(name: str, words: str, own: pd.DataFrame) -> list[str]:
        numbers = [len(own), *own["gender"].value_counts(sort=False)]
        median = f"{own['duration_s'].median():.2f}" if len(own) else "–"
        return [name, words, *map(str, numbers), _minutes(own), median]

    groups = [(name, frame[frame["emotion"] == name]) for name in frame["emotion"].cat.categories]
    rows = [row(name, _joined(own["source_label"]), own) for name, own in groups]
    header = ["emotion", "the corpus's word", "utterances", *genders, "minutes", "median (s)"]
    return [header, *rows, row("all", "", frame)]


def summary(frame: pd.DataFrame) -> str:
    """Totals, languages and quantiles of the durations, three sentences on a line each."""
    hours = frame["duration_s"].sum() / 3600
    languages = ", ".join(f"{name} ({count})" for name, count in frame["language"].value_counts().sort_index().items())
    quantiles = ", ".join(f"{name} {frame['duration_s'].quantile(share):.2f}" for name, share in QUANTILES.items())
    return (
        f"{len(frame)} utterances of {frame['speaker'].nunique()} speakers ({_genders(frame)}), {hours:.2f} hours.\n"
        f"Languages (utterances): {languages}.\n"
        f"Duration of an utterance in seconds: {quantiles}; mean {frame['duration_s'].mean():.2f}."
    )


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table of these cells, the first row as header, whose columns line up on a console, too."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells)]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths))} |" for row in cells]
    return "\n".join([lines[0], f"| {' | '.join('-' * width for width in widths)} |", *lines[1:]])


def _minutes(frame: pd.DataFrame) -> str:
    return f"{frame['duration_s'].sum() / 60:.1f}"


def _joined(names: pd.Series) -> str:
    return ", ".join(sorted(names.unique()))


def _gender_of(frame: pd.DataFrame) -> dict[str, str]:
    """speaker -> gender; "several" for people who share one name, as BhavVani's others."""
    genders = frame.groupby("speaker")["gender"].unique()
    return {speaker: names[0] if len(names) == 1 else SEVERAL for speaker, names in genders.items()}


def _genders(frame: pd.DataFrame) -> str:
    """Number of speakers of each gender."""
    counts = Counter(_gender_of(frame).values())
    return ", ".join(f"{counts[name]} {name}" for name in [*frame["gender"].cat.categories, SEVERAL] if counts[name])


# ---------------------------------------------------------------------------------------------------------------------
# The picture


def picture(frame: pd.DataFrame, title: str) -> Figure:
    """How many utterances of each emotion and how long (above), of which speakers (below)."""
    emotions = list(frame["emotion"].cat.categories)
    speakers = list(frame.sort_values(["gender", "speaker"])["speaker"].unique())
    width = min(max(MIN_WIDTH, 2 + 0.13 * len(speakers)), MAX_WIDTH)
    heights = [1 + 0.28 * len(emotions), 1.7, 0.9 + 0.24 * len(emotions)]
    figure = Figure(figsize=(width, 0.8 + sum(heights)), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=heights)
    numbers = figure.add_subplot(grid[0, 0])
    lengths = figure.add_subplot(grid[0, 1], sharey=numbers)
    totals = figure.add_subplot(grid[1, :])
    cells = figure.add_subplot(grid[2, :], sharex=totals)

    _emotion_bars(numbers, frame, emotions)
    _duration_boxes(lengths, frame, emotions)
    _speaker_bars(totals, frame, speakers)
    _speaker_cells(cells, frame, speakers, emotions)
    figure.suptitle(f"{title}: {len(frame)} utterances of {len(speakers)} speakers", x=0.01, ha="left", fontsize=13)
    figure.legend(*numbers.get_legend_handles_labels(), loc="upper right", ncols=4, frameon=False)
    for axes in (numbers, lengths, totals):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _ticks() -> MaxNLocator:
    """Whole numbers, few of them."""
    return MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])


def _gender_bars(draw: Callable, counts: pd.DataFrame, start: str) -> np.ndarray:
    """Bars of numbers of utterances, shape (bars, genders), stacked by gender; their lengths, shape (bars,)."""
    others = iter(OTHER_COLOURS)
    ends = np.zeros(len(counts))
    for gender in counts.columns:
        colour = COLOURS.get(gender) or next(others, "black")
        draw(range(len(counts)), counts[gender], 0.8, **{start: ends}, color=colour, label=gender)
        ends = ends + counts[gender].to_numpy()
    return ends


def _emotion_bars(axes: Axes, frame: pd.DataFrame, emotions: list[str]) -> None:
    totals = _gender_bars(axes.barh, pd.crosstab(frame["emotion"], frame["gender"], dropna=False), "left")
    for place, total in enumerate(totals):
        axes.annotate(f"{total:.0f}", (total, place), (3, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(emotions)), emotions)
    axes.set_ylim(len(emotions) - 0.5, -0.5)  # the first on top
    axes.set_xlim(0, totals.max() * 1.12)  # room for the numbers
    axes.set_xlabel("utterances")
    axes.set_ylabel("emotion")


def _duration_boxes(axes: Axes, frame: pd.DataFrame, emotions: list[str]) -> None:
    durations = [frame.loc[frame["emotion"] == emotion, "duration_s"] for emotion in emotions]
    axes.boxplot(
        durations,
        positions=range(len(emotions)),
        orientation="horizontal",
        whis=(5, 95),
        widths=0.55,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": "#DDDDDD"},
        medianprops={"color": "black", "linewidth": 2},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "#555555"},
    )
    axes.set_xlim(0, frame["duration_s"].max() * 1.05)
    axes.tick_params(labelleft=False)
    axes.set_xlabel("duration of an utterance (s)\nbox: quartiles; whiskers: 5 % and 95 %; dots: beyond")


def _speaker_bars(axes: Axes, frame: pd.DataFrame, speakers: list[str]) -> None:
    counts = pd.crosstab(frame["speaker"], frame["gender"], dropna=False).loc[speakers]
    totals = _gender_bars(axes.bar, counts, "bottom")
    axes.set_ylim(0, totals.max() * 1.05)
    axes.set_xlim(-0.5, len(speakers) - 0.5)
    axes.tick_params(labelbottom=False)
    axes.yaxis.set_major_locator(_ticks())
    axes.set_ylabel("utterances")


def _speaker_cells(axes: Axes, frame: pd.DataFrame, speakers: list[str], emotions: list[str]) -> None:
    """Numbers of utterances as colours, with the numbers themselves where there is room."""
    counts = pd.crosstab(frame["emotion"], frame["speaker"], dropna=False).loc[emotions, speakers].to_numpy()
    edges = [np.arange(size + 1) - 0.5 for size in counts.shape]
    image = axes.pcolormesh(edges[1], edges[0], counts, cmap=GREYS, vmin=0, edgecolors="white", linewidth=0.5)
    axes.set_ylim(len(emotions) - 0.5, -0.5)  # the first on top
    if len(speakers) <= MAX_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            axes.text(column, row, count, ha="center", va="center", fontsize=8)
    axes.figure.colorbar(image, ax=axes, label="utterances", ticks=_ticks(), pad=0.01)
    axes.set_yticks(range(len(emotions)), emotions)
    axes.set_ylabel("emotion")
    axes.set_xlabel("speaker")
    if len(speakers) <= MAX_NAMES:
        upright = len(speakers) * max(map(len, speakers)) <= MAX_UPRIGHT
        axes.set_xticks(range(len(speakers)), speakers, rotation=0 if upright else 90, fontsize=9 if upright else 7)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"speaker ({len(speakers)}; their names are in the table)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dataset_scripts.describe", description=__doc__.split("\n")[0])
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--data_dir", help="folder that holds the corpus")
    parser.add_argument("--output_dir", type=Path, required=True, help="where CORPUS.png and CORPUS.md go")
    parser.add_argument("--label_map", help="map of its emotions to others; see load_corpus")
    parser.add_argument("--config_name", help="variant of the corpus, where it has several")
    arguments = parser.parse_args()
    try:
        dataset = load_corpus(
            arguments.corpus, arguments.data_dir, config_name=arguments.config_name, label_map=arguments.label_map
        )
    except CorpusError as error:
        parser.error(str(error))
    frame = utterances(dataset)
    text = f"{summary(frame)}\n\n{markdown(speaker_table(frame))}\n"
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    table, image = (arguments.output_dir / f"{arguments.corpus}{suffix}" for suffix in (".md", ".png"))
    table.write_text(f"# {arguments.corpus}\n\n{text}", encoding="utf-8", newline="\n")
    picture(frame, arguments.corpus).savefig(image, dpi=DPI)
    print(f"{text}\n{table}\n{image}")


if __name__ == "__main__":
    main()
