"""Every colour of figures and pages, named by its use, in light and in dark.

Colours differ in lightness as well as in hue, so that they are distinct for colour-blind readers and in grey prints.
The scale of scores, v1 to v8, moves steadily away from the paper.
"""

LIGHT = {
    "paper": "#fcfbf8",
    "ink": "#21201c",
    "muted": "#645f56",
    "rule": "#dedad0",
    "wash": "#f3f0e9",
    "first": "#1f5f99",
    "second": "#b4541a",
    "third": "#2b7a5b",
    "fourth": "#8a4f94",
    "fifth": "#8c6d0f",
    "sixth": "#4d5d6b",
    "alarm": "#b3261e",
    "right": "#1f5f99",
    "wrong": "#a9481a",
    "v1": "#fdf3dc",
    "v2": "#fbe8bd",
    "v3": "#f9da98",
    "v4": "#f6ca72",
    "v5": "#f2b84e",
    "v6": "#eca534",
    "v7": "#e4912a",
    "v8": "#da7d26",
    "on-strong": "#21201c",  # text on v6, v7 and v8
}
DARK = {
    "paper": "#16171a",
    "ink": "#e7e4dd",
    "muted": "#a39e94",
    "rule": "#33343a",
    "wash": "#1f2024",
    "first": "#7db4e8",
    "second": "#ec9a62",
    "third": "#74c7a3",
    "fourth": "#cf9ad8",
    "fifth": "#d9bb62",
    "sixth": "#a5b3c0",
    "alarm": "#ff8a80",
    "right": "#7db4e8",
    "wrong": "#ec9a62",
    "v1": "#2c251a",
    "v2": "#3b2f1a",
    "v3": "#4a381a",
    "v4": "#594218",
    "v5": "#684b16",
    "v6": "#785413",
    "v7": "#885d0e",
    "v8": "#986608",
    "on-strong": "#ffffff",
}
SERIES = ("first", "second", "third", "fourth", "fifth", "sixth")
DRAWN = ("ink", "muted", "rule", *SERIES, "alarm")
"""The names of the colours used in figures. No two of these have the same colour."""


def css() -> str:
    """The palette as CSS variables. The dark colours are for screens whose reader prefers them; prints stay light."""
    light, dark = (
        ":root { " + " ".join(f"--{name}: {colour};" for name, colour in colours.items()) + " }"
        for colours in (LIGHT, DARK)
    )
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}\n"
