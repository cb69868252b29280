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
(https://zenodo.org/records/17651657) adds the other 281 under the same naming, and in a folder `laryngo` a laryngogram
of each clip under the clip's own name. Figures in the literature are on the 535: the clips that release 2.0 adds are
known by `RELEASE_1`, the laryngograms by their folder, and both are left out.

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

# The clips of release 1: speaker and text, then emotion letter and version of each clip. 03a01FaNcWa is 03a01Fa,
# 03a01Nc and 03a01Wa.
RELEASE_1 = """
03a01FaNcWa 03a02FcNcTaWbWc 03a04AdFdLcNcTaWc 03a05AaFcNdTcWaWb 03a07FaFbLaNcWc 03b01FaLbNbTdWaWc
03b02AaLaNaTbWb 03b03NbTcWc 03b09LaNcTcWa 03b10AbEcNaNcWbWc 08a01AbFdLcNaWaWc 08a02AbAcFeLaNaTbWc
08a04FfLaNcTbWc 08a05FeLcNbTaWa 08a07FdLaNaTaTbWc 08b01AaFdFeLbNaWa 08b02FfLaNbTcWd 08b03FeLcNbTcWd
08b09AbFdLcNbTbWaWc 08b10AaFdLaNcTcWa 09a01EaFaNbWb 09a02EaEbLaWb 09a04FdLaNbWa 09a05EdLcNbTbWbWc
09a07EbNaTaWbWd 09b01EaNaWb 09b02NaTbWcWd 09b03EdFaFdLbNbTaWb 09b09EaNdWa 09b10AaNdWa 10a01AcNbWa
10a02AbFaLbNaWa 10a04FdNbWaWb 10a05AaLdTbWb 10a07AaAdLaTaWb 10b01AaEaFaLb 10b02AaLaNaWb 10b03LaTbWb 10b09AdLbWb
10b10FcLcWa 11a01AaAbLdNdWc 11a02EcFbLdNcTcWc 11a04AcFdNdWc 11a05AdFbFcLcNaTdWd 11a07AcLdTaWc 11b01AbEbFcLbNcWd
11b02AbFdNaTdWb 11b03FcLcNbTdWaWb 11b09AdFdLdNaTdWa 11b10AdAeLdNcTdWa 12a01FbLbNbWc 12a02AcEcNbWaWc 12a04Wc
12a05AbLbNdTaWb 12a07AcLaWa 12b01TaWa 12b02AdEaFbNaWaWbWd 12b03LaTa 12b09AcTdWc 12b10AcLdWa 13a01AcEaEcFdLbNbWb
13a02AdEcFaLcNcTaWa 13a04AcFcLbTaWc 13a05AaEaLcNbTcWaWc 13a07FdLbNaTcWb 13b01AbEcFcLdNcWa 13b02FbLcNbWa
13b03AcEdFdLbNaTdWc 13b09AbEcFbFcLaNaWa 13b10EcFaLaNcWaWc 14a01AaAcEaNaWaWc 14a02AbEaFdLaNcTbWaWc
14a04AaEdLbTbTcWbWc 14a05AaAcFaFbLbNaTaTcWaWb 14a07AaEbFdLcLdNaTcWc 14b01AcEbFaFcNaWc 14b02AaFbNaTcWbWd
14b03AdEdLbTaWb 14b09AcEaFcLbTdWaWc 14b10AdEbLbNbTcWc 15a01EaFbLaNbWa 15a02AcEaLaNaTaWbWd 15a04AbAcFdNcWaWb
15a05EbFbLbNaWa 15a07AcEbFaFbLdNc 15b01EcLbNaWc 15b02AaLbNdTcWaWc 15b03AaLcNbTcWaWb 15b09AcFaLaNbTaWb
15b10AcLcNbNcWa 16a01EcFcLbNcTbWb 16a02EaEcLbNbTcWb 16a04AbEaFaLaLcNcTcWbWc 16a05AbEaFcLaTbWbWc
16a07EaFaFbLaLbNbTdWa 16b01AaEbFaLaLcTbWaWb 16b02AaEbFdLbWb 16b03AdEaFaFdLaNbTaWb 16b09AbEbFbLaLbWb
16b10AaEbFbLbTbTdWaWb
"""
STEMS = frozenset(word[:5] + word[start : start + 2] for word in RELEASE_1.split() for start in range(5, len(word), 2))


class EmodbBuilder(CorpusBuilder):
    """The 535 clips of release 1; see the module's docstring."""

    VERSION = "1.1.0"  # the clips that release 2.0 adds are left out
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
    left_out = "what release 2.0 adds to the 535 clips of release 1, which published figures are on"
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
    def parse(path: PurePath) -> dict | None:
        """Fields of a clip from its name; None for what release 2.0 adds. See `CorpusBuilder.parse`."""
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError("does not read as a known speaker, text and emotion letter with a version")
        if path.stem not in STEMS or "laryngo" in path.parts[:-1]:
            return None
        emotion, source_label = EMOTION_LETTERS[match["emotion"]]
        return {
            "speaker": match["speaker"],
            "gender": SPEAKERS[match["speaker"]],
            "emotion": emotion,
            "source_label": source_label,
            "text_id": match["text"],
        }
