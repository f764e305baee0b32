"""The names of units of measure and money, and the units that each may mean."""

import re

Unit = tuple[tuple[str, int], ...]
"""Names with their powers, sorted: m/s² is (("m", 1), ("s", -2))."""

PREFIXES = {
    "k": "kilo", "M": "mega", "G": "giga", "T": "tera", "m": "milli", "μ": "micro", "u": "micro", "n": "nano",
    "p": "pico", "c": "centi", "d": "deci", "h": "hecto",
}  # fmt: skip
# symbol: its prefixes, and its names
PREFIXED = {
    "m": ("kMmμuncd", "meter metre"), "g": ("kMmμun", "gram gramme"), "L": ("mμudch", "liter litre"),
    "s": ("mμunp", "second"), "Hz": ("kMGT", "hertz"), "N": ("kM", "newton"), "J": ("kMGm", "joule"),
    "W": ("kMGm", "watt"), "V": ("kMmμ", "volt"), "A": ("kmμun", "ampere amp"), "Ω": ("kMm", "ohm"),
    "Pa": ("kMGh", "pascal"), "F": ("mμunp", "farad"), "C": ("mμun", "coulomb"), "mol": ("kmμun", "mole"),
    "eV": ("kMGTm", "electronvolt electron-volt"), "cal": ("k", "calorie"),
    "B": ("kMGT", "byte"), "b": ("kMG", "bit"), "bar": ("m", "bar"), "K": ("mk", "kelvin"), "T": ("mμ", "tesla"),
    "H": ("mμ", "henry"), "lm": ("", "lumen"), "lx": ("", "lux"), "cd": ("", "candela"), "Wb": ("", "weber"),
    "dB": ("", "decibel"), "bps": ("kMG", ""), "Bq": ("kMG", "becquerel"), "Sv": ("mμ", "sievert"),
    "M": ("mμ", "molar"), "px": ("", "pixel"), "ha": ("", "hectare"), "rpm": ("", ""), "dpi": ("", ""),
    "ppm": ("", ""), "fps": ("", ""),
}  # fmt: skip
# name: further spellings; plurals in -s are added automatically
OTHERS = {
    "in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile", "nmi": "nautical_mile", "lb": "pound lbs",
    "oz": "ounce", "ton": "tons tonne t", "st": "stone", "gal": "gallon", "qt": "quart", "pt": "pint", "cup": "",
    "tbsp": "tablespoon", "tsp": "teaspoon", "acre": "", "s": "sec secs", "min": "minute mins", "h": "hr hrs hour",
    "day": "days d", "week": "wk wks", "month": "mo", "year": "yr yrs", "decade": "", "century": "centuries",
    "L": "l", "mL": "ml", "dL": "dl", "cL": "cl", "rad": "radian", "rev": "revolution", "sr": "steradian", "unit": "",
    "dozen": "", "hp": "horsepower",
    "atm": "atmosphere", "psi": "", "mmHg": "", "kn": "knot", "ly": "light-year", "°": "degree deg",
    "°C": "celsius", "°F": "fahrenheit", "%": "percent pct per_cent", "Ω": "Ohm", "μm": "micron", "kg": "kilo kgs",
    "kcal": "Cal", "kB": "KB", "A": "amps", "carat": "ct", "BTU": "btu", "angstrom": "Å ångström",
    "$": "dollar USD US$ usd", "cent": "¢ c", "€": "euro EUR eur", "£": "pound GBP quid", "p": "pence penny",
    "¥": "yen JPY yuan RMB CNY 元 円 圆", "₹": "rupee Rs Rs. INR", "₩": "won KRW", "₽": "ruble rouble RUB",
    "₺": "lira TRY", "₫": "dong VND", "฿": "baht THB", "₪": "shekel ILS", "₱": "peso PHP", "₦": "naira NGN",
    "₴": "hryvnia UAH", "R$": "real reais BRL", "CHF": "franc", "A$": "AUD", "C$": "CAD",
    "kr": "krona krone SEK NOK DKK", "zł": "zloty PLN",
}  # fmt: skip
MONEY = (
    "USD", "EUR", "GBP", "JPY", "CNY", "INR", "CHF", "CAD", "AUD", "US$", "A$", "C$", "R$", "$", "€", "£", "¥", "₹",
    "₩", "₽", "₺", "₫", "฿", "₪", "₱", "₦", "₴", "Rs.", "Rs",
)  # fmt: skip
"""What may precede an amount."""
COMPOUNDS = {
    "mph": (("h", -1), ("mi", 1)), "kph": (("h", -1), ("km", 1)), "kmh": (("h", -1), ("km", 1)),
    "kmph": (("h", -1), ("km", 1)), "mps": (("m", 1), ("s", -1)), "mpg": (("gal", -1), ("mi", 1)),
    "sqft": (("ft", 2),), "Nm": (("N", 1), ("m", 1)), "Ah": (("A", 1), ("h", 1)),
    "mAh": (("h", 1), ("mA", 1)), "Wh": (("W", 1), ("h", 1)), "kWh": (("h", 1), ("kW", 1)),
    "MWh": (("MW", 1), ("h", 1)), "cc": (("cm", 3),),
}  # fmt: skip


def _spellings() -> dict[str, set[Unit]]:
    found: dict[str, set[Unit]] = {spelling: {unit} for spelling, unit in COMPOUNDS.items()}

    def add(spelling: str, name: str) -> None:
        spellings = [spelling.replace("_", " ")]
        if len(spelling) > 2 and spelling.replace("-", "").isalpha():
            spellings.append(spelling + "s")
        for each in spellings:
            found.setdefault(each, set()).add(((name, 1),))

    for symbol, (prefixes, names) in PREFIXED.items():
        for prefix in ("", *prefixes):
            name = ("μ" if prefix == "u" else prefix) + symbol
            add(prefix + symbol, name)
            for word in names.split():
                add(PREFIXES.get(prefix, "") + word, name)
    for name, words in OTHERS.items():
        for word in (name, *words.split()):
            add(word, name)
    return found


def _whatever_the_case(spellings: dict[str, set[Unit]]) -> dict[str, set[Unit]]:
    """Units by casefolded spelling, without short spellings whose case makes another unit: not mW and MW."""
    found: dict[str, set[Unit]] = {}
    for spelling, units in spellings.items():
        found.setdefault(spelling.casefold(), set()).update(units)
    return {
        spelling: units
        for spelling, units in found.items()
        if len(spelling) > 3 or (len(units) == 1 and len(spelling) > 1 and not re.fullmatch("m.", spelling))
    }


SPELLINGS = _spellings()
"""Spelling as written -> the units that it may name."""
FOLDED = _whatever_the_case(SPELLINGS)
"""Casefolded spelling -> the units that it may name, if its case doesn't matter."""
