"""Branch features and the encoder's input: ours, batched in torch, against librosa and `WhisperFeatureExtractor`.

    python benchmarks/features.py

The spectrogram, MFCCs and log-mel of 64 clips as long as RAVDESS's. Two comparisons:

- like for like: librosa with the windows, hops and bins of `camulenet`, and Whisper's log-mel of the clips' own
  length;
- what the released code does: librosa with windows of 40 samples every 10, its own default MFCCs, and Whisper's
  log-mel padded to 30 s.

Everything runs on one thread unless `--threads` says more: librosa does not use others.
"""

import librosa
import torch
from inputs import SAMPLING_RATE, ravdess_durations, synthetic_clips
from measure import Row, arguments_of, in_turn, report, serve
from transformers import WhisperFeatureExtractor

from modeling_camulenet import CAMuLeNetFeatureExtractor

NUM_CLIPS = 64


def ours(clips):
    extractor = CAMuLeNetFeatureExtractor()
    return lambda: extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt")


def like_for_like(clips):
    whisper = WhisperFeatureExtractor()
    frames = {"sr": SAMPLING_RATE, "n_fft": 400, "hop_length": 160, "pad_mode": "reflect"}

    def features(clip):
        mel = librosa.feature.melspectrogram(y=clip, n_mels=80, htk=True, norm=None, **frames)
        return (
            librosa.power_to_db(librosa.feature.melspectrogram(y=clip, n_mels=128, **frames)),
            librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=40),
        )

    def run():
        log_mel = whisper(clips, sampling_rate=SAMPLING_RATE, padding="longest", truncation=False, return_tensors="pt")
        return log_mel, [features(clip) for clip in clips]

    return run


def released(clips):
    whisper = WhisperFeatureExtractor()

    def features(clip):
        return (
            whisper(clip, sampling_rate=SAMPLING_RATE, return_tensors="pt"),
            librosa.feature.melspectrogram(
                y=clip, sr=SAMPLING_RATE, n_fft=800, win_length=40, hop_length=10, window="hamming", n_mels=128
            ),
            librosa.feature.mfcc(y=clip, sr=SAMPLING_RATE, n_mfcc=40),
        )

    return lambda: [features(clip) for clip in clips]


SIDES = {"ours": ours, "like for like": like_for_like, "released": released}


def main() -> None:
    arguments = arguments_of(__doc__, lambda parser: parser.set_defaults(threads=1))
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        run = SIDES[arguments.side](synthetic_clips(ravdess_durations(NUM_CLIPS)))
        serve(lambda: run() and None)
        return
    seconds = {
        name: side["seconds"]
        for name, side in in_turn(dict.fromkeys(SIDES, ()), arguments.repeats, arguments.threads).items()
    }
    what = f"spectrogram, MFCCs and log-mel of {NUM_CLIPS} clips of 3.7 s"
    rows = [
        Row(
            "features_like_for_like", what, seconds["ours"], seconds["like for like"], "librosa, same windows and bins"
        ),
        Row("features_released", what, seconds["ours"], seconds["released"], "librosa as the released code calls it"),
    ]
    report(rows, arguments)


if __name__ == "__main__":
    main()
