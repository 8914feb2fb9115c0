"""What no command uses is not imported, and still there for those who ask."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from cascade_clip_cli import deferred_imports

pytestmark = pytest.mark.slow  # it starts processes

SLOW = "('torch._dynamo', 'timm', 'sympy', 'pandas', 'datasets')"


@pytest.mark.skipif(find_spec("transformers") is not None, reason="nothing is deferred where transformers is installed")
def test_a_prediction_imports_no_compiler_and_no_other_towers(tmp_path):
    program = f"""
import sys
from PIL import Image
from cascade_clip_cli.main import main
Image.new("RGB", (64, 64)).save(r"{tmp_path / "a.png"}")
try:
    main(["predict", r"{tmp_path / "a.png"}", "-m", "bundled", "-c", "grass,water", "-o", r"{tmp_path / "out"}"])
except SystemExit as ended:
    assert not ended.code, ended
assert not [name for name in {SLOW} if name in sys.modules], [name for name in {SLOW} if name in sys.modules]
import open_clip.timm_model
assert open_clip.timm_model.to_2tuple(3) == (3, 3)
assert "timm" in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_modules_that_are_there_are_taken(monkeypatch):
    import json

    monkeypatch.setattr(deferred_imports, "DEFERRED", ("json", "cascade_clip_not_there"))
    with deferred_imports.deferred_imports():
        assert sys.modules["json"] is json
        stand_in = sys.modules["cascade_clip_not_there"]
    assert "cascade_clip_not_there" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        stand_in.anything()


def test_transformers_beside_it_finds_the_real_timm(tmp_path):
    (tmp_path / "transformers.py").write_text(
        "import importlib.util\nassert importlib.util.find_spec('timm').loader is not None\n"
        "from timm import list_models\nassert list_models.__module__.startswith('timm.')\n"
    )
    program = "from cascade_clip_cli.main import main; import open_clip, sys; assert 'transformers' in sys.modules"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
