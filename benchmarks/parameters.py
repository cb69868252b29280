"""Trainable parameters of `camulenet` and of the released model, with a Whisper-medium encoder.

    python benchmarks/parameters.py

Counted on models without storage: nothing is allocated.
"""

import torch
from inputs import random_model
from measure import Row, arguments_of, report


def trainable_parameters(preset: str) -> int:
    """Of a preset's model with a frozen Whisper-medium encoder, 8 emotions and 2 genders."""
    with torch.device("meta"):
        model = random_model(preset, "medium", with_encoder=False)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def main() -> None:
    arguments = arguments_of(__doc__)
    ours, paper, fixed = map(trainable_parameters, ("camulenet", "paper", "paper-fixed"))
    what = "trainable parameters with a Whisper-medium encoder"
    rows = [
        Row("parameters", what, [ours], [paper], "`paper`", "parameters"),
        Row("", what, [ours], [fixed], "`paper-fixed`", "parameters"),
    ]
    report(rows, arguments)


if __name__ == "__main__":
    main()
