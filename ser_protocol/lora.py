"""
LoRA (Hu et al. 2021, arXiv 2106.09685) on a speech encoder's attention: its weights stay, and low-rank corrections of
them are learned, which are merged into the weights before a model is saved. Needs `peft`, the extra `lora`.
"""

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear
from torch import nn

from modeling_camulenet.speech_encoder_camulenet import SpeechEncoder

ADAPTER = "default"  # peft's name of an adapter


class LoraLinear(Linear):
    """
    A linear layer with its correction. Some attention (WavLM's) reads the layer's weight in place of calling it:
    peft's own layer gives it the uncorrected one.
    """

    @property
    def weight(self) -> torch.Tensor:
        weight = self.get_base_layer().weight
        return weight + self.get_delta_weight(ADAPTER) if ADAPTER in self.lora_B and not self.merged else weight


def attention_projections(layers: nn.ModuleList) -> list[str]:
    """Names of the query, key, value and output projections of transformer layers of any architecture."""
    return [
        name
        for name, module in layers.named_modules()
        # The others in an attention are of relative positions: linear_pos, gru_rel_pos_linear, ...
        if isinstance(module, nn.Linear) and "att" in name and "pos" not in name
    ]


def add_lora(encoder: SpeechEncoder, rank: int) -> None:
    """Puts an untrained correction, which is 0, on the attention of all layers of a frozen encoder, in place."""
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=attention_projections(encoder.layers))
    config._register_custom_module({nn.Linear: LoraLinear})
    inject_adapter_in_model(config, encoder.layers, ADAPTER)
    encoder.adapted = True


def merge_lora(encoder: SpeechEncoder) -> None:
    """Adds the corrections to the weights and leaves the encoder as it was built, in place."""
    for name, module in list(encoder.layers.named_modules()):
        if isinstance(module, LoraLinear):
            module.merge()
            encoder.layers.set_submodule(name, module.get_base_layer())
    del encoder.layers.peft_config
    encoder.adapted = False
