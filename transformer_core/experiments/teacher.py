"""A teacher: a trained model whose hypotheses another one learns (Kim and Rush 2016, sequence-level distillation).

It may be several models, which look for hypotheses together (Freitag et al. 2017, ensemble distillation).

A text can be translated in many ways, and a small model cannot learn them all from as many translators. A teacher
always chooses alike, so what it writes is easier to learn than what people wrote.
"""

from collections.abc import Sequence

import torch

from transformer_core.data.lines import is_blank
from transformer_core.decoding.config import BatchConfig, Precision
from transformer_core.decoding.generation import model_source_limit
from transformer_core.decoding.translation import Translation
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.metrics import MetricName, evaluate_lines
from transformer_core.experiments.distillation_config import DistillationConfig
from transformer_core.model_directory import load_model, require_same_vocabularies

__all__ = ["Row", "Teacher"]

Row = tuple[str, str | None]  # a source line, and its reference where there is one

NEARNESS: MetricName = "chrf"  # says something of a single line, and needs no words


class Teacher:
    """Translates lines and chooses what is learned of the hypotheses.

    Args:
        config: who it is and how it searches; of several models the first says what it knows of length and tags.
        device: where it computes.
        precision: of its matrix products.

    Raises:
        ModelError: it is no model, or a damaged one.
        ConfigError: it translates in several directions, and none is named; two have not the same vocabularies.
        TokenizerConfigError: it has no such tag.
    """

    def __init__(self, config: DistillationConfig, device: torch.device, precision: Precision) -> None:
        models = [load_model(folder, device=device) for folder in config.teachers]
        require_same_vocabularies(config.teachers, models)
        loaded = models[0].tagged(config.tag)
        self.num_learned = config.n_best
        self.search = config.search(loaded.generation)
        self.translator = Translator(
            [each.model for each in models],
            loaded.source_tokenizer,
            loaded.target_tokenizer,
            self.search,
            BatchConfig(precision=precision, max_source_length=model_source_limit(loaded.generation)),
            lambda number: f"{', '.join(map(str, config.train_src))}:{number}",
        )

    def teach(self, rows: Sequence[Row], first_line_number: int) -> list[list[str]]:
        """Give for each line the targets to learn: none of a blank line, none that did not come to its end.

        Args:
            rows: lines, with references or without.
            first_line_number: of the first of them in the whole text.
        """
        translations = self.translator.translate([source for source, _ in rows], first_line_number)
        return [
            self._choose(translation, reference) for translation, (_, reference) in zip(translations, rows, strict=True)
        ]

    def _choose(self, translation: Translation, reference: str | None) -> list[str]:
        """Choose different hypotheses: the best, or those nearest to the reference, of equally near ones the better."""
        complete = [item.text for item in translation.hypotheses if not item.is_truncated and not is_blank(item.text)]
        texts = list(dict.fromkeys(complete))
        if reference is not None and len(texts) > self.num_learned:
            scores = evaluate_lines(texts, [[reference] * len(texts)], [NEARNESS])
            nearness = dict(zip(texts, (score.value for (score,) in scores), strict=True))
            texts.sort(key=lambda text: -nearness[text])
        return texts[: self.num_learned]
