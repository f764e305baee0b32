"""Pictures as data sets hold them: sound ones, odd ones, and files that only claim to be pictures."""

import io
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, PngImagePlugin

from torture.fuzzing import cut, flipped

Draw = random.Random
PNG = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(draw: Draw, width: int | None = None, height: int | None = None) -> Image.Image:
    """A colour picture of random pixels."""
    width, height = width or draw.randint(8, 90), height or draw.randint(8, 90)
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def sound(draw: Draw) -> bytes:
    """A picture that every reader takes."""
    mode, format = draw.choice(
        [("RGB", "PNG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("RGB", "WEBP"), ("P", "GIF"),
         ("RGB", "BMP"), ("L", "JPEG"), ("RGB", "TIFF"), ("RGB", "PPM")]
    )  # fmt: skip
    return encoded(noise(draw, draw.randint(24, 80), draw.randint(24, 80)).convert(mode), format)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *more: bytes, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header may say anything: `rows` are its unpacked bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return PNG + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _bomb(draw: Draw) -> bytes:
    width, height = draw.choice(
        [(50_000, 50_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (89_478_486, 1), (9_460, 9_460)]
    )
    return png(width, height, bytes(10_000))


def _bomb_in_another_format(draw: Draw) -> bytes:
    whole = bytearray(encoded(noise(draw, 16, 16), "BMP"))
    whole[18:26] = struct.pack(
        "<ii", draw.choice([100_000, 2**31 - 1]), draw.choice([-100_000, 100_000, -(2**31)])
    )
    gif = bytearray(encoded(noise(draw, 16, 16).convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    return draw.choice(
        [
            bytes(whole),
            bytes(gif),
            b"P6 99999999 99999999 255\n" + bytes(99),
            b"P5 9999999999999999999999 1 255\n",
        ]
    )


def _no_size(draw: Draw) -> bytes:
    bmp = bytearray(encoded(noise(draw, 16, 16), "BMP"))
    bmp[18:26] = struct.pack("<ii", 0, draw.choice([0, 16]))
    return draw.choice([png(0, draw.choice([0, 9]), b""), b"P6 0 0 255\n", b"P5 3 0 255\n", bytes(bmp)])


def _grey(draw: Draw) -> bytes:
    """Sixteen bits, thirty-two, or floats; with ramps, single hot pixels, NaN and infinity."""
    values = np.random.default_rng(draw.randrange(2**32)).random((24, 40)) * draw.choice(
        [1, 200, 4_000, 65_535, 1e9]
    )
    kind = draw.choice(["uint16", "int32", "float32"])
    pixels = np.clip(values, 0, 65_535).astype(np.uint16) if kind == "uint16" else values.astype(kind)
    if kind == "float32":
        pixels[0, : draw.randint(0, 40)] = draw.choice([np.nan, np.inf, -np.inf, -1e30, 3e38])
        pixels = np.full_like(pixels, np.nan) if draw.random() < 0.2 else pixels
    elif draw.random() < 0.3:
        pixels = np.full_like(pixels, draw.choice([0, 1, 700, 65_535]))
    return encoded(Image.fromarray(pixels), "PNG" if kind == "uint16" and draw.random() < 0.5 else "TIFF")


def _mode(draw: Draw) -> bytes:
    mode, format = draw.choice(
        [("1", "PNG"), ("1", "TIFF"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LA", "PNG"), ("La", "TIFF"), ("YCbCr",
        "TIFF"),
         ("LAB", "TIFF"), ("RGBa", "TIFF"), ("RGBA", "WEBP"), ("L", "PPM"), ("1", "PPM"), ("RGBX", "TIFF")]
    )  # fmt: skip
    image = noise(draw)
    image = image.convert("RGBA" if mode in ("La", "RGBa") else "RGB").convert("LA" if mode == "La" else mode)
    try:
        return encoded(image.convert(mode), format)
    except (OSError, ValueError, KeyError):  # Pillow writes no such file
        return encoded(image.convert("RGB"), format)


def _palette(draw: Draw) -> bytes:
    """A palette with transparency: one index, one alpha for each, or more of them than there are colours."""
    image = noise(draw).quantize(draw.choice([2, 16, 256]))
    clear = draw.choice([0, 255, bytes(draw.randrange(256) for _ in range(draw.choice([1, 16, 256])))])
    return encoded(
        image, draw.choice(["PNG", "PNG", "GIF"]) if isinstance(clear, int) else "PNG", transparency=clear
    )


def _animated(draw: Draw) -> bytes:
    frames = [noise(draw, 32, 32) for _ in range(draw.randint(2, 4))]
    format = draw.choice(["GIF", "PNG", "WEBP", "TIFF"])
    return encoded(frames[0], format, save_all=True, append_images=frames[1:])


def _turned(draw: Draw) -> bytes:
    """A phone's picture: an EXIF orientation, which may be none of the eight there are, or a damaged EXIF."""
    exif = Image.Exif()
    exif[0x0112] = draw.choice([1, 3, 6, 8, 0, 9, 255])
    raw = exif.tobytes()
    raw = flipped(raw, draw, 6) if draw.random() < 0.3 else raw
    return encoded(noise(draw), draw.choice(["JPEG", "PNG", "WEBP"]), exif=raw)


def _narrow(draw: Draw) -> bytes:
    width, height = draw.choice(
        [(1, 1), (1, 3_000), (3_000, 1), (2, 2), (1, 199), (5, 1_001), (4_000, 30), (23, 24)]
    )
    return encoded(noise(draw, width, height), "PNG")


def _with_text(draw: Draw) -> bytes:
    """Text chunks: some, one that unpacks to a lot, a broken colour profile."""
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "x" * draw.choice([10, 2_000_000]), zip=True)
    return encoded(
        noise(draw), "PNG", pnginfo=info, icc_profile=draw.randbytes(draw.choice([0, 200])) or None
    )


def _odd_header(draw: Draw) -> bytes:
    """A PNG of bits and a colour type that may not go together, with chunks that don't belong there."""
    more = [
        chunk(
            draw.choice([b"tRNS", b"PLTE", b"gAMA", b"acTL", b"iCCP", b"eXIf"]),
            draw.randbytes(draw.choice([0, 3, 6, 768])),
        )
    ]
    bits, colour = draw.choice([1, 2, 4, 8, 16, 3, 0]), draw.choice([0, 2, 3, 4, 6, 1, 7])
    return png(8, 8, draw.randbytes(9 * 64), *more, bits=bits, colour=colour)


def _something_else(draw: Draw) -> bytes:
    return draw.choice(
        [b"", b"\0" * 100, b"<html><body>404 Not Found</body></html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
         b"%PDF-1.7\n%%EOF", b"PK\3\4" + bytes(60),
         b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
         PNG, b"GIF89a", b"\xff\xd8\xff", b"II*\0", b"MM\0*\0\0\0\x08", b"RIFF\0\0\0\0WEBP", b"BM", b"P6",
         draw.randbytes(500),
         b"II*\0\x08\0\0\0\xff\xff" + draw.randbytes(300), b"%!PS-Adobe-3.0 EPSF-3.0\n", b"P6\n# " + b"x" * 5_000]
    )  # fmt: skip


def _trailing(draw: Draw) -> bytes:
    return sound(draw) + draw.randbytes(draw.randint(1, 2_000))


ODD: tuple[Callable[[Draw], bytes], ...] = (
    _bomb, _bomb_in_another_format, _no_size, _grey, _mode, _palette, _animated, _turned, _narrow, _with_text,
    _odd_header,
    _something_else, _trailing,
)  # fmt: skip


def strange(draw: Draw) -> bytes:
    """A picture that is odd, or not one; often damaged on top."""
    whole = draw.choice(ODD)(draw) if draw.random() < 0.7 else sound(draw)
    harm = draw.random()
    return whole if harm < 0.6 else flipped(whole, draw) if harm < 0.8 else cut(whole, draw)
