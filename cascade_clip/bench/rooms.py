"""Where the time goes: a clock that is always in one room, moved from room to room by hooks on the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from cascade_clip.bench.timing import now
from cascade_clip.model.network import CascadeNetwork


class RoomClock:
    """Adds up the seconds spent in each room; between `enter` and the next one the clock is in one room."""

    def __init__(self, device: torch.device) -> None:
        """Stand still in no room."""
        self.device = device
        self.seconds: dict[str, float] = {}
        self._room: str | None = None
        self._since = 0.0

    def enter(self, room: str | None) -> None:
        """Leave the present room for another; none stops the clock."""
        moment = now(self.device)
        if self._room is not None:
            self.seconds[self._room] = self.seconds.get(self._room, 0.0) + moment - self._since
        self._room, self._since = room, moment


@contextmanager
def network_rooms(network: nn.Module, clock: RoomClock, *, afterwards: str) -> Iterator[None]:
    """Let the network's parts move the clock: "tower" (prompts and taps included), "head", then `afterwards`.

    Args:
        network: A `CascadeNetwork`, or a training-free network, which is a tower as a whole.
        clock: The clock.
        afterwards: The room that begins when the last part is done.
    """
    parts: list[tuple[nn.Module, str]] = [(network, "tower")]
    if isinstance(network, CascadeNetwork):
        parts = [(network.encoder, "tower"), (network.head, "head")]

    def enters(room: str) -> Callable[..., None]:
        return lambda *_: clock.enter(room)

    with ExitStack() as hooks:
        for number, (part, room) in enumerate(parts):
            last = number == len(parts) - 1
            hooks.callback(part.register_forward_pre_hook(enters(room)).remove)
            hooks.callback(part.register_forward_hook(enters(afterwards if last else parts[number + 1][1])).remove)
        yield


@contextmanager
def optimizer_rooms(clock: RoomClock, *, afterwards: str) -> Iterator[None]:
    """Let every optimiser move the clock to "optimizer" and, when its step is done, to `afterwards`."""

    def before(*_: Any) -> None:
        clock.enter("optimizer")

    def after(*_: Any) -> None:
        clock.enter(afterwards)

    hooks = (register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
