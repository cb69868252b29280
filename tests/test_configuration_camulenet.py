"""Configuration: round trips, refusals, and that no field is stored without being read."""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoConfig, PreTrainedConfig, WhisperConfig

from modeling_camulenet import (
    CAMuLeNetConfig,
    CAMuLeNetFeatureExtractor,
    CAMuLeNetForAudioClassification,
    CAMuLeNetModel,
)
from modeling_camulenet.configuration_camulenet import CODE_VERSION, FORMAT_VERSION

ROOT = Path(__file__).parent.parent
OWN_FIELDS = sorted({f.name for f in fields(CAMuLeNetConfig)} - {f.name for f in fields(PreTrainedConfig)})

# One value for each field that is not its default.
OTHER_VALUES = {
    "encoder_config": {"model_type": "whisper", "d_model": 48, "encoder_layers": 3, "num_mel_bins": 128},
    "encoder_context": "padded",
    "trainable_encoder_layers": -1,
    "use_weighted_layer_sum": True,
    "branches": ["mfcc"],
    "fusion": "gate",
    "branch_size": 24,
    "width_multiplier": 0.25,
    "spectrogram_convolutions": "small_cnn",
    "spectrogram_batch_norm": True,
    "pooled_batch_norm": True,
    "bfloat16_convolutions": True,
    "gru_hidden_size": 12,
    "gru_num_layers": 3,
    "gru_dropout": 0.2,
    "pooling": "flatten",
    "mfcc_frames": 40,
    "feature_norm": "utterance",
    "use_masks": False,
    "alexnet_classifier": True,
    "num_attention_heads": 6,
    "gate_positions": 750,
    "classifier_hidden_size": [9, 5, 7],
    "classifier_num_layers": 3,
    "dropout": 0.4,
    "emotion_loss_weight": 0.4,
    "gender_loss_weight": 0.1,
    "branch_loss_weight": 0.5,
    "label_smoothing": 0.05,
    "id2gender": {0: "man", 1: "other", 2: "woman"},
    "adversarial_gender": True,
    "feature_extractor": {"mfcc": {"num_mfcc": 13}, "max_duration_s": 4.0},
    "training_speakers": ["emodb/03", "emodb/08"],
    "initializer_range": 0.1,
}


def assert_fields(config: CAMuLeNetConfig, values: dict):
    for name, value in values.items():
        if name == "encoder_config":
            assert isinstance(config.encoder_config, WhisperConfig)
            assert {key: getattr(config.encoder_config, key) for key in value} == value
        else:
            assert getattr(config, name) == value, name


def test_other_values_cover_every_field():
    assert sorted(OTHER_VALUES) == OWN_FIELDS
    defaults = CAMuLeNetConfig()
    assert [name for name in OWN_FIELDS if getattr(defaults, name) == OTHER_VALUES[name]] == []


def test_round_trips(tmp_path):
    labels = ("anger", "neutral", "sadness")
    config = CAMuLeNetConfig(
        **OTHER_VALUES, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)}
    )
    assert_fields(config, OTHER_VALUES)

    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["id2gender"] == {"0": "man", "1": "other", "2": "woman"}  # JSON knows no integer keys
    assert saved["encoder_config"]["model_type"] == "whisper"
    loaded = [
        CAMuLeNetConfig.from_dict(config.to_dict()),
        CAMuLeNetConfig.from_dict(json.loads(config.to_json_string(use_diff=False))),
        CAMuLeNetConfig.from_pretrained(tmp_path),
        AutoConfig.from_pretrained(tmp_path),
    ]
    for copy in loaded:
        assert_fields(copy, OTHER_VALUES)
        assert copy.id2label == {0: "anger", 1: "neutral", 2: "sadness"}
        assert copy.label2id == {"anger": 0, "neutral": 1, "sadness": 2}
        assert copy.num_genders == 3


def test_a_checkpoint_loads_through_every_auto_class(tmp_path):
    CAMuLeNetConfig().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["auto_map"] == {
        "AutoConfig": "configuration_camulenet.CAMuLeNetConfig",
        "AutoFeatureExtractor": "feature_extraction_camulenet.CAMuLeNetFeatureExtractor",
        "AutoModel": "modeling_camulenet.CAMuLeNetModel",
        "AutoModelForAudioClassification": "modeling_camulenet.CAMuLeNetForAudioClassification",
    }
    assert saved["custom_pipelines"]["audio-classification"]["impl"] == "pipeline_camulenet.CAMuLeNetPipeline"


# ---------------------------------------------------------------------------------------------------------------------
# Versions


