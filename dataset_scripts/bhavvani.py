"""BhavVani: Hindi speech of a television comedy.

Provenance: utterances of five main characters and of others, cut from the episodes and annotated with eight emotions,
by the authors of the paper.
Licence: given out by its authors for research on request; not to be passed on.
Citation: A. Goel, M. Hira and A. Gupta, "Exploring Multilingual Unseen Speaker Emotion Recognition: Leveraging
Co-Attention Cues in Multitask Learning", Interspeech 2024, pp. 2340-2344, doi 10.21437/Interspeech.2024-1820.
How to obtain: the form that https://github.com/NLP-SBILAB/CAMuLeNet links; `final_annotation.csv` and the clips,
converted from .mp4 to .wav under their own names.

Names are train_*, val_* or test_*, the official parts; what else is in a name is not read. Labels, speakers and
genders lie in `final_annotation.csv`, one clip a line. Its columns are not documented: they are found by the names in
`COLUMNS`, in any case and punctuation. The file is UTF-8 or UTF-16, separated by commas, semicolons, tabs or bars.

Oddities: the authors join Contempt to Disgust in their figures, as the label map bhavvani-7 does; here they are apart.
Speakers other than the five characters become one speaker, "others": unknown people, of both genders. Clips of a
character together with somebody else are left out: among the unknown people, who train in every fold, they would bring
the character's voice into the training of the fold that tests it. The paper's Indira and Roshesh are also known by the
programme's spellings, Indravadan and Rosesh.

Expected: about 8,700 clips; no list or count is published. Of them Maya 25.0 %, Indira 19.5 %, Sahil 14.3 %, Monisha
13.6 %, Roshesh 8.5 %, others 19.2 %; Enjoyment 23.5 %, Neutral 19.5 %, Disgust and Contempt 19.2 %, Anger 15.2 %,
Surprise 9.6 %, Sadness 7.2 %, Fear 5.6 %; 53.2 % by men.
"""

import logging
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath

from .label_maps import canonical, gender_of
from .schema import AUDIO_SUFFIXES, GENDERS, MAX_LISTED, OTHERS, CorpusBuilder, CorpusError, listed, some
from .tables import read_table

logger = logging.getLogger(__name__)

ANNOTATION = "final_annotation.csv"
# what is needed of a clip -> names that its column may have; `utterance` is not among them: it is often the words
COLUMNS = {
    "clip": (
        *("clip", "clip_name", "clip_id", "file", "file_name", "file_path", "path", "name", "video", "video_name"),
        *("video_file", "video_id", "audio", "audio_name", "audio_file", "utterance_name"),
    ),
    "emotion": ("emotion", "emotion_label", "emotion_class", "label", "class", "final_emotion", "final_label"),
    "speaker": ("speaker", "speaker_name", "speaker_id", "character", "character_name", "spk", "actor"),
    "gender": ("gender", "speaker_gender", "sex"),
}
# first name, also as the programme spells it -> speaker
CHARACTERS = {
    "maya": "maya",
    "indira": "indira",
    "indravadan": "indira",
    "sahil": "sahil",
    "monisha": "monisha",
    "roshesh": "roshesh",
    "rosesh": "roshesh",
}


def speaker_of(name: str) -> str | None:
    """Who speaks.

    Args:
        name: the annotation's word, like "Maya", "maya sarabhai" or "Doctor".

    Returns:
        one of the five characters, from a first name or a first name and a surname; `OTHERS` where none of them is
        named; None where one is named in any other way.
    """
    first, *rest = name.casefold().replace("_", " ").split() or [""]
    is_surname = len(rest) == 1 and rest[0].isalpha() and rest[0] not in CHARACTERS
    if first in CHARACTERS and (not rest or is_surname):
        return CHARACTERS[first]
    return None if set(re.findall(r"[^\W\d_]+", name.casefold())) & set(CHARACTERS) else OTHERS


