"""The features that a frozen encoder's training reads, on disk: computed once for all folds, seeds and presets.

    python -m ser_protocol.feature_cache info|verify|clear [--cache_dir DIR] [NAME ...]

    <cache_dir>/camulenet_features/
        format.json                         version of this layout
        <kind>-<key>/                       one kind of features (encoder, spectrogram, mfcc) under one set of settings
            settings.json                   what the key stands for
            <plan>.json                     the clips that were missing when a build began: its shards follow from them
            <plan>-00000.safetensors        a shard: a tensor (frames, ...) for each clip, named by the clip's content
            locks/                          which process builds which shard

A shard is whole or not there, and what it holds is a function of its plan alone: not of interruptions, nor of the
process that built it. Safetensors rather than Arrow, since it has bfloat16 and names each clip's tensor. A shard is
opened for the moment of a reading only: a clip then takes 0.4 ms instead of Arrow's 0.06 ms, and resident memory does
not grow with the corpus, where either format held open maps all of it (benchmarks/cache_format.py).
"""

import argparse
import errno
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from huggingface_hub.constants import HF_HOME
from safetensors import SafetensorError, safe_open
from tqdm.auto import tqdm
from transformers import PreTrainedConfig
from transformers.utils.generic import maybe_autocast

from dataset_scripts.schema import CorpusError, listed, read_audio
from modeling_camulenet import CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from modeling_camulenet.feature_extraction_camulenet import WHISPER_WINDOW_S
from modeling_camulenet.speech_encoder_camulenet import SpeechEncoder

from .feature_store import FeatureSubset, labels_of
from .files import write_atomically

logger = logging.getLogger(__name__)

FORMAT = 1  # raise it when the layout, or what is computed under the same settings, changes
FOLDER = "camulenet_features"
SHARD_BYTES = 16e6
BATCH_S = 64.0  # seconds of a batch, padding included
DTYPES = ("float16", "bfloat16", "float32")
# Decibels have no zero to be precise about: of 16 bits, fixed point over a clip's own range rounds much less than half
# precision does.
INT16_STEPS = 2**16
SCALE = " scale"  # behind a clip's name: its lowest value and the step between two codes


class CacheError(ValueError):
    """The cache cannot be used or written; the message names the remedy."""


def cache_root(cache_dir: str | None) -> Path:
    """Folder of all cached features: in `cache_dir`, by default in that of the Hugging Face libraries."""
    return Path(cache_dir or HF_HOME).expanduser() / FOLDER


def check_format(root: Path) -> None:
    """
    Whether this version can read the cache.

    Raises:
        CacheError: another version wrote it.
    """
    path = root / "format.json"
    try:
        found = json.loads(path.read_text())["format"]
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(
            f"{root} cannot be read: {error.strerror}. Give a folder that can be as --cache_dir."
        ) from error
    except (ValueError, KeyError, TypeError):
        found = None
    if found != FORMAT:
        raise CacheError(
            f"{root} holds features of another version of CAMuLeNet (format {found}, this one reads {FORMAT}). Empty "
            f"it with `python -m ser_protocol.feature_cache clear --cache_dir {root.parent}`, or give another "
            "--cache_dir."
        )


def check_room(root: Path, num_bytes: float) -> None:
    """
    Whether the disk has room for what is to be computed.

    Raises:
        CacheError: it has not.
    """
    folder = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise CacheError(
            f"The features need about {_size(num_bytes)}, and {root} has {_size(free)} left. Make room, or give a "
            "--cache_dir on another disk."
        )


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2f} MB"


def clip_name(content: str, speed: float = 1.0, cut_s: float | None = None) -> str:
    """
    Name of a clip in the shards.

    Args:
        content: SHA-256 of the audio file.
        speed: at which it is played.
        cut_s: where its end is cut off, in seconds, if it is.
    """
    return content + (f"@{speed:g}" if speed != 1 else "") + (f"<{cut_s:g}s" if cut_s else "")


