"""The one training loop: AdamW, warm-up and cosine, an average of the weights, checkpoints, a line now and then.

Every step draws from a seed of its own, so a training that was interrupted goes on as if it had not been.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

log = logging.getLogger("training")

NATIVE_BFLOAT16 = torch.cpu.get_capabilities().get("avx512_bf16", False)
"""Whether this CPU multiplies bfloat16 itself: a step then takes 0.85 of its time (VAE: 0.73). Elsewhere it would take
many times as long."""

SAVE_EVERY = 250
REPORT_EVERY = 100


def fit(
    name: str,
    module: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    *,
    directory: Path,
    seed: int,
    steps: int,
    lr: float,
    ema_decay: float = 0.998,
) -> None:
    """Train `module` in place, for `steps` steps or what an earlier run left of them, and leave the averaged weights.

    `loss` computes one step's loss and takes its randomness from the generator that it is given. Parameters that need
    no gradient are left alone. The result lies in `directory / name.pt`, and is loaded from there if it is finished.
    """
    path = directory / f"{name}.pt"
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(
        optimizer, num_warmup_steps=min(200, steps // 10), num_training_steps=steps
    )
    average = EMAModel(parameters, decay=ema_decay)
    first = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        module.load_state_dict(saved["module"])
        first = saved["step"]
        if first < steps:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            average.load_state_dict(saved["average"])

    def save(step: int) -> None:
        state = {"step": step, "module": module.state_dict()}
        if step < steps:
            parts = {"optimizer": optimizer, "schedule": schedule, "average": average}
            state |= {key: part.state_dict() for key, part in parts.items()}
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    module.train()
    began, reported, total = time.monotonic(), first, 0.0
    for step in range(first, steps):
        # Dropout and the like draw from torch's own generator.
        torch.manual_seed(seed * 1_000_003 + step)
        with torch.autocast("cpu", torch.bfloat16, enabled=NATIVE_BFLOAT16):
            value = loss(torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        average.step(parameters)
        total += value.item()
        done = step + 1
        if done % REPORT_EVERY == 0 or done == steps:
            pace = (time.monotonic() - began) / (done - first)
            log.info(
                "%s %d/%d  loss %.4f  %.3f s a step, %.0f min left",
                *(name, done, steps, total / (done - reported), pace, pace * (steps - done) / 60),
            )
            reported, total = done, 0.0
        if done % SAVE_EVERY == 0 and done < steps:
            save(done)
    if first < steps:
        average.copy_to(parameters)
        save(steps)
    module.eval()
