"""CREMA-D: the Crowd-sourced Emotional Multimodal Actors Dataset, its sound.

Provenance: 91 actors (43 women, 48 men, 20 to 74 years old, of various ethnic backgrounds) speak twelve sentences of
American English in six emotions, one of the sentences at three levels of intensity; 16 kHz. 2443 people rated the
clips by sound, by picture and by both.
Licence: Open Database License (ODbL) 1.0.
Citation: H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova and R. Verma, "CREMA-D: Crowd-sourced Emotional
Multimodal Actors Dataset", IEEE Transactions on Affective Computing 5(4): 377-390, 2014, doi
10.1109/TAFFC.2014.2336244.
How to obtain: `git lfs clone https://github.com/CheyneyComputerScience/CREMA-D`; its zip archive holds pointers to the
clips instead of the clips. Needed are `AudioWAV`, for the gender `VideoDemographics.csv` (without it, the same facts
are in this module) and for the configuration "listeners" `processedResults/summaryTable.csv`.

Names are `1001_DFA_ANG_XX`: actor (1001 to 1091), sentence, emotion (ANG, DIS, FEA, HAP, NEU, SAD), intensity (LO, MD,
HI, XX where none was asked for). The sentences: IEO "It's eleven o'clock", TIE "That is exactly what happened", IOM
"I'm on my way to the meeting", IWW "I wonder what this is about", TAI "The airplane is almost full", MTI "Maybe
tomorrow it will be cold", IWL "I would like a new alarm clock", ITH "I think I have a doctor's appointment", DFA
"Don't forget a jacket", ITS "I think I've seen this before", TSI "The surface is slick", WSI "We'll stop in a couple
of minutes".

Configurations: "intended" (default) takes the emotion that the actor was asked for, from the name. "listeners" takes
what most of those who heard the sound alone said: `VoiceVote` of the summary table (A, D, F, H, N, S, or several that
tie, like A:D; it is the source_label). A tie goes to the intended emotion where that is among the tied; otherwise, and
without a vote, the clip is left out.

Oddities: `AudioMP3` holds every clip a second time as MP3: left out, as soon as it lies in a folder of that name. One
clip is called `1040_ITH_SAD_X.wav`; it is 1040_ITH_SAD_XX here as in the summary table and in other lists.
`1076_MTI_SAD_XX.wav` is silent; it is kept and counted. Users report three recordings under two emotions each, of
which one must be wrong (not checked here: the lengths agree); all six clips are kept and counted: 1006_TIE_HAP_XX and
1006_TIE_NEU_XX, 1013_WSI_DIS_XX and 1013_WSI_SAD_XX, 1017_IWW_ANG_XX and 1017_IWW_FEA_XX.

Expected: 7442 clips, 82 of most actors: anger, disgust, fear, happiness, sadness 1271 each, neutral 1087. How many of
an emotion the listeners heard is not published.
"""

import csv
import logging
import re
from collections.abc import Iterator
from pathlib import PurePath

import datasets

from .label_maps import canonical
from .schema import GENDERS, CorpusBuilder, CorpusError, CorpusFile, listed

logger = logging.getLogger(__name__)

# code in the name -> emotion; the listeners' votes are its first letter
EMOTION_CODES = {
    "NEU": "neutral",
    "HAP": "happiness",
    "SAD": "sadness",
    "ANG": "anger",
    "FEA": "fear",
    "DIS": "disgust",
}
VOTE_LETTERS = {code[0]: emotion for code, emotion in EMOTION_CODES.items()}
ACTORS = tuple(str(actor) for actor in range(1001, 1092))
# From VideoDemographics.csv of the release (ODbL), for copies of the clips alone.
# fmt: off
WOMEN = frozenset((
    "1002", "1003", "1004", "1006", "1007", "1008", "1009", "1010", "1012", "1013", "1018",
    "1020", "1021", "1024", "1025", "1028", "1029", "1030", "1037", "1043", "1046", "1047",
    "1049", "1052", "1053", "1054", "1055", "1056", "1058", "1060", "1061", "1063", "1072",
    "1073", "1074", "1075", "1076", "1078", "1079", "1082", "1084", "1089", "1091",
))
# fmt: on
SILENT = "1076_MTI_SAD_XX"
DEMOGRAPHICS = "VideoDemographics.csv"
SUMMARY_TABLE = "summaryTable.csv"
LFS_POINTER = b"version https://git-lfs"
NAME = re.compile(
    r"(?P<actor>10(?:0[1-9]|[1-8][0-9]|9[01]))_(?P<sentence>DFA|IEO|IOM|ITH|ITS|IWL|IWW|MTI|TAI|TIE|TSI|WSI)"
    r"_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?:LO|MD|HI|XX?)"
)


