"""Facts about the benchmarks: official files, terms, published counts."""

import re

import pytest

from cascade_clip.data import catalogue
from cascade_clip.data.catalogue import benchmark, benchmark_names, get_split
from cascade_clip.errors import UserError


@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_has_terms_and_files_that_can_be_fetched_and_checked(name: str):
    dataset = benchmark(name)
    assert re.search("Flickr terms of use|non-commercial", dataset.licence)
    assert dataset.licence.endswith(".")
    assert dataset.terms
    for file in dataset.files:
        assert all(address.endswith(f"/{file.name}") for address in file.addresses)
        assert file.checksum or file.members or not file.addresses
    for choice in dataset.choices:
        served = any(file.addresses for file in choice)
        assert served or "registered users" in (choice[0].unavailable or ""), [file.name for file in choice]


def test_published_figures():
    assert [[file.name for file in choice] for choice in benchmark("voc").choices] == [
        ["VOCtrainval_11-May-2012.tar"],
        ["benchmark.tgz", "SegmentationClassAug.zip"],
    ]
    assert benchmark("coco").counts == {"train": 118287, "val": 5000}
    assert sum(benchmark("voc").counts.values()) == 10582 + 1449
    assert benchmark("context").counts == {"train": 4998, "val": 5105}


def test_a_benchmark_made_from_the_files_of_another_shares_them():
    for name, other in (("coco-object", "coco"), ("context-background", "context"), ("voc-background", "voc")):
        assert benchmark(name).licence == benchmark(other).licence
        assert benchmark(name).terms == benchmark(other).terms
        assert all(file in benchmark(other).files for file in benchmark(name).files)
    assert benchmark("coco-object").files == benchmark("coco").files
    assert [file.name for file in benchmark("voc-background").files] == ["VOCtrainval_11-May-2012.tar"]


def test_a_new_benchmark_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "street.toml").write_text(
        'dataset = "street"\nclasses = [{ name = "road" }, { name = "tree" }]\n'
        '[splits.street-seen]\nunseen = ["tree"]\n'
        '[benchmark]\ntitle = "Street"\ncounts = { train = 2, val = 1 }\nmay_be_published = true\n'
        'licence = "CC0."\nterms = []\n'
        '[[benchmark.files]]\nname = "a.zip"\nwhat = "all"\naddresses = ["https://street.example/a.zip"]\n'
    )
    monkeypatch.setattr(catalogue, "_FOLDER", tmp_path)
    cached = (catalogue._class_lists, catalogue._built_in)
    for function in cached:
        function.cache_clear()
    try:
        assert benchmark_names() == ("street",)
        assert get_split("street-seen").unseen == {"tree"}
        assert (benchmark("street").counts, benchmark("street").templates) == ({"train": 2, "val": 1}, "multi")
    finally:
        for function in cached:
            function.cache_clear()


def test_mistakes_in_the_facts_are_named_by_key(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('dataset = "voc"\n[splits.a]\n[benchmark]\ntitel = "x"\n[[benchmark.files]]\nmd4 = "x"\n')
    with pytest.raises(UserError) as caught:
        get_split(path)
    assert 'benchmark.titel: unknown key. Did you mean "title"?' in str(caught.value)
    assert 'benchmark.files.0.md4: unknown key. Did you mean "md5"?' in str(caught.value)


def test_unknown_benchmark():
    with pytest.raises(UserError, match=r'There is no benchmark "cocoa"\. Did you mean "coco"\?'):
        benchmark("cocoa")
