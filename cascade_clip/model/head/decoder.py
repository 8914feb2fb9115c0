"""The text-image decoder of one stage: queries attend to patch tokens; the last attention's logits are the masks."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class QueryUpdate(nn.Module):
    """A layer after its attention: projection and feed-forward part, each with a residual and a norm."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        """`dim` is C, `hidden` the feed-forward part's; dropout is of both residual branches and the hidden layer."""
        super().__init__()
        self.proj = nn.Linear(dim, dim)
        self.norm_attention = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm_feedforward = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def update(self, queries: Tensor, attended: Tensor) -> Tensor:
        """Update queries (B, K, C) with the result of their attention (B, K, C)."""
        queries = self.norm_attention(queries + self.dropout(self.proj(attended)))
        hidden = self.dropout(F.relu(self.linear1(queries)))
        return self.norm_feedforward(queries + self.dropout(self.linear2(hidden)))


class DecoderLayer(QueryUpdate):
    """Cross-attention and feed-forward part, each with a residual and a norm after it (SPEC section 4)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        """`dim` is a multiple of `heads`; dropout is of attention probabilities too. Else as `QueryUpdate`."""
        super().__init__(dim, hidden, dropout)
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Update queries (B, K, C) from patch tokens (B, N, C)."""
        attended = F.scaled_dot_product_attention(
            self._split(self.q(queries)),
            self._split(self.k(memory)),
            self._split(self.v(memory)),
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return self.update(queries, attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """Split channels into heads: (B, L, C) -> (B, heads, L, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class MaskLayer(nn.Module):
    """The last layer, of which only the attention logits are used: the mean over heads is the mask (SPEC section 4).

    The released layer also holds a value path, a feed-forward part and norms; nothing reads them, so none are built.
    """

    def __init__(self, dim: int, heads: int) -> None:
        """Make the two projections; the mean over heads of scaled logits is one inner product over all channels."""
        super().__init__()
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.scale = (dim // heads) ** -0.5 / heads

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Mask logits (B, K, N) of queries (B, K, C) over patch tokens (B, N, C)."""
        return (self.q(queries) * self.scale) @ self.k(memory).transpose(1, 2)


class TextImageDecoder(nn.Module):
    """Decoder of a stage: layers that refine the queries, then the layer that reads the masks."""

    def __init__(self, dim: int, *, layers: int = 3, heads: int = 8, hidden: int, dropout: float = 0.1) -> None:
        """Make `layers` layers that start as copies of each other, as released (golden `init`)."""
        super().__init__()
        refining = [DecoderLayer(dim, heads, hidden, dropout) for _ in range(layers - 1)]
        self.layers = nn.ModuleList(refining)
        self.mask = MaskLayer(dim, heads)
        for layer in refining[1:]:
            layer.load_state_dict(refining[0].state_dict())
        for layer in refining[:1]:
            self.mask.q.load_state_dict(layer.q.state_dict())
            self.mask.k.load_state_dict(layer.k.state_dict())

    def forward(self, queries: Tensor, memory: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Mask logits (B, K, N) of one stage, unbounded, of queries (B, K, C) over its patch tokens (B, N, C).

        Classes do not interact: a class's mask does not depend on the others. `grid` is for other decoders; this one
        reads no positions.
        """
        for layer in self.layers:
            queries = layer(queries, memory)
        return self.mask(queries, memory)
