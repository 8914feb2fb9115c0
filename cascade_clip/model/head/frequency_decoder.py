"""SPT-SEG's decoder of a stage: high and low frequencies of the patch tokens, which the queries read."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError
from cascade_clip.model.head.decoder import QueryUpdate

GateStart = Literal["released", "open"]
WINDOW = 3
"""Side of the windows that high frequencies are read in and that low ones are averaged over."""
RELEASED_HEADS = 8
"""Whatever the joint dimension: one head for high, seven for low frequencies."""


class FrequencyTokens(nn.Module):
    """Patch tokens as a layer sees them: high and low frequencies side by side, gated, transformed (SPEC section 16).

    The released block also holds an output projection of the high frequencies that never runs; it is not built.
    """

    def __init__(self, dim: int, heads: int, gate: GateStart = "released") -> None:
        """Make a block with the released initial distributions (golden `init`).

        Args:
            dim: C, joint dimension; a multiple of `heads`.
            heads: One for high frequencies, the others for low ones.
            gate: `released`: drawn from N(0, 1). New tokens are alike, so that about every third draw closes the gate
                for all of them; no gradient passes then, and it never opens. `open`: turned so that it is open to them.

        Raises UserError for a single head, which would leave none for low frequencies.
        """
        super().__init__()
        if heads < 2:
            raise UserError(
                "The decoder of spt-seg has one head for high frequencies and the others for low ones: 1 head is not"
                f" enough, use --set model.decoder.heads={RELEASED_HEADS}."
            )
        high = dim // heads
        low = dim - high
        self.low_heads = heads - 1
        self.high_qkv = nn.Linear(dim, 3 * high, bias=False)
        self.low_q = nn.Linear(dim, low, bias=False)
        self.low_kv = nn.Linear(dim, 2 * low, bias=False)
        self.low_proj = nn.Linear(low, low)
        self.gate = nn.Parameter(torch.randn(dim))
        if gate == "open":
            self._open_gate()
        self.transform = nn.Parameter(torch.eye(dim))

    @torch.no_grad()
    def _open_gate(self) -> None:
        """Turn the gate towards what new tokens have in common, mostly the bias of `low_proj`.

        Along it the gate is set to 2, a value that N(0, 1) gives too; a larger one was seen to slow the first steps.
        """
        common = F.normalize(self.low_proj.bias, dim=0)
        low = self.gate[-len(common) :]
        low += (2 - low @ common) * common

    def forward(self, memory: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map patch tokens (B, N, C) on a grid (h, w), N = h·w, any, to tokens (B, N, C), not normalised."""
        windows = _windows(memory, grid)
        tokens = torch.cat([self._high(windows, grid), self._low(windows, memory)], dim=-1)
        # A token that points away from the learned direction becomes zero: its mask logit is 0 for every class.
        openness = F.cosine_similarity(tokens, self.gate, dim=-1).clamp(0, 1)
        return (openness[..., None] * tokens) @ self.transform

    def _high(self, windows: Tensor, grid: tuple[int, int]) -> Tensor:
        """Self-attention inside each window (B, rows, columns, 9, C); (B, N, C / heads)."""
        rows, columns = windows.shape[1:3]
        q, k, v = self.high_qkv(windows.flatten(1, 2)).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(q, k, v).unflatten(1, (rows, columns)).unflatten(3, (WINDOW, WINDOW))
        by_patch = attended.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return by_patch[:, : grid[0], : grid[1]].flatten(1, 2)

    def _low(self, windows: Tensor, memory: Tensor) -> Tensor:
        """Attention of every token to the windows' means; (B, N, C - C / heads)."""
        means = windows.mean(dim=3).flatten(1, 2)
        q, k, v = (
            x.unflatten(-1, (self.low_heads, -1)).transpose(1, 2)
            for x in (self.low_q(memory), *self.low_kv(means).chunk(2, dim=-1))
        )
        return self.low_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FrequencyLayer(QueryUpdate):
    """Queries attend to the frequency tokens by plain inner products, then feed-forward part (SPEC section 16)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, gate: GateStart = "released") -> None:
        """The arguments are those of `DecoderLayer` and `FrequencyTokens`."""
        super().__init__(dim, hidden, dropout)
        self.frequencies = FrequencyTokens(dim, heads, gate)

    def forward(self, queries: Tensor, memory: Tensor, grid: tuple[int, int]) -> Tensor:
        """Update queries (B, K, C) from patch tokens (B, N, C) on a grid (h, w)."""
        tokens = self.frequencies(memory, grid)
        dropout = self.dropout.p if self.training else 0.0
        return self.update(queries, F.scaled_dot_product_attention(queries, tokens, tokens, dropout_p=dropout, scale=1))


class FrequencyDecoder(nn.Module):
    """Decoder of a stage: layers that refine the queries, then the inner products that are the masks.

    Of the released last layer only its frequency tokens are used; its value path, feed-forward part and norms are not
    built, nor is the attention that each released layer carries beside them.
    """

    def __init__(
        self,
        dim: int,
        *,
        layers: int = 3,
        heads: int = RELEASED_HEADS,
        hidden: int,
        dropout: float = 0.1,
        gate: GateStart = "released",
    ) -> None:
        """Make `layers` layers that start as copies of each other, as released (golden `init`); at least two heads."""
        super().__init__()
        refining = [FrequencyLayer(dim, heads, hidden, dropout, gate) for _ in range(layers - 1)]
        self.layers = nn.ModuleList(refining)
        self.mask = FrequencyTokens(dim, heads, gate)
        for layer in refining[1:]:
            layer.load_state_dict(refining[0].state_dict())
        for layer in refining[:1]:
            self.mask.load_state_dict(layer.frequencies.state_dict())

    def forward(self, queries: Tensor, memory: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mask logits (B, K, N) of one stage, unbounded; exactly 0 for every class where the last gate is closed.

        Takes queries (B, K, C), which do not interact, patch tokens (B, N, C), the same in every layer, and their grid
        (h, w), any, N = h·w, row by row.
        """
        for layer in self.layers:
            queries = layer(queries, memory, grid)
        return queries @ self.mask(memory, grid).transpose(1, 2)


def _windows(memory: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut patch tokens (B, N, C) into windows: (B, rows, columns, 9, C).

    The grid is filled up with zeros at the bottom and right, which count as tokens like any other, as released.
    """
    height, width = grid
    padded = F.pad(memory.unflatten(1, grid), (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
    return padded.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW)).transpose(2, 3).flatten(3, 4)
