"""Facts about the benchmarks: official files, terms, published counts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cascade_clip.data.benchmark import OfficialFile
from cascade_clip.data.catalogue import benchmark, benchmark_names
from cascade_clip.errors import UserError


@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_has_terms_and_every_file_an_address_or_a_reason(name: str) -> None:
    dataset = benchmark(name)
    assert "Flickr terms of use" in dataset.licence
    assert dataset.licence.endswith(".")
    assert "\n" not in dataset.licence.strip()
    assert dataset.terms
    assert all(file.addresses or file.unavailable for file in dataset.files)
    for file in dataset.files:
        assert all(address.endswith(f"/{file.name}") for address in file.addresses)
        assert file.checksum or file.members or not file.addresses, "what is fetched can be checked"


@pytest.mark.parametrize("name", benchmark_names())
def test_one_file_of_every_choice_can_be_fetched(name: str) -> None:
    for choice in benchmark(name).choices:
        assert any(file.addresses for file in choice), [file.name for file in choice]


def test_choices() -> None:
    assert [[file.name for file in choice] for choice in benchmark("voc").choices] == [
        ["VOCtrainval_11-May-2012.tar"],
        ["benchmark.tgz", "SegmentationClassAug.zip"],
    ]


def test_published_figures() -> None:
    train, val, maps = benchmark("coco").files
    assert (train.bytes, val.bytes) == (19336861798, 815585330)
    assert train.checksum == ("sha256", "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929")
    assert maps.checksum is None
    assert maps.members == {".png": 118287 + 5000}
    assert benchmark("coco").counts == {"train": 118287, "val": 5000}
    assert sum(benchmark("voc").counts.values()) == 10582 + 1449
    assert benchmark("context").counts == {"train": 4998, "val": 5105}
    labels = benchmark("context").files[1]
    assert labels.checksum == ("sha1", "169325d9f7e9047537fedca7b04de4dddf10b881")


def test_unknown_benchmark() -> None:
    with pytest.raises(UserError, match='There is no benchmark "cocoa"') as caught:
        benchmark("cocoa")
    assert 'Did you mean "coco"?' in str(caught.value)


def test_a_file_needs_an_address_or_a_reason() -> None:
    with pytest.raises(ValidationError, match="must have addresses"):
        OfficialFile(name="a.zip", what="pictures")
    with pytest.raises(ValidationError, match="addresses"):
        OfficialFile(name="a.zip", what="pictures", addresses=("ftp://somewhere/a.zip",))
