"""Writing many shards with several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from cascade_clip.preparation.shards import ShardJob, ShardReport, finished_report, write_shard


def write_shards(jobs: Sequence[ShardJob], workers: int) -> Iterator[tuple[ShardJob, ShardReport]]:
    """Write the shards that no earlier run finished.

    Args:
        jobs: All shards.
        workers: Processes; 1 works in this one.

    Yields:
        Each shard with its report: finished ones first, the others as they get done.

    Raises:
        OSError: The file system refuses; shards that are being written by other processes are completed first.
    """
    waiting = []
    for job in jobs:
        report = finished_report(job)
        if report:
            yield job, report
        else:
            waiting.append(job)
    if workers <= 1 or len(waiting) <= 1:
        yield from ((job, write_shard(job)) for job in waiting)
        return
    # Processes are spawned, not forked: a fork copies the locks of whatever threads the caller's libraries run.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context, initializer=_live_with_parent) as pool:
        try:
            futures = {pool.submit(write_shard, job): job for job in waiting}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _live_with_parent() -> None:
    """Leave interrupts to the parent process, and end with it even when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
