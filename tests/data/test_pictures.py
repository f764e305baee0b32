"""Pictures: decoded to upright RGB, or refused with the reason; never outside the data set's folder."""

import base64
import io
import os
import struct
import unicodedata
import zlib

import numpy as np
import PIL
import pytest
from packaging.version import Version
from PIL import Image, ImageCms, PngImagePlugin

from vgs_mlx.data import pictures
from vgs_mlx.errors import Refusal
from vgs_mlx.types import Picture

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
def test_bytes_that_are_not_a_whole_picture_are_refused(data, reason):
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


def ramp(top, dtype):
    """Four rows of 256 greys, evenly from 0 to `top`."""
    return (np.linspace(np.zeros(4), np.full(4, top), 256, axis=1)).astype(dtype)


def shades(data):
    """What becomes of a grey picture: (height, width) of 0-255."""
    pixels = np.asarray(opened(data))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def sixteen_bits(pixels, colour_type, extra=b""):
    """A PNG of 16 bits a sample, which Pillow can't write in colour."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("top", "dtype", "format"),
    [
        *[
            (top, np.uint16, format)
            for top in (255, 1023, 4095, 16_383, 65_535)
            for format in ("PNG", "TIFF")
        ],
        (255, np.int32, "TIFF"),
        (10**6, np.int32, "TIFF"),
        *[(top, np.float32, "TIFF") for top in (1, 255, 4095, 65_535, 10**9)],
    ],
)
def test_deep_greys_run_from_black_to_white_at_every_usual_full_scale(top, dtype, format):
    found = shades(encoded(Image.fromarray(ramp(top, dtype)), format))
    assert np.abs(found - ramp(255, float)).max() <= 1
    assert (found[:, 0] == 0).all() and (found[:, -1] == 255).all()


def test_a_picture_that_is_darker_than_its_full_scale_stays_so():
    """The brightest value is rounded up, and not stretched to white."""
    assert shades(encoded(Image.fromarray(ramp(3000, np.uint16)))).max() == round(3000 / 4095 * 255)
    assert shades(encoded(Image.fromarray(ramp(0.5, np.float32)), "TIFF")).max() == 128
    assert shades(encoded(Image.fromarray(np.zeros((4, 4), np.uint16)))).max() == 0


def test_both_byte_orders_and_compression_give_the_same_greys():
    for data in (
        encoded(Image.fromarray(ramp(4095, ">u2")), "TIFF"),
        encoded(Image.fromarray(ramp(4095, np.uint16)), "TIFF", compression="tiff_lzw"),
    ):
        np.testing.assert_array_equal(shades(data), shades(encoded(Image.fromarray(ramp(4095, np.uint16)))))


def test_a_mask_of_zero_and_one_is_black_and_white():
    for dtype, format in ((np.uint16, "PNG"), (np.int32, "TIFF"), (np.float32, "TIFF")):
        assert shades(encoded(Image.fromarray(np.array([[0, 1]], dtype)), format)).tolist() == [[0, 255]]


def test_negative_values_start_at_black():
    """A scanner's Hounsfield units; a float picture normalised to -1..1."""
    for values in (ramp(4095, np.int32) - 1024, ramp(2, np.float32) - 1):
        found = shades(encoded(Image.fromarray(values), "TIFF"))
        assert np.abs(found - ramp(255, float)).max() <= 1


def test_a_little_overshoot_of_a_float_picture_is_clipped():
    values = ramp(1.1, np.float32) - 0.05
    found = shades(encoded(Image.fromarray(values), "TIFF"))
    assert np.abs(found - np.clip(values, 0, 1) * 255).max() <= 1


