"""benchmarks/batch_invariance.py tells a tie from a fault, by scores in float64."""

import copy
import dataclasses
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.float64_scores import TIE, Float64Scorer
from tests.program import REPOSITORY, program_environment
from tests.transformer_core.decoding.random_model import random_lines, save_word_model, word_tokenizer
from transformer_core.decoding.scoring import Scorer
from transformer_core.model_directory import LoadedModel, load_model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(save_word_model(tmp_path_factory.mktemp("models") / "model"))


def tokens_of(line: str) -> list[str]:
    return word_tokenizer().tokens([*word_tokenizer().encode(line), word_tokenizer().eos_id])


def test_scores_are_those_of_score_and_more_exact(loaded: LoadedModel) -> None:
    scorer = Float64Scorer(loaded)
    pairs = list(zip(random_lines(20), random_lines(20, seed=1), strict=True))
    expected = Scorer(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer).score(pairs)
    for (source, target), pair_score in zip(pairs, expected, strict=True):
        found = scorer.token_log_probabilities(source, tokens_of(target))
        assert found == pytest.approx(pair_score.token_log_probabilities, abs=1e-5)
        assert found != [float(torch.tensor(value, dtype=torch.float32)) for value in found]


def test_a_beam_is_judged_by_the_whole_and_greedy_search_by_where_it_parts(loaded: LoadedModel) -> None:
    scorer = Float64Scorer(loaded)
    first, second = tokens_of("ba be bi"), tokens_of("ba bo bu ba")
    ours, theirs = (scorer.token_log_probabilities("ba", tokens) for tokens in (first, second))
    whole = scorer.gap("ba", first, second, is_greedy=False)
    assert whole == pytest.approx(abs(math.fsum(ours) / 4 - math.fsum(theirs) / 5))
    assert scorer.gap("ba", first, second, is_greedy=True) == pytest.approx(abs(ours[1] - theirs[1]))
    assert min(whole, abs(ours[1] - theirs[1])) > TIE


def test_tokens_that_are_worth_the_same_are_a_tie(loaded: LoadedModel) -> None:
    model = copy.deepcopy(loaded.model)
    same, other = (word_tokenizer().encode(word)[0] for word in ("be", "bo"))
    with torch.no_grad():
        for table in (model.output_projection.weight, model.target_embedding.token_embedding.weight):
            table[same] = table[other] * (1 + 1e-8)
    scorer = Float64Scorer(dataclasses.replace(loaded, model=model))
    first, second = tokens_of("ba be bi"), tokens_of("ba bo bi")
    for is_greedy in (True, False):
        assert scorer.gap("ba", first, second, is_greedy=is_greedy) < TIE


@pytest.mark.slow
def test_the_command_counts_every_line_in_every_arrangement(tmp_path: Path) -> None:
    model = save_word_model(tmp_path / "model")
    lines = [*random_lines(15), "", *random_lines(5, seed=2)]
    random.Random(1).shuffle(lines)
    (tmp_path / "source").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    script = REPOSITORY / "benchmarks" / "batch_invariance.py"
    process = subprocess.run(
        [sys.executable, script, model, "--source", tmp_path / "source", "--search", "greedy"],
        cwd=tmp_path,
        env=program_environment(PYTHONPATH=os.pathsep.join([str(REPOSITORY), str(script.parent)])),
        capture_output=True,
        check=False,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    rows = re.findall(r"^ *greedy +(\d+) +(as read|shuffled) +(\d) +21 +0 +0 +0 +-$", process.stdout, re.MULTILINE)
    orders = [("7", "as read"), ("7", "shuffled"), ("64", "as read"), ("64", "shuffled")]
    assert rows == [("1", "as read", "2"), *((*order, workers) for order in orders for workers in ("1", "2"))]
