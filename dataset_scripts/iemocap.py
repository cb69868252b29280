"""IEMOCAP: the Interactive Emotional Dyadic Motion Capture database, its utterances.

Provenance: ten actors in five sessions, a woman and a man in each, play scripted scenes and improvise on given
situations in American English; about twelve hours, recorded at the University of Southern California and cut into
utterances by its authors. Three or more annotators saw and heard each; its label is what their majority said.
Licence: the release agreement of SAIL, University of Southern California: for research, given out on request, not to
be passed on.
Citation: C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. N. Chang, S. Lee and S. S. Narayanan,
"IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources and Evaluation 42(4): 335-359,
2008, doi 10.1007/s10579-008-9076-6.
How to obtain: ask with the form at https://sail.usc.edu/iemocap/iemocap_release.htm and unpack
`IEMOCAP_full_release.tar.gz`; of each session, `sentences/wav` and `dialog/EmoEvaluation` are needed.

Utterances are `SessionN/sentences/wav/DIALOGUE/DIALOGUE_TURN.wav`. A dialogue is `Ses01F_impro01` (improvised) or
`Ses01M_script01_1` (scripted), with a letter behind it where it was recorded in parts (`Ses03M_impro05a`). A turn is
`F000`: the talker, a number. Labels are the lines `[start - end] name emotion [valence, activation, dominance]` of
`SessionN/dialog/EmoEvaluation/DIALOGUE.txt`: neu, hap, sad, ang, fea, dis, sur, exc (excitement), fru (frustration),
oth, and xxx where the annotators did not agree.

Oddities: the letter after the session names the dialogue (who of the two wore the markers of the motion capture) and
not the talker: `Ses01F_impro01_M000` is the man of session 1, the speaker Ses01M here. Utterances without agreement
(xxx) are left out, like the recordings of whole dialogues in `dialog/wav`. Cuts of utterances are refused: cuts of one
would fall into training and test. Single annotators' files, in folders below EmoEvaluation, are not read. No text id
is in the names, though the sessions share the sentences of the scripts.

Expected: 10039 utterances, 2507 of them xxx. The benchmark's classes are neutral 1708, anger 1103, sadness 1084,
excitement 1041, happiness 595: 5531, which is what label map iemocap-4, the default, keeps. The others are frustration
1849, surprise 107, fear 40, other 3, disgust 2.
"""

import re
from pathlib import PurePath

from .schema import CorpusBuilder, CorpusError, listed

# the corpus's own word -> emotion
EMOTION_WORDS = {
    "neu": "neutral",
    "hap": "happiness",
    "sad": "sadness",
    "ang": "anger",
    "fea": "fear",
    "dis": "disgust",
    "sur": "surprise",
    "exc": "excitement",
    "fru": "frustration",
    "oth": "other",
}
NO_AGREEMENT = "xxx"
# An utterance; without a talker a whole dialogue; with a rest something that was cut from an utterance.
NAME = re.compile(
    r"(?P<dialogue>Ses0(?P<session>[1-5])[FM]_(?:impro[0-9]{2}|script[0-9]{2}_[0-9])[a-z]?)"
    r"(?:_(?P<talker>[FM])(?:[0-9]{3}|XX[0-9])(?P<rest>.*))?",
    re.DOTALL,
)
SESSION_FOLDER = re.compile(r"Session([0-9]+)", re.IGNORECASE)
LABEL_LINE = re.compile(r"\[[0-9.\s-]+\]\s+(?P<name>\S+)\s+(?P<emotion>\S+)\s+\[[^\]]*\]\s*")


def read_labels(path: str) -> tuple[dict[str, str], list[str]]:
    """Labels of one dialogue.

    Args:
        path: a .txt file of EmoEvaluation.

    Returns:
        utterance -> the corpus's word for its emotion; what is wrong with lines, each with its number.
    """
    labels, problems = {}, []
    # Annotators' comments may hold any bytes; what is read is ASCII.
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.startswith("["):
                continue  # the header, what single annotators said, a blank line
            match = LABEL_LINE.fullmatch(line)
            if match is None:
                problems.append(f"line {number}: not '[start - end] name emotion [v, a, d]': {line.strip()!r}")
                continue
            name, word = match["name"], match["emotion"]
            if word not in EMOTION_WORDS and word != NO_AGREEMENT:
                known = " ".join([*EMOTION_WORDS, NO_AGREEMENT])
                problems.append(f"line {number}: unknown emotion {word!r} of {name}; known are {known}")
            elif labels.setdefault(name, word) != word:
                problems.append(f"line {number}: {name} is {word}, and {labels[name]} in a line above")
    return labels, problems


