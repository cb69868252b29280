"""More than 200 audio files that are odd or bad, each with what must come of it."""

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile

RATE = 16000
DURATION_S = 0.6
BAD = "bad"  # refused, in words that name the file
ANY = "any"  # of a lossy file that is damaged: some of it is read, or it is refused


@dataclass
class OddFile:
    """`expected` is the mono waveform at `RATE` whose prediction the file must have to `tolerance`, `BAD` or `ANY`."""

    name: str
    content: bytes
    expected: np.ndarray | str
    tolerance: float = 1e-5


def speech(rate: int = RATE, duration_s: float = DURATION_S) -> np.ndarray:
    """The same buzz of changing loudness at any rate, float64: all of it lies under 3 kHz."""
    time = np.arange(round(duration_s * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 170 * n * time) / n for n in range(1, 18))
    return 0.2 * buzz * (0.6 + 0.4 * np.sin(5 * time))


def encoded(samples: np.ndarray, rate: int = RATE, file_format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype=subtype)
    return file.getvalue()


def patched(content: bytes, offset: int, code: str, value: int) -> bytes:
    """A file with another value in its header; `code` as in `struct`."""
    content = bytearray(content)
    struct.pack_into(code, content, offset, value)
    return bytes(content)


def flac_of_length(content: bytes, num_samples: int) -> bytes:
    """A FLAC file whose header says another length: 36 bits, the last ones of STREAMINFO before its checksum."""
    return patched(patched(content, 21, "B", content[21] & 0xF0 | num_samples >> 32), 22, ">I", num_samples % 2**32)


def on_grid(samples: np.ndarray, bits: int = 16) -> np.ndarray:
    """As a file of so many bits keeps them."""
    return (np.round(samples * 2 ** (bits - 1)) / 2 ** (bits - 1)).clip(-1, 1 - 2.0 ** (1 - bits))


# Subtypes that hold 16 bits or more keep the clip; of the others the tolerance is that of the scores.
SUBTYPES = {
    ("WAV", "PCM_U8"): 8,
    ("WAV", "PCM_16"): 16,
    ("WAV", "PCM_24"): 24,
    ("WAV", "PCM_32"): 32,
    ("WAV", "FLOAT"): 32,
    ("WAV", "DOUBLE"): 32,
    ("WAV", "ULAW"): 0,
    ("WAV", "ALAW"): 0,
    ("WAV", "IMA_ADPCM"): 0,
    ("WAVEX", "PCM_16"): 16,
    ("RF64", "PCM_16"): 16,
    ("W64", "PCM_16"): 16,
    ("AIFF", "PCM_S8"): 8,
    ("AIFF", "PCM_16"): 16,
    ("AIFF", "PCM_24"): 24,
    ("AIFF", "FLOAT"): 32,
    ("AU", "PCM_16"): 16,
    ("CAF", "PCM_16"): 16,
    ("FLAC", "PCM_S8"): 8,
    ("FLAC", "PCM_16"): 16,
    ("FLAC", "PCM_24"): 24,
    ("OGG", "VORBIS"): 0,
    ("OGG", "OPUS"): 0,
    ("MP3", "MPEG_LAYER_III"): 0,
}
SUFFIX = {"WAVEX": ".wav", "RF64": ".wav", "AIFF": ".aiff"}
CONTAINERS = (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"))
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000)
NAMES = (
    "with spaces in it",
    " leading",
    "trailing ",
    "new\nline",
    "tab\tquote\"s'",
    "comma, semicolon; percent%20",
    "Wörter",
    "आवाज़",
    "声音",
    "😀",
    "u\u0308 decomposed",
    "-dash",
    "$(echo hi)",
    "back\\slash",
    "x" * 246,
    "/".join(["deep" * 20] * 8),
)


def whole_files():
    """Every subtype, rate and number of channels."""
    clip = on_grid(speech())
    for (file_format, subtype), bits in SUBTYPES.items():
        name = f"format {file_format} {subtype}" + SUFFIX.get(file_format, f".{file_format.lower()}")
        content = encoded(clip, file_format=file_format, subtype=subtype)
        if bits >= 16:
            yield OddFile(name, content, clip)
        elif bits:
            yield OddFile(name, content, on_grid(clip, bits), 2e-2)
        else:
            yield OddFile(name, content, clip, 1e-1)
    for rate in RATES:
        for channels in (1, 2, 6):
            samples = np.repeat(speech(rate)[:, None], channels, axis=1)
            yield OddFile(f"{rate} Hz, {channels}.wav", encoded(samples, rate, subtype="FLOAT"), speech(), 2e-2)
            if channels < 6:
                content = encoded(samples, rate, "FLAC", "PCM_24")
                yield OddFile(f"{rate} Hz, {channels}, FLAC.flac", content, speech(), 2e-2)
    for channels in (1, 2, 3, 4, 5, 6):
        samples = np.zeros((len(clip), channels))
        samples[:, -1] = clip
        yield OddFile(f"last of {channels}.wav", encoded(samples, subtype="DOUBLE"), clip / channels)
    opposed = encoded(np.stack((clip, -clip), axis=1), subtype="FLOAT")
    yield OddFile("channels that cancel out.wav", opposed, BAD)


