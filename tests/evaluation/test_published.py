import pytest

from cascade_clip.errors import UserError
from cascade_clip.evaluation.published import paper_figures


@pytest.mark.parametrize(
    ("table", "row", "split", "expected"),
    [
        ("table2_sota", "Cascade-CLIP", "coco-seen", (41.1, 43.4, 42.2)),
        ("table2_sota", "Cascade-CLIP+ST", "voc-seen", (93.3, 93.4, 93.4)),
        ("table3_context", "Cascade-CLIP", "context-released-seen", (55.9, 47.2, 51.2)),
        ("table6_number/blocks_per_stage", "{6-8},{9-11},{12}", "coco-seen", (41.1, 43.4, 42.2)),
        ("table10_hosts", "ZegCLIP", "coco-seen", (40.2, 41.4, 40.8)),  # hIoU is computed
        ("table10_hosts/fully_supervised", "ZegCLIP", "coco-seen", (40.7, 63.2, 49.5)),
    ],
)
def test_figures_of_a_row(table: str, row: str, split: str, expected: tuple[float, float, float]):
    figures = paper_figures(table, row, split)
    assert figures == dict(zip(("miou_seen", "miou_unseen", "hiou"), expected, strict=True))


@pytest.mark.parametrize(
    ("table", "row", "split"),
    [
        ("table2_sota", "Cascade-CLIP", "shapes-seen"),
        ("table2_sota", "Cascade-CLIP", "coco"),
        ("table2_sota", "JoEm", "coco-seen"),  # the paper prints a dash
        ("table8_aggregation", "Sum", "voc-seen"),
    ],
)
def test_no_figure_for_a_split_the_table_does_not_measure(table: str, row: str, split: str):
    assert paper_figures(table, row, split) is None


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("table2_soat", "Cascade-CLIP", 'no table "table2_soat". Did you mean "table2_sota"'),
        ("table2_sota/inductve", "Cascade-CLIP", 'no section "inductve". Did you mean "inductive"'),
        ("table2_sota", "CascadeCLIP", 'no row "CascadeCLIP". Did you mean "Cascade-CLIP"'),
    ],
)
def test_unknown_names_are_refused_with_the_closest(table: str, row: str, message: str):
    with pytest.raises(UserError, match=message.replace(".", r"\.").replace("?", r"\?")):
        paper_figures(table, row, "coco-seen")
