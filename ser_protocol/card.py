"""The model card: a README.md with Hub metadata, rendered from a run's `results` (results.py)."""

import hashlib
import re
import statistics
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .metrics.ser_metrics import SCORES
from .results import (
    GROUPS,
    calibration_line,
    data_lines,
    emotions_table,
    groups_table,
    reading,
    run_table,
    scores_table,
    speakers_text,
)
from .tables import SCORE_NAMES, joined, markdown_table, score_text, value_text

CARD_TEMPLATE = Path(__file__).with_name("templates") / "model_card.md"

# Licences that a corpus may have and the Hub has an id for.
HUB_LICENSES = {
    "apache-2.0",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0",
    "odbl",
}

PROTOCOLS = {
    "loso": "Each fold tests one speaker (on IEMOCAP that speaker's dialogue partner is left out of the fold).",
    "speakers": "Each fold tests one group of speakers, balanced in gender where the corpus allows it.",
    "sessions": "Each fold tests the speakers of one session.",
    "emobox": "The test speakers of each fold are those that EmoBox published.",
    "official": "The parts are the corpus's own.",
    "cross-corpus": "Each fold tests all speakers of one corpus on a model trained on the other corpora.",
    "cross-language": "Each fold tests all speakers of one language on a model trained on the other languages.",
    "test-selected": "The epoch is chosen on the test speakers themselves: this shows what that leak is worth.",
    "random": "Utterances are dealt to folds at random, whoever speaks: this shows what a leak is worth.",
}