def test_a_checkpoint_says_what_wrote_it(tmp_path):
    CAMuLeNetConfig().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["format_version"], saved["camulenet_version"]) == (FORMAT_VERSION, CODE_VERSION)
    assert f'version="{CODE_VERSION}"' in (ROOT / "setup.py").read_text()


def test_checkpoints_of_older_and_newer_code(tmp_path):
    CAMuLeNetConfig(branch_size=24).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())

    older = {name: value for name, value in saved.items() if name not in ("format_version", "camulenet_version")}
    (tmp_path / "config.json").write_text(json.dumps(older))
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == saved

    (tmp_path / "config.json").write_text(json.dumps({**saved, "format_version": 7, "camulenet_version": "9.1.0"}))
    with pytest.raises(ValueError, match=r"format 7, of camulenet 9\.1\.0.* Install camulenet 9\.1\.0 or newer"):
        AutoConfig.from_pretrained(tmp_path)


ENTRIES = """
import sys
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline

sys.modules["transformers"].__version__ = "5.22.2"  # it has put another module in its own place by now
for load in (AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification):
    try:
        load.from_pretrained(sys.argv[1], trust_remote_code=True)
    except RuntimeError as error:
        print(load.__name__, error)
try:
    pipeline("audio-classification", model=sys.argv[1], trust_remote_code=True)
except RuntimeError as error:
    print("pipeline", error)
"""


def test_every_way_to_a_checkpoint_tells_what_to_install(tiny_config, tmp_path):
    config = tiny_config()
    CAMuLeNetForAudioClassification(config).save_pretrained(tmp_path / "checkpoint")
    CAMuLeNetFeatureExtractor.from_model_config(config).save_pretrained(tmp_path / "checkpoint")
    variables = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", ENTRIES, str(tmp_path / "checkpoint")]
    child = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    names, messages = zip(*(line.split(" ", 1) for line in child.stdout.splitlines()))
    autos = ("AutoConfig", "AutoFeatureExtractor", "AutoModel", "AutoModelForAudioClassification")
    assert names == (*autos, "pipeline")
    assert set(messages) == {
        'CAMuLeNet needs transformers 5.23 or newer, and this is 5.22.2: `pip install --upgrade "transformers>=5.23"`.'
    }


@pytest.mark.parametrize("entry", ["configuration_camulenet", "modeling_camulenet"])
def test_an_older_transformers_is_told_what_to_install(entry, tmp_path):
    """With a stand-in that has what every version has: the file of a checkpoint, and the package."""
    minimum = re.search(r'"transformers>=([\d.]+)"', (ROOT / "setup.py").read_text())[1]
    major, minor = map(int, minimum.split("."))
    names = "AutoConfig = AutoFeatureExtractor = AutoModel = AutoModelForAudioClassification = None"
    folder = ROOT if entry == "modeling_camulenet" else ROOT / "modeling_camulenet"
    code = f"import sys\nsys.path[:0] = {[str(tmp_path), str(folder)]}\nimport {entry}"
    for version in (f"{major}.{minor - 1}.2", "4.57.1"):
        (tmp_path / "transformers.py").write_text(f'__version__ = "{version}"\n{names}\n')
        child = subprocess.run([sys.executable, "-I", "-B", "-c", code], capture_output=True, text=True, timeout=60)
        last = child.stderr.strip().splitlines()[-1]
        assert last.startswith("RuntimeError: ") and f"this is {version}" in last
        assert f'pip install --upgrade "transformers>={minimum}"' in last


def test_a_ready_encoder_config_is_kept():
    encoder_config = WhisperConfig(d_model=32, encoder_layers=1)
    assert CAMuLeNetConfig(encoder_config=encoder_config).encoder_config is encoder_config


def test_configs_share_no_mutable_default():
    first, second = CAMuLeNetConfig(), CAMuLeNetConfig()
    for name in ("branches", "id2gender", "feature_extractor", "training_speakers", "encoder_config"):
        assert getattr(first, name) is not getattr(second, name), name
    sizes = [8, 4]
    assert CAMuLeNetConfig(classifier_hidden_size=sizes).classifier_hidden_size is not sizes


def test_genders():
    assert CAMuLeNetConfig().id2gender == {0: "female", 1: "male"}
    assert CAMuLeNetConfig().num_genders == 2
    assert CAMuLeNetConfig(id2gender={}).num_genders == 0


