"""Emotion and gender of audio files, on the command line.

python -m ser_protocol.predict clip.wav --model OUT/final
"""

import argparse
import sys

from transformers import pipeline


def prediction_lines(files: list[str], model: str, top_k: int) -> list[str]:
    """
    One line a file: the likeliest emotions and, where the model has the head, the gender, each with its probability.

    Args:
        files: audio files.
        model: a checkpoint's folder or Hub id.
        top_k: how many emotions a line shows.
    Raises:
        ValueError, OSError: a file cannot be read; the message names it.
    """
    classify = pipeline("audio-classification", model=model, trust_remote_code=True)
    lines = []
    for file in files:
        result = classify(file, top_k=top_k, return_gender=bool(classify.model.config.id2gender))
        heads = result if isinstance(result, dict) else {"emotion": result}
        ranked = {name: heads[name][: top_k if name == "emotion" else 1] for name in heads}
        parts = (
            f"{name} " + ", ".join(f"{item['label']} {item['score']:.2f}" for item in items)
            for name, items in ranked.items()
        )
        lines.append(f"{file}: {'; '.join(parts)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", help="Audio files.")
    parser.add_argument("--model", required=True, help="A checkpoint's folder or Hub id; its code is run.")
    parser.add_argument("--top_k", type=int, default=3, help="How many emotions to show.")
    arguments = parser.parse_args()
    try:
        print("\n".join(prediction_lines(arguments.files, arguments.model, arguments.top_k)))
    except (ValueError, OSError) as error:
        sys.exit(f"predict: {error}")


if __name__ == "__main__":
    main()