class ShardedFeatures:
    """
    One kind of features under one set of settings: a tensor (frames, ...) for each clip.

    Args:
        root: see `cache_root`.
        kind: what the features are.
        settings: all that they depend on beside the audio.
    Raises:
        CacheError: another version wrote the cache.
    """

    def __init__(self, root: Path, kind: str, settings: dict):
        check_format(root)
        self.settings = {"kind": kind, **settings}
        self.text = json.dumps(self.settings, sort_keys=True, indent=2) + "\n"
        self.directory = root / f"{kind}-{_key(self.text.encode())}"
        self._shard_of: dict[str, Path] = {}

    def read(self, clip: str) -> torch.Tensor:
        """Features of a clip that `build` was given: (frames, ...)."""
        with safe_open(self._shard_of[clip], "pt") as shard:
            stored = shard.get_tensor(clip)
            if self.settings["dtype"] != "int16":
                return stored.clone()
            lowest, step = shard.get_tensor(clip + SCALE)
        return (stored.float() + INT16_STEPS // 2) * step + lowest

    def missing(self, clips: Iterable[str]) -> list[str]:
        """
        Those of the clips that no shard holds. Damaged files are removed, and said so.

        Raises:
            CacheError: a damaged file cannot be removed.
        """
        self._shard_of = {}
        try:
            for path in sorted(self.directory.glob("*.safetensors")):
                shard = intact_clips(path)
                if shard is None:
                    logger.warning(f"{path} is damaged: it is removed, and its clips are computed again.")
                    path.unlink(missing_ok=True)
                self._shard_of |= dict.fromkeys(shard or (), path)
            for path in sorted(self.directory.glob("*.json")):
                if not _as_written(path):
                    logger.warning(f"{path} is damaged: it is removed, or written again.")
                    path.unlink(missing_ok=True)
                    if path.name == "settings.json":
                        write_atomically(path, self.text)
        except OSError as error:
            raise self._unwritable(error) from error
        return [clip for clip in clips if clip not in self._shard_of]

    def build(
        self,
        missing: Mapping[str, tuple[float, int]],
        load: Callable[[str], np.ndarray],
        compute: Callable[[list[np.ndarray]], list[torch.Tensor]],
        progress: bool = True,
    ) -> None:
        """
        Compute the features that are not there. Processes that build at once share the work.

        Args:
            missing: clips that `missing` named, each with the seconds that are computed, by which like clips come into
                a batch, and about how many bytes its features take.
            load: a clip's waveform (samples,).
            compute: features (frames, ...) of some waveforms, in their order.
            progress: whether to show a progress bar.
        Raises:
            CorpusError: some audio cannot be used; names all such files.
            CacheError: the folder cannot be written, or the disk is full.
        """
        if not missing:
            return
        try:
            (self.directory / "locks").mkdir(parents=True, exist_ok=True)
            write_atomically(self.directory.parent / "format.json", json.dumps({"format": FORMAT}) + "\n")
            write_atomically(self.directory / "settings.json", self.text)
            shards = self._planned_shards(missing)
        except OSError as error:
            raise self._unwritable(error) from error
        bad_files, left = [], []
        with tqdm(total=len(missing), desc=self.settings["kind"], unit="clip", disable=not progress) as bar:
            # What another process is building is waited for when nothing else is left to do.
            for wait in (False, True):
                todo, left = (left, []) if wait else (shards, [])
                for path, batches in todo:
                    lock = FileLock(self.directory / "locks" / f"{path.stem}.lock", timeout=-1 if wait else 0)
                    try:
                        with lock:
                            if not path.is_file():
                                problems = self._write_shard(path, batches, load, compute)
                                bad_files += problems
                                if problems:
                                    continue
                    except Timeout:
                        left.append((path, batches))
                        continue
                    except OSError as error:
                        raise self._unwritable(error) from error
                    clips = [clip for batch in batches for clip in batch]
                    self._shard_of |= dict.fromkeys(clips, path)
                    bar.update(len(clips))
        if bad_files:
            bad_files = sorted(set(bad_files))  # a clip and its copies at other speeds
            raise CorpusError(
                f"{len(bad_files)} audio files cannot be used:\n{listed(bad_files)}\n"
                "Replace them from the corpus's release, or remove them from data_dir."
            )

    def _unwritable(self, error: OSError) -> CacheError:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        return CacheError(
            f"{self.directory} cannot be written: {reason}. Shards that were finished stay. Make room or give a "
            "--cache_dir that can be written, and start the same command again."
        )

    def _planned_shards(self, missing: Mapping[str, tuple[float, int]]) -> list[tuple[Path, list[list[str]]]]:
        """
        Shards for the missing clips, each with its batches: first those of builds that were interrupted, as they were
        planned, then those of a plan of its own for the rest.
        """
        shards, rest = [], dict(missing)
        for path in sorted(self.directory.glob("*.json")):
            if path.name == "settings.json" or not _as_written(path):
                continue
            plan = json.loads(path.read_text())
            unfinished = {clip for clip, *_ in plan if clip not in self._shard_of}
            if unfinished and unfinished <= rest.keys():
                shards += self._shards_of(path, plan)
                rest = {clip: value for clip, value in rest.items() if clip not in unfinished}
        if rest:
            clips = sorted(rest.items(), key=lambda clip: (-clip[1][0], clip[0]))
            plan = [[clip, duration_s, num_bytes] for clip, (duration_s, num_bytes) in clips]
            text = json.dumps(plan) + "\n"
            path = self.directory / f"{_key(text.encode())}.json"
            write_atomically(path, text)
            shards += self._shards_of(path, plan)
        finished = set(self._shard_of.values())
        return [(path, batches) for path, batches in shards if path not in finished]

    def _shards_of(self, path: Path, plan: list[list]) -> list[tuple[Path, list[list[str]]]]:
        """A plan's shards: clips in the order of their lengths, in batches, as many as make a shard's size."""
        batches, shards, size, longest_s = [], [], SHARD_BYTES, 0.0
        for clip, duration_s, num_bytes in plan:
            if not batches or longest_s * (len(batches[-1]) + 1) > BATCH_S:
                batches.append([])
                longest_s = duration_s  # the clips get shorter
                if size >= SHARD_BYTES:
                    shards.append([])
                    size = 0
                shards[-1].append(batches[-1])
            batches[-1].append(clip)
            size += num_bytes
        return [(path.with_name(f"{path.stem}-{number:05d}.safetensors"), s) for number, s in enumerate(shards)]

    def _write_shard(self, path: Path, batches: list[list[str]], load, compute) -> list[str]:
        """Computes and writes one shard; where audio is bad nothing is written and the bad files are returned."""
        for left_over in self.directory.glob(f".{path.name}.*.tmp"):  # of a process that was killed
            left_over.unlink(missing_ok=True)
        tensors, bad_files = {}, []
        for batch in batches:
            waveforms = []
            for clip in batch:
                try:
                    waveforms.append(load(clip))
                except CorpusError as error:
                    bad_files.append(str(error))
            if not bad_files:
                for clip, features in zip(batch, compute(waveforms)):
                    tensors |= self._stored(clip, features)
        if not bad_files:
            content = safetensors.torch.save(tensors)
            write_atomically(path, safetensors.torch.save(tensors, {"sha256": _data_hash(content)}))
        return bad_files

    def _stored(self, clip: str, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """A clip's tensors in a shard."""
        features, dtype = features.cpu(), self.settings["dtype"]
        scale = {}
        if dtype == "int16":
            lowest = features.min()
            step = ((features.max() - lowest) / (INT16_STEPS - 1)).clamp(min=torch.finfo(torch.float32).tiny)
            scale = {clip + SCALE: torch.stack((lowest, step))}
            features = ((features - lowest) / step).round() - INT16_STEPS // 2
        stored = features.to(getattr(torch, dtype)).contiguous()
        if not all(tensor.isfinite().all() for tensor in (features, stored, *scale.values())):
            raise CacheError(
                f"Features of the kind {self.settings['kind']} are not finite in {dtype}. Take --cache_dtype bfloat16 "
                "or float32; if that is float32 already, look at the encoder's weights."
            )
        return {clip: stored, **scale}


def _key(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _as_written(path: Path) -> bool:
    """Whether a plan or a folder's settings.json is as it was written: either's key is in a name."""
    try:
        name = path.parent.name if path.name == "settings.json" else path.stem
        return name.endswith(_key(path.read_bytes()))
    except FileNotFoundError:  # another process has just removed it
        return True


def _data_hash(content: bytes) -> str:
    """SHA-256 of what follows the header of a safetensors file."""
    return hashlib.sha256(memoryview(content)[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def _clips_in(shard) -> list[str]:
    return [name for name in list(shard.keys()) if not name.endswith(SCALE)]


def intact_clips(path: Path) -> list[str] | None:
    """Names of a shard's clips; `None` where the file is not as it was written."""
    try:
        with safe_open(path, "pt") as shard:
            clips, metadata = _clips_in(shard), shard.metadata()
        return clips if (metadata or {}).get("sha256") == _data_hash(path.read_bytes()) else None
    except (SafetensorError, OSError):
        return None


def weights_hash(module: torch.nn.Module) -> str:
    """SHA-256 of a module's weights, with their names and types."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class CachedFeatures:
    """
    Every utterance's features and labels, where the encoder is frozen: its frames and the branches' features on disk.

    Args:
        dataset: rows of `dataset_scripts.schema`.
        model: with its frozen encoder, which is not kept.
        cache_dir: see `cache_root`.
        dtype: how features are stored, one of `DTYPES`.
        speed_factors: speeds at which further copies of every clip are kept for training.
        autocast_dtype: the encoder's precision under mixed precision, or `None`.
        device: where the features are computed.
        all_layers_confirmed: whether the size of a weighted sum's layers was agreed to.
        progress: whether to show progress bars.
    Raises:
        CorpusError: some audio cannot be used; names all such files.
        CacheError: the cache cannot be written, or is another version's; or every layer is asked for and not
            confirmed.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        model: CAMuLeNetForAudioClassification,
        cache_dir: str | None = None,
        dtype: str = "float16",
        speed_factors: Sequence[float] = (),
        autocast_dtype: torch.dtype | None = None,
        device: str = "cpu",
        all_layers_confirmed: bool = False,
        progress: bool = True,
    ):
        self.dataset, self.config = dataset, model.config
        self._labels = dataset.select_columns(["emotion", "gender"])
        self.extractor: CAMuLeNetFeatureExtractor = model.camulenet.feature_extractor
        self.encoder = model.camulenet.speech_encoder
        self.autocast_dtype, self.device = autocast_dtype, device
        durations_s = dataset["duration_s"][:]
        self.durations_s = [[duration / speed for speed in (1.0, *speed_factors)] for duration in durations_s]
        self.clips: list[list[str]] = []  # names of an utterance and its copies
        self._source: dict[str, tuple[int, float]] = {}  # clip -> row and speed
        rows = enumerate(tqdm(dataset["audio"], desc="audio", unit="clip", disable=not progress))
        bad_files = []
        for row, audio in rows:
            try:
                content = _content_hash(audio)
            except OSError as error:
                bad_files.append(f"{audio['path']}: not readable ({error.strerror})")
                continue
            longest = self.extractor.max_duration_s
            self.clips.append([])
            for speed, duration_s in zip((1.0, *speed_factors), self.durations_s[row]):
                name = clip_name(content, speed, longest if longest and duration_s > longest else None)
                self.clips[-1].append(name)
                self._source.setdefault(name, (row, speed))
        if bad_files:
            raise CorpusError(f"{len(bad_files)} audio files cannot be read:\n{listed(bad_files)}")

        root = cache_root(cache_dir)
        self.kinds = {kind: ShardedFeatures(root, kind, settings) for kind, settings in self._settings(dtype).items()}
        seconds = {name: self.durations_s[row][self.clips[row].index(name)] for name, (row, _) in self._source.items()}
        missing = {}
        for kind, features in self.kinds.items():
            sizes = {name: self._size_of(kind, dtype, seconds[name]) for name in features.missing(seconds)}
            missing[kind] = sizes
        if self.config.use_weighted_layer_sum and missing["encoder"] and not all_layers_confirmed:
            num_bytes = sum(num_bytes for _, num_bytes in missing["encoder"].values())
            raise CacheError(
                f"A weighted sum of layers needs every layer of the encoder: about {_size(num_bytes)} for "
                f"{len(missing['encoder'])} clips. Agree with --cache_all_layers, or do without "
                "--use_weighted_layer_sum."
            )
        check_room(root, sum(num_bytes for sizes in missing.values() for _, num_bytes in sizes.values()))
        model.to(device).eval()
        for kind, features in self.kinds.items():
            features.build(missing[kind], self._load, partial(self._compute, kind), progress)
        self.encoder = SpeechEncoder(self.config, with_encoder=False)

    def _settings(self, dtype: str) -> dict[str, dict]:
        """What each kind of features depends on. A cut clip has a name of its own (`clip_name`)."""
        extractor = self.extractor
        common = {"sampling_rate": extractor.sampling_rate, "level_dbfs": extractor.level_dbfs, "dtype": dtype}
        any_model = PreTrainedConfig().to_dict()
        encoder_config = {
            name: value for name, value in self.config.encoder_config.to_dict().items() if name not in any_model
        }
        settings = {
            "encoder": {
                **common,
                "weights": weights_hash(self.encoder.encoder),
                "encoder_config": {"model_type": self.config.encoder_config.model_type, **encoder_config},
                "computed_in": str(self.autocast_dtype or self.encoder.encoder.dtype),
                "layers": "all" if self.config.use_weighted_layer_sum else "last",
                "frames": "all" if self._reads_silence else "real",
                **{name: getattr(extractor, name) for name in ("encoder_input", "feature_size", "do_normalize")},
                "encoder_context": extractor.encoder_context,
            }
        }
        for branch in self.config.branches:
            padded_to_s = extractor.max_duration_s if extractor.pad_to_max_duration else None
            settings[branch] = {**common, **getattr(extractor, branch), "padded_to_s": padded_to_s}
            if dtype == "float16" and settings[branch].get("decibel"):
                settings[branch]["dtype"] = "int16"
        return settings

    @property
    def _reads_silence(self) -> bool:
        """Whether the frames of the silence behind a clip are kept: only the released model reads them."""
        return not self.config.use_masks and self.extractor.encoder_context == "padded"

    def _size_of(self, kind: str, dtype: str, duration_s: float) -> tuple[float, int]:
        """Of a clip of some seconds: those that are computed, and about how many bytes its features take."""
        itemsize = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
        extractor = self.extractor
        longest = extractor.max_duration_s
        duration_s = duration_s if longest is None else min(duration_s, longest)
        if kind != "encoder":
            settings = getattr(extractor, kind)
            bins = settings["num_mel_bins"] if kind == "spectrogram" else settings["num_mfcc"]
            duration_s = longest if extractor.pad_to_max_duration else duration_s
            return duration_s, itemsize * bins * (1 + int(duration_s * 1000 / settings["hop_ms"]))
        window_s = max(duration_s, WHISPER_WINDOW_S) if extractor.encoder_context == "padded" else duration_s
        rates = {"waveform": extractor.sampling_rate, "log_mel": 100, "fbank": 50}  # of the encoder's input, a second
        length = round(rates[extractor.encoder_input] * (window_s if self._reads_silence else duration_s))
        num_frames = int(self.encoder.num_frames(torch.tensor([length])))
        num_layers = self.config.encoder_config.num_hidden_layers + 1 if self.config.use_weighted_layer_sum else 1
        return window_s, itemsize * self.encoder.output_size * num_layers * num_frames

    def _load(self, clip: str) -> np.ndarray:
        row, speed = self._source[clip]
        audio = self.dataset[row]["audio"]
        waveform, sampling_rate = read_audio(audio)
        try:
            # Taken for a recording at another rate, the resampled clip plays at another speed.
            return self.extractor.prepare_waveform(waveform, round(sampling_rate * speed))
        except ValueError as error:
            raise CorpusError(f"{audio['path']}: {error}") from error

    @torch.no_grad()
    def _compute(self, kind: str, waveforms: list[np.ndarray]) -> list[torch.Tensor]:
        """Each clip's features (frames, ...), without padding."""
        features = self.extractor.extract(*self.extractor.stack(waveforms, self.device), (kind,))
        if kind != "encoder":
            frames, num_frames = features[kind], features[f"{kind}_mask"].sum(dim=1)
        else:
            every_layer = self.config.use_weighted_layer_sum
            enabled = {"dtype": self.autocast_dtype, "enabled": self.autocast_dtype is not None}
            with maybe_autocast(torch.device(self.device).type, **enabled):
                output, mask = self.encoder.encode(features["input_features"], features["attention_mask"], every_layer)
            frames = torch.stack(output.hidden_states, dim=2) if every_layer else output.last_hidden_state
            num_frames = mask.sum(dim=1)
            if self._reads_silence:
                num_frames = num_frames.clamp(min=int(self.encoder.num_frames(torch.tensor(100 * WHISPER_WINDOW_S))))
        return [clip[:length] for clip, length in zip(frames, num_frames.tolist())]

    def _item(self, row: int, version: int = 0) -> dict[str, torch.Tensor]:
        item = labels_of(self._labels[row])
        for kind, features in self.kinds.items():
            name = "encoder_frames" if kind == "encoder" else kind
            item[name] = features.read(self.clips[row][version])
            item[f"{name}_mask"] = torch.ones(len(item[name]), dtype=torch.long)
        return item

    def subset(self, rows: Sequence[int]) -> FeatureSubset:
        """The utterances of a fold's validation or test part, in the order of `rows`, as they are."""
        return FeatureSubset([[(partial(self._item, row), self.durations_s[row][0])] for row in rows])

    def training_subset(
        self, rows: Sequence[int], augment: Callable | None = None, crop_s: float | None = None
    ) -> FeatureSubset:
        """The utterances of a fold's training part, in the order of `rows`, each time at a random speed."""
        versions = [
            [(partial(self._item, row, version), duration) for version, duration in enumerate(self.durations_s[row])]
            for row in rows
        ]
        return FeatureSubset(versions, augment, None if crop_s is None else self._num_frames(crop_s))

    def _num_frames(self, duration_s: float) -> dict[str, int]:
        """Frames of each tensor of an item, of a clip of some seconds."""
        silence = np.zeros(round(duration_s * self.extractor.sampling_rate), dtype=np.float32)
        features = self.extractor(silence, return_tensors="pt")
        counts = {kind: features[kind].shape[1] for kind in self.config.branches}
        counts["encoder_frames"] = int(self.encoder.num_frames(features["attention_mask"].sum(dim=1)))
        return counts | {f"{name}_mask": count for name, count in counts.items()}


def _content_hash(audio: Mapping) -> str:
    """SHA-256 of an audio file."""
    content = audio["bytes"] if audio.get("bytes") is not None else Path(audio["path"]).read_bytes()
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def _folders(root: Path, names: Sequence[str]) -> list[Path]:
    found = {path.name: path for path in sorted(root.glob("*")) if path.is_dir()}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise CacheError(f"No such features in {root}: {', '.join(unknown)}. `info` lists what there is.")
    return [found[name] for name in names] if names else list(found.values())


def info(root: Path, names: Sequence[str] = ()) -> str:
    """A line for each kind of features and its settings: how many clips, how large, and of what."""
    check_format(root)
    lines = []
    for folder in _folders(root, names):
        path = folder / "settings.json"
        if not (path.is_file() and _as_written(path)):
            lines.append(f"{folder.name}: its settings.json is damaged; the next build writes it again.")
            continue
        settings = json.loads(path.read_text())
        shards = list(folder.glob("*.safetensors"))
        num_clips = 0
        for shard in shards:
            try:
                with safe_open(shard, "pt") as content:
                    num_clips += len(_clips_in(content))
            except SafetensorError:
                logger.warning(f"{shard} is damaged; the next build computes it again.")
        size = sum(shard.stat().st_size for shard in shards)
        parts = [f"{num_clips} clips, {size / 1e6:.1f} MB in {len(shards)} shards, {settings['dtype']}"]
        if settings["kind"] == "encoder":
            parts.append(
                f"{settings['encoder_config']['model_type']}, weights {settings['weights'][:12]}, "
                f"{settings['layers']} layers, context {settings['encoder_context']}"
            )
        lines.append(f"{folder.name}: {'; '.join(parts)}")
    return "\n".join(lines) or f"Nothing in {root}."


def verify(root: Path, names: Sequence[str] = (), progress: bool = True) -> list[Path]:
    """Shards, plans and settings that are not as they were written."""
    check_format(root)
    folders = _folders(root, names)
    paths = [folder / "settings.json" for folder in folders if not (folder / "settings.json").is_file()]
    shards = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    bar = tqdm(shards, desc="shards", unit="shard", disable=not progress)
    paths += [path for path in bar if intact_clips(path) is None]
    return paths + [path for folder in folders for path in sorted(folder.glob("*.json")) if not _as_written(path)]


def clear(root: Path, names: Sequence[str] = ()) -> None:
    """Remove cached features, of any version when no names are given."""
    if names:
        for folder in _folders(root, names):
            shutil.rmtree(folder)
    elif root.exists():
        shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("info", "verify", "clear"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="As `info` lists them. Default: all.")
    parser.add_argument("--cache_dir", help=f"As given to run_ser.py. Default: {HF_HOME}.")
    arguments = parser.parse_args()
    root = cache_root(arguments.cache_dir)
    try:
        if arguments.action == "info":
            print(info(root, arguments.names))
        elif arguments.action == "clear":
            clear(root, arguments.names)
        else:
            damaged = verify(root, arguments.names)
            if damaged:
                sys.exit("Damaged; the next build mends these:\n" + "\n".join(map(str, damaged)))
            print("Every file is as it was written.")
    except (CacheError, OSError) as error:
        sys.exit(f"feature_cache: {error}")


if __name__ == "__main__":
    main()
