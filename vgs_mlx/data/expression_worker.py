"""Compares expressions with math-verify: a process of its own, since hostile ones hang or eat memory.

Each line of stdin is a request, seconds and `["given", "right"]` in JSON; each of stdout its answer, `true` or
`false`, after a first line `ready`. It imports nothing of this package and ends when stdin does, or when a
comparison takes more seconds of the processor's time than its request allows.
"""

import contextlib
import json
import resource
import signal
import sys

MEMORY = 4 << 30  # bytes of address space; macOS knows no such limit


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

    # Units stay, or 5x cm would equal 5x m and 3m would equal 3.
    tidied = NormalizationConfig(units=False, malformed_operators=True, nits=True)
    whole = [LatexExtractionConfig(normalization_config=tidied)]  # and not the last number in the text

    def read(text: str) -> list:
        return parse(f"${text}$", whole, fallback_mode="no_fallback", parsing_timeout=None)

    # The first comparison loads most of sympy: seconds on a busy machine, which no answer is to pay for.
    verify(read(r"\sqrt{2}"), read("2/3"), timeout_seconds=None)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, _, request = line.partition(" ")
        # Not handled, the signal ends the process even inside one long operation of C.
        signal.setitimer(signal.ITIMER_PROF, float(seconds))
        try:
            given, right = json.loads(request)
            same = verify(read(right), read(given), timeout_seconds=None)
        except Exception:  # of a parser fed with anything; the answer is then no
            same = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if same else "false", flush=True)


if __name__ == "__main__":
    main()
