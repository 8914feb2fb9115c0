"""Labels from the maps of queries: synonyms, background, thresholds, blocks, refinement."""

import pytest
import torch

from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.inference import query_labels
from cascade_clip.inference.class_scores import resize_maps
from cascade_clip.inference.query_labels import QueryLabels, class_maxima, small_classes
from cascade_clip.inference.vocabulary import Queries

MAPS = torch.rand(6, 9, 12, generator=torch.Generator().manual_seed(0)) - 0.5
SYNONYMS = Queries.of_classes([0, 0, 1, 2, 2, 2])


def labelled(
    maps: torch.Tensor = MAPS,
    queries: Queries = SYNONYMS,
    classes: int = 3,
    threshold: float | None = None,
    pixels: torch.Tensor | None = None,
    **config: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    best = torch.empty(maps.shape[1:])
    at_work = QueryLabels(maps, tuple(maps.shape[1:]), queries, classes, TrainingFreeConfig(**config), pixels)
    return at_work.write(best, threshold), best


def against(*classes: int, own: tuple[bool, ...] = (), background: tuple[str, ...] = ()) -> Queries:
    """Queries of classes, one each, and then two background words."""
    reference = (*(own or (False,) * len(classes)), True, True)
    return Queries(torch.tensor([*classes, len(classes), len(classes)]), torch.tensor(reference), background)


def test_scores_against_background_do_not_depend_on_other_classes():
    one = torch.cat([MAPS[:1], MAPS[4:]])
    _, alone = labelled(one, against(0), 1, score="background")
    labels, among = labelled(MAPS, against(0, 1, 2, 3), 4)
    won = labels == 0
    assert bool(won.any())
    torch.testing.assert_close(among[won], alone[won])
    expected = torch.sigmoid(40 * one[0] - (40 * one[1:]).logsumexp(dim=0))
    torch.testing.assert_close(alone, expected)


def test_a_class_is_not_measured_against_its_own_word():
    """Class 0 is one of the background words: others are measured against it, it is not."""
    maps = torch.cat([MAPS[:2], MAPS[4:]])
    labels, scores = labelled(maps, against(0, 1, own=(True, False)), 2)
    own, other = ((40 * maps[rows]).logsumexp(dim=0) for rows in ([2, 3], [0, 2, 3]))
    expected = torch.where(labels == 0, torch.sigmoid(40 * maps[0] - own), torch.sigmoid(40 * maps[1] - other))
    torch.testing.assert_close(scores, expected)


def test_background_and_threshold_leave_pixels_without_a_class():
    maps = torch.cat([MAPS[:2], MAPS[4:]])
    wins = maps[2:].amax(dim=0) > maps[:2].amax(dim=0)
    kept, scores = labelled(maps, against(0, 1), 2)
    assert int(kept.max()) == 1
    labels, same = labelled(maps, against(0, 1, background=("sky", "wall")), 2)
    assert torch.equal(labels == 255, wins)
    assert torch.equal(scores, same)
    limited, _ = labelled(maps, against(0, 1), 2, threshold=0.4)
    assert torch.equal(limited == 255, scores < 0.4)
    assert torch.equal(limited[limited != 255], kept[limited != 255])
    both = QueryLabels(maps, (9, 12), against(0, 1, background=("sky", "wall")), 2, TrainingFreeConfig())
    for threshold in (0.001, 0.9):
        assert torch.equal(both.write(threshold=threshold) == 255, wins | (scores < threshold))
    ties, _ = labelled(torch.zeros(4, 9, 12), against(0, 1, background=("sky", "wall")), 2)
    assert not ties.any()


def test_classes_that_win_too_little_are_dropped_even_where_every_cosine_is_negative():
    """Class 0, of which there is as little, is not."""
    labels = torch.tensor([[0, 1, 1, 1, 2]])
    assert small_classes(labels, 4, 0.25).tolist() == [False, False, True, True]
    maps = torch.nn.functional.one_hot(labels).permute(2, 0, 1) - 2.0
    found, _ = labelled(maps, Queries.of_classes([0, 1, 2]), 3, area_threshold=0.25)
    assert found.tolist() == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize(("maps", "queries", "classes"), [(MAPS, SYNONYMS, 3), (MAPS, against(0, 1, 2, 3), 4)])
def test_scores_of_classes_are_those_of_their_winners(maps: torch.Tensor, queries: Queries, classes: int):
    labels, best = labelled(maps, queries, classes)
    blocks = QueryLabels(maps, (9, 12), queries, classes, TrainingFreeConfig()).score_blocks(range(classes))
    each = torch.cat([block for _, block in blocks], dim=1)
    torch.testing.assert_close(each.gather(0, labels[None].long())[0], best)


def test_queries_in_any_order():
    assert torch.equal(class_maxima(MAPS[:3], Queries.of_classes([2, 0, 1]), 3), MAPS[[1, 2, 0]])


@pytest.mark.parametrize("elements", [1, 6 * 12 * 4])
def test_blocks_of_rows_change_nothing(elements: int, monkeypatch):
    settings = {"probability_threshold": 0.5, "area_threshold": 0.3}
    whole = QueryLabels(MAPS, (31, 17), SYNONYMS, 3, TrainingFreeConfig(**settings)).write()
    monkeypatch.setattr(query_labels, "BLOCK_ELEMENTS", elements)
    assert torch.equal(QueryLabels(MAPS, (31, 17), SYNONYMS, 3, TrainingFreeConfig(**settings)).write(), whole)
    resized = resize_maps(MAPS, (31, 17))
    assert torch.equal(QueryLabels(resized, (31, 17), SYNONYMS, 3, TrainingFreeConfig(**settings)).write(), whole)


def test_refined_labels_follow_the_edge_of_the_image(monkeypatch):
    pixels = torch.zeros(3, 32, 48)
    pixels[:, :, 24:] = 2.0
    maps = torch.zeros(2, 8, 12)
    maps[0, :, :6], maps[1, :, 6:] = 0.3, 0.3
    maps[1, 3, 2] = 0.5
    config = TrainingFreeConfig(pamr_steps=10, pamr_dilations=(1, 2))
    queries, edge = Queries.of_classes([0, 1]), (torch.arange(48) >= 24).to(torch.uint8).expand(32, 48)
    assert not torch.equal(QueryLabels(maps, (32, 48), queries, 2, TrainingFreeConfig(), pixels).write(), edge)
    assert torch.equal(QueryLabels(maps, (32, 48), queries, 2, config, pixels).write(), edge)
    monkeypatch.setattr(query_labels, "LARGEST_REFINED", 32 * 48)
    larger = QueryLabels(maps, (64, 96), queries, 2, config, pixels)
    assert larger.maps.shape == (2, 32, 48)
    assert larger.write().shape == (64, 96)
