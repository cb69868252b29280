"""Fine-tuning for other labels by transformers' own means, step by step what its run_audio_classification.py does."""

import datasets
import numpy as np
import pytest
import torch
from encoders import ENCODERS
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

from modeling_camulenet import CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification

RATE = 16000
LABELS = ["low", "middle", "high"]


@pytest.fixture(scope="module")
def rows():
    """Twelve tones of three pitches and many lengths, with the rate and labels of a dataset."""
    tones = []
    for row in range(12):
        time = np.arange(2000 + 700 * row) / RATE
        tones.append(0.3 * np.sin(2 * np.pi * (150, 500, 1500)[row % 3] * time))
    features = datasets.Features(
        {"audio": datasets.List(datasets.Value("float32")), "label": datasets.ClassLabel(names=LABELS)}
    )
    return datasets.Dataset.from_dict({"audio": tones, "label": [row % 3 for row in range(12)]}, features=features)


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    """A checkpoint for four emotions, and its feature extractor for raw waveforms beside it."""
    torch.manual_seed(0)
    config = tiny_config()
    CAMuLeNetForAudioClassification(config).save_pretrained(tmp_path / "checkpoint")
    CAMuLeNetFeatureExtractor.from_model_config(config).save_pretrained(tmp_path / "checkpoint")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "checkpoint", return_raw=True)
    extractor.save_pretrained(tmp_path / "extractor")
    return tmp_path / "checkpoint"


def test_the_steps_of_run_audio_classification(rows, checkpoint, tmp_path):
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "extractor", return_attention_mask=True)
    model_input_name = extractor.model_input_names[0]

    def transform(batch):
        waves = [np.asarray(wave, dtype=np.float32) for wave in batch["audio"]]
        inputs = extractor(waves, sampling_rate=extractor.sampling_rate)
        return {model_input_name: inputs.get(model_input_name), "labels": list(batch["label"])}

    rows = rows.with_transform(transform)
    config = AutoConfig.from_pretrained(
        checkpoint,
        num_labels=3,
        label2id={name: str(index) for index, name in enumerate(LABELS)},
        id2label={str(index): name for index, name in enumerate(LABELS)},
        finetuning_task="audio-classification",
    )
    model = AutoModelForAudioClassification.from_pretrained(checkpoint, config=config, ignore_mismatched_sizes=True)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = {}

    def compute_metrics(prediction):
        seen.update(predictions=prediction.predictions, labels=prediction.label_ids)
        return {"accuracy": float((np.argmax(prediction.predictions, axis=1) == prediction.label_ids).mean())}

    arguments = TrainingArguments(
        str(tmp_path / "out"),
        remove_unused_columns=False,
        label_names=["labels"],  # the model takes genders, too, and there are none here
        num_train_epochs=2,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=5,
        learning_rate=1e-3,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=compute_metrics,
        processing_class=extractor,
    )
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate()

    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, kept[name])}
    assert "classifier.weight" in changed and not any(".encoder.layers." in name for name in changed)  # it is frozen
    assert np.isfinite(metrics["eval_loss"]) and 0 <= metrics["eval_accuracy"] <= 1
    # The masks came with the batches: each prediction is that of the clip alone, from the checkpoint that was left.
    classify = pipeline("audio-classification", model=str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    assert classify.model.config.id2label == dict(enumerate(LABELS))
    for wave, logits in zip(rows.with_format(None)["audio"], seen["predictions"], strict=True):
        scores = {
            row["label"]: row["score"] for row in classify(np.asarray(wave, np.float32), function_to_apply="none")
        }
        np.testing.assert_allclose([scores[name] for name in LABELS], logits, rtol=0, atol=1e-4)
    assert list(seen["labels"]) == [row % 3 for row in range(12)]


def test_freeze_feature_encoder(tiny_config):
    """What run_audio_classification.py calls by default: the convolutions no longer train, everything else does."""
    model = CAMuLeNetForAudioClassification(tiny_config(trainable_encoder_layers=-1))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.freeze_feature_encoder()
    left = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    encoder = "camulenet.speech_encoder.encoder"
    assert trained - left == {f"{encoder}.conv{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}

    of_audio = tiny_config(ENCODERS["wav2vec2, group norm"], trainable_encoder_layers=-1)
    model = CAMuLeNetForAudioClassification(of_audio)
    model.freeze_feature_encoder()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[3] for name in frozen} == {"feature_extractor"}
    CAMuLeNetForAudioClassification(tiny_config(fusion="branches")).freeze_feature_encoder()  # has no encoder


def test_local_classes_without_remote_code(checkpoint):
    """`import modeling_camulenet` registers them: nothing asks for trust."""
    for auto, name in (
        (AutoConfig, "CAMuLeNetConfig"),
        (AutoFeatureExtractor, "CAMuLeNetFeatureExtractor"),
        (AutoModel, "CAMuLeNetModel"),
        (AutoModelForAudioClassification, "CAMuLeNetForAudioClassification"),
    ):
        loaded = auto.from_pretrained(checkpoint)
        assert type(loaded).__name__ == name and type(loaded).__module__.startswith("modeling_camulenet.")
