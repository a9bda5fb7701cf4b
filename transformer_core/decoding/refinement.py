"""What follows the search: the best hypothesis is chosen anew (minimum Bayes risk), words are aligned."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from transformer_core.decoding.alignment import Aligner
from transformer_core.decoding.config import LineGuide, TranslationConfig
from transformer_core.decoding.translation import Translation
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.minimum_bayes_risk import expected_utilities
from transformer_core.lexicon.shortlist import require_shortlist
from transformer_core.model_directory import LoadedModel

__all__ = ["RefiningTranslator"]


class RefiningTranslator:
    """Translates lines as a TranslationConfig says.

    Args:
        models: of the same vocabularies on the same device; several are an ensemble, and the shortlist is the first's.
        config: what is to be done.
        place: says where a line stands, by its number, for messages: "file:line".

    Raises:
        ConfigError: the model translates in several directions, and none is named.
        ModelError: a model has no decoder, or the first no shortlist though one is asked for.
        TokenizerConfigError: the model has no such tag.
    """

    def __init__(
        self, models: Sequence[LoadedModel], config: TranslationConfig, place: Callable[[int], str] = "input:{}".format
    ) -> None:
        first = models[0].tagged(config.tag)
        tokenizers = first.source_tokenizer, first.target_tokenizer
        networks = [each.model for each in models]
        self._utility = config.utility
        self._translator = Translator(networks, *tokenizers, config.search, config.batching, place)
        if config.search.shortlist:
            self._translator.choose_among(require_shortlist(first.shortlist))
        self._aligner = None
        if config.has_alignments:
            batching = replace(config.batching, max_source_length=self._translator.max_source_length)  # the same pieces
            self._aligner = Aligner(networks[0], *tokenizers, batching, place)

    @property
    def num_halvings(self) -> int:
        """How often memory ran out and the batches were made smaller."""
        return self._translator.num_halvings

    def take_turns(self, turn: Callable[[], AbstractContextManager[object]]) -> None:
        """Compute every batch inside of what `turn` gives, because others compute with the same models."""
        for runner in [self._translator.runner, *([self._aligner.runner] if self._aligner else [])]:
            runner.turn = turn

    def translate(self, lines: Sequence[str], first: int, guides: Sequence[LineGuide]) -> list[Translation]:
        """Translate lines.

        Args:
            lines: without their ends.
            first: number of the first one in the whole input, from 1.
            guides: what is asked of each translation.

        Raises:
            LineError, OutOfMemoryError, ModelError: as Translator.
        """
        translations = self._translator.translate(lines, first, guides)
        if (utility := self._utility) is not None:
            translations = [
                each.ordered_by(expected_utilities([found.text for found in each.hypotheses], utility))
                for each in translations
            ]
        return translations if self._aligner is None else self._aligned(lines, translations, first, self._aligner)

    def _aligned(
        self, lines: Sequence[str], translations: Sequence[Translation], first: int, aligner: Aligner
    ) -> list[Translation]:
        pairs, numbers = [], []
        for number, (line, each) in enumerate(zip(lines, translations, strict=True), first):
            pairs += [(line, found.piece_ids) for found in each.hypotheses]
            numbers += [number] * len(each.hypotheses)
        alignments = iter(aligner.align(pairs, numbers))
        return [
            replace(
                each,
                hypotheses=tuple(replace(found, alignment=next(alignments)) for found in each.hypotheses),
            )
            for each in translations
        ]
