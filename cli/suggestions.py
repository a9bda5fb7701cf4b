"""What the user may have meant: the nearest name, and what other tools' names are called here."""

from collections.abc import Iterable

__all__ = ["did_you_mean", "foreign_name"]


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A half sentence that names the nearest candidate: "; did you mean 'train'?", or "" if none is near."""
    from difflib import get_close_matches

    # Without the hyphens, which would make any two options alike.
    by_letters = {candidate.lstrip("-"): candidate for candidate in sorted(candidates)}
    matches = get_close_matches(word.lstrip("-"), by_letters, n=1, cutoff=0.6)
    return f"; did you mean {by_letters[matches[0]]!r}?" if matches else ""


def foreign_name(option: str, names: Iterable[str]) -> str:
    """A half sentence that says what another tool's option is called here, or "".

    Args:
        option: what was typed.
        names: the options that there are; one that the command does not have is no help.
    """
    from cli.foreign_options import FOREIGN_OPTIONS

    tool, ours = FOREIGN_OPTIONS.get(option, ("", ""))
    if ours.startswith("-"):
        return f"; {tool}'s {option} is {ours} here" if ours.split()[0] in names else ""
    return f"; {tool}'s {option} is {ours}" if ours else ""