class IemocapBuilder(CorpusBuilder):
    """The utterances that annotators agreed on; see the module's docstring."""

    corpus = "iemocap"
    language = "en"
    emotions = tuple(EMOTION_WORDS.values())
    license = "release agreement of SAIL, University of Southern California; on request, for research"
    redistributable = False
    citation = (
        "C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. N. Chang, S. Lee and S. S. Narayanan, "
        "IEMOCAP: Interactive emotional dyadic motion capture database, Language Resources and Evaluation 42(4): "
        "335-359, 2008"
    )
    homepage = "https://sail.usc.edu/iemocap/"
    how_to_obtain = (
        "IEMOCAP is given out on request, see https://sail.usc.edu/iemocap/iemocap_release.htm; unpack "
        "IEMOCAP_full_release.tar.gz and give the folder that holds Session1 to Session5 as data_dir."
    )
    name_pattern = "dialogue, talker, number, e.g. Ses01F_impro01_M000.wav or Ses05M_script01_1b_F000.wav"
    metadata_pattern = r"(?:.*/)?EmoEvaluation/Ses[^/]*\.txt"
    left_out = "whole dialogues, or no agreement on a label"
    # Of the benchmark's classes: a copy that holds its 5531 utterances only is complete, too.
    expected_counts = {"neutral": 1708, "happiness": 595, "sadness": 1084, "anger": 1103, "excitement": 1041}
    expected_speakers = tuple(f"Ses0{session}{talker}" for session in range(1, 6) for talker in "FM")

    def read_metadata(self) -> None:
        """Read the labels of all dialogues. See `CorpusBuilder.read_metadata`."""
        if not self.metadata_files:
            raise CorpusError(
                f"no labels of iemocap under {self.config.data_dir}: looked for SessionN/dialog/EmoEvaluation/"
                f"DIALOGUE.txt, found {len(self.files)} audio files and none of these. {self.how_to_obtain}"
            )
        self.labels = {}  # utterance -> the corpus's word
        self.label_files = {}  # dialogue -> its file
        source, problems = {}, []
        for file in self.metadata_files:
            self.label_files[PurePath(file.relative).stem] = file.relative
            try:
                labels, wrong = read_labels(file.path)
            except OSError as error:
                problems.append(f"{file.relative}: cannot be read ({error.strerror})")
                continue
            problems += [f"{file.relative}, {problem}" for problem in wrong]
            for name, word in labels.items():
                if self.labels.setdefault(name, word) != word:
                    problems.append(f"{file.relative}: {name} is {word}, and {self.labels[name]} in {source[name]}")
                source.setdefault(name, file.relative)
        if problems:
            raise CorpusError(
                f"{len(problems)} labels of iemocap in {self.config.data_dir} cannot be used:\n{listed(problems)}\n"
                "Unpack these files anew; where there are two copies of the corpus, point data_dir at one."
            )

    def parse(self, path: PurePath) -> dict | None:
        """Fields of an utterance from its name and label; None for what is left out. See `CorpusBuilder.parse`."""
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError("does not read as a dialogue of sessions 1 to 5, talker (F or M) and number")
        for folder in path.parts[:-1]:
            session = SESSION_FOLDER.fullmatch(folder)
            if session and session[1] != match["session"]:
                raise CorpusError(f"lies in {folder}, but its name is of session {match['session']}")
        if match["talker"] is None:
            return None
        if match["rest"]:
            raise CorpusError(
                f"goes on after the number ({match['rest']!r}), like a cut of an utterance; give whole utterances, "
                "since cuts of one would fall into training and test"
            )
        word = self.labels.get(path.stem)
        if word is None:
            file = self.label_files.get(match["dialogue"])
            missing = f"Session{match['session']}/dialog/EmoEvaluation/{match['dialogue']}.txt is missing"
            raise CorpusError(f"has no label: {f'{file} has no line for it' if file else missing}")
        if word == NO_AGREEMENT:
            return None
        session_name = f"Ses0{match['session']}"
        return {
            "speaker": f"{session_name}{match['talker']}",
            "session_id": f"{self.corpus}/{session_name}",
            "gender": "female" if match["talker"] == "F" else "male",
            "emotion": EMOTION_WORDS[word],
            "source_label": word,
        }
