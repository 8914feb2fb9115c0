import pytest

from cascade_clip.analysis.observed_model import model_name
from cascade_clip.errors import UserError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *((name, name) for name in ("bundled", "dense:bundled", "dense-self:ViT-B-16:openai", "ORG/NAME")),
        *((name, f"dense:{name}") for name in ("ViT-B-16-quickgelu", "ViT-B-16:random:3", "hf-hub:ORG/NAME")),
        ("run", "run/model"),
        ("run/model", "run/model"),
        (".", "."),
    ],
)
def test_names_of_models(given: str, expected: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    assert model_name(given) == expected


def test_an_unknown_name_is_told_with_the_nearest():
    message = '"ViT-B-61" is neither a checkpoint nor a run folder, and open_clip knows no.*Did you mean "ViT-B-16"'
    with pytest.raises(UserError, match=message):
        model_name("ViT-B-61")
