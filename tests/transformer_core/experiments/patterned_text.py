"""Raw text in which every animal has its sound: what an encoder can learn in seconds, and a unigram model cannot."""

import random
from pathlib import Path

from tests.training_task import write_lines

SOUNDS = {"cat": "meows", "dog": "barks", "cow": "moos", "duck": "quacks", "lion": "roars", "bee": "hums"}
COLOURS = ("red", "blue", "green")


def animal_lines(count: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    animals = source.choices(sorted(SOUNDS), k=count)
    return [f"the {source.choice(COLOURS)} {animal} {SOUNDS[animal]} ." for animal in animals]


def write_animals(folder: Path, count: int = 300) -> Path:
    return write_lines(folder / "raw.txt", animal_lines(count))
