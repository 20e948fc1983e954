"""A UNet on fixed shapes: samples padded to a few batch sizes, and one CUDA graph for each of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

UNet = Callable[..., tuple[Tensor, ...]]
"""Called as diffusers' UNet is: (x, t, encoder_hidden_states=cond, return_dict=False)."""


class BucketedUNet:
    """Pads each call to the next of a few batch sizes, so that a graph or compiled code is made once for each size."""

    def __init__(self, unet: UNet, sizes: Sequence[int]) -> None:
        self._unet = unet
        self._sizes = sorted(sizes)

    def __call__(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        """Return the prediction for x (n, 4, h, w); t is (n,), encoder_hidden_states (n, tokens, D).

        Raises:
            ValueError: n is larger than the largest size.
        """
        n = len(x)
        size = next((size for size in self._sizes if size >= n), None)
        if size is None:
            raise ValueError(f"{n} samples are more than {self._sizes[-1]}, the largest size")
        x, t, cond = (_padded(tensor, size) for tensor in (x, t, encoder_hidden_states))
        # A graph writes its next result to the same memory.
        return (self._unet(x, t, encoder_hidden_states=cond, return_dict=False)[0][:n].clone(),)


class GraphedUNet:
    """A UNet whose passes are captured as CUDA graphs, one for each batch size, at their first call.

    A replay costs Python almost nothing, however many kernels it starts. The graphs share their memory, so a result
    is valid until the next call.
    """

    def __init__(self, unet: UNet) -> None:
        self._unet = unet
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]] = {}
        self._pool: Any = None

    def __call__(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        given = (x, t, encoder_hidden_states)
        if len(x) not in self._graphs:
            self._graphs[len(x)] = self._capture(given)
        graph, inputs, output = self._graphs[len(x)]
        for static, new in zip(inputs, given, strict=True):
            static.copy_(new)
        graph.replay()
        return (output,)

    @torch.no_grad()
    def _capture(self, given: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]:
        x, t, cond = inputs = tuple(tensor.clone() for tensor in given)
        # Libraries choose kernels and reserve memory at their first calls, which a capture does not allow.
        warm_up = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            for _ in range(3):
                self._unet(x, t, encoder_hidden_states=cond, return_dict=False)
        torch.cuda.current_stream().wait_stream(warm_up)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = self._unet(x, t, encoder_hidden_states=cond, return_dict=False)[0]
        self._pool = self._pool or graph.pool()
        return graph, inputs, output


def _padded(tensor: Tensor, size: int) -> Tensor:
    """Return the tensor with its last entry repeated along the first axis up to `size`."""
    return (
        torch.cat([tensor, tensor[-1:].expand(size - len(tensor), *tensor.shape[1:])]) if len(tensor) < size else tensor
    )
