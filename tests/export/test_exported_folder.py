"""Export and load: what the file gives, what it says, and what is refused."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from two_blocks import NAMES, SPLIT, two_block_model

from cascade_clip import CascadeCLIP
from cascade_clip.config.schema import Recipe
from cascade_clip.data.transforms import normalise
from cascade_clip.errors import UserError
from cascade_clip.export import exported_folder
from cascade_clip.export.exported_folder import ExportedModel, export_model, load_exported

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
Tokenizer = pytest.importorskip("tokenizers", reason="the extra onnx is not installed").Tokenizer

NEWER = {"format_version": 99, "tool": "cascade-clip 9", "format": "onnx", "file": "m", "patch_size": 16}
PIXELS = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)


@pytest.fixture
def model(two_block_export: tuple[CascadeCLIP, ExportedModel]) -> CascadeCLIP:
    return two_block_export[0]


@pytest.fixture
def exported(two_block_export: tuple[CascadeCLIP, ExportedModel]) -> ExportedModel:
    return two_block_export[1]


def inputs(images: int, classes: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    text = torch.randn(classes, 32, generator=generator)
    return torch.randn(images, 3, height, width, generator=generator), F.normalize(text, dim=-1)


@pytest.mark.parametrize(
    ("images", "classes", "height", "width"), [(1, 1, 16, 16), (4, 3, 64, 64), (1, 300, 80, 48), (2, 2, 16, 128)]
)
def test_any_images_classes_and_sizes(
    model: CascadeCLIP, exported: ExportedModel, runtime: str, images: int, classes: int, height: int, width: int
):
    """64 x 64 is CLIP's own grid, where PyTorch leaves its positions alone; the file resizes them to themselves."""
    image, text = inputs(images, classes, height, width)
    loaded = load_exported(exported.folder, runtime=runtime, device="cpu")
    with torch.no_grad():
        expected = model.network(image, text)
        given = loaded.network(image, text)
    assert given.shape == (images, classes, height // 16, width // 16)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_labels_through_the_whole_of_inference(model: CascadeCLIP, exported: ExportedModel, runtime: str):
    loaded = load_exported(exported.folder, runtime=runtime, device="cpu")
    for words in ({"classes": ["road", "tree", "sky"]}, {"split": SPLIT}):
        plain, other = model.segment(PIXELS, **words)[0], loaded.segment(PIXELS, **words)[0]
        # Untrained, one class wins everywhere; its scores differ from place to place.
        assert np.ptp(plain.scores) > 1e-4
        assert np.array_equal(plain.labels, other.labels)
        np.testing.assert_allclose(plain.scores, other.scores, atol=1e-6)
    assert loaded.split == SPLIT


def test_what_lies_in_the_folder(model: CascadeCLIP, exported: ExportedModel):
    names = {file.name for file in exported.folder.iterdir()}
    # The tiny CLIP cannot be had by name, so that its weights come along to embed class names.
    described = {"README.md", "clip.safetensors", "config.json", "export.json", "text_embeddings.npy"}
    assert names == {*described, "model.onnx", "text.onnx", "tokenizer.json"}
    record = json.loads((exported.folder / "export.json").read_text(encoding="utf-8"))
    assert record == exported.record
    assert (record["classes"], record["unseen"]) == (list(NAMES), ["blue"])
    assert record["bytes"] == (exported.folder / "model.onnx").stat().st_size
    cases = record["check"]["cases"]
    assert {case["case"]["images"] for case in cases} == {1, 2, 3}
    assert len({case["case"]["classes"] for case in cases}) == 4
    assert 0 < exported.difference <= record["check"]["tolerance"]
    np.testing.assert_array_equal(
        np.load(exported.folder / "text_embeddings.npy"), model.text_embeddings_for(SPLIT).numpy()
    )


def test_the_file_says_what_it_is_and_nothing_of_this_machine(exported: ExportedModel):
    file = exported.folder / "model.onnx"
    graph = onnx.load(file)
    onnx.checker.check_model(graph)
    says = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(says["classes"]) == list(NAMES)
    assert json.loads(says["std"]) == pytest.approx([58.395, 57.12, 57.375])
    axes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.graph.input
    ]
    assert axes == [["batch", 3, "16*rows", "16*columns"], ["classes", 32]]
    assert str(Path(exported_folder.__file__).parent).encode() not in file.read_bytes()


def test_the_readme_runs_without_the_toolkit(model: CascadeCLIP, exported: ExportedModel, monkeypatch, capsys):
    text = (exported.folder / "README.md").read_text(encoding="utf-8")
    any_words, own_classes = (part.split("```")[0] for part in text.split("```python\n")[1:])
    picture = Image.fromarray(PIXELS[:64, :64])
    photo = exported.folder / "photo.jpg"
    picture.save(photo, quality=100, subsampling=0)
    try:
        monkeypatch.chdir(exported.folder)
        exec(own_classes, {})
        shown = capsys.readouterr().out.strip()
        assert shown == model.segment(photo, split=SPLIT)[0].summary()[0].name
        exec(any_words, {})
        shares = ast.literal_eval(capsys.readouterr().out)
        pixels = normalise(np.asarray(Image.open(photo)), model.recipe.data.mean, model.recipe.data.std)
        with torch.no_grad():
            logits = model.network(torch.from_numpy(pixels)[None], model.embed(["road", "tree", "sky"]))[0]
        expected = torch.bincount(logits.argmax(dim=0).ravel(), minlength=3) / logits[0].numel()
        assert shares == pytest.approx(dict(zip(("road", "tree", "sky"), expected.tolist(), strict=True)), abs=0.07)
    finally:
        photo.unlink()


