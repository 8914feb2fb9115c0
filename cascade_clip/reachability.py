"""Whether the Hub or another server can be reached, found out within seconds: its client tries for minutes."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from cascade_clip.errors import UserError, first_line

logger = logging.getLogger(__name__)
ANSWER_WITHIN_S = 5.0
"""How long the Hub's server has to answer, unless HF_HUB_ETAG_TIMEOUT says otherwise."""


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Around calls of the Hub's client: where the Hub gives no answer in time, they take what lies in the cache.

    Raises:
        ConnectionError: The Hub cannot be reached, and what is asked for is not in the cache.
    """
    reason = None if constants.HF_HUB_OFFLINE else _why_hub_unreachable()
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


def check_hub() -> None:
    """Say within seconds that nothing can be sent to the Hub; while HF_HUB_OFFLINE is set, its client says so.

    Raises:
        UserError: The Hub cannot be reached.
    """
    if not constants.HF_HUB_OFFLINE and (reason := _why_hub_unreachable()):
        raise UserError(f"{constants.ENDPOINT} cannot be reached ({reason}): connect to the internet, then try again.")


@contextmanager
def uploading_to_hub(repo_id: str) -> Iterator[None]:
    """Around an upload to `ORG/NAME`: says in a sentence why the Hub takes nothing.

    Raises:
        UserError: The Hub refuses or cannot be reached.
    """
    check_hub()
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what the Hub's client raises depends on its version
        raise _upload_error(error, repo_id) from error


def _upload_error(error: Exception, repo_id: str) -> UserError:
    response = error.response if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, LocalTokenNotFoundError) or (response is not None and response.status_code in {401, 403}):
        return UserError(
            f'The Hub does not let you write to "{repo_id}": log in with `hf auth login` and a token that may write, '
            "and check that ORG is you or an organisation of yours."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(f'"{repo_id}" cannot be uploaded to while HF_HUB_OFFLINE is set: unset it.')
    return UserError(
        f'The upload to "{repo_id}" failed ({first_line(error)}). Repeat the command: what was sent is kept.'
    )


def _why_hub_unreachable() -> str | None:
    return why_unreachable(constants.ENDPOINT, get_session().head)


def why_unreachable(address: str, head: Callable[..., object] = requests.head) -> str | None:
    """Why the server of an http or https address gives no answer of any kind to a HEAD request; None: it does."""
    seconds = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_WITHIN_S)
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            head(address, timeout=seconds)
        except Exception as error:
            outcome.append(first_line(error))
        else:
            outcome.append(None)

    # In a thread, as looking up a name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:.0f} seconds"
