"""Tables of runs: what each row becomes on a split, own tables, and mistakes in them."""

import json
from pathlib import Path

import pytest

from cascade_clip.config.recipes import load_recipe, recipe_names
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.evaluation.published import paper_figures, published_results
from cascade_clip.reproduce.plan import PlannedRow, table_rows
from cascade_clip.reproduce.table_file import read_table, table_names

OTHERS = ("self-training", "training-free")
BASE_STAGES = ((6, 7, 8), (9, 10, 11), (12,))


def _rows(table: str, split: str = "coco-seen", **options: object) -> dict[str, PlannedRow]:
    return {row.row.shown: row for row in table_rows(read_table(table), split, **options)}


def _settings(recipe: Recipe | None) -> dict:
    assert recipe is not None
    return recipe.model_dump(exclude={"name", "paper"})


def _own(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return str(file)


def test_every_table_of_the_paper_and_the_sweep():
    assert table_names() == (*(f"table{number}" for number in range(1, 11)), "sigma", "shapes", *OTHERS)
    assert not any(name.startswith("tables/") for name in recipe_names())


@pytest.mark.parametrize("name", [name for name in table_names() if name.startswith("table")])
def test_rows_are_the_papers_in_its_order(name: str):
    table = read_table(name)
    assert table.paper is not None
    assert table.paper.startswith(f"{name}_")
    published = [
        (None if section == "rows" else section, row["name"])
        for section, rows in published_results()[table.paper].items()
        if isinstance(rows, list) and isinstance(rows[0], dict)
        for row in rows
    ]
    assert [(row.section, row.paper) for row in table.rows] == published


@pytest.mark.parametrize(
    ("key", "section"),
    [("table5_block_split", None), ("table6_number", "decoders"), ("table6_number", "blocks_per_stage")],
)
def test_stages_are_the_papers(key: str, section: str | None):
    published = {row["name"]: row["stages"] for row in published_results()[key][section or "rows"]}
    table = read_table(key.partition("_")[0])
    rows = [row for row in table_rows(table, "coco-seen") if row.row.section == section]
    assert {row.row.shown: [list(stage) for stage in row.recipe.model.stages] for row in rows} == published


def test_a_row_is_the_datasets_recipe_with_the_rows_keys():
    rows = _rows("table8", seed=2, overrides=["train.iterations=7"])
    overrides = ["train.iterations=7", "model.aggregation.kind=concat", "seed=2"]
    expected = load_recipe("coco/cascade-zegclip", [*overrides, f"model.stages={json.dumps(BASE_STAGES)}"])
    assert _settings(rows["Concat"].recipe) == _settings(expected)
    assert rows["Concat"].recipe.name == "coco-table8-concat"
    assert rows["Concat"].figures == {"miou_seen": 39.9, "miou_unseen": 41.0, "hiou": 40.5}
    shapes = _rows("table8", "shapes-seen")["Concat"]
    assert shapes.recipe.clip.architecture == "bundled"
    assert (shapes.recipe.data.split, shapes.recipe.paper, shapes.figures) == ("shapes-seen", None, None)


@pytest.mark.parametrize("split", ["coco-seen", "voc-seen", "context-released-seen", "shapes-seen"])
def test_cascade_clip_is_the_same_run_in_every_table(split: str):
    """So that one training serves them all."""
    stages = f"model.stages={json.dumps(BASE_STAGES)}"
    base = _settings(load_recipe(f"{split.partition('-')[0]}/cascade-zegclip", [stages]))
    for table, name in [
        ("table1", "Cascade-CLIP"),
        ("table2", "Cascade-CLIP"),
        ("table4", "cascaded decoders + NGA"),
        ("table5", "{6-8},{9-11},{12}"),
        ("table6", "{6-8},{9-11},{12}"),
        ("table7", "Cascade-CLIP"),
        ("table8", "NGA (trainable weights)"),
        ("table9", "Independent text embeddings"),
        ("sigma", "sigma 1"),
    ]:
        assert _settings(_rows(table, split)[name].recipe) == base, table


def test_figures_belong_to_the_split():
    figures = _rows("table1", "voc-seen")["Multi-layer fusion"].figures
    assert figures == {"miou_seen": 91.2, "miou_unseen": 75.0, "hiou": 82.3}
    assert _rows("table9", "voc-seen")["Shared text embedding"].figures is None
    assert all(row.recipe.paper is None for row in _rows("table9", "voc-seen").values())
    sigma = _rows("sigma")
    assert [name for name, row in sigma.items() if row.figures] == ["sigma 1"]


def test_quoted_rows_are_shown_where_they_have_figures():
    rows = _rows("table2", "voc-seen")
    quoted = rows["MaskCLIP+"]
    assert (quoted.recipe, quoted.row.quoted, quoted.row.section) == (None, True, "transductive")
    assert quoted.figures == {"miou_seen": 88.8, "miou_unseen": 86.1, "hiou": 87.4}
    assert "JoEm" in rows
    assert "JoEm" not in _rows("table2", "coco-seen")  # the paper prints a dash
    assert list(_rows("table2", "shapes-seen")) == ["ZegCLIP", "Cascade-CLIP", "ZegCLIP+ST", "Cascade-CLIP+ST"]


def test_modes_decide_what_is_trained_on():
    rows = table_rows(read_table("table10"), "voc-seen")
    hosts = {row.row.mode: row for row in rows if row.row.shown == "ZegCLIP"}
    supervised, inductive = hosts["supervised"], hosts["inductive"]
    assert (supervised.recipe.data.split, supervised.recipe.inference.seen_bias) == ("voc", 0.0)
    assert (inductive.recipe.data.split, inductive.recipe.inference.seen_bias) == ("voc-seen", 0.1)
    assert supervised.figures == {"miou_seen": 92.4, "miou_unseen": 90.9, "hiou": 91.6}
    transductive = _rows("table10", "voc-seen")["ZegCLIP+ST"]
    assert transductive.row.mode == "transductive"
    assert _settings(transductive.recipe) == _settings(inductive.recipe)
    free = _rows("shapes", "shapes-seen")["value path, training-free"]
    assert (free.row.mode, free.row.model, free.recipe) == ("training-free", "dense:bundled?method=value", None)
    assert free.row.short == "value-path-training-free"


def test_own_table(tmp_path):
    (tmp_path / "base.toml").write_text('extends = "voc/cascade-zegclip"\n[train]\nbatch = 2\n')
    text = """
title = "Mine"
rows = [
  { name = "plain" },
  { name = "from a file", recipe = "base.toml", set.model.stages = [[11], [12]] },
  { name = "all classes", recipe = "voc/zegclip", mode = "supervised" },
]
"""
    table = read_table(_own(tmp_path, text))
    assert (table.name, table.paper) == ("mine", None)
    plain, from_file, supervised = (row.recipe for row in table_rows(table, "voc-seen"))
    assert (plain.name, plain.model.stages, plain.paper) == ("voc-mine-plain", BASE_STAGES, None)
    assert (from_file.train.batch, from_file.model.stages) == (2, ((11,), (12,)))
    assert (supervised.data.split, supervised.model.stages) == ("voc", ((12,),))


def test_own_split_of_an_own_dataset(tmp_path):
    """A dataset without recipes of its own takes those for a user's folder."""
    split = tmp_path / "street.toml"
    split.write_text(
        'dataset = "street"\nclasses = [{ name = "road" }, { name = "car" }]\n[splits.street-seen]\nunseen = ["car"]\n'
    )
    rows = _rows("table9", str(split))
    shared = rows["Shared text embedding"].recipe
    assert (shared.data.split, shared.model.text_projection) == (str(split), "shared")
    assert shared.train.iterations == load_recipe("folder/cascade-zegclip").train.iterations


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("title = 3\nrows = []", ["There are 2 mistakes in table", "title: ", "rows: "]),
        ('title = "x"\nrows = [{ nmae = "a", paper = "b" }]', ['rows.0.nmae: unknown key. Did you mean "name"']),
        ('title = "x"\nrows = [{ mode = "inductive" }]', ["rows.0: a row needs a name"]),
        ('title = "x"\nrows = [{ name = "a", quoted = true }]', ["a quoted row names a row of the paper"]),
        ('title = "x"\nrows = [{ name = "a", mode = "training-free" }]', ["go together"]),
        ('title = "x"\nrows = [{ name = "a", model = "dense:bundled" }]', ["go together"]),
        (
            'title = "x"\nrows = [{ name = "a", mode = "training-free", model = "dense:bundled", recipe = "zegclip" }]',
            ["a training-free row names a model and neither a recipe nor keys to set"],
        ),
        (
            'title = "x"\nrows = [{ name = "a b" }, { name = "A+b" }, { paper = "Sum" }]',
            ['Rows "a b" and "A+b" differ in punctuation only', 'Row "Sum" names a row of the paper, but the table'],
        ),
        (
            'title = "x"\npaper = "table8_aggregation"\nrows = [{ paper = "Summ" }, { paper = "Concatt" }]',
            ['no row "Summ". Did you mean "Sum"', 'no row "Concatt". Did you mean "Concat"'],
        ),
        ('title = "x"\npaper = "table11"\nrows = [{ paper = "Sum" }]', ['The paper has no table "table11"']),
        ("title = ", ["is no valid TOML"]),
    ],
)
def test_mistakes_in_a_table(tmp_path, text: str, messages: list[str]):
    with pytest.raises(UserError) as caught:
        read_table(_own(tmp_path, text))
    for message in messages:
        assert message in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_mistakes_of_all_rows_at_once(tmp_path):
    text = """
title = "Mine"
rows = [
  { name = "good" },
  { name = "typo", set.train.bacth = 3 },
  { name = "no recipe", recipe = "cascade-zegclop" },
]
"""
    with pytest.raises(UserError) as caught:
        table_rows(read_table(_own(tmp_path, text)), "coco-seen")
    message = str(caught.value)
    assert 'Row "typo" of mine: There is 1 mistake' in message
    assert 'train.bacth: unknown key. Did you mean "batch"' in message
    assert 'Row "no recipe" of mine: There is no recipe "cascade-zegclop"' in message
    assert "good" not in message


@pytest.mark.parametrize("paper", ["table8", "Table8", "table8_aggregation"])
def test_a_table_of_the_paper_is_named_by_its_number_too(tmp_path, paper: str):
    file = tmp_path / "mine.toml"
    file.write_text(f'title = "x"\npaper = "{paper}"\nrows = [{{ paper = "Sum" }}]')
    (row,) = table_rows(read_table(str(file)), "coco-seen")
    assert row.figures == paper_figures("table8_aggregation", "Sum", "coco-seen")
