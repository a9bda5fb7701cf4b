"""What the user may have meant: the nearest name, and what other tools' names are called here."""

from collections.abc import Iterable

__all__ = ["did_you_mean", "foreign_name"]

# Options of other tools that are no alias here, mostly because the same thing is said another way.
# Underscores are hyphens here, as everywhere on our command line.
FOREIGN_OPTIONS = {
    "--path": ("fairseq", "--model"),
    "--max-tokens": ("fairseq", "--batch-size with --batch-type tokens"),
    "--max-sentences": ("fairseq", "--batch-size with --batch-type sentences"),
    "--remove-bpe": ("fairseq", "left out: the text that comes out is detokenised already"),
    "--sampling": ("fairseq", "--sample"),
    "--sampling-topk": ("fairseq", "--top-k"),
    "--sampling-topp": ("fairseq", "--top-p"),
    "--max-len-a": ("fairseq", "--max-length-ratio"),
    "--max-len-b": ("fairseq", "--max-length"),
    "--fp16": ("fairseq", "--precision"),
    "--cpu": ("fairseq", "--device cpu"),
    "--share-all-embeddings": ("fairseq", "--tie-embeddings all"),
    "--gpu": ("OpenNMT", "--device cuda:N"),
    "--gpu-ranks": ("OpenNMT", "left out: torchrun says how many processes there are"),
    "--world-size": ("OpenNMT", "left out: torchrun says how many processes there are"),
    "--valid-steps": ("OpenNMT", "--valid-every"),
    "--save-checkpoint-steps": ("OpenNMT", "--save-every"),
    "--report-every": ("OpenNMT", "--log-every"),
    "--use-cpu": ("Sockeye", "--device cpu"),
    "--nbest-size": ("Sockeye", "--n-best"),
    "--max-output-length": ("Sockeye", "--max-length"),
    "--output-type": ("Sockeye", "--format"),
    "--mini-batch": ("Marian", "--batch-size"),
    "--after": ("Marian", "--max-steps or --max-epochs"),
    "--valid-freq": ("Marian", "--valid-every"),
    "--save-freq": ("Marian", "--save-every"),
    "--disp-freq": ("Marian", "--log-every"),
    "--max-decoding-length": ("CTranslate2", "--max-length"),
    "--model-name-or-path": ("transformers", "--model"),
    "--max-new-tokens": ("transformers", "--max-length"),
    "--do-sample": ("transformers", "--sample"),
    "--num-train-epochs": ("transformers", "--max-epochs"),
    "--model-prefix": ("sentencepiece", "--output"),
    "--model-type": ("sentencepiece", "--kind"),
}


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
    tool, ours = FOREIGN_OPTIONS.get(option, ("", ""))
    if ours.startswith("-"):
        return f"; {tool}'s {option} is {ours} here" if ours.split()[0] in names else ""
    return f"; {tool}'s {option} is {ours}" if ours else ""
