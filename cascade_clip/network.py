"""Whether the Hub can be reached, found out within seconds: its client tries for minutes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_session

from cascade_clip.errors import first_line

logger = logging.getLogger(__name__)
ANSWER_WITHIN_S = 5.0
"""How long the Hub's server has to answer, unless HF_HUB_ETAG_TIMEOUT says otherwise."""


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Around calls of the Hub's client: where the Hub gives no answer in time, they take what lies in the cache.

    Raises:
        ConnectionError: The Hub cannot be reached, and what is asked for is not in the cache.
    """
    reason = None if constants.HF_HUB_OFFLINE else _why_unreachable()
    if reason is None:
        yield
        return
    logger.info("%s cannot be reached (%s): only what was downloaded before can be used.", constants.ENDPOINT, reason)
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except Exception as error:
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {reason}") from error
    finally:
        constants.HF_HUB_OFFLINE = False


def _why_unreachable() -> str | None:
    """Why the Hub's server gives no answer of any kind; None: it does."""
    seconds = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_WITHIN_S)
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=seconds)
        except Exception as error:
            outcome.append(first_line(error))
        else:
            outcome.append(None)

    # In a thread, as looking up a name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:.0f} seconds"
