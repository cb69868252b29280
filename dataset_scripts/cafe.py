"""CaFE: the Canadian French Emotional speech dataset.

Provenance: twelve actors of Canadian French (six women, six men) speak six sentences in six emotions at two
intensities and neutrally; published by the Université de Sherbrooke at 192 and at 48 kHz.
Licence: CC BY-NC-SA 4.0 (non-commercial).
Citation: P. Gournay, O. Lahaie and R. Lefebvre, "A Canadian French Emotional Speech Dataset", Proc. 9th ACM Multimedia
Systems Conference (MMSys), 2018, pp. 399-402, doi 10.1145/3204949.3208121.
How to obtain: `CaFE_48k.zip` of https://zenodo.org/records/1478765, unpacked.

Names are SS-E-I-T: speaker (01 to 12, odd ones male, even ones female), the first letter of the French word for the
emotion, intensity (1 weak, 2 strong), sentence (1 to 6): 01-C-1-1. The letters: C (Colère) anger, D (Dégoût) disgust,
J (Joie) happiness, N (Neutre) neutral, P (Peur) fear, S (Surprise) surprise, T (Tristesse) sadness.

Oddities: neutral has intensity 1 only, hence half the clips of any other emotion. The folders are the French words,
whose accents archives and unpackers garble, often into bytes that are no UTF-8; they are not looked at: the file name
says everything. The 192 kHz release (`CaFE_192k_1.zip` and `CaFE_192k_2.zip`) has the same names: give one release.

Expected: 936 clips, 78 of each speaker: neutral 72, every other emotion 144.
"""

import re
from pathlib import PurePath

from .schema import CorpusBuilder, CorpusError

# letter in the name -> (canonical emotion, the corpus's own word)
EMOTION_LETTERS = {
    "N": ("neutral", "Neutre"),
    "J": ("happiness", "Joie"),
    "T": ("sadness", "Tristesse"),
    "C": ("anger", "Colère"),
    "P": ("fear", "Peur"),
    "D": ("disgust", "Dégoût"),
    "S": ("surprise", "Surprise"),
}
NUM_SPEAKERS = 12
NAME = re.compile(r"(?P<speaker>0[1-9]|1[0-2])-(?P<emotion>[CDJNPST])-(?P<intensity>[12])-(?P<sentence>[1-6])")
RELEASE_FOLDER = re.compile(r"(?:^|/)(?P<name>cafe_(?P<rate>48|192)k)", re.IGNORECASE)


class CafeBuilder(CorpusBuilder):
    """The 936 clips; see the module's docstring."""

    corpus = "cafe"
    language = "fr"
    emotions = tuple(emotion for emotion, _ in EMOTION_LETTERS.values())
    license = "CC BY-NC-SA 4.0"
    license_id = "cc-by-nc-sa-4.0"
    citation = (
        "P. Gournay, O. Lahaie and R. Lefebvre, A Canadian French Emotional Speech Dataset, Proc. 9th ACM Multimedia "
        "Systems Conference (MMSys), 2018, pp. 399-402"
    )
    homepage = "https://zenodo.org/records/1478765"
    how_to_obtain = (
        "CaFE is CaFE_48k.zip of https://zenodo.org/records/1478765; unpack it and give the folder that holds Joie, "
        "Peur and the other emotions as data_dir."
    )
    name_pattern = "speaker-emotion letter-intensity-sentence, e.g. 01-C-1-1.wav"
    expected_counts = {emotion: 72 if emotion == "neutral" else 144 for emotion in emotions}
    expected_speakers = tuple(f"{speaker:02d}" for speaker in range(1, NUM_SPEAKERS + 1))

    def read_metadata(self) -> None:
        """Refuse both releases at once: every utterance would be there twice, in different files."""
        folders = {}  # sampling rate in kHz -> what the folders of that release are called
        for file in self.files:
            if folder := RELEASE_FOLDER.search(file.relative):
                folders[folder["rate"]] = folder["name"]
        if len(folders) > 1:
            raise CorpusError(
                f"{self.config.data_dir} holds two releases of CaFE ({' and '.join(folders.values())}), which are "
                "the same utterances at 48 and at 192 kHz; point data_dir at CaFE_48k alone, or move one of them "
                "elsewhere"
            )

    @staticmethod
    def parse(path: PurePath) -> dict:
        """Fields of a clip from its name. See `CorpusBuilder.parse`."""
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError("does not read as speaker 01 to 12, emotion letter, intensity and sentence 1 to 6")
        emotion, source_label = EMOTION_LETTERS[match["emotion"]]
        if emotion == "neutral" and match["intensity"] == "2":
            raise CorpusError("neutral speech has no strong intensity")
        return {
            "speaker": match["speaker"],
            "gender": "male" if int(match["speaker"]) % 2 else "female",
            "emotion": emotion,
            "source_label": source_label,
            "text_id": match["sentence"],
        }
