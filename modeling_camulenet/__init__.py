"""CAMuLeNet for transformers: configuration, extractor, models and pipeline, registered with the Auto classes."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

from .configuration_camulenet import CAMuLeNetConfig
from .feature_extraction_camulenet import CAMuLeNetFeatureExtractor
from .modeling_camulenet import (
    CAMuLeNetForAudioClassification,
    CAMuLeNetModel,
    CoAttention,
    MfccBranch,
    SpectrogramBranch,
)
from .pipeline_camulenet import CAMuLeNetPipeline

AutoConfig.register("camulenet", CAMuLeNetConfig, exist_ok=True)
AutoFeatureExtractor.register(CAMuLeNetConfig, CAMuLeNetFeatureExtractor, exist_ok=True)
AutoModel.register(CAMuLeNetConfig, CAMuLeNetModel, exist_ok=True)
AutoModelForAudioClassification.register(CAMuLeNetConfig, CAMuLeNetForAudioClassification, exist_ok=True)

__all__ = [
    "CAMuLeNetConfig",
    "CAMuLeNetFeatureExtractor",
    "CAMuLeNetForAudioClassification",
    "CAMuLeNetModel",
    "CAMuLeNetPipeline",
    "CoAttention",
    "MfccBranch",
    "SpectrogramBranch",
]
