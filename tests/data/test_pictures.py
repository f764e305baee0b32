"""Pictures: decoded to upright RGB, or refused with the reason; never outside the data set's folder."""

import base64
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vgs_mlx.data import pictures
from vgs_mlx.errors import Refusal

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opened(data):
    return pictures.from_bytes(lambda: data, "x.png").open()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width, height):
    """A PNG of a few bytes whose header promises that many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_common_formats_decode_to_the_same_red_rgb(format):
    image = opened(encoded(Image.new("RGB", (8, 6), RED), format))
    assert image.mode == "RGB" and image.size == (8, 6)
    assert np.abs(np.asarray(image).astype(int) - RED).max() <= 3  # JPEG and WebP lose a little


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    image = Image.new("RGB", (4, 2), BLUE)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = opened(encoded(image, exif=exif))
    # where the first stored pixel belongs, from the EXIF standard: row 0 is the top, bottom, left or right
    width, height = (4, 2) if orientation <= 4 else (2, 4)
    left = orientation in (1, 4, 5, 8)
    top = orientation in (1, 2, 5, 6)
    assert upright.size == (width, height)
    assert upright.getpixel((0 if left else width - 1, 0 if top else height - 1)) == RED


def test_transparent_pixels_become_white():
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert opened(encoded(clear)).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30])
    assert opened(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_greys_are_scaled_and_not_clipped():
    grey = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert [opened(encoded(grey)).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_460, 50_000, 2_000_000])  # just above the limit, Pillow's error, absurd
def test_decompression_bombs_are_refused_before_decoding(side):
    with pytest.raises(Refusal, match="bomb"):
        opened(png_claiming(side, side))


def test_a_picture_at_the_limit_is_not_called_a_bomb():
    with pytest.raises(Refusal, match="damaged"):  # the crafted file holds no pixels
        opened(png_claiming(9_459, 9_459))


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (encoded(noise())[:6000], "damaged or cut short"),
        (encoded(noise(), "JPEG")[:1500], "damaged or cut short"),
        (encoded(noise())[:30], "not a picture|damaged"),
    ],
)
def test_bytes_that_are_no_whole_picture_are_refused(data, reason):
    with pytest.raises(Refusal, match=f"picture x.png: .*({reason})") as caught:
        opened(data)
    assert "\n" not in str(caught.value)


def test_data_uris_decode():
    uri = "data:image/png;base64," + base64.b64encode(encoded(Image.new("RGB", (3, 2), RED))).decode()
    picture = pictures.from_data_uri(uri)
    assert picture.open().size == (3, 2)
    assert picture.name == f"data URI (image/png, {len(uri)} characters)"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("data:image/png;base64,@@@@", "broken base64"),
        ("data:image/png;base64,AAA", "broken base64"),
        ("data:image/png,rawbytes", "not of the form"),
        ("data:", "not of the form"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,aGVsbG8=", "not a picture"),
    ],
)
def test_broken_data_uris_are_refused(uri, reason):
    with pytest.raises(Refusal, match=reason):
        pictures.from_data_uri(uri).open()


def test_missing_files_folders_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("gone.png", "no such file"), (".", "not a file"), ("pipe", "not a file")):
        with pytest.raises(Refusal, match=reason):
            pictures.from_file(tmp_path / name, name).open()


def test_paths_inside_the_folder_resolve(tmp_path):
    (tmp_path / "a").mkdir()
    for text in ("a/b.png", "a/../a/b.png", str(tmp_path / "a" / "b.png"), "./a/b.png"):
        found = pictures.inside(tmp_path, text, allow_outside=False)
        assert found == (tmp_path / "a" / "b.png").resolve()


def test_a_folder_reached_through_a_symlink_is_still_inside(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert pictures.inside(tmp_path / "link", "b.png", allow_outside=False).parent == tmp_path / "real"


@pytest.mark.parametrize(
    "text", ["../secret.png", "a/../../secret.png", "/etc/passwd", "link.png", "up/secret.png"]
)
def test_paths_that_leave_the_folder_are_refused_unless_allowed(tmp_path, text):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "secret.png").write_bytes(encoded(Image.new("RGB", (1, 1))))
    (data / "link.png").symlink_to(tmp_path / "secret.png")
    (data / "up").symlink_to(tmp_path)
    with pytest.raises(Refusal, match="leaves the data set's folder"):
        pictures.inside(data, text, allow_outside=False)
    assert pictures.inside(data, text, allow_outside=True).exists()


def test_a_sibling_folder_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(Refusal, match="leaves"):
        pictures.inside(tmp_path / "data", "../data-private/x.png", allow_outside=False)


@pytest.mark.parametrize("text", ["a\0b.png", "loop.png", "https://example.org/a.png"])
def test_unusable_paths_are_refused_on_one_line(tmp_path, text):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(Refusal) as caught:
        path = pictures.inside(tmp_path, text, allow_outside=True)
        pictures.from_file(path, text).open()
    assert str(caught.value).isprintable()


def test_an_endless_name_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(Refusal) as caught:
        path = pictures.inside(tmp_path, "x" * 100_000, allow_outside=False)
        pictures.from_file(path, pictures.shown("x" * 100_000)).open()
    assert len(str(caught.value)) < 300
