"""Compares expressions with math-verify, in a process of its own, since hostile expressions hang or exhaust memory.

The first line on stdout is `ready`, or what went wrong. Each line on stdin is a request: seconds, and
`["given", "right"]` in JSON. Each further line on stdout is an answer: `true` or `false`, and the seconds it took.
The process imports nothing of this package. It ends with stdin, or when a comparison takes more CPU seconds than its
request allows.
"""

import contextlib
import json
import resource
import signal
import sys
import time

MEMORY = 4 << 30  # bytes of address space; macOS has no such limit
PRECISION = 300  # decimal digits to which values are compared
POINTS = ("37/29", "-41/31", "3/7", "-53/11")  # values of variables at which expressions are compared


def main() -> None:
    """Answer line by line until the input ends."""
    try:
        from latex2sympy2_extended import NormalizationConfig
        from math_verify import LatexExtractionConfig, parse, verify
    except ImportError as error:
        print(f"math-verify can't be imported ({error}): pip install math-verify", flush=True)
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    # Units are kept: otherwise 5x cm would equal 5x m, and 3m would equal 3.
    tidied = NormalizationConfig(units=False, malformed_operators=True, nits=True)
    whole = [LatexExtractionConfig(normalization_config=tidied)]  # and not the last number in the text

    def read(text: str) -> list:
        return parse(f"${text}$", whole, fallback_mode="no_fallback", parsing_timeout=None)

    def equal(given: str, right: str) -> bool:
        parsed = [_with_i(read(text)[0]) for text in (right, given)]
        return verify(*parsed, timeout_seconds=None) and not _differ(*parsed)

    # The first comparison loads most of sympy. That takes seconds on a busy machine, which no answer should pay for.
    equal(r"\sqrt{2}", "2/3")
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, _, request = line.partition(" ")
        began = time.process_time()
        # Unhandled, the signal ends the process even inside one long C operation.
        signal.setitimer(signal.ITIMER_PROF, float(seconds))
        try:
            same = equal(*json.loads(request))
        except Exception:  # a parser fed with arbitrary text raises many kinds; the answer is then no
            same = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if same else "false", time.process_time() - began, flush=True)


def _with_i(value: object) -> object:
    """The value with i as the imaginary unit and all other letters as real numbers."""
    import sympy

    if not isinstance(value, sympy.Expr):
        return value
    letters = {each: sympy.Symbol(each.name, real=True) for each in value.free_symbols}
    return value.xreplace({each: sympy.I if each.name == "i" else real for each, real in letters.items()})


def _differ(given: object, right: object) -> bool:
    """Whether the values differ after all: math-verify calls numbers equal that it rounds to the same one."""
    import sympy

    if not (isinstance(given, sympy.Expr) and isinstance(right, sympy.Expr)):
        return False
    exact = [
        each.xreplace({n: sympy.Rational(str(n)) for n in each.atoms(sympy.Float)}) for each in (given, right)
    ]
    names = sorted(set().union(*(each.free_symbols for each in exact)), key=str)
    for start in range(len(POINTS) if names else 1):
        point = {
            name: sympy.Rational(POINTS[(start + place) % len(POINTS)]) + place
            for place, name in enumerate(names)
        }
        values = [each.subs(point).evalf(PRECISION) for each in exact]
        if not all(value.is_number and value.is_finite for value in values):
            continue
        scale = max(abs(value) for value in values)
        if scale and abs(values[0] - values[1]) > scale * sympy.Float(10) ** (50 - PRECISION):
            return True
    return False


if __name__ == "__main__":
    main()
