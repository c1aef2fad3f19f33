"""Send and store what no peer should send: ``python -m benchmarks.fuzz --inputs 50000``.

Usage: ``python -m benchmarks.fuzz [--inputs N] [--seed N] [--only PART] [--first N]``.

Parts: ``wire`` talks to a receiver in a process of its own, in conversations that are cut at each
byte, with and without A-ABORT, or have any other fault; ``files`` receives and reads damaged and
lying files; ``frames`` decodes damaged and lying compressed frames. What must be true of each is
said in `benchmarks.hostile`. The first of which it is not true ends the run and is named by part,
seed and number; ``--only PART --seed N --first N --inputs 1`` repeats it.
"""

import argparse
import logging
import random
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.hostile.callers import open_target
from benchmarks.hostile.stores import Decoding, Receiving
from benchmarks.hostile.wire import Instance, Message, conversation, cut_message, hostile_message
from dicom_io.decoder import DecoderPool

MAX_ADDRESS_BYTES = 8 << 30
"""Of this process while it stores and reads: what wants more ends in an error here."""
BATCH = 100
_STRIDE = 997
"""Prime, so that few cuts lie everywhere in a conversation, and many at each byte of it."""
_LINE_EVERY_S = 10.0

Part = Callable[[Path, int, range], Iterator[str]]
"""Tries inputs by their numbers, in an empty folder, with a seed; says what became of each."""


def draw(part: str, seed: int, number: int) -> random.Random:
    """Give the generator of one input."""
    return random.Random(f"{part} {seed} {number}")


def make_message(instance: Instance, seed: int, number: int) -> Message:
    """Cut each third conversation at the next byte, and spoil the others by chance."""
    if number % 3:
        return hostile_message(draw("fault", seed, number), instance)
    position = number // 6 * _STRIDE % sum(map(len, conversation(instance)))
    return cut_message(instance, position, abort=bool(number % 2))


def try_wire(folder: Path, seed: int, numbers: range) -> Iterator[str]:
    """Send messages."""
    with open_target(folder) as target:
        for start in range(0, len(numbers), BATCH):
            messages = [
                make_message(target.instance(draw("wire", seed, number)), seed, number)
                for number in numbers[start : start + BATCH]
            ]
            target.hear(messages)
            yield from (message.kind for message in messages)
        growth = (target.largest_bytes - target.idle.resident_bytes) >> 20
        print(f"{target.successes} times Success; the receiver has grown by {growth} MiB")


def try_files(folder: Path, seed: int, numbers: range) -> Iterator[str]:
    """Receive and read files."""
    receiving = Receiving(folder=folder)
    for number in numbers:
        yield receiving.take(draw("files", seed, number))


def try_frames(folder: Path, seed: int, numbers: range) -> Iterator[str]:
    """Decode frames."""
    with DecoderPool() as pool:
        decoding = Decoding(folder=folder, pool=pool)
        for number in numbers:
            yield decoding.take(draw("frames", seed, number))


PARTS: Mapping[str, tuple[Part, float]] = {
    "wire": (try_wire, 0.4),
    "files": (try_files, 0.4),
    "frames": (try_frames, 0.2),
}
"""With their shares of the inputs."""


def run(part: str, seed: int, numbers: range) -> Counter[str]:
    """Try inputs of one part, and count what became of them.

    Raises
    ------
    AssertionError
        One of them was not borne as it must be.
    """
    outcomes: Counter[str] = Counter()
    began = said = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for outcome in PARTS[part][0](Path(folder), seed, numbers):
                outcomes[outcome] += 1
                if time.monotonic() - said > _LINE_EVERY_S:
                    said = time.monotonic()
                    print(f"{part}: {outcomes.total()} of {len(numbers)}", flush=True)
        except Exception:
            number = numbers[outcomes.total()]
            batch = BATCH if part == "wire" else 1
            print(f"found: --only {part} --seed {seed} --first {number} --inputs {batch}")
            raise
    print(f"{part}: {outcomes.total()} inputs in {time.monotonic() - began:.0f} s", flush=True)
    return outcomes


def main(arguments: Sequence[str] | None = None) -> None:
    """Try all, and print what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1000, help="how many, in all parts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=PARTS, help="only this part, with all inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    chosen = parser.parse_args(arguments)
    # What pydicom remarks of each value is none of the question.
    warnings.simplefilter("ignore")
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
    print(f"seed {chosen.seed}", flush=True)
    for part, (_, share) in PARTS.items():
        if chosen.only not in (None, part):
            continue
        count = chosen.inputs if chosen.only else round(chosen.inputs * share)
        outcomes = run(part, chosen.seed, range(chosen.first, chosen.first + count))
        for outcome, times in outcomes.most_common():
            print(f"{times:7d}  {outcome}")


if __name__ == "__main__":
    main()
