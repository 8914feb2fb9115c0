"""Recipes: every shipped one loads, overrides apply, mistakes are told all at once."""

import tomllib

import pytest

from cascade_clip.config.recipes import changed_keys, dump_toml, load_recipe, recipe_file, recipe_names
from cascade_clip.config.schema import Recipe, SelfTrainingConfig
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.evaluation.published import paper_figures
from cascade_clip.model.clip.load import blocks_of
from cascade_clip.model.stages import scaled_stages, stages_of


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe(name: str):
    recipe = load_recipe(name)
    assert recipe.name == name.replace("/", "-")
    text = recipe_file(name).read_text()
    assert text.startswith("# ")
    assert f"--recipe {name}" in text or "# Run:" in text
    if recipe.data.split:
        split = get_split(recipe.data.split)
        assert split.dataset == name.split("/", maxsplit=1)[0]
        if recipe.paper:
            assert paper_figures(recipe.paper.table, recipe.paper.row, split.name) is not None
    text = dump_toml(recipe)
    assert Recipe.model_validate(tomllib.loads(text)) == recipe
    assert "mean = [123.675, 116.28, 103.53]" in text.splitlines()


@pytest.mark.parametrize(
    ("name", "tokens", "templates", "iterations", "split"),
    [
        ("coco/cascade-zegclip", 50, "multi", 80_000, "coco-seen"),
        ("context/cascade-zegclip", 35, "multi", 40_000, "context-released-seen"),
        ("voc/cascade-zegclip", 10, "single", 20_000, "voc-seen"),
    ],
)
def test_released_settings(name: str, tokens: int, templates: str, iterations: int, split: str):
    """SPEC section 11."""
    recipe = load_recipe(name)
    found = (recipe.model.prompts.tokens, recipe.text.templates, recipe.train.iterations, recipe.data.split)
    assert found == (tokens, templates, iterations, split)
    assert recipe.train.batch == 16
    assert stages_of(recipe.model, 12) == ((6, 7, 8), (9, 10, 11), (12,))
    assert recipe.model.prompts.depth is None
    assert (recipe.inference.crop, recipe.inference.stride, recipe.inference.seen_bias) == (512, 426, 0.1)


@pytest.mark.parametrize("dataset", ["coco", "voc", "context"])
@pytest.mark.parametrize("model", ["cascade-zegclip", "zegclip"])
def test_recipes_of_a_larger_clip_change_nothing_but_the_clip_and_sizes(dataset: str, model: str):
    large, base = load_recipe(f"{dataset}/{model}-vit-l"), load_recipe(f"{dataset}/{model}")
    assert set(changed_keys(base.model_dump(mode="json", exclude={"paper"}), large.model_dump(mode="json"))) - {
        "model.stages"
    } == {"name", "clip.architecture", "data.short_side", "data.crop", "inference.crop", "inference.stride"}
    depth = blocks_of(large.clip.architecture)
    assert stages_of(large.model, depth) == scaled_stages(stages_of(base.model, 12), depth)
    assert (large.data.crop % 14, large.inference.crop % 14, large.paper) == (0, 0, None)


def test_overrides():
    recipe = load_recipe(
        "coco/cascade-zegclip", ["train.batch=8", "data.split=voc", "model.stages=[[11],[12]]", 'name="x"']
    )
    assert (recipe.train.batch, recipe.data.split, recipe.model.stages, recipe.name) == (8, "voc", ((11,), (12,)), "x")
    assert recipe.model.prompts.tokens == 50


def test_extends_one_level(tmp_path):
    (tmp_path / "base.toml").write_text('name = "base"\n[train]\nbatch = 2\niterations = 7\n')
    (tmp_path / "own.toml").write_text('extends = "base.toml"\n[train]\nbatch = 3\n')
    recipe = load_recipe(str(tmp_path / "own.toml"))
    assert (recipe.name, recipe.train.batch, recipe.train.iterations) == ("base", 3, 7)
    (tmp_path / "shipped.toml").write_text('extends = "voc/cascade-zegclip"\nname = "mine"\n')
    assert load_recipe(str(tmp_path / "shipped.toml")).model.prompts.tokens == 10
    assert load_recipe(str(tmp_path / "shipped.toml")).paper is None
    (tmp_path / "deep.toml").write_text('extends = "own.toml"\n')
    with pytest.raises(UserError, match="one level is allowed"):
        load_recipe(str(tmp_path / "deep.toml"))


def test_all_mistakes_at_once():
    with pytest.raises(UserError) as caught:
        load_recipe("coco/cascade-zegclip", ["train.bacth=8", "train.lr=-1", "model.host=zegclop", "nonsense.x=1"])
    message = str(caught.value)
    assert message.startswith('There are 4 mistakes in recipe "coco/cascade-zegclip" with --set:')
    assert 'train.bacth: unknown key. Did you mean "batch"' in message
    assert "train.lr: " in message
    assert "(got -1)" in message
    assert "model.host: " in message
    assert "nonsense: unknown key." in message