def read_table(path: str, *columns: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number and the values of some columns, for every row of a CSV file; "" where a row is too short.

    Raises:
        CorpusError: the file cannot be read or lacks a column.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise CorpusError(f"{path}: no column {' or '.join(missing)} in its first line; fetch it anew")
            for row in reader:
                yield reader.line_num, tuple((row[column] or "").strip() for column in columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: not readable as CSV ({error}); fetch it anew") from error


def refuse(problems: list[str], what: str) -> None:
    """Raise an error that lists the problems, if there are any."""
    if problems:
        raise CorpusError(f"{len(problems)} {what} cannot be used:\n{listed(problems)}\nFetch the file anew.")


def is_mp3_copy(path: PurePath) -> bool:
    """Whether a clip lies in the folder of MP3 copies."""
    return "audiomp3" in (folder.lower() for folder in path.parts[:-1])


def is_lfs_pointer(file: CorpusFile) -> bool:
    """Whether a file is the few lines of text that stand for one which Git LFS has not fetched."""
    if not 0 < file.size < 1024:
        return False
    try:
        with open(file.path, "rb") as content:
            return content.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False  # listed with the other unreadable files


def heard_emotion(vote: str, intended: str) -> str | None:
    """What the listeners' vote makes of a clip; None where it decides nothing.

    Args:
        vote: letters of `VOTE_LETTERS` with colons between them; "" for none.
        intended: the emotion that the actor was asked for: it breaks ties that it is part of.
    """
    heard = [VOTE_LETTERS[letter] for letter in vote.split(":") if letter]
    if len(heard) == 1:
        return heard[0]
    return intended if intended in heard else None


class CremaDBuilder(CorpusBuilder):
    """The 7442 clips; see the module's docstring."""

    BUILDER_CONFIGS = [
        datasets.BuilderConfig(name="intended", description="the emotion that the actor was asked for"),
        datasets.BuilderConfig(name="listeners", description="what most listeners to the sound alone said"),
    ]
    DEFAULT_CONFIG_NAME = "intended"

    corpus = "crema_d"
    language = "en"
    emotions = tuple(EMOTION_CODES.values())
    license = "Open Database License (ODbL) 1.0"
    license_id = "odbl"
    citation = (
        "H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova and R. Verma, CREMA-D: Crowd-sourced Emotional "
        "Multimodal Actors Dataset, IEEE Transactions on Affective Computing 5(4): 377-390, 2014"
    )
    homepage = "https://github.com/CheyneyComputerScience/CREMA-D"
    how_to_obtain = (
        "CREMA-D comes by `git lfs clone https://github.com/CheyneyComputerScience/CREMA-D` (not as its zip archive); "
        "give the folder that holds AudioWAV as data_dir."
    )
    name_pattern = "actor, sentence, emotion, intensity, e.g. 1001_DFA_ANG_XX.wav"
    metadata_pattern = r"(?:.*/)?(?:VideoDemographics|summaryTable)\.csv"
    left_out = "MP3 copies in AudioMP3, or, by listeners, no emotion that most heard"
    expected_counts = {emotion: 1087 if emotion == "neutral" else 1271 for emotion in emotions}
    expected_speakers = ACTORS

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.config.name == "listeners":
            self.expected_counts = {}  # not published

    def read_metadata(self) -> None:
        """Read who is a woman and, if they are asked for, the listeners' votes. See `CorpusBuilder.read_metadata`."""
        self._refuse_pointers()
        self.genders = self._read_genders()
        self.votes = self._read_votes() if self.config.name == "listeners" else {}
        if any(PurePath(file.relative).stem == SILENT for file in self.files):
            logger.info("crema_d: %s is silent in the official release; it is kept", SILENT)

    def _refuse_pointers(self) -> None:
        """What a zip archive or a clone without Git LFS has in place of clips gets one error, not one a clip."""
        pointers = [
            file.relative for file in self.files if is_lfs_pointer(file) and not is_mp3_copy(PurePath(file.relative))
        ]
        if pointers and not self.skip_bad_files:
            raise CorpusError(
                f"{len(pointers)} files of crema_d in {self.config.data_dir} are pointers of Git LFS and hold no "
                f"audio, e.g. {pointers[0]}: run `git lfs install` and `git lfs pull` in the clone. "
                f"{self.how_to_obtain}"
            )

    def _tables(self, name: str) -> list[CorpusFile]:
        return [file for file in self.metadata_files if PurePath(file.relative).name.lower() == name.lower()]

    def _read_genders(self) -> dict[str, str]:
        """actor -> gender, from the demographics and, where these do not say, from `WOMEN`."""
        embedded = {actor: "female" if actor in WOMEN else "male" for actor in ACTORS}
        files, read, problems = self._tables(DEMOGRAPHICS), {}, []
        if not files:
            logger.info("crema_d: no %s, the genders are those in crema_d.py", DEMOGRAPHICS)
        for file in files:
            for line, (actor, sex) in read_table(file.path, "ActorID", "Sex"):
                gender = canonical("gender", sex)
                if gender not in GENDERS:
                    problems.append(f"{file.relative}, line {line}: sex {sex!r} of actor {actor}")
                elif read.setdefault(actor, gender) != gender:
                    problems.append(f"{file.relative}, line {line}: actor {actor} is {gender}, and not so elsewhere")
        refuse(problems, f"genders of crema_d in {self.config.data_dir}")
        changed = sorted(actor for actor in embedded.keys() & read.keys() if embedded[actor] != read[actor])
        if changed:
            actors = ", ".join(changed)
            self.notes.append(f"crema_d: {files[0].relative} is not the published one on actor {actors}")
        return embedded | read

    def _read_votes(self) -> dict[str, str]:
        """clip -> the listeners' vote."""
        files, votes, problems = self._tables(SUMMARY_TABLE), {}, []
        if not files:
            raise CorpusError(
                f"configuration 'listeners' of crema_d needs processedResults/{SUMMARY_TABLE} under "
                f"{self.config.data_dir}: fetch it from {self.homepage}, or take configuration 'intended'"
            )
        for file in files:
            for line, (name, vote) in read_table(file.path, "FileName", "VoiceVote"):
                vote = "" if vote == "NA" else vote  # R's word for nothing
                letters = vote.split(":") if vote else []
                if len(set(letters) & VOTE_LETTERS.keys()) != len(letters):
                    problems.append(f"{file.relative}, line {line}: vote {vote!r} on {name}")
                elif votes.setdefault(name, vote) != vote:
                    problems.append(f"{file.relative}, line {line}: {vote!r} on {name}, and {votes[name]!r} elsewhere")
        refuse(problems, f"votes of crema_d in {self.config.data_dir}")
        return votes

    def parse(self, path: PurePath) -> dict | None:
        """Fields of a clip from its name and the tables; None for what is left out. See `CorpusBuilder.parse`."""
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError("does not read as an actor of 1001 to 1091, known sentence, emotion and intensity")
        if is_mp3_copy(path):
            return None
        emotion, source_label = EMOTION_CODES[match["emotion"]], match["emotion"]
        if self.config.name == "listeners":
            name = self.utterance_name(path)
            if name not in self.votes:
                raise CorpusError(f"{SUMMARY_TABLE} has no row for {name}")
            source_label = self.votes[name]
            emotion = heard_emotion(source_label, intended=emotion)
            if emotion is None:
                return None
        return {
            "speaker": match["actor"],
            "gender": self.genders[match["actor"]],
            "emotion": emotion,
            "source_label": source_label,
            "text_id": match["sentence"],
        }

    def utterance_name(self, path: PurePath) -> str:
        """The stem, with the one cut short made whole."""
        return f"{path.stem}X" if path.stem.endswith("_X") else path.stem
