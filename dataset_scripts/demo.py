"""The embedded demonstration corpus: synthetic speech, made on this machine without a download.

Provenance: espeak-ng, a formant synthesiser, speaks the sentences below. "Speakers" are voices with a base pitch and
"emotions" are settings of pitch, pitch range, rate and loudness: nobody was recorded and nobody felt anything. It
shows that the machinery works; figures on it say nothing about emotion recognition (see `DISCLAIMER`).
Licence: the sentences are part of this package. espeak-ng is GPL-3.0-or-later; it is no part of this package, only
called at run time as an optional library, and its licence does not cover the speech that it outputs.
Citation: eSpeak NG, https://github.com/espeak-ng/espeak-ng
How to obtain: `pip install espeakng-loader` (the wheel: library and voices, no espeak program).

12 speakers (6 female, 6 male; 3 each of English, German, French, Hindi) speak the 8 sentences of their language once
in each of 4 emotions. Loudness, speed and voice vary by speaker and by utterance, so that emotions overlap.

Oddities: espeak-ng keeps state between utterances (flutter, wave phase) that its own initialisation does not reset,
and seeds the noise of breathy voices with the time of day: the same sentence never sounds the same twice. `speak`
therefore loads the library afresh for every clip and sets the seed.

Expected: 384 clips, 96 of each emotion, 1.2 to 2.8 s each, 11.4 minutes in all.
"""

import ctypes
import hashlib
import importlib.metadata
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import datasets
import numpy as np
import soundfile
import soxr

from .schema import CorpusBuilder, CorpusError, read_duration

if os.name == "nt":
    from _ctypes import FreeLibrary as unload
else:
    from _ctypes import dlclose as unload

DISCLAIMER = "Synthetic demonstration corpus (espeak-ng): shows that the machinery works; its figures are not results."
REMEDY = "pip install espeakng-loader"
SAMPLING_RATE = 16000  # Hz, of the clips; espeak-ng synthesises at 22050 Hz


class Speaker(NamedTuple):
    """A fixed voice: `pitch` is its neutral setting of espeak-ng, 0 to 99, where 50 is the voice's own."""

    name: str  # begins with the language
    voice: str
    gender: str
    pitch: int


class Style(NamedTuple):
    """What an emotion is here, as differences from neutral at full expression."""

    pitch: float  # espeak units, 0 to 99
    pitch_range: float  # espeak units, 0 to 99
    rate: float  # share of the neutral rate
    gain: float  # dB


class Clip(NamedTuple):
    """One utterance and all that decides its samples."""

    stem: str
    speaker: Speaker
    emotion: str
    text_id: str
    text: str
    pitch: int  # espeak units, 0 to 99
    pitch_range: int  # espeak units, 0 to 99
    rate: int  # words per minute
    gain: float  # dB


SPEAKERS = (
    Speaker("de1", "de+f1", "female", 56),
    Speaker("de2", "de+m1", "male", 50),
    Speaker("de3", "de+m7", "male", 44),
    Speaker("en1", "en-us+f2", "female", 52),
    Speaker("en2", "en-us+f5", "female", 46),
    Speaker("en3", "en-us+m3", "male", 50),
    Speaker("fr1", "fr+f3", "female", 48),
    Speaker("fr2", "fr+f4", "female", 58),
    Speaker("fr3", "fr+m4", "male", 54),
    Speaker("hi1", "hi+f2", "female", 38),
    Speaker("hi2", "hi+m6", "male", 56),
    Speaker("hi3", "hi+m8", "male", 48),
)
STYLES = {
    "neutral": Style(pitch=0, pitch_range=0, rate=0, gain=0),
    "happiness": Style(pitch=16, pitch_range=30, rate=0.05, gain=2.5),
    "sadness": Style(pitch=-8, pitch_range=-25, rate=-0.16, gain=-5),
    "anger": Style(pitch=6, pitch_range=10, rate=0.15, gain=6),
}
# Standard deviations between the utterances of one speaker and emotion.
SPREAD = Style(pitch=4, pitch_range=10, rate=0.045, gain=1.8)
EXPRESSION = (0.85, 1.15)  # how strongly a speaker expresses, as a range of factors on the style
MICROPHONE_DB = 1.0  # standard deviation of a speaker's level
NEUTRAL_RANGE = 50  # espeak units
NEUTRAL_RATE = 172  # words per minute
NEUTRAL_GAIN = -8  # dB: leaves room for the loudest anger
PAUSE = 0.05  # seconds of silence before and after the speech

