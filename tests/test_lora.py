"""LoRA: it takes effect on every architecture's attention, trains alone, and leaves no trace but changed weights."""

import json
import sys

import pytest
import torch
from encoders import ENCODERS
from safetensors.torch import load_file
from test_runner import counted, with_interruption
from tiny_runs import call, digest, refusal, weights_of
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModelForAudioClassification, Trainer

from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol import lora, runner
from ser_protocol.lora import LoraLinear, add_lora, merge_lora
from ser_protocol.runner import FoldRunner

WHISPER = {
    "model_type": "whisper",
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "vocab_size": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
ENCODERS = {"whisper": WHISPER, **ENCODERS}
# A layer's name and its projections, where they are not wav2vec 2.0's.
LINEAR = ("encoder.layers.{}.self_attn.", ("linear_k", "linear_out", "linear_q", "linear_v"))
PROJECTIONS = {
    "whisper": ("layers.{}.self_attn.", ("k_proj", "out_proj", "q_proj", "v_proj")),
    "wav2vec2-bert": LINEAR,
    "wav2vec2-bert, rotary": LINEAR,
    "wav2vec2-conformer": LINEAR,
    "sew-d": (
        "encoder.encoder.layer.{}.attention.",
        ("output.dense", "self.key_proj", "self.query_proj", "self.value_proj"),
    ),
}
OF_WAV2VEC2 = ("encoder.layers.{}.attention.", ("k_proj", "out_proj", "q_proj", "v_proj"))
SMALL = {"branch_size": 16, "width_multiplier": 1 / 16, "num_attention_heads": 2, "classifier_hidden_size": 32}
RUN_ON = (
    "whisper",
    "wav2vec2, group norm",
    "wav2vec2, layer norm",
    "wavlm, group norm",
    "wavlm, layer norm",
    "wav2vec2-bert",
)
# The tiny preset would train its encoder whole.
FLAGS = ("--preset", "camulenet-small", "--trainable_encoder_layers", 0, "--num_folds", 2, "--folds", 0)


def corrected_weights(name: str) -> set[str]:
    """Names in an encoder of `ENCODERS` of the weights that LoRA corrects."""
    layer, projections = PROJECTIONS.get(name, OF_WAV2VEC2)
    return {f"{layer.format(index)}{projection}.weight" for index in (0, 1) for projection in projections}


def save_encoder(name: str, folder) -> dict[str, torch.Tensor]:
    """A checkpoint with random weights, larger than a fresh model's; those of the encoder by name."""
    torch.manual_seed(0)
    fields = dict(ENCODERS[name])
    config = CONFIG_MAPPING[fields.pop("model_type")](**fields)
    model = MODEL_MAPPING[type(config)](config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return (model.encoder if name == "whisper" else model).state_dict()


def trainable(module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", ENCODERS)
def test_a_correction_takes_effect_and_is_merged_without_a_trace(name):
    torch.manual_seed(0)
    model = CAMuLeNetForAudioClassification(CAMuLeNetConfig(encoder_config=ENCODERS[name], **SMALL)).eval()
    waves = [0.1 * torch.randn(samples) for samples in (5000, 9280)]
    features = CAMuLeNetFeatureExtractor.from_model_config(model.config)(waves, return_tensors="pt")
    encoder = model.camulenet.speech_encoder

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(**features).logits

    before, was_trainable, untouched = model.state_dict(), trainable(model), logits()
    before = {key: value.clone() for key, value in before.items()}
    add_lora(encoder, rank=2)
    torch.testing.assert_close(logits(), untouched, rtol=0, atol=1e-6)  # a fresh correction is 0
    corrections = {f"{name[:-7]}.lora_{half}.default.weight" for name in corrected_weights(name) for half in "AB"}
    assert trainable(encoder.encoder) == corrections
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            if "lora_B" in key:
                parameter.normal_()
    # In training mode: every correction has a gradient, hence takes effect, and no other weight of the encoder has.
    model.train()(**features, labels=torch.arange(2)).loss.backward()
    moved = {key for key, value in encoder.encoder.named_parameters() if value.grad is not None and value.grad.any()}
    assert moved == corrections

    corrected = logits()
    assert (corrected - untouched).abs().max() > 1e-3
    merge_lora(encoder)
    torch.testing.assert_close(logits(), corrected, rtol=0, atol=1e-5)
    after = model.state_dict()
    assert list(after) == list(before) and trainable(model) == was_trainable
    prefix = "camulenet.speech_encoder.encoder."
    changed = {key.removeprefix(prefix) for key in before if not torch.equal(after[key], before[key])}
    # Training mode has moved the running statistics of the branches.
    assert {key for key in changed if "batch_norm." not in key} == corrected_weights(name)
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    model.train()
    assert not any(module.training for module in encoder.modules())  # frozen as it was


@pytest.mark.parametrize("name", RUN_ON)
def test_a_run_changes_the_projections_alone_and_saves_a_plain_checkpoint(name, ravdess, tmp_path, monkeypatch):
    before = save_encoder(name, tmp_path / "encoder")
    corrections = {}

    def merge(encoder):
        layers = encoder.encoder.named_modules()
        layers = {f"{key}.weight": layer for key, layer in layers if isinstance(layer, LoraLinear)}
        for key, layer in layers.items():
            corrections[key] = 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        merge_lora(encoder)

    monkeypatch.setattr(lora, "merge_lora", merge)
    flags = (*FLAGS, "--encoder_name_or_path", tmp_path / "encoder", "--num_train_epochs", 1)
    call(*ravdess, *flags, "--lora_rank", 2, "--output_dir", tmp_path / "lora")
    call(*ravdess, *flags, "--output_dir", tmp_path / "frozen")
    weights = weights_of(tmp_path / "lora" / "fold_00")
    assert weights.keys() == weights_of(tmp_path / "frozen" / "fold_00").keys()
    monkeypatch.setitem(sys.modules, "peft", None)
    model, report = AutoModelForAudioClassification.from_pretrained(
        tmp_path / "lora" / "fold_00", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    after = model.camulenet.speech_encoder.encoder.state_dict()
    assert {key for key, value in after.items() if not torch.equal(value, before[key])} == corrected_weights(name)
    assert corrections.keys() == corrected_weights(name)
    for key, correction in corrections.items():
        torch.testing.assert_close(after[key], before[key] + correction, rtol=0, atol=1e-6)
    assert model.config.trainable_encoder_layers == 0


def test_an_interrupted_fold_goes_on_with_its_corrections(ravdess, tmp_path, monkeypatch):
    save_encoder("wavlm, layer norm", tmp_path / "encoder")
    flags = (*ravdess, *FLAGS, "--num_folds", 3, "--encoder_name_or_path", tmp_path / "encoder", "--lora_rank", 2)
    call(*flags, "--output_dir", tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(FoldRunner, "_trainer", with_interruption(FoldRunner._trainer))
        call(*flags, "--output_dir", tmp_path / "parts")
    (written,) = (tmp_path / "parts" / "fold_00" / "trainer").iterdir()
    assert any("lora_B" in key for key in load_file(written / "model.safetensors"))
    epochs = []
    monkeypatch.setattr(Trainer, "_run_epoch", counted(Trainer._run_epoch, epochs))
    call(*flags, "--output_dir", tmp_path / "parts")
    assert epochs == [1]  # the second one only
    for name in ("predictions.csv", "model.safetensors"):
        whole, parts = (tmp_path / run / "fold_00" / name for run in ("whole", "parts"))
        assert digest(whole) == digest(parts)
    history = [
        json.loads((tmp_path / run / "fold_00/training.json").read_text())["history"] for run in ("whole", "parts")
    ]
    assert history[0] == history[1]


def test_a_checkpoint_is_adapted_and_its_best_epoch_taken(ravdess, tmp_path, monkeypatch):
    save_encoder("whisper", tmp_path / "encoder")
    first = ("--encoder_name_or_path", tmp_path / "encoder", "--num_train_epochs", 1)
    call(*ravdess, *FLAGS, *first, "--do_train", "--output_dir", tmp_path / "first")
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.0, 0.0, 0.0])  # of four epochs; validation, test and train at the end
    monkeypatch.setattr(runner, "compute_metrics", lambda prediction: {"wa": 0.0, "ua": next(scores)})
    second = ("--num_folds", 3, "--folds", 0, "--num_train_epochs", 4, "--lora_rank", 1, "--allow_leak")
    second += ("--learning_rate", 5e-3, "--warmup_steps", 0, "--per_device_train_batch_size", 8)
    checkpoint = tmp_path / "first" / "fold_00"
    call(*ravdess, *second, "--model_name_or_path", checkpoint, "--output_dir", tmp_path / "second")
    metrics = json.loads((tmp_path / "second" / "fold_00" / "metrics.json").read_text())
    losses = [epoch["validation_loss"] for epoch in metrics["history"]]
    assert metrics["best_epoch"] == 2 and abs(losses[3] - losses[1]) > 1e-3
    assert metrics["validation"]["loss"] == pytest.approx(losses[1], abs=1e-5)
    weights = [weights_of(folder) for folder in (checkpoint, tmp_path / "second" / "fold_00")]
    prefix = "camulenet.speech_encoder.encoder."
    changed = {key for key in weights[0] if not torch.equal(weights[0][key], weights[1][key])}
    assert {key.removeprefix(prefix) for key in changed if key.startswith(prefix)} == corrected_weights("whisper")


def test_what_cannot_be_adapted_is_refused(ravdess, tmp_path, monkeypatch):
    save_encoder("whisper", tmp_path / "encoder")
    arguments = (*ravdess, "--num_folds", 3, "--output_dir", tmp_path / "out", "--preset", "camulenet-small")
    encoder = ("--encoder_name_or_path", tmp_path / "encoder")
    for rank in (0, -3):
        assert f"--lora_rank {rank}: give a rank above 0" in refusal(*arguments, *encoder, "--lora_rank", rank)
    assert "--lora_rank adapts a pre-trained encoder, and there is none" in refusal(*arguments, "--lora_rank", 4)
    for layers in (1, -1):
        flags = (*encoder, "--trainable_encoder_layers", layers, "--lora_rank", 4)
        assert f"trainable_encoder_layers is {layers}: give" in refusal(*arguments, *flags)
    # The message that a machine without peft gives.
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "ser_protocol.lora")
    monkeypatch.delattr(sys.modules["ser_protocol"], "lora")
    message = refusal(*arguments, *encoder, "--trainable_encoder_layers", 0, "--lora_rank", 4)
    assert 'pip install "camulenet[lora]"' in message
    assert not (tmp_path / "out").exists()
