from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cascade_clip.errors import UserError
from cascade_clip.inference import video
from cascade_clip.inference.frame_labels import FrameLabels
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.sources import is_video
from cascade_clip.inference.video import rewrite_video, video_facts

av = pytest.importorskip("av", reason="videos need PyAV (the extra `video`)")

from tiny_video import frame, write_video  # noqa: E402  (it needs PyAV)


def unchanged(pixels: np.ndarray, seconds: float) -> np.ndarray:
    return pixels


def frames_of(file: Path) -> list[np.ndarray]:
    with av.open(str(file)) as container:
        return [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]


@pytest.mark.parametrize(("size", "sound"), [((64, 96), "aac"), ((63, 95), None)])
def test_size_rate_length_and_sound_are_kept(tmp_path, size: tuple[int, int], sound: str | None):
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


def test_a_piece_starts_at_zero_with_its_sound(tmp_path):
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


def test_sound_that_mp4_cannot_hold_is_left_out_and_said(tmp_path, caplog):
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
def test_files_that_cannot_be_read(tmp_path, make: Callable[[Path], Path], message: str):
    source = make(tmp_path)
    with pytest.raises(UserError, match=message):
        rewrite_video(source, tmp_path / "out" / "out.mp4", unchanged)
    assert not list((tmp_path / "out").glob("*"))


def test_a_range_after_the_end_and_a_target_that_cannot_be_written(tmp_path):
    source = write_video(tmp_path / "film.mp4")
    with pytest.raises(UserError, match=r"has no frame from second 9 on: its pictures end after 2\.5 seconds\."):
        rewrite_video(source, tmp_path / "new" / "out.mp4", unchanged, start=9)
    with pytest.raises(UserError, match=r'cannot be written to ".*film\.mp4/out\.mp4": .* Choose another --output\.'):
        rewrite_video(source, source / "out.mp4", unchanged)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_without_pyav_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(video, "av", None)
    with pytest.raises(UserError, match=r'Videos need PyAV: install it with pip install "cascade-clip\[video\]"\.'):
        video_facts(tmp_path / "film.mp4")


