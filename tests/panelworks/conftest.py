"""Weights that several tests share."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def face_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GFPGAN and its parser with random weights; the real files are too large for tests."""
    from facexlib.parsing.parsenet import ParseNet
    from spandrel.architectures.GFPGAN import GFPGAN

    folder = tmp_path_factory.mktemp("faces")
    torch.manual_seed(0)
    network = GFPGAN(
        out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None, fix_decoder=False,
        num_mlp=8, input_is_latent=True, different_w=True, narrow=1, sft_half=True,
    )  # fmt: skip
    torch.save({"params_ema": network.state_dict()}, folder / "GFPGANv1.4.pth")
    parser = ParseNet(in_size=512, out_size=512, parsing_ch=19)
    torch.nn.init.zeros_(parser.out_mask_conv.conv2d.weight)
    with torch.no_grad():
        parser.out_mask_conv.conv2d.bias[:] = 0
        parser.out_mask_conv.conv2d.bias[1] = 5  # all of it is skin
    torch.save(parser.state_dict(), folder / "parsing_parsenet.pth")
    return folder
