import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip_cli.predict import predict

av = pytest.importorskip("av", reason="videos need PyAV (the extra `video`)")

from tiny_video import write_video  # noqa: E402  (it needs PyAV)


@pytest.fixture
def film(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_video(tmp_path / "film.mp4")


def test_overlay_video_and_shares_of_every_second(film: Path, colour_model, run_command):
    result = run_command(predict, film, "-m", "ckpt", "-c", "red,green,blue", "--every", 5, "--json", "all.json")
    assert sorted(path.name for path in Path("predictions").iterdir()) == ["film.json", "film.overlay.mp4"]
    record = json.loads(Path("predictions/film.json").read_text(encoding="utf-8"))
    assert (record["width"], record["height"], record["frames"], record["segmented_frames"]) == (96, 64, 25, 5)
    assert [entry["second"] for entry in record["seconds"]] == [0, 1, 2]
    blue = [
        next((entry["share"] for entry in second["classes"] if entry["class"] == "blue"), 0.0)
        for second in record["seconds"]
    ]
    # Blue takes number / 25 of frame `number`; frames 0 and 5, 10 and 15, and 20 are segmented.
    np.testing.assert_allclose(blue, [0.1, 0.5, 0.8], atol=0.05)
    whole = json.loads(Path("all.json").read_text(encoding="utf-8"))["predictions"]
    assert whole[0]["files"]["overlay"] == str(Path("predictions") / "film.overlay.mp4")
    assert "5 frames segmented" in result.stdout
    assert "1 of 1 written to predictions" in result.stdout


def test_images_and_videos_together_and_a_broken_one_left_out(film: Path, colour_model, run_command):
    Image.new("RGB", (40, 40), (255, 0, 0)).save("one.png")
    Path("broken.mp4").write_bytes(film.read_bytes()[:300])
    images = (film, "one.png", "broken.mp4")
    result = run_command(predict, *images, "-m", "ckpt", "-c", "red,blue", "--gallery", "--end", 0.5, code=2)
    assert "Left out: broken.mp4" in result.stderr
    assert "2 of 3 written to predictions, 1 left out" in result.stdout
    assert "one.png" in Path("predictions/index.html").read_text(encoding="utf-8")
    assert json.loads(Path("predictions/film.json").read_text(encoding="utf-8"))["frames"] == 5
    assert len(colour_model.embedded) == 1
    assert not list(Path("predictions").glob("*broken*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one.png", "--every", 2], "--every, --start and --end are for videos, but one.png is none"),
        (["film.mp4", "--start", 2, "--end", 1], "--end 1 is not after --start 2"),
        (["film.mp4", "--explain"], "--explain is for images, but film.mp4 is a video"),
        (["film.mp4", "--scores"], "--scores is for images, but film.mp4 is a video"),
        (["film.mp4", "--format", "coco"], "--format is for images, but film.mp4 is a video"),
        (["text.mp4"], "text.mp4 cannot be read"),
    ],
)
def test_mistakes_are_said_before_the_model_is_loaded(
    film: Path, colour_model, refusal, arguments: list[str], message: str
):
    Image.new("RGB", (40, 40)).save("one.png")
    Path("text.mp4").write_text("no video")
    assert message in refusal(predict, *arguments, "-m", "ckpt", "-c", "red")
    assert colour_model.loads == []
    assert not Path("predictions").exists()


@pytest.mark.parametrize(("kind", "mode"), [("palette", "P"), ("grey", "L")])
def test_label_maps_of_segmented_frames(film: Path, colour_model, run_command, kind: str, mode: str):
    common = (predict, film, "-m", "ckpt", "-c", "red,green,blue", "--json", "all.json", "--end", 1.0)
    for every, numbers in {"4": [0, 4, 8], "5": [0, 5]}.items():
        run_command(*common, "--every", every, "--labels", kind)
        maps = sorted(Path("predictions/film.labels").iterdir())
        assert [path.name for path in maps] == [f"{number:06d}.png" for number in numbers]
    with Image.open(maps[1]) as labels:
        assert (labels.mode, labels.size) == (mode, (96, 64))
        # Blue takes number / 25 of frame `number`.
        assert (np.asarray(labels) == 2).mean() == pytest.approx(5 / 25, abs=0.05)
    files = json.loads(Path("all.json").read_text())["predictions"][0]["files"]
    assert files["labels"] == str(Path("predictions/film.labels"))
    run_command(*common)
    assert sorted(path.name for path in Path("predictions").iterdir()) == ["film.json", "film.overlay.mp4"]


def test_videos_in_folders_are_done_without_what_is_for_images(film: Path, colour_model, run_command):
    Path("both").mkdir()
    film.rename("both/film.mp4")
    Image.new("RGB", (40, 40), (255, 0, 0)).save("both/one.png")
    result = run_command(predict, "both", "-m", "ckpt", "-c", "red,blue", "--scores", "--end", 0.3)
    assert "Videos are done without --scores, which are for images." in result.stderr
    assert "2 of 2 written" in result.stdout
    assert Path("predictions/one.scores.npz").exists()
    run_command(predict, "both", "-m", "ckpt", "-c", "red", "-o", "both")
    again = run_command(predict, "both", "-m", "ckpt", "-c", "red", "-o", "other")
    assert "2 of 2 written" in again.stdout  # neither the overlay video nor the overlay