def test_text_is_embedded_as_by_pytorch(model: CascadeCLIP, exported: ExportedModel):
    tokenizer = Tokenizer.from_file(str(exported.folder / "tokenizer.json"))
    words = ["it's a DOG's life", "wall-concrete", "  two   blanks ", "naïve Straße 木", "<end_of_text>", "e\u0301cole"]
    ids = np.array([one.ids for one in tokenizer.encode_batch(words)])
    np.testing.assert_array_equal(ids, model.clip.tokenize(words).numpy())
    session = onnxruntime.InferenceSession(str(exported.folder / "text.onnx"))
    (found,) = session.run(None, {"tokens": ids})
    with torch.no_grad():
        expected = F.normalize(model.clip.model.encode_text(torch.from_numpy(ids)), dim=-1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_images_of_broken_patches_are_refused_by_the_file(exported: ExportedModel):
    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"))
    image, text = inputs(1, 2, 64, 70)
    with pytest.raises(Exception, match=r"requested shape:\{1,3,64,64\}"):
        session.run(None, {"image": image.numpy(), "text": text.numpy()})


def test_spt_seg_at_the_size_of_its_windows(tiny_recipe: Recipe, tmp_path):
    # Another grid than that of the windows: the filter is resized in the graph.
    model = two_block_model(tiny_recipe, tmp_path, host="spt-seg", spectral={"grid": 6}, stages=((2,),))
    exported = export_model(model, tmp_path / "onnx", text=False)
    assert not (tmp_path / "onnx" / "text.onnx").exists()
    assert exported.record["image_side"] == 64
    loaded = load_exported(tmp_path / "onnx", device="cpu")
    plain, other = model.segment(PIXELS, list(NAMES))[0], loaded.segment(PIXELS, list(NAMES))[0]
    assert np.array_equal(plain.labels, other.labels)
    np.testing.assert_allclose(plain.scores, other.scores, atol=1e-6)
    with pytest.raises(UserError, match="takes windows of 64 x 64 pixels only, this image gives one of 80 x 64"):
        loaded.network(*inputs(1, 2, 80, 64))


def test_pt2(model: CascadeCLIP, tmp_path):
    exported = export_model(model, tmp_path / "pt2", "pt2")
    says = {"export.json": ""}
    program = torch.export.load(tmp_path / "pt2" / "model.pt2", extra_files=says)
    assert json.loads(says["export.json"])["model"] == model.recipe.name
    image, text = inputs(5, 9, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image, text), model.network(image, text), rtol=1e-5, atol=1e-6)
    assert exported.record["image_side"] == 64
    with pytest.raises(UserError, match="was exported as pt2: a runtime needs --format onnx"):
        load_exported(tmp_path / "pt2")


class Other(nn.Module):
    """Gives what the network gives, but for one value."""

    def __init__(self, network: nn.Module, value: float) -> None:
        super().__init__()
        self.network, self.value = network, value

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        logits: Tensor = self.network(image, text)
        if logits.shape[1] > 7:
            logits[-1, 5, 0, 1] += self.value
        return logits


@pytest.mark.parametrize("value", [0.01, float("nan")])
def test_a_file_that_differs_leaves_nothing(
    value: float, model: CascadeCLIP, exported: ExportedModel, tmp_path, monkeypatch
):
    """The wrong value shows only with more than 7 classes: every case counts."""
    monkeypatch.setattr(exported_folder, "trace", lambda network, joint, side: None)
    monkeypatch.setitem(exported_folder.WRITERS, "pt2", lambda program, file, metadata: file.write_bytes(b"x"))
    monkeypatch.setitem(exported_folder.READERS, "pt2", lambda file, patch: Other(model.network, value))
    with pytest.raises(UserError, match=r"does not give what PyTorch gives: with 2 images .* 171 classes"):
        export_model(model, tmp_path / "out", "pt2")
    assert not list(tmp_path.iterdir())


def test_folders_that_are_refused(exported: ExportedModel, model: CascadeCLIP, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is no exported model: write one with `cascade-clip export CKPT"):
        load_exported(tmp_path / "mine")
    with pytest.raises(UserError, match=f'Did you mean its folder, "{exported.folder}"'):
        load_exported(exported.folder / "model.onnx")
    with pytest.raises(UserError, match=r"holds an exported model, not a checkpoint: use .* with --runtime onnx"):
        CascadeCLIP.from_pretrained(exported.folder)
    loaded = load_exported(exported.folder, device="cpu")
    with pytest.raises(UserError, match="holds no weights to save: use the checkpoint"):
        loaded.save_pretrained(tmp_path / "again")
    with pytest.raises(UserError, match="is exported already: export takes a trained checkpoint"):
        export_model(loaded, tmp_path / "again")
    with pytest.raises(UserError, match='"dense:bundled" is training-free: export takes a trained checkpoint'):
        export_model(CascadeCLIP.from_pretrained("dense:bundled"), tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"model.onnx": "x"}, r"model\.onnx\" cannot be read .*export the model again"),
        ({"model.onnx": None}, r"holds no model\.onnx: copy the folder again"),
        ({"export.json": "{}"}, "is damaged: export the model again"),
        ({"export.json": json.dumps(NEWER)}, "was exported by cascade-clip 9: update with"),
    ],
)
def test_damaged_folders(damage: dict[str, str | None], message: str, runtime: str, exported: ExportedModel, tmp_path):
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    for name, content in damage.items():
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load_exported(folder, runtime=runtime, device="cpu")