# Everyday statements without emotional content.
SENTENCES = {
    "de": (
        "Der Brief liegt auf dem Schreibtisch.",
        "Der Zug kommt um halb neun an.",
        "Die Kinder warten an der Haltestelle.",
        "Heute Abend gibt es eine Suppe.",
        "Das Buch steht im Regal.",
        "In sieben Stunden sind wir da.",
        "Der Hund schläft vor der Tür.",
        "Sie hat die Fenster geschlossen.",
    ),
    "en": (
        "The children wait at the bus stop.",
        "The keys are on the kitchen table.",
        "It will be there in seven hours.",
        "The train arrives at half past nine.",
        "She put the letter in the drawer.",
        "The dog sleeps near the door.",
        "We are having soup this evening.",
        "He is reading a book by the window.",
    ),
    "fr": (
        "Le train arrive à neuf heures et demie.",
        "Les enfants attendent à l'arrêt de bus.",
        "Les clés sont posées sur la table.",
        "Nous mangeons de la soupe ce soir.",
        "Le chien dort devant la porte.",
        "Elle a rangé la lettre dans le tiroir.",
        "Il lit un livre près de la fenêtre.",
        "Nous serons là dans sept heures.",
    ),
    "hi": (
        "गाड़ी साढ़े नौ बजे आती है।",
        "बच्चे सड़क के पास खड़े हैं।",
        "चाबी मेज़ पर रखी है।",
        "आज शाम हम दाल खाएँगे।",
        "कुत्ता दरवाज़े के पास सोता है।",
        "उसने चिट्ठी अलमारी में रख दी।",
        "वह खिड़की के पास पढ़ रहा है।",
        "हम सात घंटे में वहाँ होंगे।",
    ),
}

# From espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
DONT_EXIT = 0x8000  # report a failed start instead of ending the process
UTF8 = 1
RATE, VOLUME, PITCH, PITCH_RANGE = 1, 2, 3, 4
ESPEAK_VOLUME = 60  # of 100: no clipping inside espeak-ng, loudness is set afterwards
ERRORS = {-1: "internal error", 1: "buffer full", 2: "not found"}
SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

_one_at_a_time = threading.Lock()  # espeak-ng's state is global to the process


def require_espeak() -> tuple[ModuleType, str]:
    """The espeakng_loader module and its version.

    Raises:
        CorpusError: it is not installed; the message names the remedy.
    """
    try:
        import espeakng_loader

        return espeakng_loader, importlib.metadata.version("espeakng-loader")
    except ImportError as error:
        raise CorpusError(f"the demonstration corpus needs espeakng-loader: {REMEDY}") from error


def plan(seed: int = 0) -> list[Clip]:
    """All clips of the corpus with their settings, sorted by stem; the same seed gives the same list."""
    clips = []
    for speaker in SPEAKERS:
        # Python's generator with a text as seed: unlike numpy's, its streams stay the same between versions.
        voice = random.Random(f"{seed} {speaker.name}")
        expression = voice.uniform(*EXPRESSION)
        microphone = voice.gauss(0, MICROPHONE_DB)
        language = speaker.name[:2]
        for emotion, style in STYLES.items():
            for number, text in enumerate(SENTENCES[language], start=1):
                stem = f"{speaker.name}_{emotion}_{number}"
                draw = random.Random(f"{seed} {stem}")
                change = Style(*(expression * mean + draw.gauss(0, sd) for mean, sd in zip(style, SPREAD)))
                clips.append(
                    Clip(
                        stem=stem,
                        speaker=speaker,
                        emotion=emotion,
                        text_id=f"{language}{number}",
                        text=text,
                        pitch=round(min(max(speaker.pitch + change.pitch, 0), 99)),
                        pitch_range=round(min(max(NEUTRAL_RANGE + change.pitch_range, 0), 99)),
                        rate=round(NEUTRAL_RATE * (1 + change.rate)),
                        gain=round(NEUTRAL_GAIN + microphone + change.gain, 2),
                    )
                )
    return sorted(clips)