def test_nan_is_black_and_infinity_white():
    values = ramp(1, np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    found = shades(encoded(Image.fromarray(values), "TIFF"))
    assert found[0, :3].tolist() == [0, 255, 0] and found[1, 128] == 128
    with pytest.raises(Refusal, match=r"picture x\.png: holds no finite number"):
        opened(encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"))


@pytest.mark.parametrize(
    "tags", [{340: 0.0, 341: 8190.0}, {280: 0, 281: 8190}, {341: 8190.0, 281: 4095}], ids=str
)
def test_a_tiff_s_own_word_for_black_and_white_is_taken(tags):
    found = shades(encoded(Image.fromarray(ramp(4095, np.uint16)), "TIFF", tiffinfo=tags))
    assert found.max() == 128  # 4095 of 8190


@pytest.mark.parametrize(
    "tags", [{341: 1.0}, {340: 9.0, 341: 5.0}, {341: float("inf")}, {341: float("nan")}], ids=str
)
def test_a_tiff_s_word_that_its_values_contradict_is_not(tags):
    assert shades(encoded(Image.fromarray(ramp(4095, np.uint16)), "TIFF", tiffinfo=tags)).max() == 255


def test_a_tiff_in_which_white_is_zero_is_inverted():
    found = shades(encoded(Image.fromarray(ramp(4095, np.uint16)), "TIFF", tiffinfo={262: 0}))
    assert found[0, 0] == 255 and found[0, -1] == 0


def test_a_portable_greymap_s_maximum_is_white():
    dark = b"P5 4 1 4095\n" + np.array([0, 100, 200, 400], ">u2").tobytes()
    assert shades(dark).tolist() == [[0, 6, 12, 25]]


def test_the_one_transparent_grey_of_a_deep_png_becomes_white():
    data = sixteen_bits(np.array([[0, 30_000, 65_535]]), 0, chunk(b"tRNS", struct.pack(">H", 30_000)))
    assert shades(data).tolist() == [[0, 255, 255]]


@pytest.mark.parametrize(
    "values",
    [
        ramp(1500, np.uint16) + np.uint16(29_000),  # a thermal camera's narrow band
        np.where(np.arange(256) == 9, 65_535, ramp(200, np.uint16)).astype(np.uint16),  # one hot pixel
        ramp(12.7, np.float32),  # metres
        ramp(1e-3, np.float32),
    ],
    ids=["narrow band", "hot pixel", "metres", "tiny"],
)
def test_greys_that_would_nearly_all_become_one_are_refused(values):
    with pytest.raises(
        Refusal, match=r"picture x\.png: its \d+ grey levels .* become \d+ .*: scale its values to 0-255"
    ):
        opened(encoded(Image.fromarray(values), "TIFF"))


def test_a_deep_grey_picture_is_turned_upright_as_any_other():
    exif = Image.Exif()
    exif[0x0112] = 6
    found = opened(encoded(Image.fromarray(ramp(4095, np.uint16)), exif=exif))
    assert (
        found.size == (4, 256)
        and found.getpixel((0, 0)) == (0, 0, 0)
        and found.getpixel((0, 255)) == (255,) * 3
    )


def with_alpha(top, alpha=65_535, channels=3):
    grey = ramp(top, np.uint16)
    return np.stack([grey] * channels + [np.full_like(grey, alpha)], axis=-1)


@pytest.mark.parametrize(
    "make",
    [
        lambda top: sixteen_bits(np.stack([ramp(top, np.uint16)] * 3, axis=-1), 2),
        lambda top: sixteen_bits(with_alpha(top), 6),
        lambda top: sixteen_bits(with_alpha(top, channels=1), 4),
    ],
    ids=["RGB", "RGBA", "LA"],
)
def test_sixteen_bit_colours_keep_their_upper_eight_and_are_refused_where_nothing_is_there(make):
    assert np.abs(shades(make(65_535)) - ramp(255, float)).max() <= 1
    for top in (255, 4095, 16_383):
        with pytest.raises(
            Refusal, match=r"16 bits a colour, and no value above 16,383 of 65,535.*save it with 8 bits"
        ):
            opened(make(top))


def test_a_black_drawing_on_a_transparent_ground_is_kept_in_sixteen_bits_too():
    pixels = with_alpha(0, alpha=0)
    pixels[:, :10, 3] = 65_535
    found = shades(sixteen_bits(pixels, 6))
    assert found[0, 0] == 0 and found[0, 200] == 255


RUST = (200, 10, 20)


def in_mode(mode):
    """A picture of the colour RUST."""
    plain = Image.new("RGB", (3, 2), RUST)
    if mode == "LAB":
        srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        return ImageCms.profileToProfile(plain, srgb, lab, outputMode="LAB")
    if mode in ("P", "PA"):
        palette = Image.new("P", plain.size, 1)
        palette.putpalette([0, 0, 0, *RUST])
        return palette.convert(mode)
    return plain.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB"])
def test_colours_come_out_as_they_went_in_whatever_the_file_holds_them_as(mode):
    data = encoded(in_mode(mode), "TIFF")
    if mode == "YCbCr" and Version(PIL.__version__) < Version(
        "13"
    ):  # before that Pillow takes it for cut short
        with pytest.raises(Refusal, match="or a TIFF of a rare kind: save it as PNG"):
            opened(data)
        return
    found = opened(data)
    assert np.abs(np.array(found.getpixel((1, 1))) - RUST).max() <= 3  # whole numbers of YCbCr or LAB


@pytest.mark.parametrize(
    ("mode", "colour", "format"),
    [("1", 1, "PNG"), ("1", 1, "TIFF"), ("L", 255, "PNG"), ("LA", (0, 0), "PNG")],
)
def test_one_bit_and_alpha_pictures_are_white_where_they_should_be(mode, colour, format):
    assert opened(encoded(Image.new(mode, (2, 2), colour), format)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("add", ["add_text", "add_itxt"])
def test_a_long_text_beside_the_pixels_does_no_harm_up_to_its_limit(add, packed, monkeypatch):
    def with_text(length):
        notes = PngImagePlugin.PngInfo()
        getattr(notes, add)("workflow", "x" * length, zip=packed)
        return encoded(Image.new("RGB", (3, 2), RED), pnginfo=notes)

    assert opened(with_text(3_000_000)).getpixel((0, 0)) == RED
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10**6)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 10**6)
    with pytest.raises(
        Refusal, match="more than 67 MB of text beside its pixels: save it without its metadata"
    ):
        opened(with_text(3_000_000))


def test_avif_is_let_in_where_pillow_has_it():
    if not pictures.AVIF:
        pytest.skip("Pillow was built without AVIF")
    assert (
        np.abs(np.array(opened(encoded(Image.new("RGB", (9, 6), RED), "AVIF")).getpixel((1, 1))) - RED).max()
        <= 3
    )


def test_a_tiff_of_pixels_that_pillow_does_not_know_is_not_called_damaged():
    whole = encoded(Image.fromarray(ramp(1, np.float32)), "TIFF")
    depth = struct.pack("<HHII", 258, 3, 1, 32)
    assert depth in whole
    with pytest.raises(Refusal, match="a TIFF of a rare kind: save it as PNG"):
        opened(whole.replace(depth, struct.pack("<HHII", 258, 3, 1, 64)))


@pytest.mark.parametrize("made", [pictures.from_file, pictures.from_bytes, pictures.from_data_uri])
def test_a_picture_of_too_many_bytes_is_refused_and_a_file_not_even_read(made, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "BYTE_LIMIT", 3_000_000)
    huge = tmp_path / "huge.png"
    with huge.open("wb") as stream:
        stream.truncate(4_000_000)
    if made is pictures.from_file:
        monkeypatch.setattr(type(huge), "read_bytes", lambda _: pytest.fail("read"))
        picture = made(huge, "huge.png")
    elif made is pictures.from_bytes:
        picture = made(lambda: bytes(4_000_000), "huge.png")
    else:
        picture = made("data:image/png;base64," + "A" * 5_333_332)
    with pytest.raises(Refusal, match=r"picture .*: 4 MB, above the limit of 3 MB"):
        picture.open()


def test_the_largest_picture_fits_uncompressed_into_the_largest_file():
    assert pictures.BYTE_LIMIT == 3 * pictures.PIXEL_LIMIT


@pytest.mark.parametrize("text", ["a/café.png", "é/b.png", "é/ü.png", "../data/a/café.png"])
@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_either_form_of_its_accents(tmp_path, text, written, stored):
    folder = tmp_path / "data"
    file = folder / unicodedata.normalize(stored, text)
    (folder / "a").mkdir(parents=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(Image.new("RGB", (1, 1))))
    found = pictures.inside(folder, unicodedata.normalize(written, text), allow_outside=False)
    assert found.exists() and found.samefile(file)


def test_the_form_as_written_goes_before_the_other(tmp_path):
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "é.png")).write_text(form)
    if len(os.listdir(tmp_path)) == 1:
        pytest.skip("a file system for which both forms are one name")
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, "é.png")
        assert pictures.inside(tmp_path, text, allow_outside=False).read_text() == form


