import pytest

from transformer_core.config import PRESETS
from transformer_core.data.shards import CorpusStatistics
from transformer_core.experiments.config import ArchitectureConfig
from transformer_core.experiments.recipe import (
    SideFacts,
    complete_architecture,
    complete_training,
    default_batch_size,
    default_vocabulary_size,
    held_back_rows,
)
from transformer_core.training.config import BatchType, OptimizerName, Schedule, TrainingConfig


@pytest.mark.parametrize(
    ("num_words", "num_characters", "size"),
    [
        (0, 0, 1000),
        (5_000, 60, 1000),
        (700_000, 90, 10_000),  # 12 · √700,000 = 10,040, in hundreds
        (100_000_000, 200, 32_000),
        (2_000, 3_000, 6_500),  # a text in Chinese: few words between spaces, many characters
    ],
)
def test_the_vocabulary_grows_with_the_text(num_words: int, num_characters: int, size: int) -> None:
    assert default_vocabulary_size(num_words, num_characters) == size


@pytest.mark.parametrize(
    ("num_lines", "num_words", "num_characters", "spells_words"),
    [
        (100, 100, 700, True),
        (100, 115, 900, True),  # a name has two words now and then
        (100, 600, 3_000, False),
        (100, 101, 2_500, False),  # sentences without spaces
    ],
)
def test_lines_of_single_words_are_spelling(
    num_lines: int, num_words: int, num_characters: int, spells_words: bool
) -> None:
    side = SideFacts(num_lines=num_lines, num_words=num_words, num_characters=num_characters)
    assert side.is_spelling == spells_words


@pytest.mark.parametrize(
    ("word_counts", "symbols"),
    [
        ({"a": 3, "b": 3}, True),
        ({"a": 1_998, "b": 2}, True),  # the next rare word will not come soon
        ({"a": 1_998, "b": 2, "c": 1}, False),
        ({"a": 2}, False),
        ({}, False),
        ({str(number): 3 for number in range(256)}, True),
        ({str(number): 3 for number in range(257)}, False),
    ],
)
def test_words_that_are_few_and_frequent_are_symbols(word_counts: dict[str, int], symbols: bool) -> None:
    assert SideFacts(num_words=sum(word_counts.values()), word_counts=word_counts).are_symbols == symbols


def test_words_are_spelled_with_few_pieces() -> None:
    assert default_vocabulary_size(700_000, 60, is_spelling=True) == 360


@pytest.mark.parametrize(("num_pairs", "held_back"), [(2, 1), (19, 1), (400, 20), (29_000, 1000), (10**7, 1000)])
def test_a_twentieth_is_held_back(num_pairs: int, held_back: int) -> None:
    assert held_back_rows(num_pairs) == held_back


def test_the_model_grows_with_the_data() -> None:
    sizes = [
        complete_architecture(ArchitectureConfig(), CorpusStatistics(num_pairs=num_pairs)).arch
        for num_pairs in (1, 199_999, 200_000, 1_999_999, 2_000_000)
    ]
    assert sizes == ["tiny", "tiny", "small", "small", "base"]
    assert set(sizes) <= set(PRESETS)


@pytest.mark.parametrize(
    ("values", "num_target_tokens", "dropout"),
    [
        ({}, 81_919, 0.4),
        ({}, 81_920, 0.3),
        ({"d_model": 124}, 1, 0.3),  # too narrow to lose more
        ({}, 491_519, 0.3),
        ({}, 491_520, 0.1),
        ({"arch": "base"}, 1_310_719, 0.4),
        ({"arch": "base"}, 7_864_319, 0.3),  # wider by four, so sixteen times as many weights
        ({"arch": "base"}, 7_864_320, 0.1),
        ({"arch": "base", "d_model": 128}, 491_520, 0.1),
        ({"dropout": 0.2}, 1, 0.2),
    ],
)
def test_dropout_follows_from_tokens_and_width(
    values: dict[str, object], num_target_tokens: int, dropout: float
) -> None:
    statistics = CorpusStatistics(num_pairs=1000, num_target_tokens=num_target_tokens)
    architecture = ArchitectureConfig(**values)  # type: ignore[arg-type]
    assert complete_architecture(architecture, statistics).dropout == dropout
    if "dropout" not in values:
        assert complete_architecture(architecture, statistics, is_pretraining=True).dropout == 0.1


def test_what_is_given_is_left_alone() -> None:
    architecture = ArchitectureConfig(arch="big", dropout=0.0, positions="learned")
    assert complete_architecture(architecture, CorpusStatistics(num_pairs=5)) == architecture
    training = TrainingConfig(
        max_steps=7,
        optimizer="adamw",
        learning_rate=0.5,
        lr_schedule="linear",
        embedding_lr_factor=3.0,
        warmup_steps=0,
        valid_every=3,
    )
    assert complete_training(training, num_batches=100, d_model=512, is_fine_tuning=True) == training