def speak(clip: Clip, library_path: str | os.PathLike, data_path: str) -> np.ndarray:
    """Synthesise one clip.

    Args:
        clip: what to say and how.
        library_path: espeak-ng's shared library. Nobody else may have loaded this very file: a library that stays
            loaded keeps the state of the utterance before.
        data_path: its folder of voices and dictionaries.

    Returns:
        (samples,), float32 at `SAMPLING_RATE`.

    Raises:
        CorpusError: espeak-ng does not load, or refuses a call.
    """
    try:
        library = ctypes.CDLL(str(library_path))
    except OSError as error:
        raise CorpusError(f"espeak-ng does not load ({error}). Install it again: {REMEDY}") from error

    def check(status: int, call: str) -> None:
        if status != 0:
            raise CorpusError(f"espeak-ng, {clip.stem}: {call} failed: {ERRORS.get(status, status)}")

    chunks = []

    @SynthCallback
    def keep(samples, count, events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))  # int16
        return 0  # go on

    try:
        data = os.fsencode(data_path)
        rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, DONT_EXIT)  # Hz
        if rate <= 0:
            raise CorpusError(
                f"espeak-ng does not start with its data in {data_path} (a path of {len(data)} bytes; it takes up to "
                f"159). Install it again, where the path is too long in a folder with a shorter one: {REMEDY}"
            )
        check(library.espeak_ng_SetRandSeed(ctypes.c_long(1)), "seeding the noise")  # the start took the time of day
        library.espeak_SetSynthCallback(keep)
        check(library.espeak_SetVoiceByName(clip.speaker.voice.encode()), f"voice {clip.speaker.voice}")
        settings = {VOLUME: ESPEAK_VOLUME, PITCH: clip.pitch, PITCH_RANGE: clip.pitch_range, RATE: clip.rate}
        for parameter, value in settings.items():
            check(library.espeak_SetParameter(parameter, value, 0), f"parameter {parameter} = {value}")
        text = clip.text.encode()
        # Text and its length in bytes with the final zero; from position 0, counted in characters, to the end.
        check(library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, UTF8, None, None), "synthesis")
        check(library.espeak_Synchronize(), "the end of the synthesis")
        library.espeak_Terminate()
    finally:
        unload(library._handle)
    if not chunks:
        raise CorpusError(f"espeak-ng, {clip.stem}: no sound came back")

    waveform = np.frombuffer(b"".join(chunks), dtype=np.int16).astype(np.float32) / 32768
    waveform = soxr.resample(waveform, rate, SAMPLING_RATE) * 10 ** (clip.gain / 20)
    return np.pad(waveform.astype(np.float32), round(PAUSE * SAMPLING_RATE))