def code_files(folder):
    """Name -> SHA-256 (hexadecimal) of each Python file that a checkpoint's folder ships."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).glob("*.py"))}


def model_card(results, checkpoint=None, model_id=None, published="final", code=None):
    """Render a README.md with Hub metadata, for a run's output folder or for one of its checkpoints.

    Args:
        results (`dict`): from `build_results`.
        checkpoint (`str`, *optional*): which folder of the output the card lies in, `"final"` or `"fold_03"`; `None`
            for the output folder itself.
        model_id (`str`, *optional*): what the examples load: a Hub id or a path. Defaults to `run["hub_model_id"]`.
        published (`str`, *optional*): the folder of the output whose model is the one to use; `None` if there is none.
        code (`dict`, *optional*): the checkpoint's Python files, from `code_files`.

    Returns:
        `str`: the card. Its `model-index` holds the pooled WA, UA, WF1 and macro F1, if there are any.
    """
    run = results["run"]
    hosted = model_id or run.get("hub_model_id")
    model_id = hosted or run.get("tested_checkpoint") or f"path/to/{checkpoint or published or 'fold_00'}"
    data = ModelCardData(
        model_name=model_id.split("/")[-1] if hosted else f"camulenet-{run['corpus'].replace(' + ', '-')}",
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["audio", "speech-emotion-recognition", "camulenet", *run["corpus"].split(" + ")],
        language=run.get("languages") or None,
        base_model=_hub_id(run.get("base_model")),
        metrics=list(SCORES) if results["pooled"] else None,
        eval_results=_eval_results(results) or None,
        **_license(run),
    )
    card = ModelCard.from_template(
        data,
        template_path=str(CARD_TEMPLATE),
        run=run,
        results=results,
        model_id=model_id,
        checkpoint=checkpoint,
        hosted=hosted,
        published=published,
        code_table=markdown_table([["file", "SHA-256"], *code.items()]) if code else "",
        fold=_fold_of(results, checkpoint),
        data_lines=data_lines(run["data"]) if run.get("data") else [],
        protocol=PROTOCOLS.get(run["protocol"], ""),
        validated=bool(results["folds"]) and all(row["validation_speakers"] for row in results["folds"]["rows"]),
        unvalidated=sum(not row["validation_speakers"] for row in results["folds"]["rows"]) if results["folds"] else 0,
        scores=scores_table(results) if results["pooled"] else "",
        reading=reading(results) if results["pooled"] else "",
        groups=[groups_table(results, kind) for kind in GROUPS if results.get(f"per_{kind}")],
        architecture=architecture(run),
        compute=compute(results),
        emotions=emotions_table(results) if results["pooled"] else "",
        calibration=calibration_line(results["calibration"]) if results.get("calibration") else "",
        run_table=run_table(run),
        versions=value_text(run.get("versions") or {}),
        licenses=value_text(run.get("licenses") or []),
        join=joined,
        score=score_text,
        speakers=speakers_text,
    )
    return str(card).rstrip() + "\n"


FUSIONS = {
    "co_attention": "co-attention: the branches ask, and the encoder's frames answer",
    "gate": "the released model's gate: one learnt weight for each position of the encoder's frames",
    "concat": "concatenation with the mean of the encoder's frames",
}
ALONE = {
    "attention": "A learnt query attends to the frames of a speech encoder; there are no other branches.",
    "none": "The mean frame of a speech encoder is all that is classified.",
    "image": "A small CNN reads the frames of a speech encoder: the paper's baseline.",
}
BRANCHES = {"spectrogram": "a spectrogram branch", "mfcc": "an MFCC branch"}


def architecture(run):
    """What the model is made of and learns, in sentences; nothing where `run` does not say."""
    if run.get("fusion") is None:
        return ""
    branches = " and ".join(BRANCHES[name] for name in run.get("branches") or ())
    if run["fusion"] in ALONE:
        text = ALONE[run["fusion"]]
    elif run["fusion"] == "branches":
        text = f"The model is {branches}, without a speech encoder."
    else:
        text = f"The model joins a speech encoder to {branches} by {FUSIONS[run['fusion']]}."
    if not run.get("multitask"):
        return f"{text} It learns the emotion alone."
    if run.get("adversarial_gender"):
        return f"{text} It learns the emotion, and to hide the speaker's gender (gradient reversal)."
    return f"{text} It learns the emotion together with the speaker's gender."


def compute(results):
    """Time and memory of the folds, in a sentence, as far as they were noted."""
    rows = results["folds"]["rows"] if results["folds"] else []
    minutes = [row["train_s"] / 60 for row in rows if row.get("train_s") is not None]
    if not minutes:
        return ""
    text = f"Training took {statistics.median(minutes):.1f} minutes a fold (median of {len(minutes)}"
    text += f", {sum(minutes):.0f} minutes together)"
    memory = [row["peak_memory_bytes"] for row in rows if row.get("peak_memory_bytes")]
    if memory:
        text += f" and {max(memory) / 1e9:.1f} GB of memory at most"
    hardware = results["run"].get("hardware")
    return f"{text}{f', on {hardware}' if hardware else ''}."


def _eval_results(results):
    run, pooled = results["run"], results["pooled"] or {}
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=str(run["corpus"]),
            dataset_name=str(run["corpus"]),
            dataset_config=f"{run['protocol']}, {run['num_folds']} folds",
            dataset_split="test",
            metric_type=name,
            metric_name=f"{SCORE_NAMES[name]}, pooled over folds",
            metric_value=pooled[name]["value"],
        )
        for name in SCORES
        if pooled
    ]


def _license(run):
    """Licence fields of the metadata: the corpora's, as the weights come from them; a mixture is "other".

    Where its id on the Hub is not known, it may still be one that is written "CC BY-NC-SA 4.0" in place of
    "cc-by-nc-sa-4.0".
    """
    sources = run.get("sources") or [{"license": name} for name in run.get("licenses") or []]
    ids = {source.get("license_id") or source["license"].lower().replace(" ", "-") for source in sources} - {""}
    if len(ids) == 1 and ids <= HUB_LICENSES:
        return {"license": ids.pop()}
    return {"license": "other", "license_name": "see-card"} if ids else {}


def _hub_id(name):
    """`name` if it can be a Hub id, else `None`: the Hub refuses a card whose base model is a local folder."""
    return name if name and re.fullmatch(r"[\w.-]*\w(/[\w.-]*\w)?", name) and not Path(name).exists() else None


def _fold_of(results, checkpoint):
    """The row of the fold that a checkpoint folder named fold_NN belongs to, or `None`."""
    rows = results["folds"]["rows"] if results["folds"] else []
    return next((row for row in rows if checkpoint == f"fold_{row['fold']:02d}"), None)