def test_the_other_form_of_a_name_leaves_the_folder_no_more_than_the_first(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / unicodedata.normalize("NFD", "é")).symlink_to(tmp_path)
    (tmp_path / "secret.png").write_bytes(b"x")
    with pytest.raises(Refusal, match="leaves the data set's folder"):
        pictures.inside(tmp_path / "data", unicodedata.normalize("NFC", "é/secret.png"), allow_outside=False)


def test_a_file_url_is_a_path_and_bound_to_the_folder_as_such(tmp_path):
    (tmp_path / "a b#1.png").write_bytes(b"x")
    for name in ("a%20b%231.png", "a%20b#1.png"):
        found = pictures.inside(tmp_path, f"file://{tmp_path}/{name}", allow_outside=False)
        assert found == tmp_path / "a b#1.png"
    with pytest.raises(Refusal, match="leaves the data set's folder"):
        pictures.inside(tmp_path, "file:///etc/passwd", allow_outside=False)


@pytest.mark.parametrize(
    ("format", "kind"), [("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif"), ("WEBP", "webp")]
)
def test_bare_base64_is_distinguished_from_a_name(tmp_path, format, kind):
    text = base64.b64encode(encoded(noise(), format)).decode()
    with pytest.raises(Refusal, match=f"base64 without its head: write data:image/{kind};base64,") as caught:
        pictures.inside(tmp_path, text, allow_outside=False)
    assert len(str(caught.value)) < 300


def test_a_look_notes_size_and_digest_and_of_a_drawn_picture_the_size_alone():
    data = encoded(Image.new("RGB", (5, 3), RED))
    seen = {}
    noted, again = (pictures.looked_at(pictures.from_bytes(lambda: data, name), "row", seen) for name in "ab")
    assert noted.size == (5, 3) and noted.digest == again.digest != "" and len(seen) == 1
    other = pictures.looked_at(pictures.from_bytes(lambda: data + b"\0", "c"), "row", seen)
    assert other.digest != noted.digest
    drawn = pictures.looked_at(Picture("drawn", lambda: Image.new("RGB", (7, 2))), "row", seen)
    assert drawn.size == (7, 2) and drawn.digest == ""
