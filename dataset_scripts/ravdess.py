"""RAVDESS: the Ryerson Audio-Visual Database of Emotional Speech and Song, its speech recordings.

Provenance: 24 professional actors of North American English (12 women, 12 men) speak two sentences in eight
emotions, recorded at 48 kHz in a studio of Ryerson University, Toronto.
Licence: CC BY-NC-SA 4.0 (non-commercial).
Citation: S. R. Livingstone and F. A. Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song
(RAVDESS): A dynamic, multimodal set of facial and vocal expressions in North American English", PLoS ONE 13(5):
e0196391, 2018, doi 10.1371/journal.pone.0196391.
How to obtain: `Audio_Speech_Actors_01-24.zip` of https://zenodo.org/records/1188976, unpacked.

Names are MM-VC-EM-IN-ST-RE-AC: modality (01 audio and video, 02 video, 03 audio), vocal channel (01 speech, 02 song),
emotion, intensity (01 normal, 02 strong), statement (01 "Kids are talking by the door", 02 "Dogs are sitting by the
door"), repetition, actor. Odd actors are male, even ones female.

Oddities: neutral has no strong intensity, hence half the clips of any other emotion. Some archives carry every clip
a second time in a folder of their own: identical copies are left out. Song and video lie under the same naming and are
left out. The actor is read from the file name, never from its folder. 03-01-03-01-02-01-07 and 03-01-03-01-02-02-07
are one recording (same samples in the copy that we looked at; the same actor and emotion): both are kept.

Expected: 1440 clips, 60 of each actor: neutral 96, every other emotion 192.
"""

import re
from pathlib import PurePath

from .schema import CorpusBuilder, CorpusError

# code in the name -> (canonical emotion, the corpus's own word)
EMOTION_CODES = {
    "01": ("neutral", "neutral"),
    "02": ("calm", "calm"),
    "03": ("happiness", "happy"),
    "04": ("sadness", "sad"),
    "05": ("anger", "angry"),
    "06": ("fear", "fearful"),
    "07": ("disgust", "disgust"),
    "08": ("surprise", "surprised"),
}
NUM_ACTORS = 24
NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])"
    r"-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>0[1-9]|1[0-9]|2[0-4])"
)


class RavdessBuilder(CorpusBuilder):
    """The 1440 speech clips; see the module's docstring."""

    corpus = "ravdess"
    language = "en"
    emotions = tuple(emotion for emotion, _ in EMOTION_CODES.values())
    license = "CC BY-NC-SA 4.0"
    license_id = "cc-by-nc-sa-4.0"
    citation = (
        "S. R. Livingstone and F. A. Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), "
        "PLoS ONE 13(5): e0196391, 2018"
    )
    homepage = "https://zenodo.org/records/1188976"
    how_to_obtain = (
        "RAVDESS speech is Audio_Speech_Actors_01-24.zip of https://zenodo.org/records/1188976; unpack it and give "
        "the folder that holds Actor_01 to Actor_24 as data_dir."
    )
    name_pattern = "MM-VC-EM-IN-ST-RE-AC, e.g. 03-01-05-01-02-01-24.wav"
    left_out = "song, or the sound of a video"
    expected_counts = {emotion: 96 if emotion == "neutral" else 192 for emotion in emotions}
    expected_speakers = tuple(f"{actor:02d}" for actor in range(1, NUM_ACTORS + 1))

    @staticmethod
    def parse(path: PurePath) -> dict | None:
        """Fields of a clip from its name; None for song and video. See `CorpusBuilder.parse`."""
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError("does not read as seven two-digit fields in their ranges")
        if match["modality"] != "03" or match["channel"] != "01":
            return None
        emotion, source_label = EMOTION_CODES[match["emotion"]]
        if emotion == "neutral" and match["intensity"] == "02":
            raise CorpusError("neutral speech has no strong intensity")
        return {
            "speaker": match["actor"],
            "gender": "male" if int(match["actor"]) % 2 else "female",
            "emotion": emotion,
            "source_label": source_label,
            "text_id": match["statement"],
        }
