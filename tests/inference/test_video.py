from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cascade_clip.errors import UserError
from cascade_clip.inference import video
from cascade_clip.inference.segmentation import FrameLabels, Segmentation
from cascade_clip.inference.video import is_video, rewrite_video, video_facts

av = pytest.importorskip("av", reason="videos need PyAV (the extra `video`)")

from tiny_video import frame, write_video  # noqa: E402  (it needs PyAV)


def unchanged(pixels: np.ndarray, seconds: float) -> np.ndarray:
    return pixels


def frames_of(file: Path) -> list[np.ndarray]:
    with av.open(str(file)) as container:
        return [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]


@pytest.mark.parametrize(("size", "sound"), [((64, 96), "aac"), ((63, 95), None)])
def test_size_rate_length_and_sound_are_kept(tmp_path: Path, size: tuple[int, int], sound: str | None):
    source = write_video(tmp_path / ("film.mp4" if sound else "film.avi"), size=size, sound=sound)
    times: list[float] = []

    def darker(pixels: np.ndarray, seconds: float) -> np.ndarray:
        times.append(seconds)
        return pixels // 2

    written = rewrite_video(source, tmp_path / "new" / "out.mp4", darker)
    facts = video_facts(tmp_path / "new" / "out.mp4")
    assert (facts.height, facts.width) == size
    assert facts.rate == Fraction(10)
    assert facts.seconds == pytest.approx(2.5, abs=0.05)
    assert facts.audio == sound
    assert written == 25
    assert is_video(source)
    assert times == pytest.approx([number / 10 for number in range(25)], abs=1e-3)
    for number, pixels in enumerate(frames_of(tmp_path / "new" / "out.mp4")):
        assert np.abs(pixels.astype(int) - frame(number, 25, size) // 2).mean() < 12
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"]


def test_a_piece_starts_at_zero_with_its_sound(tmp_path: Path):
    source = write_video(tmp_path / "film.mp4", sound="aac")
    times: list[float] = []
    written = rewrite_video(
        source, tmp_path / "out.mp4", lambda pixels, seconds: (times.append(seconds), pixels)[1], start=1, end=1.55
    )
    assert written == 6
    assert times == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4, 1.5], abs=1e-3)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).time == pytest.approx(0, abs=0.01)
    facts = video_facts(tmp_path / "out.mp4")
    assert facts.audio == "aac"
    assert facts.seconds == pytest.approx(0.6, abs=0.1)


def test_sound_that_mp4_cannot_hold_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = write_video(tmp_path / "film.mkv", sound="flac")
    rewrite_video(source, tmp_path / "out.mp4", unchanged)
    assert video_facts(tmp_path / "out.mp4").audio is None
    assert "The sound (flac) is left out" in caplog.text


def broken_inside(folder: Path) -> Path:
    content = bytearray(write_video(folder / "whole.mp4").read_bytes())
    rng = np.random.default_rng(0)
    data = content.find(b"mdat") + 200
    content[data : content.find(b"moov") - 200] = rng.integers(
        0, 250, content.find(b"moov") - 200 - data, np.uint8
    ).tobytes()
    (folder / "broken.mp4").write_bytes(content)
    return folder / "broken.mp4"


def only_sound(folder: Path) -> Path:
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="flt", layout="mono")
        quiet.sample_rate = 48000
        container.mux(stream.encode(quiet))
        container.mux(stream.encode(None))
    return folder / "sound.mp4"


def no_video(folder: Path) -> Path:
    (folder / "text.mp4").write_text("no video")
    return folder / "text.mp4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_video, r"text\.mp4 cannot be read: it is broken, cut off or no video of a known kind"),
        (only_sound, r"sound\.mp4 holds no pictures that can be read"),
        (broken_inside, r"broken\.mp4 is broken after \d+\.\d seconds"),
        (lambda folder: folder / "nowhere.mp4", r"There is no video .*nowhere\.mp4\."),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], Path], message: str):
    source = make(tmp_path)
    with pytest.raises(UserError, match=message):
        rewrite_video(source, tmp_path / "out" / "out.mp4", unchanged)
    assert not list((tmp_path / "out").glob("*"))


def test_a_range_after_the_end_and_a_target_that_cannot_be_written(tmp_path: Path):
    source = write_video(tmp_path / "film.mp4")
    with pytest.raises(UserError, match=r"has no frame from second 9 on: it is 2\.5 seconds long\."):
        rewrite_video(source, tmp_path / "out.mp4", unchanged, start=9)
    with pytest.raises(UserError, match=r'cannot be written to ".*film\.mp4/out\.mp4": .* Choose another --output\.'):
        rewrite_video(source, source / "out.mp4", unchanged)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_without_pyav_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(video, "av", None)
    with pytest.raises(UserError, match=r'Videos need PyAV: install it with pip install "cascade-clip\[video\]"\.'):
        video_facts(tmp_path / "film.mp4")


def test_turned_and_resized_frames_become_as_a_player_shows_them():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    turned = SimpleNamespace(rotation=-90, to_ndarray=lambda format: pixels)
    np.testing.assert_array_equal(video._pixels(turned), np.rot90(pixels, -1))
    facts = video.VideoFacts(8, 4, Fraction(25), None, None)
    assert video._pixels(SimpleNamespace(rotation=0, to_ndarray=lambda format: pixels), facts).shape == (4, 8, 3)


def test_every_third_frame_is_segmented_and_counted_in_its_second():
    calls = []

    def segment(pixels: np.ndarray) -> Segmentation:
        calls.append(int(pixels[0, 0, 0]))
        labels = np.zeros((1, 4), np.uint8)
        labels[0, : pixels[0, 0, 0]] = 1
        labels[0, 3] = 255
        return Segmentation(labels, np.ones((1, 4), np.float32), ("a", "b"))

    frames = FrameLabels(segment, every=3)
    for number in range(7):
        result = frames(np.full((1, 4, 3), number // 3, np.uint8), number / 4)
        assert (result.labels == 1).sum() == number // 3
    assert calls == [0, 1, 2]
    assert frames.segmented == 3
    first, second = frames.seconds()
    assert (first.second, first.frames, second.second, second.frames) == (0, 2, 1, 1)
    np.testing.assert_allclose(first.shares, [(3 + 2) / 8, 1 / 8])
    np.testing.assert_allclose(second.shares, [1 / 4, 2 / 4])
    np.testing.assert_allclose(frames.mean_shares(), [6 / 12, 3 / 12])