def test_a_key_without_its_section_or_in_another_one_names_it():
    with pytest.raises(UserError, match=r'iterations: unknown key\. Did you mean "train\.iterations"\?'):
        load_recipe("coco/cascade-zegclip", ["iterations=10"])
    with pytest.raises(
        UserError, match=r'train\.split: unknown key\. Did you mean "data\.split" or "evaluation\.split"'
    ):
        load_recipe("coco/cascade-zegclip", ["train.split=voc"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batch"], '--set needs key=value, for example --set train.batch=8; got "train.batch"'),
        (["train.batch.size=3"], '"batch" is a value, not a section'),
        (["train.batch=true"], "train.batch: a number is expected (got True)"),
        (["train.batch=99999999999"], "train.batch: less than 2147483648 is expected (got 99999999999)"),
        (["train.lr=nan"], "train.lr: a finite number is expected (got nan)"),
        (["text.half=maybe"], "text.half: true or false is expected (got 'maybe')"),
        (["clip=x"], "clip: a table of keys and values is expected (got 'x')"),
        (["data.dataset=5"], "data.dataset: a folder or an address is expected (got 5)"),
        (["data.mean=[1, 2]"], "data.mean.2: is missing"),
        (["model.text_projection=z"], "'independent' or 'shared' is expected (got 'z')"),
        (["model.stages=5"], "model.stages: a list is expected (got 5)"),
        (["model.stages=[[0]]"], "model.stages.0.0: at least 1 is expected (got 0)"),
        (["train.batch=" + "[" * 5000], '--set "train.batch" cannot be read: its values are nested'),
        (["seed=" + "9" * 5000], '--set "seed" cannot be read: its values are nested too deeply, or a whole number'),
        (["train.batch=1\nname=2"], "--set takes one line of text"),
        (["model.stages=[[3, 2]]"], "in rising order, got [3, 2]"),
        (["model.stages=[[]]"], "every stage needs at least one block"),
        (["self_training.decay=0.5"], 'decay is for teacher = "moving-average", here it is "self": leave it out'),
        (["inference.stride=600"], "the stride (600) may not exceed the crop (512)"),
    ],
)
def test_values_that_do_not_fit(overrides: list[str], message: str):
    with pytest.raises(UserError) as caught:
        load_recipe("coco/zegclip" if "size" not in overrides[0] else None, ["train.batch=4", *overrides])
    assert message in str(caught.value)


def test_unknown_recipes():
    says = r'There is no recipe "coco/cascade-zegclp".*Did you mean "coco/cascade-zegclip"'
    with pytest.raises(UserError, match=says):
        load_recipe("coco/cascade-zegclp")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train = [", "is no valid TOML"),
        (b"a" + b".b" * 3000 + b" = 1", "is no valid TOML: its values are nested too deeply"),
        (
            b"seed = 0x" + b"f" * 5000,
            "is no valid TOML: its values are nested too deeply, or a whole number in it is too",
        ),
        (b'extends = "' + b"n" * 300 + b'"', "cannot be used: File name too long"),
        (b'extends = "~no-such-user/x.toml"', 'The recipe "~no-such-user/x.toml" cannot be used'),
        ('name = "straße"'.encode("latin-1"), "is no UTF-8 text"),
        (b'extends = "own.toml"', "one level is allowed"),
        (b'extends = "."', 'There is no recipe "."'),
    ],
)
def test_files_that_are_no_recipe(tmp_path, content: bytes, message: str):
    (tmp_path / "own.toml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_recipe(str(tmp_path / "own.toml"))
    assert message in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path):
    (tmp_path / "own.toml").write_bytes('name = "a"'.encode("utf-8-sig"))
    assert load_recipe(str(tmp_path / "own.toml")).name == "a"


def test_other_values_of_a_recipe_and_its_sections():
    recipe = load_recipe("voc/zegclip")
    other = recipe.changed(seed=7, data={"crop": 64}, self_training=SelfTrainingConfig())
    assert (other.seed, other.data.crop, other.data.split) == (7, 64, "voc-seen")
    assert other.self_training == SelfTrainingConfig()
    with pytest.raises(AttributeError, match="crops"):
        recipe.changed(data={"crops": 64})


@pytest.mark.parametrize("key", ["pamr_steps", "logit_scale", "area_threshold", "long_side"])
def test_true_is_no_number_of_a_training_free_model(key: str):
    with pytest.raises(UserError, match=rf"inference\.training_free\.{key}: a number is expected \(got True\)"):
        load_recipe(None, [f"inference.training_free.{key}=true"])