def odd_signals():
    """Lengths, offsets, levels and values that no good recording has."""
    clip = on_grid(speech())
    for num_samples in (1, 2, 3, 10, 159, 160, 161, 399, 400, 401, 1600):
        part = clip[1000 : 1000 + num_samples]
        yield OddFile(f"{num_samples} samples.wav", encoded(part), part)
    for file_format, subtype in CONTAINERS:
        suffix = SUFFIX.get(file_format, f".{file_format.lower()}")
        yield OddFile(
            f"0 samples of {file_format}{suffix}", encoded(clip[:0], file_format=file_format, subtype=subtype), BAD
        )
        silence = encoded(np.zeros(9600), file_format=file_format, subtype=subtype)
        yield OddFile(f"all zeros of {file_format}{suffix}", silence, BAD)
    for offset in (-0.5, -0.1, 0.1, 0.5):
        yield OddFile(f"offset {offset}.wav", encoded(clip + offset, subtype="FLOAT"), clip + offset)
    for gain in (1e-4, 0.01, 3.0, 30.0):
        yield OddFile(f"gain {gain}.wav", encoded(gain * clip, subtype="FLOAT"), gain * clip)
        yield OddFile(f"clipped at gain {gain}.wav", encoded(on_grid(gain * clip)), on_grid(gain * clip))
    for gain in (2.0**15, 1e10, 1e30):
        yield OddFile(f"gain {gain}.wav", encoded(gain * clip, subtype="FLOAT"), BAD)
    for value in (np.nan, np.inf, -np.inf):
        for place in (0, 5000, len(clip) - 1):
            for subtype in ("FLOAT", "DOUBLE"):
                spoilt = clip.copy()
                spoilt[place] = value
                yield OddFile(f"{value} at {place} {subtype}.wav", encoded(spoilt, subtype=subtype), BAD)
    yield OddFile("beyond float32.wav", encoded(np.full(100, 1e300), subtype="DOUBLE"), BAD)
    for index in (0, 1):
        spoilt = np.stack((clip, clip), axis=1)
        spoilt[7, index] = np.nan
        yield OddFile(f"nan in channel {index}.wav", encoded(spoilt, subtype="FLOAT"), BAD)


def cut_files():
    """Files that end at every kind of place."""
    clip = on_grid(speech())
    for file_format, subtype in CONTAINERS:
        content = encoded(clip, file_format=file_format, subtype=subtype)
        suffix = SUFFIX.get(file_format, f".{file_format.lower()}")
        head = len(content) - 2 * len(clip)  # of the formats without compression
        for cut in (0, 1, 3, 4, 8, 12, 20, 36, 40, 44, 60, 100, 1000, len(content) // 2, len(content) - 1):
            expected = BAD if file_format == "FLAC" or cut <= 44 else ANY
            if file_format in ("WAV", "AIFF"):
                part = clip[: max(cut - head, 0) // 2]
                expected = part if part.any() else BAD
            yield OddFile(f"cut at {cut} of {file_format}{suffix}", content[:cut], expected)
        middle = len(content) // 4 * 2
        zeroed = content[:middle] + bytes(len(content) - middle)
        expected = BAD if file_format == "FLAC" else ANY
        if file_format in ("WAV", "AIFF"):
            kept = (middle - head) // 2
            expected = np.concatenate((clip[:kept], np.zeros(len(clip) - kept)))
        yield OddFile(f"zeros in its second half of {file_format}{suffix}", zeroed, expected)


def wrong_headers():
    """Headers that lie."""
    clip = on_grid(speech())
    wav, flac = encoded(clip), encoded(clip, file_format="FLAC")
    for rate in (0, 1, 7, 100, 999, 768_001, 2**31 - 1, 2**32 - 1):
        yield OddFile(f"rate {rate}.wav", patched(wav, 24, "<I", rate), BAD)
    for channels in (0, 1025, 65535):
        yield OddFile(f"channels {channels}.wav", patched(wav, 22, "<H", channels), BAD)
    for bits in (0, 64, 65535):
        yield OddFile(f"bits {bits}.wav", patched(wav, 34, "<H", bits), BAD)
    for code in (0, 2, 17, 85, 0x4242, 0xFFFE):
        yield OddFile(f"codec {code}.wav", patched(wav, 20, "<H", code), BAD)
    for size in (0, 1):
        yield OddFile(f"data of {size} bytes.wav", patched(wav, 40, "<I", size), BAD)
    for size in (2**31 - 1, 2**32 - 1):
        yield OddFile(f"data of {size} bytes.wav", patched(wav, 40, "<I", size), clip)
    for num_samples in (2**20, 2**36 - 1):
        yield OddFile(f"length {num_samples}.flac", flac_of_length(flac, num_samples), BAD)
    yield OddFile("length 8000.flac", flac_of_length(flac, 8000), clip[:8000])
    for suffix in (".wav", ".flac", ".mp3", ".ogg", ".aiff"):
        yield OddFile(f"text as {suffix[1:]}{suffix}", b"no audio at all\n" * 40, BAD)
        yield OddFile(f"picture as {suffix[1:]}{suffix}", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, BAD)
    yield OddFile("page.wav", b"<!DOCTYPE html><title>404</title>", BAD)
    yield OddFile("pointer.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", BAD)
    yield OddFile("flac.wav", flac, clip)
    yield OddFile("wav.flac", wav, clip)
    yield OddFile("trailing bytes.wav", wav + b"ID3 or so" * 30, clip)


def odd_names():
    content, clip = encoded(on_grid(speech())), on_grid(speech())
    for name in NAMES:
        yield OddFile(f"{name}.wav", content, clip)
        yield OddFile(f"{name}.bad.wav" if len(name) < 240 else f"{name[:-4]}.bad.wav", b"no audio", BAD)


def odd_files() -> list[OddFile]:
    return [file for group in (whole_files, odd_signals, cut_files, wrong_headers, odd_names) for file in group()]
