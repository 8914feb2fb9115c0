"""The list of official files."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cascade_clip.download.official_files import OfficialFile, official_files
from cascade_clip.errors import UserError

DATASETS = ("coco", "voc", "context")


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_terms_and_every_file_an_address_or_a_reason(name: str) -> None:
    dataset = official_files(name)
    assert "Flickr terms of use" in dataset.licence
    assert dataset.licence.endswith(".")
    assert "\n" not in dataset.licence.strip()
    assert dataset.terms
    assert all(file.addresses or file.unavailable for file in dataset.files)
    for file in dataset.files:
        assert all(address.endswith(f"/{file.name}") for address in file.addresses)
        assert file.checksum or file.members or not file.addresses, "what is fetched can be checked"


@pytest.mark.parametrize("name", DATASETS)
def test_one_file_of_every_choice_can_be_fetched(name: str) -> None:
    for choice in official_files(name).choices:
        assert any(file.addresses for file in choice), [file.name for file in choice]


def test_choices() -> None:
    assert [[file.name for file in choice] for choice in official_files("voc").choices] == [
        ["VOCtrainval_11-May-2012.tar"],
        ["benchmark.tgz", "SegmentationClassAug.zip"],
    ]


def test_published_figures() -> None:
    train, val, maps = official_files("coco").files
    assert (train.bytes, val.bytes) == (19336861798, 815585330)
    assert train.checksum == ("sha256", "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929")
    assert maps.checksum is None
    assert maps.members == {".png": 118287 + 5000}
    labels = official_files("context").files[1]
    assert labels.checksum == ("sha1", "169325d9f7e9047537fedca7b04de4dddf10b881")


def test_unknown_dataset() -> None:
    with pytest.raises(UserError, match='no official files to fetch for "cocoa"') as caught:
        official_files("cocoa")
    assert 'Did you mean "coco"?' in str(caught.value)


def test_a_file_needs_an_address_or_a_reason() -> None:
    with pytest.raises(ValidationError, match="must have addresses"):
        OfficialFile(name="a.zip", what="pictures")
    with pytest.raises(ValidationError, match="addresses"):
        OfficialFile(name="a.zip", what="pictures", addresses=("ftp://somewhere/a.zip",))
