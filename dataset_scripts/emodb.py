"""EmoDB: the Berlin Database of Emotional Speech, release 1.

Provenance: ten German actors (five women, five men) speak ten everyday sentences in seven emotions, recorded in the
anechoic chamber of the Technical University of Berlin in 1997 and 1999, published at 16 kHz.
Licence: none is stated with release 1; free for research.
Citation: F. Burkhardt, A. Paeschke, M. Rolfes, W. F. Sendlmeier and B. Weiss, "A Database of German Emotional Speech",
Interspeech 2005, pp. 1517-1520, doi 10.21437/Interspeech.2005-446.
How to obtain: download.zip of http://emodb.bilderbar.info, unpacked; the clips lie in its folder `wav`.

Names are speaker (2 digits), text (a or b and 2 digits), the first letter of the German word for the emotion, version
(a letter): 03a01Fa. The letters: W (Wut) anger, L (Langeweile) boredom, E (Ekel) disgust, A (Angst) fear, F (Freude)
happiness, T (Trauer) sadness, N neutral.

Oddities: the 535 clips are those of about 800 that at least 80 % of the listeners recognised and 60 % found natural,
so speakers and emotions are uneven: there is no disgust of speaker 08, and one clip of it of 03 and of 10. Release 2.0
publishes 816; figures in the literature are on the 535, so a folder with more of an emotion than these is refused.

Expected: 535 clips: anger 127, boredom 81, neutral 79, happiness 71, fear 69, sadness 62, disgust 46.
"""

import re
from pathlib import PurePath

from .schema import CorpusBuilder, CorpusError

# letter in the name -> (canonical emotion, the corpus's own word)
EMOTION_LETTERS = {
    "N": ("neutral", "neutral"),
    "F": ("happiness", "Freude"),
    "T": ("sadness", "Trauer"),
    "W": ("anger", "Wut"),
    "A": ("fear", "Angst"),
    "E": ("disgust", "Ekel"),
    "L": ("boredom", "Langeweile"),
}
SPEAKERS = {
    "03": "male",
    "08": "female",
    "09": "female",
    "10": "male",
    "11": "male",
    "12": "male",
    "13": "female",
    "14": "female",
    "15": "male",
    "16": "female",
}
NAME = re.compile(
    r"(?P<speaker>03|08|09|1[0-6])(?P<text>a01|a02|a04|a05|a07|b01|b02|b03|b09|b10)(?P<emotion>[AEFLNTW])[a-z]"
)


class EmodbBuilder(CorpusBuilder):
    """The 535 clips of release 1; see the module's docstring."""

    corpus = "emodb"
    language = "de"
    emotions = tuple(emotion for emotion, _ in EMOTION_LETTERS.values())
    license = "free for research"
    citation = (
        "F. Burkhardt, A. Paeschke, M. Rolfes, W. F. Sendlmeier and B. Weiss, A Database of German Emotional Speech, "
        "Interspeech 2005, pp. 1517-1520"
    )
    homepage = "http://emodb.bilderbar.info"
    how_to_obtain = (
        "EmoDB release 1 (535 clips) is download.zip of http://emodb.bilderbar.info; unpack it and give the folder "
        "that holds wav as data_dir."
    )
    name_pattern = "speaker, text, emotion letter, version, e.g. 03a01Fa.wav"
    expected_counts = {
        "neutral": 79,
        "happiness": 71,
        "sadness": 62,
        "anger": 127,
        "fear": 69,
        "disgust": 46,
        "boredom": 81,
    }
    expected_speakers = tuple(SPEAKERS)

    @staticmethod
    def parse(path: PurePath) -> dict:
        """Fields of a clip from its name. See `CorpusBuilder.parse`."""
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError("does not read as a known speaker, text and emotion letter with a version")
        emotion, source_label = EMOTION_LETTERS[match["emotion"]]
        return {
            "speaker": match["speaker"],
            "gender": SPEAKERS[match["speaker"]],
            "emotion": emotion,
            "source_label": source_label,
            "text_id": match["text"],
        }