def clip_name(value: str) -> str:
    """The name that a clip's files share: `train_12` for `train_12.mp4`, `train_12.wav` and `clips/train_12`."""
    path = PurePosixPath(value.replace("\\", "/"))
    return path.stem if path.suffix.lower() in (*AUDIO_SUFFIXES, ".mp4") else path.name


def find_columns(header: Sequence[str]) -> dict[str, int]:
    """Numbers of the columns that are needed, under the keys of `COLUMNS`.

    A column that has the very name of what is needed wins over those that have another of its names, so that renaming
    one column settles every doubt.

    Args:
        header: the names of all columns.

    Raises:
        CorpusError: for some there is no column, or several.
    """

    def plain(name: str) -> str:
        return re.sub(r"[\W_]", "", name.casefold())

    found, problems = {}, []
    for needed, names in COLUMNS.items():
        exact = [column for column, name in enumerate(header) if plain(name) == needed]
        known = [column for column, name in enumerate(header) if plain(name) in map(plain, names)]
        matching = exact or known
        if len(matching) == 1:
            found[needed] = matching[0]
            continue
        which = " and ".join(repr(header[column]) for column in matching)
        state = f"{which} may all hold it" if matching else f"no column is called {', '.join(names)}"
        problems.append(f"{needed}: {state}; rename the column that holds it to `{needed}`")
    if problems:
        raise CorpusError(f"the columns are {', '.join(map(repr, header))}\n{listed(problems)}")
    return found


def read_annotation(content: bytes) -> dict[str, dict | None]:
    """Clip -> what `CorpusBuilder.parse` returns for it, from the bytes of the annotation file.

    Raises:
        CorpusError: see `read_table` and `find_columns`; or some lines, all of which are listed, have more values than
            there are columns, lack one, contradict each other, or hold an emotion or gender that nobody knows.
    """
    (_, header), *lines = [(line, [cell.strip() for cell in cells]) for line, cells in read_table(content)]
    columns = find_columns(header)
    clips, line_of = {}, {}
    problems = defaultdict(list)  # what is wrong -> lines
    genders = defaultdict(lambda: defaultdict(list))  # character -> gender -> lines
    others = Counter()
    for line, cells in lines:
        if any(cells[len(header) :]):
            problems[f"more values than the {len(header)} columns; quote values that hold a separator"].append(line)
            continue
        cells += [""] * (len(header) - len(cells))
        clip, emotion, speaker, gender = (cells[columns[needed]] for needed in COLUMNS)
        clip = clip_name(clip)
        fields = {
            "speaker": speaker_of(speaker),
            "gender": gender_of(gender),
            "emotion": canonical("emotion", emotion),
            "source_label": emotion,
        }
        if not clip:
            problems["no clip is named"].append(line)
        elif clips.setdefault(clip, fields) != fields:
            problems[f"clip {clip!r} is something else in line {line_of[clip]}"].append(line)
        line_of.setdefault(clip, line)
        if not speaker:
            problems[f"no speaker; write `{OTHERS}` where it is none of the main characters"].append(line)
        if fields["emotion"] not in BhavvaniBuilder.emotions:
            problems[f"unknown emotion {emotion!r}; known are {', '.join(BhavvaniBuilder.emotions)}"].append(line)
        if fields["gender"] not in (None, *GENDERS):
            problems[f"unknown gender {gender!r}; known are F and M, and nothing where it is not known"].append(line)
        if fields["speaker"] == OTHERS:
            others[speaker] += 1
        elif fields["speaker"] is not None and fields["gender"] in GENDERS:
            genders[fields["speaker"]][fields["gender"]].append(line)
    described = [f"line {some(numbers)}: {problem}" for problem, numbers in problems.items()]
    described += [
        f"{speaker} is " + " and ".join(f"{gender} in line {some(numbers)}" for gender, numbers in known.items())
        for speaker, known in genders.items()
        if len(known) > 1
    ]
    if described:
        raise CorpusError(f"correct or remove lines:\n{listed(described)}")
    if others:
        names = ", ".join(f"{name} ({count})" for name, count in others.most_common(MAX_LISTED))
        logger.info("bhavvani: %d names stand for unknown people: %s", len(others), names)
    # A character whose gender is missing in some lines has that of the other lines.
    for fields in clips.values():
        for gender in genders.get(fields["speaker"], ()):
            fields["gender"] = gender
    return {clip: None if fields["speaker"] is None else fields for clip, fields in clips.items()}


