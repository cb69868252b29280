"""Writes docs/transcript.md: what someone sees who pushes a run and a corpus, and someone who loads them elsewhere.

    python tests/transcript.py

The Hub is the server of hub_server.py, the corpus the embedded one, everything else is real. Each block runs in a
process of its own; those that load have an empty cache, an empty folder and none of this package's modules.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from hub_server import HubServer

ROOT = Path(__file__).parent.parent
TRANSCRIPT = ROOT / "docs" / "transcript.md"

RUN = "python run_ser.py --corpus demo --num_folds 3 --num_train_epochs 2 --output_dir runs/demo"
HUB = "--push_to_hub --hub_model_id me/camulenet"
PUBLISH = "python -m dataset_scripts.publish demo --num_folds 3 --output_dir runs/corpus --push_to_hub me/corpus"

# Heading, and a command of the shell or code of Python.
PUSHES = (
    ("Train, evaluate and push", f"{RUN} {HUB}"),
    ("The server fails in the middle of an upload", PUBLISH),
    ("The same command again", PUBLISH),
)
LOADS = (
    (
        "The model, by the library's classes",
        """
import sys

import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

extractor = AutoFeatureExtractor.from_pretrained("me/camulenet", trust_remote_code=True)
model = AutoModelForAudioClassification.from_pretrained("me/camulenet", trust_remote_code=True)
embedder = AutoModel.from_pretrained("me/camulenet", trust_remote_code=True)
inputs = extractor(torch.sin(torch.arange(16000) / 9).numpy(), sampling_rate=16000, return_tensors="pt")
with torch.no_grad():
    outputs, embeddings = model(**inputs), embedder(**inputs).embeddings
print(type(model).__module__.split(".")[0], type(model).__name__)
print("logits", tuple(outputs.logits.shape), "gender", tuple(outputs.gender_logits.shape))
print("co-attention", tuple(outputs.co_attention_weights.shape), "embeddings", tuple(embeddings.shape))
print("installed package used:", "modeling_camulenet" in sys.modules)
""",
    ),
    (
        "The pipeline, on a corpus of the Hub",
        """
from datasets import Audio, load_dataset
from transformers import pipeline

fold = load_dataset("me/corpus", "fold_00")
print({part: rows.num_rows for part, rows in fold.items()})
clips = fold["test"].cast_column("audio", Audio(decode=False))  # the pipeline decodes by itself
classify = pipeline(model="me/camulenet", trust_remote_code=True)
print(type(classify).__name__)
emotions, genders = clips.features["emotion"], clips.features["gender"]
for row, answer in zip(clips.select(range(3)), classify(clips["audio"][:3], batch_size=3, return_gender=True)):
    emotion, gender = answer["emotion"][0], answer["gender"][0]
    said = f"{emotion['label']} {emotion['score']:.2f}, {gender['label']}"
    print(f"{emotions.int2str(row['emotion'])}, {genders.int2str(row['gender'])}: {said}")
""",
    ),
    (
        "The card, read back",
        """
from huggingface_hub import ModelCard

card = ModelCard.load("me/camulenet")
print(card.data.license, card.data.pipeline_tag, card.data.library_name, card.data.language)
for result in card.data.eval_results:
    print(f"{result.dataset_name}, {result.dataset_config}: {result.metric_name} {result.metric_value:.3f}")
""",
    ),
)


def run(command: list[str], shown: str, folder: Path, environment: dict[str, str], fails: bool = False) -> str:
    """What a process prints, without progress bars, warnings and what differs from machine to machine."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if bool(done.returncode) != fails:
        sys.exit(f"{shown}\n{done.stdout}{done.stderr}")
    text = done.stdout + (done.stderr if fails else "")
    text = re.sub(r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:PORT", text)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip() and "\r" not in line)


def main() -> None:
    parts = [
        "# A push, and a fresh process with an empty cache",
        "Written by `python tests/transcript.py`: the Hub is a small local server (`tests/hub_server.py`), the corpus "
        "the embedded synthetic one, and the model has had two epochs, so its answers are not results.",
        "## Whoever publishes",
    ]
    python = {"python": sys.executable}
    with HubServer() as hub, tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for heading, command in PUSHES:
            fails = "fails" in heading
            hub.refuse_uploads = int(fails)
            environment = hub.environment(work / "home") | {"PYTHONPATH": str(ROOT)}
            environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
            words = command.replace("run_ser.py", str(ROOT / "run_ser.py")).split()
            printed = run([python.get(word, word) for word in words], command, work, environment, fails)
            parts += [f"### {heading}", f"```console\n$ {command}\n{printed}\n```"]
        parts.append("## Whoever loads: each a fresh process, `HF_HOME` an empty folder")
        for number, (heading, code) in enumerate(LOADS):
            elsewhere = work / f"elsewhere_{number}"
            elsewhere.mkdir()
            environment = hub.environment(elsewhere / "home")
            printed = run([sys.executable, "-I", "-c", code], code, elsewhere, environment)
            parts += [f"### {heading}", f"```python\n{code.strip()}\n```", f"```text\n{printed}\n```"]
    TRANSCRIPT.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(TRANSCRIPT)


if __name__ == "__main__":
    main()
