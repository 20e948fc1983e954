"""Full and shallow passes over UNets of the shapes that the product loads, with random weights."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from diffedit_worker.diffusion.denoiser import UNetDenoiser
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles

WIDTH, TOKENS, SIDE = 16, 7, 16
COMMON = {"sample_size": SIDE, "norm_num_groups": 4, "attention_head_dim": 4, "cross_attention_dim": WIDTH}
THREE = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
THREE_UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")

# The shapes of Stable Diffusion with three levels instead of four.
SHAPES = {
    "sd15": {"block_out_channels": (8, 16, 16), "down_block_types": THREE, "up_block_types": THREE_UP},
    "sd21": {
        "block_out_channels": (8, 16, 16),
        "down_block_types": THREE,
        "up_block_types": THREE_UP,
        "attention_head_dim": (2, 4, 4),
        "use_linear_projection": True,
    },
    "tiny": {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
    },
    "attention at the last level only of the way up": {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "centred, with an activation of the time": {
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "center_input_sample": True,
        "time_embedding_act_fn": "silu",
    },
    "one level": {
        "block_out_channels": (8,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
    },
}


def unet_of(shape: str) -> UNet2DConditionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(**{**COMMON, **SHAPES[shape]}).eval().requires_grad_(False)


def inputs(n: int, seed: int = 0, side: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, cond = (torch.randn(shape, generator=generator) for shape in ((n, 4, side, side), (n, TOKENS, WIDTH)))
    return x, torch.randint(1, 1000, (n,), generator=generator), cond


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [SIDE, SIDE - 2], ids=str)
def test_a_full_pass_is_a_call_of_the_unet(shape: str, side: int) -> None:
    unet, (x, t, cond) = unet_of(shape), inputs(3, side=side)
    eps, _ = UNetDenoiser(unet)(x, t, cond)
    assert torch.equal(eps, unet(x, t, encoder_hidden_states=cond).sample)
    same = torch.full((3,), 500)
    assert torch.equal(UNetDenoiser(unet)(x, same, cond)[0], unet(x, 500, encoder_hidden_states=cond).sample)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [SIDE, SIDE - 2], ids=str)
def test_a_shallow_pass_with_its_own_features_is_a_full_pass(shape: str, side: int) -> None:
    denoiser, (x, t, cond) = UNetDenoiser(unet_of(shape)), inputs(3, side=side)
    eps, features = denoiser(x, t, cond)
    again, kept = denoiser(x, t, cond, features)
    assert torch.equal(again, eps)
    assert kept is features


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "one level"])
def test_a_shallow_pass_runs_the_first_level_alone(shape: str) -> None:
    unet = unet_of(shape)
    denoiser, (x, t, cond) = UNetDenoiser(unet), inputs(2)
    eps, features = denoiser(x, t, cond)
    run: list[str] = []
    for name, module in unet.named_children():
        blocks = module.named_children() if "blocks" in name else [("", module)]
        for index, block in blocks:
            block.register_forward_pre_hook(lambda *_, name=f"{name}{index}": run.append(name))
    last = len(SHAPES[shape]["block_out_channels"]) - 1
    later, _ = denoiser(x + 0.1, t - 1, cond, features)
    assert {"conv_in", "down_blocks0", f"up_blocks{last}", "conv_out"} <= set(run)
    assert not {name for name in run if name.startswith(("mid", "down", "up"))} - {"down_blocks0", f"up_blocks{last}"}
    # Another prediction, and not far from that of a full pass
    full, new = denoiser(x + 0.1, t - 1, cond)
    assert not torch.equal(new, features)
    assert 0 < (later - full).abs().max() < (full - eps).abs().max()


def test_each_thread_has_the_features_of_its_own_pass() -> None:
    denoiser, threads = UNetDenoiser(unet_of("sd15")), 4
    alone = [denoiser(*inputs(1, seed)) for seed in range(threads)]
    start = Barrier(threads)

    def passes(seed: int) -> list[tuple[Tensor, Tensor]]:
        start.wait()
        return [denoiser(*inputs(1, seed)) for _ in range(10)]

    with ThreadPoolExecutor(threads) as pool:
        for (eps, features), found in zip(alone, pool.map(passes, range(threads)), strict=True):
            assert all(torch.equal(each, eps) and torch.equal(kept, features) for each, kept in found)


@pytest.mark.parametrize("direct", [True, False], ids=["a call of the UNet by others", "a full pass"])
def test_nothing_keeps_the_features_when_their_owner_lets_them_go(direct: bool) -> None:
    unet, (x, t, cond) = unet_of("tiny"), inputs(1)
    denoiser, seen = UNetDenoiser(unet), []
    unet.up_blocks[-1].register_forward_pre_hook(
        lambda block, args, kwargs: seen.append(weakref.ref(kwargs["hidden_states"])), with_kwargs=True
    )
    with torch.no_grad():
        unet(x, t, encoder_hidden_states=cond) if direct else denoiser(x, t, cond)
    gc.collect()
    assert [features() for features in seen] == [None]


def test_a_pass_that_fails_leaves_no_features_behind() -> None:
    unet, (x, t, cond) = unet_of("tiny"), inputs(1)
    denoiser = UNetDenoiser(unet)
    with pytest.raises(RuntimeError):
        denoiser(x, t, cond[:, :, :3])
    assert torch.equal(denoiser(x, t, cond)[0], unet(x, t, encoder_hidden_states=cond).sample)


def test_the_models_of_a_profile_have_one_denoiser_for_all_threads() -> None:
    models = Models(load_profiles(None)["tiny"], device="cpu")
    with ThreadPoolExecutor(4) as pool:
        assert len({id(each) for each in pool.map(lambda _: models.denoiser, range(8))}) == 1
    assert len(models.unet.up_blocks[-1]._forward_pre_hooks) == 1
