"""Pictures of every kind become the same pixels; broken ones become an error of a known kind."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from turned_pictures import exif, stored, xmp

from ddfa_batch.schemas.errors import ERROR_KINDS, ImageError
from ddfa_batch.tasks.files import first_frame, guarded_images, images

LIMIT = 10**7
SMOOTH = cv2.GaussianBlur(small_model.picture(3), (0, 0), 3)


def encoded(suffix: str, image: np.ndarray = SMOOTH) -> bytes:
    ok, data = cv2.imencode(suffix, image)
    assert ok
    return bytes(data)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


RGB = Image.fromarray(SMOOTH[..., ::-1].copy())


@pytest.mark.parametrize(
    ("name", "data", "tolerance"),
    [
        ("png", encoded(".png"), 0),
        ("bmp", encoded(".bmp"), 0),
        ("tiff", encoded(".tiff"), 0),
        ("jpeg", encoded(".jpg"), 12),
        ("webp", encoded(".webp"), 12),
        ("avif", encoded(".avif"), 20),
        ("progressive", saved(RGB, "JPEG", progressive=True, quality=95), 12),
        ("cmyk", saved(RGB.convert("CMYK"), "JPEG", quality=95), 25),
        ("16-bit", encoded(".png", SMOOTH.astype(np.uint16) * 257), 1),
        ("alpha", saved(RGB.convert("RGBA"), "PNG"), 0),
    ],
)
def test_formats_give_the_same_colours(name: str, data: bytes, tolerance: int) -> None:
    found = images.decode(data, LIMIT)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - SMOOTH).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "I;16"])
def test_grey_and_palette_pictures_have_three_channels(mode: str) -> None:
    image = (
        Image.fromarray(np.asarray(RGB.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else RGB.convert(mode)
    )
    assert images.decode(saved(image, "PNG"), LIMIT).shape == SMOOTH.shape


def turned(orientation: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(stored(SMOOTH, orientation)[..., ::-1]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    data = saved(turned(orientation), "JPEG", exif=exif(orientation), quality=98, subsampling=0)
    found = images.decode(data, LIMIT)
    assert found.shape == SMOOTH.shape
    assert np.abs(found.astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avifs_own_orientation_is_applied(orientation: int) -> None:
    exif_too = exif(orientation)  # Pillow writes it as the boxes irot and imir
    found = images.decode(saved(turned(orientation), "AVIF", exif=exif_too, quality=98), LIMIT)
    assert found.shape == SMOOTH.shape
    assert np.abs(found.astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_orientation_that_only_xmp_tells_is_applied(kind: str, orientation: int) -> None:
    found = images.decode(saved(turned(orientation), kind, xmp=xmp(orientation), quality=98), LIMIT)
    assert found.shape == SMOOTH.shape
    assert np.abs(found.astype(int) - SMOOTH).mean() < 3


def test_exif_goes_before_xmp() -> None:
    found = images.decode(saved(turned(6), "JPEG", exif=exif(6), xmp=xmp(3), quality=98), LIMIT)
    assert found.shape == SMOOTH.shape
    assert np.abs(found.astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("orientation", [2, 6])
@pytest.mark.parametrize("told", [b"<x:xmpmeta/>", xmp(3)])
def test_a_tiff_is_turned_once_by_its_tag_whatever_xmp_says(mode: str, orientation: int, told: bytes) -> None:
    tags: dict[int, object] = {0x0112: orientation, 700: told}
    data = saved(turned(orientation).convert(mode), "TIFF", tiffinfo=tags)
    np.testing.assert_array_equal(images.decode(data, LIMIT), SMOOTH)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiffs_colours_do_not_fade_with_its_alpha(compression: str | None) -> None:
    picture = RGB.convert("RGBA")
    picture.putalpha(100)
    np.testing.assert_array_equal(images.decode(saved(picture, "TIFF", compression=compression), LIMIT), SMOOTH)


def test_a_damaged_tiff_with_alpha_is_an_error() -> None:
    data = saved(RGB.convert("RGBA"), "TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError) as fault:
        images.decode(data[:500] + b"\xff" * 5000 + data[5500:], LIMIT)
    assert fault.value.kind == "undecodable"


SECOND = Image.new("RGB", RGB.size, (255, 255, 255))


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("GIF", 60), ("WEBP", 25), ("AVIF", 20)])
def test_the_first_frame_of_an_animation_is_taken(kind: str, tolerance: int) -> None:
    found = images.decode(saved(RGB, kind, save_all=True, append_images=[SECOND]), LIMIT)
    assert np.abs(found.astype(int) - SMOOTH).max() <= tolerance


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_an_animated_png_has_the_pixels_opencv_gives_its_first_frame(mode: str) -> None:
    data = saved(RGB.convert(mode), "PNG", save_all=True, append_images=[SECOND.convert(mode), RGB.convert(mode)])
    np.testing.assert_array_equal(images.decode(data, LIMIT), cv2.imdecode(np.frombuffer(data, np.uint8), 1))


def test_a_picture_outside_the_animation_is_not_its_first_frame() -> None:
    data = saved(SECOND, "PNG", save_all=True, append_images=[RGB, SECOND], default_image=True)
    np.testing.assert_array_equal(images.decode(data, LIMIT), SMOOTH)


def test_a_first_frame_smaller_than_the_picture_is_not_taken_for_it() -> None:
    data = saved(RGB, "PNG", save_all=True, append_images=[SECOND, RGB], default_image=True)
    at = data.index(b"fcTL") + 8  # width of the frame
    small = data[:at] + (8).to_bytes(4, "big") + data[at + 4 :]
    np.testing.assert_array_equal(images.decode(small, LIMIT), SMOOTH)


def test_opencv_never_sees_an_animation_of_png_however_damaged() -> None:
    data = saved(RGB, "PNG", save_all=True, append_images=[SECOND, RGB])
    assert first_frame.still_png(encoded(".png")) == encoded(".png")
    for at in range(8, len(data), 97):
        for damaged in (data[:at], data[:at] + bytes(4) + data[at + 4 :], data[:at] + b"\xff" + data[at + 1 :]):
            still = first_frame.still_png(damaged)
            assert not {name for name, _ in first_frame._chunks(still)} & {b"acTL", b"fcTL", b"fdAT"}


def test_text_in_a_plain_png_that_looks_like_an_animation_is_kept() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("acTL", "fcTL fdAT")
    data = saved(RGB, "PNG", pnginfo=info)
    assert first_frame.still_png(data) == data


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".avif", ".gif"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95])
def test_a_truncated_picture_is_an_error(suffix: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(suffix)
    with pytest.raises(ImageError) as fault:
        images.decode(data[: int(len(data) * share)], LIMIT)
    assert fault.value.kind in ("truncated", "undecodable", "not_an_image")
    if suffix in (".jpg", ".png", ".webp", ".bmp") and share > 0.3:
        assert fault.value.kind == "truncated"
    assert capfd.readouterr().err == ""  # decoders print; nobody wants to read it a million times


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"hello, this is no picture", "not_an_image"),
        (b"\xff\xd8\xff", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not_an_image"),
        (b"\0" * 1000, "not_an_image"),
    ],
)
def test_what_is_no_picture_is_named_so(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as fault:
        images.decode(data, LIMIT)
    assert fault.value.kind == kind


def test_too_many_pixels_are_refused_from_the_header_alone() -> None:
    huge = bytearray(encoded(".png", np.zeros((4, 4, 3), np.uint8)))
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    with pytest.raises(ImageError) as fault:
        images.decode(bytes(huge), 10**8)
    assert fault.value.kind == "too_large"
    with pytest.raises(ImageError, match=r"\d+ × \d+ pixels; the limit is 1,000"):
        images.decode(encoded(".png"), 1000)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    cases = {"nothing.jpg": "missing", "empty.jpg": "empty", "pipe.jpg": "unreadable", ".": "unreadable"}
    for name, kind in cases.items():
        with pytest.raises(ImageError) as fault:
            images.read_bytes(tmp_path / name)
        assert fault.value.kind == kind
    with pytest.raises(ImageError):
        images.read_bytes(tmp_path / "a\0b")


@given(st.sampled_from([".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff"]), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_give_pixels_or_a_known_error(suffix: str, data: st.DataObject) -> None:
    raw = bytearray(encoded(suffix, SMOOTH[:64, :64]))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = images.decode(bytes(raw), 10**6)
    except ImageError as fault:
        assert fault.kind in ERROR_KINDS
    else:
        assert found.ndim == 3
        assert found.shape[0] * found.shape[1] <= 10**6


def test_a_format_that_is_not_allowed_is_refused_by_its_first_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.Image, "open", None)  # not even its header is parsed
    monkeypatch.setattr(images.cv2, "imdecode", None)
    for data in (saved(RGB, "TIFF"), saved(RGB, "GIF"), saved(RGB, "AVIF"), encoded(".ppm"), encoded(".jp2")):
        with pytest.raises(ImageError, match="--formats jpeg,png") as fault:
            images.decode(data, LIMIT, ("jpeg", "png"))
        assert fault.value.kind == "format_not_allowed"


@pytest.mark.parametrize(("suffix", "name"), [(".ppm", "ppm"), (".jp2", "jp2")])
def test_formats_of_old_databases_are_read_where_they_are_asked_for(suffix: str, name: str) -> None:
    np.testing.assert_allclose(guarded_images.decode(encoded(suffix), LIMIT, (name,)), SMOOTH, atol=3)
    with pytest.raises(ImageError, match=f"It is a {name} picture"):
        images.decode(encoded(suffix), LIMIT)


def large(orientation: int, width: int = 1720, height: int = 1208) -> tuple[bytes, np.ndarray]:
    """A JPEG of two megapixels that is stored so, and its pixels upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    coarse = np.random.default_rng(7).integers(40, 215, (12, 17, 3), np.uint8)
    pixels = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    data = saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95, subsampling=0)
    return data, images.decode(data, LIMIT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_decoded_smaller_and_upright(orientation: int) -> None:
    data, full = large(orientation)
    picture = images.picture(data, LIMIT)
    assert (picture.height, picture.width) == full.shape[:2]
    pixels, reduction = picture.at_least(0.25)
    assert reduction == 4
    means = full.reshape(full.shape[0] // 4, 4, full.shape[1] // 4, 4, 3).mean(axis=(1, 3))
    assert np.abs(pixels - means).max() < 4
    assert np.array_equal(picture.at_least(1)[0], full)


def test_a_flipped_picture_whose_blocks_are_not_whole_is_not_reduced() -> None:
    data, _ = large(2, width=1721)
    assert images.picture(data, LIMIT).at_least(0.1)[1] == 1
    data, _ = large(1, width=1721)
    assert images.picture(data, LIMIT).at_least(0.1)[1] == 8


def test_small_pictures_and_other_formats_are_decoded_at_once() -> None:
    assert images.picture(encoded(".jpg"), LIMIT).reduction == 1
    assert images.picture(encoded(".webp", np.zeros((1500, 1500, 3), np.uint8)), LIMIT).reduction == 1


def test_a_large_jpeg_that_ends_early_is_told_as_such_when_it_is_looked_at() -> None:
    data, _ = large(1)
    with pytest.raises(ImageError) as fault:
        images.picture(data[: len(data) // 2], LIMIT).at_least(0.2)
    assert fault.value.kind == "truncated"
