"""Hosts and aggregations by name: those of the toolkit, and those that other installed packages add.

A new one is a file and a line here. A package of one's own adds one through an entry point instead:

    [project.entry-points."cascade_clip.aggregations"]
    mean = "my_package.mean:build"
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from cascade_clip.errors import UserError, closest


@dataclass(frozen=True)
class Extensions:
    """Names of one kind of part, "host" in messages, and where each part is defined.

    `load` alone imports, so that recipes are checked without PyTorch. The toolkit's `own`, name -> "module:attribute",
    take precedence over those that other packages add in the entry-point `group`.
    """

    kind: str
    group: str
    own: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """Every known name, the toolkit's own first."""
        return tuple(dict.fromkeys([*self.own, *(point.name for point in entry_points(group=self.group))]))

    def check(self, name: str) -> str:
        """Return a known name as it is; for another one a ValueError offers the closest names."""
        if name not in self.own and name not in self.names():
            known = closest(name, self.names())
            foreign = " If another package adds it, install that package." if " Known: " in known else ""
            raise ValueError(f"no {self.kind} of that name is known.{known}{foreign}")
        return name

    def load(self, name: str) -> Any:
        """Import the part of a name that `check` accepts; UserError where its package cannot be imported."""
        if name in self.own:
            return pkgutil.resolve_name(self.own[name])
        point = next(iter(entry_points(group=self.group, name=self.check(name))))
        try:
            return point.load()
        except Exception as error:
            raise UserError(
                f'The {self.kind} "{point.name}" of an installed package cannot be loaded from "{point.value}":'
                f" {type(error).__name__}: {error}. Repair or uninstall that package."
            ) from error


HOSTS = Extensions(
    "host",
    "cascade_clip.hosts",
    {
        "zegclip": "cascade_clip.model.hosts:ZEGCLIP",
        "spt-seg": "cascade_clip.model.hosts:SPT_SEG",
        "frozen-clip": "cascade_clip.model.hosts:FROZEN_CLIP",
    },
)
"""Each is a `cascade_clip.model.hosts.Host`: encoder, decoder, loss beside the focal loss."""

AGGREGATIONS = Extensions(
    "aggregation",
    "cascade_clip.aggregations",
    {
        "gaussian": "cascade_clip.model.head.aggregation:gaussian",
        "sum": "cascade_clip.model.head.aggregation:plain_sum",
        "concat": "cascade_clip.model.head.aggregation:concatenation",
        "self-attention": "cascade_clip.model.head.aggregation:self_attention",
    },
)
"""Each is a function (config: AggregationConfig, blocks: int, dim: int, heads: int) -> nn.Module for stages of several
blocks; the module merges a list of `blocks` maps (B, N, C) into one (B, N, C)."""
