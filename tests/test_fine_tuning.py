"""Mixed precision, gradient checkpointing, accumulation, two processes: what each leaves as it is, in run_ser.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import BFLOAT16_ENCODERS, ENCODERS
from tiny_runs import EMOTIONS, TINY_PRESET, call, digest, refusal, weights_of, write_ravdess
from transformers import TrainingArguments, modeling_utils

from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol.feature_store import IGNORED_LABEL
from ser_protocol.lora import add_lora
from ser_protocol.runner import FoldRunner
from ser_protocol.statistics import read_predictions

ROOT = Path(__file__).parent.parent
WHISPER = {**TINY_PRESET["encoder_config"], "encoder_layers": 2}
ENCODERS = {"whisper": WHISPER, **ENCODERS}
FAMILIES = (
    "whisper",
    "wav2vec2, group norm",
    "hubert, group norm",
    "wavlm, layer norm",
    "data2vec-audio",
    "wav2vec2-bert",
    "sew",
)
# How the encoder is trained: fields of the configuration and arguments of the run.
WAYS = {
    "frozen": ({}, ()),
    "last layer": ({"trainable_encoder_layers": 1}, ()),
    "everything": ({"trainable_encoder_layers": -1}, ()),
    "sum of layers": ({"use_weighted_layer_sum": True}, ("--cache_all_layers",)),
    "sum of layers, everything": ({"use_weighted_layer_sum": True, "trainable_encoder_layers": -1}, ()),
    "lora": ({}, ("--lora_rank", 2)),
}
RUN = ("--num_folds", 3, "--folds", 0, "--num_train_epochs", 1, "--learning_rate", 2e-3, "--warmup_steps", 0)
BATCH_8 = ("--per_device_train_batch_size", 8)
WITHOUT_DROPOUT = {"dropout": 0.0, "gru_dropout": 0.0}
ENCODER_WITHOUT_DROPOUT = {
    "dropout": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "conformer_conv_dropout": 0.0,
}


def save_checkpoint(folder: Path, encoder: str | dict = "whisper", dropout: bool = True, **fields) -> Path:
    """A CAMuLeNet checkpoint that met nobody, with a tiny random encoder."""
    torch.manual_seed(0)
    without = {} if dropout else ENCODER_WITHOUT_DROPOUT
    small = {**TINY_PRESET, "trainable_encoder_layers": 0, "classifier_hidden_size": 32}
    fields = {**small, **({} if dropout else WITHOUT_DROPOUT), **fields}
    fields["encoder_config"] = {**(ENCODERS[encoder] if isinstance(encoder, str) else encoder), **without}
    model = CAMuLeNetForAudioClassification(CAMuLeNetConfig(**fields))
    model.save_pretrained(folder)
    CAMuLeNetFeatureExtractor.from_model_config(model.config).save_pretrained(folder)
    return folder


def run(ravdess, checkpoint: Path, out: Path, *flags) -> list[float]:
    """One fold; its training and validation losses."""
    call(*ravdess, "--model_name_or_path", checkpoint, *RUN, *BATCH_8, *flags, "--output_dir", out)
    return losses(out)


def losses(out: Path) -> list[float]:
    history = json.loads((out / "fold_00" / "training.json").read_text())["history"]
    return [epoch[name] for epoch in history for name in ("train_loss", "validation_loss")]


def probabilities(out: Path) -> np.ndarray:
    return read_predictions(out / "fold_00" / "predictions.csv").filter(like="p_").to_numpy()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    ("encoder", "way"),
    [
        *((encoder, "everything") for encoder in FAMILIES),
        # The frames of the other ways come from the cache.
        *(("wav2vec2, layer norm", way) for way in WAYS if way not in ("frozen", "sum of layers")),
    ],
)
def test_gradient_checkpointing_changes_no_loss(encoder, way, ravdess, tmp_path, monkeypatch):
    fields, flags = WAYS[way]
    checkpoint = save_checkpoint(tmp_path / "checkpoint", encoder, **fields)
    expected = run(ravdess, checkpoint, tmp_path / "plain", *flags)
    calls = []

    def count(function, *args, **kwargs):
        calls.append(kwargs["use_reentrant"])
        return torch.utils.checkpoint.checkpoint(function, *args, **kwargs)

    monkeypatch.setattr(modeling_utils, "checkpoint", count)
    with_checkpoints = run(ravdess, checkpoint, tmp_path / "checkpoints", *flags, "--gradient_checkpointing", "true")
    assert with_checkpoints == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(
        probabilities(tmp_path / "checkpoints"), probabilities(tmp_path / "plain"), rtol=0, atol=1e-5
    )
    # Two steps; the convolutions of an encoder that is trained whole are recomputed, too.
    assert len(calls) >= 2 * (1 if way == "last layer" else 2) and not any(calls)


@pytest.mark.parametrize("way", ["frozen", "sum of layers"])
def test_a_cached_encoder_has_nothing_to_recompute(way, ravdess, tmp_path):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", **WAYS[way][0])
    arguments = (*ravdess, "--model_name_or_path", checkpoint, *RUN, *WAYS[way][1], "--output_dir", tmp_path / "out")
    assert "the frozen encoder is cached" in refusal(*arguments, "--gradient_checkpointing", "true")
    assert "--equalizer_db alters what the encoder reads" in refusal(*arguments, "--equalizer_db", 3)
    assert not (tmp_path / "out").exists()


def test_a_trained_encoder_has_no_cache_to_speak_of(ravdess, tmp_path):
    for flags in (("--cache_dtype", "float32"), ("--cache_all_layers", "true")):
        assert "are for a frozen encoder" in refusal(*ravdess, "--num_folds", 3, *flags, "--output_dir", tmp_path)


@pytest.mark.parametrize(
    ("encoder", "way"), [*(("wavlm, layer norm", way) for way in WAYS), ("whisper", "everything"), ("whisper", "lora")]
)
def test_bfloat16(encoder, way, ravdess, tmp_path):
    fields, flags = WAYS[way]
    encoder = BFLOAT16_ENCODERS.get(encoder, encoder)
    checkpoint = save_checkpoint(tmp_path / "checkpoint", encoder, dropout=False, **fields)
    expected = run(ravdess, checkpoint, tmp_path / "single", *flags)
    half = run(ravdess, checkpoint, tmp_path / "half", *flags, "--bf16", "true")
    assert half == pytest.approx(expected, rel=0.05) and half != expected
    weights = weights_of(tmp_path / "half" / "fold_00")
    kept = weights_of(tmp_path / "single" / "fold_00")
    assert {name: tensor.dtype for name, tensor in weights.items()} == {
        name: tensor.dtype for name, tensor in kept.items()
    }
    assert all(tensor.dtype == torch.float32 for name, tensor in weights.items() if "num_batches" not in name)
    assert all(tensor.isfinite().all() for tensor in weights.values())
    for head in (probabilities(tmp_path / "half")[:, :-2], probabilities(tmp_path / "half")[:, -2:]):
        assert len(head) == 16
        np.testing.assert_allclose(head.sum(axis=1), 1, rtol=0, atol=5e-6)
    # In single precision the checkpoint says what it said in half.
    alone = ("--model_name_or_path", tmp_path / "half" / "fold_00", "--do_predict", *RUN)
    call(*ravdess, *alone, "--output_dir", tmp_path / "alone")
    np.testing.assert_allclose(probabilities(tmp_path / "alone"), probabilities(tmp_path / "half"), rtol=0, atol=0.02)


def test_two_batches_of_four_are_one_of_eight(ravdess, tmp_path):
    # Batch norms use the statistics of each batch of four.
    checkpoint = save_checkpoint(
        tmp_path / "checkpoint",
        dropout=False,
        trainable_encoder_layers=-1,
        feature_norm="none",
        spectrogram_batch_norm=False,
    )
    expected = run(ravdess, checkpoint, tmp_path / "eight")
    flags = ("--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 2)
    assert run(ravdess, checkpoint, tmp_path / "twice_four", *flags) == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(
        probabilities(tmp_path / "twice_four"), probabilities(tmp_path / "eight"), rtol=0, atol=1e-5
    )
    assert run(ravdess, checkpoint, tmp_path / "four", *flags[:2]) != pytest.approx(expected, abs=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Two processes


def tones_of_unknown_gender(folder: Path) -> tuple:
    """Arguments that name a corpus of 48 tones of 6 speakers: of one, who trains in fold 0, no gender is known."""
    lines = ["file_name,emotion,speaker_id,gender"]
    for path in sorted(write_ravdess(folder).iterdir()):
        emotion, actor = (path.stem.split("-")[place] for place in (2, 6))
        gender = "" if actor == "05" else ("female", "male")[int(actor) % 2]
        lines.append(f"{path.name},{EMOTIONS[emotion]},{actor},{gender}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return "--corpus", "own", "--data_dir", folder, "--cache_dir", folder.parent / "cache"


TWICE = {
    "batch norms, unknown genders": ({"trainable_encoder_layers": -1}, ()),
    "frozen, spectrogram alone": ({"branches": ["spectrogram"], "id2gender": {}}, ("--multitask", "false")),
    "sum of layers, checkpoints": WAYS["sum of layers, everything"],  # unused: the norm behind the layers
    "lora, accumulation": (
        {"feature_norm": "none", "spectrogram_batch_norm": False, "id2gender": {}},
        ("--lora_rank", 2, "--multitask", "false"),
    ),
}


def test_two_processes_do_what_one_does(tmp_path):
    data = tones_of_unknown_gender(tmp_path / "data")
    runs = []
    for name, (fields, flags) in TWICE.items():
        encoder = "wav2vec2, layer norm" if "sum" in name else "whisper"
        checkpoint = save_checkpoint(tmp_path / name / "checkpoint", encoder, dropout=False, **fields)
        flags = (*flags, "--train_sampling_strategy", "random", "--disable_tqdm", "true", "--use_cpu", "true")
        flags += ("--gradient_checkpointing", "true") if "checkpoints" in name else ()
        # Biases before a batch norm have no gradient but rounding, of which Adam would make full steps.
        flags = (
            *data,
            "--model_name_or_path",
            checkpoint,
            *RUN,
            "--num_train_epochs",
            2,
            *flags,
            "--adam_epsilon",
            1e-5,
        )
        steps = ("--gradient_accumulation_steps", 2) if "accumulation" in name else ()
        size = 2 if steps else 4
        call(*flags, *BATCH_8, "--output_dir", tmp_path / name / "one")
        batch = ("--per_device_train_batch_size", size, *steps)
        runs.append([str(flag) for flag in (*flags, *batch, "--output_dir", tmp_path / name / "two")])
    again = [*runs[0][:-1], str(tmp_path / "again")]
    (tmp_path / "runs.json").write_text(json.dumps([*runs, again]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*torchrun, str(ROOT / "tests" / "two_processes.py"), str(tmp_path / "runs.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in TWICE:
        one, two = tmp_path / name / "one", tmp_path / name / "two"
        assert json.loads((two / "arguments.json").read_text())["num_processes"] == 2
        assert losses(two) == pytest.approx(losses(one), abs=1e-4), name
        np.testing.assert_allclose(probabilities(two), probabilities(one), rtol=0, atol=1e-4, err_msg=name)
        weights = [weights_of(folder / "fold_00") for folder in (one, two)]
        assert weights[0].keys() == weights[1].keys()
        for key, value in weights[0].items():
            torch.testing.assert_close(weights[1][key], value, rtol=1e-5, atol=1e-4, msg=f"{name}: {key}")
    for file in ("predictions.csv", "model.safetensors"):
        twice = [folder / "fold_00" / file for folder in (tmp_path / next(iter(TWICE)) / "two", tmp_path / "again")]
        assert digest(twice[0]) == digest(twice[1]), file


@pytest.mark.parametrize("encoder", ENCODERS)
def test_unused_weights_are_expected_where_there_are_some(encoder, tmp_path):
    runner = FoldRunner(None, None, None, TrainingArguments(str(tmp_path), use_cpu=True))
    ways = [(fields, bool(flags)) for fields, flags in WAYS.values()]
    if encoder == "whisper":
        others = ({"alexnet_classifier": True}, {"branches": ["mfcc"]}, {"fusion": "none", "branches": []})
        ways += [(fields, False) for fields in others]
    for fields, with_lora in ways:
        fields = {**TINY_PRESET, "trainable_encoder_layers": 0, "encoder_config": ENCODERS[encoder], **fields}
        torch.manual_seed(0)
        model = CAMuLeNetForAudioClassification(CAMuLeNetConfig(**fields))
        if with_lora:
            add_lora(model.camulenet.speech_encoder, rank=2)
        extractor = CAMuLeNetFeatureExtractor.from_model_config(model.config)
        features = extractor([0.1 * torch.randn(samples) for samples in (9280, 16077)], return_tensors="pt")
        no_gender = torch.full((2,), IGNORED_LABEL)
        model.train()(**features, labels=torch.arange(2), gender_labels=no_gender).loss.backward()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        expected = runner._ddp_arguments(model.config)["ddp_find_unused_parameters"]
        assert expected or all(parameter.grad is not None for parameter in trained), fields
        # Looking for them costs a walk through the graph: a frozen encoder does without.
        assert expected == (fields["trainable_encoder_layers"] != 0 or "alexnet_classifier" in fields)
