"""What can be asked of a translation beside that it be a good one: the options of `translate` for it."""

from typing import Annotated

import typer

from cli import options
from transformer_core.data.records import Record
from transformer_core.decoding.config import LineGuide
from transformer_core.evaluation.minimum_bayes_risk import Utility

__all__ = [
    "Alignments",
    "Avoid",
    "BeamGroups",
    "Constraint",
    "DiversityPenalty",
    "MinimumBayesRisk",
    "NoRepeatNgram",
    "OrderedConstraints",
    "RepetitionPenalty",
    "TargetPrefix",
    "guide_of",
]

GUIDANCE = "Guidance"

TargetPrefix = Annotated[
    str,
    typer.Option("--target-prefix", metavar="TEXT", help="What translations begin with.", rich_help_panel=GUIDANCE),
]
Constraint = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        "--constraints",
        metavar="PHRASE",
        help="A phrase that stands in every translation; repeat it. Needs a beam.",
        rich_help_panel=GUIDANCE,
    ),
]
OrderedConstraints = Annotated[
    bool,
    typer.Option("--ordered-constraints", help="Constraints stand in the order given.", rich_help_panel=GUIDANCE),
]
Avoid = Annotated[
    list[str] | None,
    typer.Option(
        "--avoid", metavar="PHRASE", help="A phrase that stands in no translation; repeat it.", rich_help_panel=GUIDANCE
    ),
]
NoRepeatNgram = Annotated[
    int,
    typer.Option(
        "--no-repeat-ngram",
        "--no-repeat-ngram-size",
        min=0,
        metavar="N",
        help="Write no N tokens twice in a translation; 0 allows it.",
        rich_help_panel=GUIDANCE,
    ),
]
RepetitionPenalty = Annotated[
    float,
    typer.Option(
        "--repetition-penalty",
        help="Multiply the log-probability of a token that was written before; above 1 makes it rarer. "
        "Printed log-probabilities are those after it.",
        rich_help_panel=GUIDANCE,
    ),
]
BeamGroups = Annotated[
    int,
    typer.Option(
        "--beam-groups",
        "--num-beam-groups",
        "--diverse-beam-groups",
        min=1,
        help="Equal parts of the beam that look for different translations.",
        rich_help_panel=options.DECODING,
    ),
]
DiversityPenalty = Annotated[
    float,
    typer.Option(
        "--diversity-penalty",
        "--diverse-beam-strength",
        help="Of --beam-groups: how much less a token is worth for each hypothesis that has just chosen it.",
        rich_help_panel=options.DECODING,
    ),
]
MinimumBayesRisk = Annotated[
    Utility | None,
    typer.Option(
        "--mbr",
        help="Put the one of the --n-best translations first that is most like all others, by this measure: minimum "
        "Bayes risk, best with --sample.",
        rich_help_panel=options.DECODING,
    ),
]
Alignments = Annotated[
    bool,
    typer.Option(
        "--alignments",
        help="Say which word of the line became which of the translation, as 0-0 1-2; not as text.",
        rich_help_panel=options.INPUT_OUTPUT,
    ),
]


def guide_of(record: Record, asked: LineGuide) -> LineGuide:
    """Join what a record asks of its translation with what is asked of all; its own prefix takes the other's place."""
    if not (record.target_prefix or record.constraints or record.avoid):
        return asked
    return LineGuide(
        prefix=record.target_prefix or asked.prefix,
        avoid=(*asked.avoid, *record.avoid),
        constraints=(*asked.constraints, *record.constraints),
        is_ordered=asked.is_ordered,
    )