def synthesize(clips: Iterable[Clip], folder: str | os.PathLike) -> None:
    """Write the clips that are not yet in `folder` as 16-bit FLAC, `<stem>.flac`.

    Each appears under its name when it is complete: an interrupted run goes on where it stopped, and two at once do
    no harm.

    Raises:
        CorpusError: espeakng-loader is not installed, or espeak-ng refuses a call.
    """
    with _one_at_a_time:
        missing = [clip for clip in clips if not os.path.exists(os.path.join(folder, f"{clip.stem}.flac"))]
        if not missing:
            return
        espeakng_loader, _ = require_espeak()
        os.makedirs(folder, exist_ok=True)
        # A thread of its own, because Ctrl-C arrives in the main thread: there it would mostly fall into espeak-ng's
        # callback, where ctypes drops exceptions, and the clip would lose a piece unnoticed.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial, ThreadPoolExecutor(1) as thread:
            # A copy is loaded apart from any espeak-ng that other code in this process holds; see `speak`.
            library = os.path.join(partial, os.path.basename(espeakng_loader.get_library_path()))
            try:
                shutil.copyfile(espeakng_loader.get_library_path(), library)
                data = espeakng_loader.get_data_path()
            except (FileNotFoundError, RuntimeError) as error:  # what the loader raises where its data are missing
                raise CorpusError(f"espeakng-loader is incomplete ({error}). Install it again: {REMEDY}") from error
            for clip in datasets.utils.tqdm(missing, desc="Synthesising the demonstration corpus", unit=" clips"):
                path = os.path.join(partial, f"{clip.stem}.flac")
                waveform = thread.submit(speak, clip, library, data).result()
                soundfile.write(path, waveform, SAMPLING_RATE, subtype="PCM_16")
                os.replace(path, os.path.join(folder, f"{clip.stem}.flac"))


class DemoBuilder(CorpusBuilder):
    """Synthetic speech to try the machinery on, no data for results: see the module's docstring.

    Args:
        data_dir: where the clips go, in a folder named after their settings; `camulenet_demo` in the cache by
            default.
        cache_dir: where `datasets` keeps the prepared table; its usual cache by default.

    Raises:
        CorpusError: espeakng-loader is not installed.
    """

    corpus = "demo"
    language = "mul"  # ISO 639-2, several; every row carries its own
    emotions = tuple(STYLES)
    license = "Apache-2.0"  # the sentences'; see the module's docstring
    license_id = "apache-2.0"
    citation = "eSpeak NG, https://github.com/espeak-ng/espeak-ng"
    homepage = "https://github.com/espeak-ng/espeak-ng"
    how_to_obtain = f"It is synthesised where it is needed: {REMEDY}"
    needs_data_dir = False
    expected_counts = {emotion: sum(len(SENTENCES[s.name[:2]]) for s in SPEAKERS) for emotion in emotions}
    expected_speakers = tuple(speaker.name for speaker in SPEAKERS)

    def __init__(
        self, data_dir: str | os.PathLike | None = None, cache_dir: str | os.PathLike | None = None, **kwargs
    ):
        _, espeak_version = require_espeak()
        self.clips = plan()
        settings = repr((self.VERSION, espeak_version, SAMPLING_RATE, ESPEAK_VOLUME, PAUSE, self.clips))
        root = data_dir or Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "camulenet_demo"
        self.folder = Path(root).expanduser().resolve() / hashlib.sha256(settings.encode()).hexdigest()[:16]
        super().__init__(cache_dir=cache_dir, **kwargs)

    def download_and_prepare(self, *args, **kwargs):
        """Synthesise what is missing, also where the table is prepared already: it holds paths, not audio."""
        synthesize(self.clips, self.folder)
        super().download_and_prepare(*args, **kwargs)

    def rows(self) -> Iterator[dict]:
        """See `CorpusBuilder.rows`."""
        for clip in self.clips:
            audio = {"bytes": None, "path": str(self.folder / f"{clip.stem}.flac")}
            fields = {
                "speaker": clip.speaker.name,
                "gender": clip.speaker.gender,
                "emotion": clip.emotion,
                "source_label": clip.emotion,
                "text_id": clip.text_id,
            }
            row = self.row(clip.stem, fields, audio, read_duration(audio))
            yield row | {"language": clip.speaker.name[:2]}

    def _listing_hash(self) -> str:
        """The clips' folder stands for its content: it is named after all that decides it."""
        return hashlib.sha256(f"{super()._listing_hash()} {self.folder}".encode()).hexdigest()[:16]

    def _info(self) -> datasets.DatasetInfo:
        info = super()._info()
        info.description = DISCLAIMER
        return info


if __name__ == "__main__":
    builder = DemoBuilder()
    synthesize(builder.clips, builder.folder)
    print(builder.folder)