class BhavvaniBuilder(CorpusBuilder):
    """The clips that the annotation lists; see the module's docstring."""

    corpus = "bhavvani"
    language = "hi"
    emotions = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise", "contempt")
    license = "given out by its authors on request, for research; not to be passed on"
    redistributable = False
    citation = (
        "A. Goel, M. Hira and A. Gupta, Exploring Multilingual Unseen Speaker Emotion Recognition: Leveraging "
        "Co-Attention Cues in Multitask Learning, Interspeech 2024, pp. 2340-2344"
    )
    homepage = "https://github.com/NLP-SBILAB/CAMuLeNet"
    how_to_obtain = (
        "BhavVani is given out by its authors on request, by the form that https://github.com/NLP-SBILAB/CAMuLeNet "
        f"links; give the folder that holds {ANNOTATION} and the clips, converted to .wav, as data_dir."
    )
    name_pattern = f"those of the clips in {ANNOTATION}, e.g. train_12.wav for train_12.mp4"
    metadata_pattern = r"(?s:.*/)?final_annotation\.csv"
    left_out = "a main character together with somebody else"
    expected_speakers = (*sorted(set(CHARACTERS.values())), OTHERS)
    clips: Mapping[str, dict | None] = {}  # clip -> what `parse` returns for it

    def read_metadata(self) -> None:
        """Read the annotation, and say which of its clips are not here. See `CorpusBuilder.read_metadata`."""
        data_dir, videos = self.config.data_dir, self.other_files[".mp4"]
        to_audio = (
            f"find {shlex.quote(data_dir)} -iname '*.mp4' -exec sh -c "
            """'ffmpeg -n -i "$1" -vn -ac 1 -ar 16000 "${1%.*}.wav"' sh {} \\;"""
        )
        if videos and not self.files:
            raise CorpusError(
                f"{data_dir} holds {videos} .mp4 files and no audio; write the sound of each beside it:\n  {to_audio}"
            )
        if not self.metadata_files:
            raise CorpusError(f"no {ANNOTATION} under {data_dir}. {self.how_to_obtain}")
        try:
            contents = [Path(file.path).read_bytes() for file in self.metadata_files]
        except OSError as error:
            raise CorpusError(f"{error.filename}: not readable ({error.strerror})") from error
        if len(set(contents)) > 1:
            paths = [file.path for file in self.metadata_files]
            raise CorpusError(f"there are different files {ANNOTATION}; keep one of\n{listed(paths)}")
        try:
            self.clips = read_annotation(contents[0])
        except CorpusError as error:
            raise CorpusError(f"{self.metadata_files[0].path}: {error}") from error
        absent = sorted(self.clips.keys() - {PurePath(file.relative).stem for file in self.files})
        if absent:
            self.notes.append(
                f"bhavvani: {len(absent)} of the {len(self.clips)} clips in {ANNOTATION} are not here as audio, e.g. "
                f"{absent[0]}. Figures on a part are not figures on the corpus."
                + (f" The .mp4 files become audio by\n  {to_audio}" if videos else "")
            )

    def parse(self, path: PurePath) -> dict | None:
        """Fields of a clip from the annotation; None for several talkers. See `CorpusBuilder.parse`."""
        if path.stem not in self.clips:
            raise CorpusError(f"{ANNOTATION} does not list this clip")
        return self.clips[path.stem]
