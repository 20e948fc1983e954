"""The training loop of all models: AdamW, warm-up and cosine decay, averaged weights, checkpoints, a progress log.

Each step has its own random seed, so an interrupted training continues as if it had not been interrupted.
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

Loss = Callable[[torch.Generator], Tensor]

NATIVE_BFLOAT16 = torch.cpu.get_capabilities().get("avx512_bf16", False)
"""Whether this CPU multiplies bfloat16 in hardware. A step then takes 0.85 of its time (VAE: 0.73). Without such
hardware, bfloat16 would take many times as long."""

SAVE_EVERY = 250
REPORT_EVERY = 100


def fit(
    name: str,
    module: nn.Module,
    loss: Loss,
    *,
    directory: Path,
    seed: int,
    steps: int,
    lr: float,
    ema_decay: float = 0.998,
) -> None:
    """Train `module` in place for `steps` steps and leave it with the averaged weights.

    The state is saved in `directory / name.pt`. A training that was interrupted continues from there, and one that is
    finished is only loaded. Parameters that need no gradient are not changed.

    Args:
        name: name of the checkpoint file and of the model in the log.
        loss: computes the loss of one step. All its randomness has to come from the generator that it receives.
        lr: the highest learning rate, after the warm-up.
        ema_decay: decay of the exponential moving average of the weights, per step.
    """
    path = directory / f"{name}.pt"
    training = _Training(module, steps, lr, ema_decay)
    first = training.load(path)
    progress = _Progress(name, first, steps)
    module.train()
    for step in range(first, steps):
        progress.add(training.step(loss, seed * 1_000_003 + step))
        done = step + 1
        if done % SAVE_EVERY == 0 and done < steps:
            training.save(path, done)
    if first < steps:
        training.use_average()
        training.save(path, steps)
    module.eval()


class _Training:
    """A module and everything else that its training needs to continue."""

    def __init__(self, module: nn.Module, steps: int, lr: float, ema_decay: float) -> None:
        self._module, self._steps = module, steps
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=lr, weight_decay=0.01)
        self._schedule = get_cosine_schedule_with_warmup(
            self._optimizer, num_warmup_steps=min(200, steps // 10), num_training_steps=steps
        )
        self._average = EMAModel(self._parameters, decay=ema_decay)

    def load(self, path: Path) -> int:
        """Load the checkpoint if there is one. Return the number of steps that it has done."""
        if not path.exists():
            return 0
        saved = torch.load(path, weights_only=True)
        self._module.load_state_dict(saved["module"])
        if saved["step"] < self._steps:
            self._optimizer.load_state_dict(saved["optimizer"])
            self._schedule.load_state_dict(saved["schedule"])
            self._average.load_state_dict(saved["average"])
        step: int = saved["step"]
        return step

    def save(self, path: Path, step: int) -> None:
        """Save a checkpoint after `step` steps; after the last step, without what only further steps would need."""
        state = {"step": step, "module": self._module.state_dict()}
        if step < self._steps:
            parts = {"optimizer": self._optimizer, "schedule": self._schedule, "average": self._average}
            state |= {key: part.state_dict() for key, part in parts.items()}
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def step(self, loss: Loss, seed: int) -> float:
        """Make one step with the randomness of `seed` and return its loss."""
        # Dropout and similar layers use torch's own generator.
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16, enabled=NATIVE_BFLOAT16):
            value = loss(torch.Generator().manual_seed(seed))
        self._optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._average.step(self._parameters)
        return value.item()

    def use_average(self) -> None:
        self._average.copy_to(self._parameters)


class _Progress:
    """Logs the mean loss and the remaining time every `REPORT_EVERY` steps."""

    def __init__(self, name: str, first: int, steps: int) -> None:
        self._name, self._first, self._steps = name, first, steps
        self._began = time.monotonic()
        self._done = first
        self._losses: list[float] = []

    def add(self, loss: float) -> None:
        """Count a step."""
        self._done += 1
        self._losses.append(loss)
        if self._done % REPORT_EVERY == 0 or self._done == self._steps:
            pace = (time.monotonic() - self._began) / (self._done - self._first)
            mean = sum(self._losses) / len(self._losses)
            minutes = pace * (self._steps - self._done) / 60
            log.info(
                "%s %d/%d  loss %.4f  %.3f s per step, %.0f min left",
                *(self._name, self._done, self._steps, mean, pace, minutes),
            )
            self._losses.clear()
