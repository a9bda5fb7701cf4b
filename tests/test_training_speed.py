"""What benchmarks/training_speed.py reads out of logs, and how it counts operations."""

import json
import resource
import sys
from pathlib import Path

import pytest

from benchmarks.flops import ModelSizes, flop_per_target_token
from benchmarks.timed_run import Line, run_timed
from benchmarks.training_tools import ToolName, count_parameters, count_target_tokens, window
from tests.program import program_environment

# As the tools write them, at update 20, 40 and 60.
LOGS: dict[ToolName, tuple[str, ...]] = {
    "transduce": (
        "2,605,568 parameters, 133 batches an epoch, up to 60 steps; fp32 on cpu with 1 threads, seed 1",
        "step 20/60  epoch 0.2  loss 9.346  ppl 10988.91  lr 2.9e-03  tok/s 0.8k  gnorm 1.09  eta 16s",
        "step 40/60  epoch 0.3  loss 8.177  ppl 2997.92  lr 9.8e-04  tok/s 0.8k  gnorm 0.99  eta 8s",
        "step 60/60  epoch 0.5  loss 7.967  ppl 2366.83  lr 0.0e+00  tok/s 1.0k  gnorm 0.88  eta 0s",
        "valid at step 60  loss 7.7041  perplexity 2217.36  (best so far)",
    ),
    "eole": (
        "[2026-11-25 02:36:38,829 INFO] * number of parameters: 2604928",
        *(
            f"[2026-11-25 02:36:54,822 INFO] Step {step:2d}/   60; acc: 1.0; ppl: 9300.98; xent: 9.14; aux: 0.000; "
            f"mtp: 0.000; attn_ent: 0.000; lr: 1.00e-03; sents:     627; bsz: 3447/{tokens}/314; "
            "432/456 tok/s;     16 sec;"
            for step, tokens in ((20, 3641), (40, 3449), (60, 904))
        ),
    ),
    "joeynmt": (
        "2026-11-25 02:38:46,391 - INFO - joeynmt.model - Total params: 2605440",
        *(
            f"2026-11-25 02:39:17,666 - INFO - joeynmt.training - Epoch   1, Step: {step:8d}, "
            f"Batch Loss:     7.845838, Batch Acc: 0.010373, Tokens per Sec: {rate:8d}, Lr: 0.000005"
            for step, rate in ((20, 122), (40, 1154), (60, 173))
        ),
    ),
}
PARAMETERS = {"transduce": 2_605_568, "eole": 2_604_928, "joeynmt": 2_605_440}
TOKENS = {"transduce": 5_555, "eole": 20 * 3449 + 20 * 904, "joeynmt": 1154 * 10 + 173 * 10}


def log_of(tool: ToolName) -> list[Line]:
    """A line every ten seconds."""
    return [Line(text, 10.0 * number, 9.0 * number) for number, text in enumerate(LOGS[tool])]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as `transduce train` leaves it."""
    records = [{"type": "step", "step": step, "num_target_tokens": 40_000 + step**2} for step in (20, 40, 60)]
    records[-1]["num_target_tokens"] = 40_400 + 5_555
    records.append({"type": "validation", "step": 60})
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("tool", LOGS)
def test_logs_are_read(tool: ToolName, model: Path) -> None:
    log = log_of(tool)
    assert count_parameters(tool, log) == PARAMETERS[tool]
    lines = window(tool, log, 20, 60)
    assert [line.wall_seconds for line in lines] == [10, 20, 30]
    assert count_target_tokens(tool, lines, model) == TOKENS[tool]


@pytest.mark.parametrize("tool", LOGS)
def test_a_window_that_was_not_reported_is_refused(tool: ToolName) -> None:
    with pytest.raises(RuntimeError, match="not 20 and 80"):
        window(tool, log_of(tool), 20, 80)


def test_a_window_over_two_epochs_of_joeynmt_is_refused(model: Path) -> None:
    *lines, last = window("joeynmt", log_of("joeynmt"), 20, 60)
    other = Line(last.text.replace("Epoch   1", "Epoch   2"), last.wall_seconds, last.cpu_seconds)
    with pytest.raises(RuntimeError, match="first epoch"):
        count_target_tokens("joeynmt", [*lines, other], model)


def test_operations_are_those_of_the_weights_and_of_attention() -> None:
    # By hand for one pair of lengths 3 and 2, one layer of width 4 and 5 entries: the encoder has 4 * 16 weights in
    # attention and 2 * 4 * 8 in the feed-forward, the decoder's cross-attention reads the source through 2 * 16 more.
    sizes = ModelSizes(num_layers=1, d_model=4, num_heads=2, d_ff=8, vocabulary_size=5)
    source = 3 * (4 * 16 + 2 * 32 + 2 * 16)
    target = 2 * (4 * 16 + 2 * 16 + 2 * 32 + 4 * 5)
    attention = 2 * 4 * (3 * 3 + 2 * 2 + 3 * 2)
    assert flop_per_target_token(sizes, [(3, 2)]) == 6 * (source + target + attention) / 2


def test_a_run_is_timed_by_its_own_clock() -> None:
    code = (
        "import sys, time\n"
        "def spin(seconds):\n"
        "    until = time.process_time() + seconds\n"
        "    while time.process_time() < until: pass\n"
        "print('one', flush=True); spin(0.3); print('two', file=sys.stderr, flush=True)\n"
        "time.sleep(0.5); print('three', flush=True)\n"
    )

    run = run_timed([sys.executable, "-c", code], program_environment())
    one, two, three = run.lines
    assert [line.text for line in run.lines] == ["one", "two", "three"]
    assert 0.25 < two.cpu_seconds - one.cpu_seconds < 0.4
    assert three.cpu_seconds - two.cpu_seconds < 0.1
    assert three.wall_seconds - two.wall_seconds > 0.45
    # a process begins with the peak of the one that it was a fork of
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 1e6 < run.peak_bytes < max(1e9, 1.1 * own_peak)
    with pytest.raises(RuntimeError, match="ended with 3:\nlast words"):
        run_timed([sys.executable, "-c", "print('last words'); raise SystemExit(3)"], program_environment())