def as_shown(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Each pixel put where the matrix says."""
    a, b, c, d = matrix
    y, x = np.indices(pixels.shape[:2])
    column, row = a * x + c * y, b * x + d * y
    shown = np.zeros((np.ptp(row) + 1, np.ptp(column) + 1, 3), np.uint8)
    shown[row - row.min(), column - column.min()] = pixels
    return shown


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_frames_are_turned_and_mirrored_as_a_player_does(tmp_path, matrix: tuple[int, int, int, int]):
    source = write_video(tmp_path / "film.mp4", frames=4, matrix=matrix)
    expected, shown = [as_shown(pixels, matrix) for pixels in frames_of(source)], []
    rewrite_video(source, tmp_path / "out.mp4", lambda pixels, _: (shown.append(pixels.copy()), pixels)[1])
    np.testing.assert_array_equal(shown, expected)
    facts = video_facts(source)
    assert (facts.height, facts.width) == expected[0].shape[:2] == frames_of(tmp_path / "out.mp4")[0].shape[:2]


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(4, 3), (64, 128)),
        (Fraction(1, 2), (128, 96)),
        (Fraction(64, 45), (64, 137)),
        (Fraction(1, 100), (64, 96)),
    ],
)
def test_pixels_become_square(tmp_path, aspect: Fraction, size: tuple[int, int]):
    source = write_video(tmp_path / "film.mp4", frames=3, aspect=aspect)
    rewrite_video(source, tmp_path / "out.mp4", unchanged)
    for file in (source, tmp_path / "out.mp4"):
        facts = video_facts(file)
        assert (facts.height, facts.width) == size
    turned = video_facts(write_video(tmp_path / "turned.mp4", frames=3, aspect=aspect, matrix=(0, 1, -1, 0)))
    assert (turned.width, turned.height) == size


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_pictures_that_begin_late_keep_their_seconds(tmp_path, ending: str, caplog):
    late = [2 + number / 10 for number in range(25)]
    source = write_video(tmp_path / f"film{ending}", sound="ac3", times=late)
    times: list[float] = []
    rewrite_video(source, tmp_path / "out.mp4", lambda pixels, seconds: (times.append(seconds), pixels)[1])
    assert times == pytest.approx(late, abs=2e-3)
    for file in (source, tmp_path / "out.mp4"):
        assert video_facts(file).seconds == pytest.approx(4.5, abs=0.04)
    rewrite_video(source, tmp_path / "out.mp4", unchanged, start=1)
    with av.open(str(tmp_path / "out.mp4")) as container:
        begins = {stream.type: float(stream.start_time * stream.time_base) for stream in container.streams}
    assert begins == pytest.approx({"video": 1.0, "audio": 0.0}, abs=0.04)
    with pytest.raises(UserError, match=r"has no frame from second 0\.5 to 1\.5: its pictures end after 4\.5 seconds"):
        rewrite_video(source, tmp_path / "out.mp4", unchanged, start=0.5, end=1.5)
    assert not caplog.messages


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_sound_longer_than_the_pictures_is_no_sign_of_a_cut(tmp_path, ending: str, caplog):
    source = write_video(tmp_path / f"film{ending}", frames=10, sound="ac3", sound_seconds=4)
    assert video_facts(source).seconds == pytest.approx(1.0, abs=0.01)
    rewrite_video(source, tmp_path / "out.mp4", unchanged)
    assert not caplog.messages


def test_uneven_times_and_single_frames(tmp_path):
    uneven = [0, 0.1, 0.3, 1.5, 1.6, 1.7, 2, 3, 3.1, 4]
    rewrite_video(write_video(tmp_path / "film.mp4", frames=10, times=uneven), tmp_path / "out.mp4", unchanged)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [picture.time for picture in container.decode(video=0)] == pytest.approx(uneven, abs=2e-3)
        assert container.duration / av.time_base > 4
    assert rewrite_video(write_video(tmp_path / "one.mp4", frames=1), tmp_path / "out.mp4", unchanged) == 1
    assert video_facts(tmp_path / "out.mp4").seconds == pytest.approx(0.1)


def test_a_file_that_was_cut_off_says_so(tmp_path, caplog):
    content = write_video(tmp_path / "film.mkv", frames=50).read_bytes()
    (tmp_path / "film.mkv").write_bytes(content[: len(content) // 2])
    assert 5 < rewrite_video(tmp_path / "film.mkv", tmp_path / "out.mp4", unchanged) < 45
    assert "of 5.0 seconds: it was cut off" in caplog.text


def test_damaged_frames_that_tell_a_time_twice_are_written_one_after_the_other(tmp_path):
    content = bytearray(write_video(tmp_path / "film.avi", frames=40, size=(128, 192)).read_bytes())
    middle = slice(int(len(content) * 0.4), int(len(content) * 0.6))
    content[middle] = bytes(len(content[middle]))
    (tmp_path / "film.avi").write_bytes(content)
    written = rewrite_video(tmp_path / "film.avi", tmp_path / "out.mp4", unchanged)
    assert 20 < written == len(frames_of(tmp_path / "out.mp4"))


def test_every_third_frame_is_segmented_and_counted_in_its_second():
    calls = []

    def segment(pixels: np.ndarray) -> Segmentation:
        calls.append(int(pixels[0, 0, 0]))
        labels = np.zeros((1, 4), np.uint8)
        labels[0, : pixels[0, 0, 0]] = 1
        labels[0, 3] = 255
        return Segmentation(labels, np.ones((1, 4), np.float32), ("a", "b"))

    numbers: list[int] = []
    frames = FrameLabels(segment, every=3, segmented=lambda number, _found: numbers.append(number))
    for number in range(7):
        result = frames(np.full((1, 4, 3), number // 3, np.uint8), number / 4)
        assert (result.labels == 1).sum() == number // 3
    assert (calls, numbers, frames.segmented) == ([0, 1, 2], [0, 3, 6], 3)
    first, second = frames.seconds()
    assert (first.second, first.frames, second.second, second.frames) == (0, 2, 1, 1)
    np.testing.assert_allclose(first.shares, [(3 + 2) / 8, 1 / 8])
    np.testing.assert_allclose(second.shares, [1 / 4, 2 / 4])
    np.testing.assert_allclose(frames.mean_shares(), [6 / 12, 3 / 12])
