# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""The audio-classification pipeline of CAMuLeNet."""

from transformers import AudioClassificationPipeline


class CAMuLeNetPipeline(AudioClassificationPipeline):
    """Emotions of a recording."""