@pytest.mark.parametrize(
    ("name", "value", "expected", "others"),
    [
        ("encoder_context", "half", "one of clip, padded", {}),
        ("fusion", "sum", "one of co_attention, gate, concat, attention, image, none, branches", {}),
        ("pooling", "max", "one of statistics, flatten", {}),
        ("feature_norm", "layer", "one of batch, utterance, time_l2, none", {}),
        ("branches", ["spectrogram", "pitch"], "a selection of spectrogram, mfcc", {}),
        ("branches", ["mfcc", "mfcc"], "a selection of spectrogram, mfcc", {}),
        ("branches", [], "at least one", {}),
        ("branches", [], "at least one", {"fusion": "gate"}),
        ("branches", ["mfcc"], "[] with fusion='none'", {"fusion": "none"}),
        ("branches", [], "at least one with fusion='branches'", {"fusion": "branches"}),
        ("trainable_encoder_layers", -1, "0 with fusion='branches'", {"fusion": "branches"}),
        ("use_weighted_layer_sum", True, "False with fusion='branches'", {"fusion": "branches"}),
        ("branch_size", 100, "a multiple of num_attention_heads (8)", {}),
        ("branch_size", 0, "a positive number", {}),
        ("num_attention_heads", 0, "a positive number", {}),
        ("width_multiplier", 0.0, "a positive number", {}),
        ("gru_hidden_size", -1, "a positive number", {}),
        ("gru_num_layers", 0, "a positive number", {}),
        ("classifier_hidden_size", 0, "a positive number", {}),
        ("classifier_hidden_size", [32, 0], "a positive number, or a list of them", {}),
        ("classifier_hidden_size", [32, 16, 8], "one size, or classifier_num_layers (2) sizes", {}),
        ("classifier_num_layers", -1, "a number of layers, or 0 for none", {}),
        ("mfcc_frames", 0, "a positive number", {}),
        ("gate_positions", -5, "a positive number", {}),
        ("dropout", 1.0, "a number from 0 to below 1", {}),
        ("gru_dropout", -0.1, "a number from 0 to below 1", {}),
        ("label_smoothing", 2.0, "a number from 0 to below 1", {}),
        ("trainable_encoder_layers", -2, "a number of layers, or -1 for everything", {}),
        ("emotion_loss_weight", -1.0, "a number of at least 0", {}),
        ("gender_loss_weight", -0.5, "a number of at least 0", {}),
        ("branch_loss_weight", -0.5, "a number of at least 0", {}),
        ("id2gender", {1: "female", 2: "male"}, "names for the indices 0, 1", {}),
        ("adversarial_gender", True, "False without a gender head", {"id2gender": {}}),
    ],
)
def test_refusals_name_field_value_and_expectation(name, value, expected, others, tmp_path):
    CAMuLeNetConfig().save_pretrained(tmp_path)
    for load in (CAMuLeNetConfig, partial(CAMuLeNetConfig.from_pretrained, tmp_path)):
        with pytest.raises(ValueError) as refusal:
            load(**{name: value}, **others)
        message = str(refusal.value)
        assert f"`{name}` is {value!r}" in message
        assert expected in message


def test_fields_that_are_set_later(tiny_config, tmp_path):
    tiny_config().save_pretrained(tmp_path)
    config, unused = CAMuLeNetConfig.from_pretrained(
        tmp_path, id2gender={"0": "woman", "1": "man"}, branches=("mfcc",), return_unused_kwargs=True, other=1
    )
    assert config.id2gender == {0: "woman", 1: "man"} and config.branches == ["mfcc"] and unused == {"other": 1}
    config.id2gender = {"0": "f", "1": "m", "2": "x"}
    assert CAMuLeNetForAudioClassification(config).config.id2gender == {0: "f", 1: "m", 2: "x"}
    config.fusion = "sum"
    with pytest.raises(ValueError, match="`fusion` is 'sum'; expected one of co_attention"):
        CAMuLeNetModel(config)


def test_an_unknown_encoder_type_is_refused():
    with pytest.raises(ValueError, match="no-such-encoder"):
        CAMuLeNetConfig(encoder_config={"model_type": "no-such-encoder"})


def names_read(path: Path) -> set[str]:
    """Attributes that a source file reads, `a.name` or `getattr(a, "name")`; keywords and comments do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "getattr"]
    return attributes | {n.args[1].value for n in calls if isinstance(n.args[1], ast.Constant)}


def test_every_field_is_read_outside_the_configuration():
    sources = [*(ROOT / "modeling_camulenet").glob("*.py"), *(ROOT / "ser_protocol").glob("*.py"), ROOT / "run_ser.py"]
    read = set().union(*(names_read(path) for path in sources if path.name != "configuration_camulenet.py"))
    assert sorted(set(OWN_FIELDS) - read) == []


def test_the_docstring_documents_every_field_and_no_other():
    documented = {
        line.strip().split(" ")[0]
        for line in CAMuLeNetConfig.__doc__.splitlines()
        if "*optional*" in line and line.startswith("        ")
    }
    assert sorted(documented) == OWN_FIELDS
