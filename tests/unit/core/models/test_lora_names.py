"""The names of modules in files, of a base as large as those that are published."""

import torch
from diffusers import UNet2DConditionModel

from tasks.core.models.lora_names import key_of, places

XL_NAMES = {  # of the published checkpoint, as sd-scripts names them
    "input_blocks_4_1_transformer_blocks_1_attn1_to_q": "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q",
    "input_blocks_8_1_proj_in": "down_blocks.2.attentions.1.proj_in",
    "input_blocks_6_0_op": "down_blocks.1.downsamplers.0.conv",
    "middle_block_1_transformer_blocks_9_ff_net_2": "mid_block.attentions.0.transformer_blocks.9.ff.net.2",
    "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_5_1_transformer_blocks_0_attn2_to_v": "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_v",
    "output_blocks_8_0_skip_connection": "up_blocks.2.resnets.2.conv_shortcut",
    "input_blocks_1_0_emb_layers_1": "down_blocks.0.resnets.0.time_emb_proj",
    "label_emb_0_2": "add_embedding.linear_2",
    "out_2": "conv_out",
}


def test_names_of_a_full_sized_xl() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )

    class Pipe:
        def __init__(self) -> None:
            self.unet = unet

    found = places(Pipe())
    assert {name: found[key_of(f"lora_unet_{name}")].module for name in XL_NAMES} == XL_NAMES