@pytest.mark.parametrize(
    ("values", "positions"),
    [
        ({}, "rotary"),
        ({"arch": "tiny-6-2", "num_heads": 2}, "rotary"),
        ({"encoder_mixer": "gru"}, "sinusoidal"),  # there are no queries to turn
        ({"decoder_mixer": "conv"}, "sinusoidal"),
        ({"num_heads": 2, "d_model": 6}, "sinusoidal"),  # nor pairs of components
        ({"sinusoid_form": "vaswani"}, "sinusoidal"),
        ({"positions": "none"}, "none"),
    ],
)
def test_positions_follow_from_the_layers(values: dict[str, object], positions: str) -> None:
    architecture = ArchitectureConfig(**values)  # type: ignore[arg-type]
    for is_pretraining in (False, True):
        completed = complete_architecture(architecture, CorpusStatistics(num_pairs=5), is_pretraining=is_pretraining)
        assert completed.positions == positions


@pytest.mark.parametrize(
    ("statistics", "batch_type", "size"),
    [
        (CorpusStatistics(num_source_tokens=80_000, num_target_tokens=90_000), "tokens", 2048),
        (CorpusStatistics(num_source_tokens=90_000, num_target_tokens=204_799), "tokens", 2048),
        (CorpusStatistics(num_source_tokens=90_000, num_target_tokens=204_800), "tokens", 4096),
        (CorpusStatistics(num_source_tokens=300_000), "tokens", 4096),  # raw text
        (CorpusStatistics(num_source_tokens=300_000, num_target_tokens=9), "sentences", 64),
    ],
)
def test_batches_are_small_where_an_epoch_has_few(
    statistics: CorpusStatistics, batch_type: BatchType, size: int
) -> None:
    assert default_batch_size(statistics, batch_type) == size


def test_the_budget_follows_from_the_data() -> None:
    completed = complete_training(TrainingConfig(), num_batches=100, d_model=128, is_fine_tuning=False)
    # 40 epochs of 100 steps; a tenth warms up; a fortieth between two looks
    assert (completed.max_steps, completed.warmup_steps, completed.valid_every) == (4000, 400, 100)
    assert completed.learning_rate is not None
    wide = complete_training(TrainingConfig(), num_batches=100, d_model=512, is_fine_tuning=False)
    assert wide.learning_rate == pytest.approx(completed.learning_rate / 4)
    fine = complete_training(TrainingConfig(), num_batches=100, d_model=128, is_fine_tuning=True)
    assert fine.learning_rate == pytest.approx(completed.learning_rate / 5)


@pytest.mark.parametrize(
    ("asked", "is_fine_tuning", "optimizer", "factor"),
    [("auto", False, "muon", 2), ("auto", True, "adamw", 1), ("adamw", False, "adamw", 1), ("muon", True, "muon", 2)],
)
def test_the_optimizer_follows_from_where_training_starts(
    asked: OptimizerName, is_fine_tuning: bool, optimizer: OptimizerName, factor: float
) -> None:
    config = TrainingConfig(optimizer=asked)
    completed = complete_training(config, num_batches=10, d_model=128, is_fine_tuning=is_fine_tuning)
    assert (completed.optimizer, completed.embedding_lr_factor) == (optimizer, factor)


@pytest.mark.parametrize(
    ("asked", "is_fine_tuning", "schedule"),
    [("auto", False, "wsd"), ("auto", True, "cosine"), ("cosine", False, "cosine"), ("wsd", True, "wsd")],
)
def test_the_schedule_follows_from_where_training_starts(
    asked: Schedule, is_fine_tuning: bool, schedule: Schedule
) -> None:
    config = TrainingConfig(lr_schedule=asked)
    completed = complete_training(config, num_batches=10, d_model=128, is_fine_tuning=is_fine_tuning)
    assert completed.lr_schedule == schedule


@pytest.mark.parametrize(("num_batches", "max_steps"), [(1, 2_000), (10**6, 100_000)])
def test_the_budget_has_limits(num_batches: int, max_steps: int) -> None:
    completed = complete_training(TrainingConfig(), num_batches=num_batches, d_model=512, is_fine_tuning=False)
    assert completed.max_steps == max_steps
    assert completed.valid_every is not None
    assert completed.valid_every <= 2000


def test_epochs_become_steps_as_they_are() -> None:
    config = TrainingConfig(max_epochs=3, accumulate=4)
    completed = complete_training(config, num_batches=10, d_model=512, is_fine_tuning=False)
    assert completed.max_steps == 3 * 3  # ten batches are three updates of four, four and two
    config = TrainingConfig(max_epochs=3, accumulate=2)
    together = complete_training(config, num_batches=10, num_processes=2, d_model=512, is_fine_tuning=False)
    assert together.max_steps == completed.max_steps
    config = TrainingConfig(max_epochs=3, accumulate=4, batch_warmup_steps=3)
    slow = complete_training(config, num_batches=10, d_model=512, is_fine_tuning=False)
    assert slow.max_steps == 4 + 3 + 3  # two, three, four and one; then as above


def test_the_limit_that_comes_first_makes_the_warm_up() -> None:
    for max_steps, warmup_steps in ((1_000, 50), (300, 30)):
        config = TrainingConfig(max_epochs=50, max_steps=max_steps)
        completed = complete_training(config, num_batches=10, d_model=512, is_fine_tuning=False)
        assert (completed.max_steps, completed.warmup_steps) == (max_steps, warmup_steps)
