"""The program as it is typed, in this process."""

import pytest

from cascade_clip_cli.main import main


def exit_code(*arguments: object) -> int:
    """Run `cascade-clip` with arguments and return its exit code."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)
