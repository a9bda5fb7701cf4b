from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.tokenizer.test_imported import vocabulary
from tests.training_task import write_lines
from tests.transformer_core.experiments.patterned_text import animal_lines
from tests.transformer_core.experiments.test_pretraining import make_run as make_pretraining
from tests.transformer_core.experiments.test_train_from_text import Listener, interrupted
from tests.transformer_core.experiments.test_train_from_text import make_run as make_training
from tokenizer import Kind, Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.config import StackConfig
from transformer_core.errors import ConfigError, ModelError
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.starting_point import require_possible, take_weights
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import read_training_file
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes, load_model, weights_of
from transformer_core.model_files import checkpoint_path, read_config, read_json
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.averaged_model import average_models, find_weights
from transformer_core.training.config import TrainingConfig
from transformer_core.training.trainer import Trainer
from transformer_core.weight_file import read_weights

Weights = dict[str, Tensor]
PLAIN: dict[str, Any] = {
    "arch": "auto",
    **dict.fromkeys(("num_layers", "d_model", "num_heads", "d_ff", "learning_rate")),
}


FSDP = TrainingConfig(fsdp=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pretrained models, and pairs whose sides are alike."""
    folder = tmp_path_factory.mktemp("place")
    train_from_text(make_pretraining(folder, folder=folder / "encoder", d_ff=24))
    train_from_text(make_pretraining(folder, folder=folder / "learned", positions="learned", max_positions=300))
    train_from_text(make_pretraining(folder, folder=folder / "denoising", objective="denoising"))
    write_lines(folder / "train.src", animal_lines(100, seed=4))
    write_lines(folder / "train.tgt", [line.upper().lower() for line in animal_lines(100, seed=4)])
    return folder


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """Notes the weights with which training begins."""
    weights: list[Weights] = []
    original = Trainer._try_largest_batch

    def noted(trainer: Trainer) -> None:
        weights.append({name: weight.clone() for name, weight in weights_of(trainer.model).items()})
        original(trainer)

    monkeypatch.setattr(Trainer, "_try_largest_batch", noted)
    return weights


def start(place: Path, folder: Path, name: str, **values: Any) -> tuple[TrainingRun, Listener]:  # noqa: ANN401
    """Train from a model of the folder."""
    run = make_training(place, **{**PLAIN, **values}, init_from=place / name, folder=folder)
    listener = Listener()
    train_from_text(run, listener)
    return run, listener


def fresh(run: TrainingRun) -> Weights:
    """The weights of such a model that starts from nothing."""
    torch.manual_seed(run.training.seed)
    return weights_of(Transformer(load_model(run.folder).model.config))


def test_a_pretrained_encoder_gives_what_it_has_and_the_decoder_is_fresh(
    place: Path, tmp_path: Path, begun: list[Weights]
) -> None:
    run, listener = start(place, tmp_path / "model", "encoder")
    given, own = weights_of(load_model(place / "encoder").model), fresh(run)
    assert {name.partition(".")[0] for name in given} == {"encoder", "source_embedding"}
    for name, weight in begun[0].items():
        assert torch.equal(weight, given.get(name, own[name])), name
    assert {name.partition(".")[0] for name in begun[0].keys() - given.keys()} == {"decoder"}
    count = sum(weight.numel() for weight in given.values())
    assert (
        f"took encoder and embeddings ({count:,} weights) from {place}/encoder; the decoder is fresh"
        in listener.messages
    )
    config = load_model(run.folder).model.config
    assert config.encoder == config.decoder == StackConfig(num_layers=1, d_model=16, num_heads=2, d_ff=24)
    assert (config.tie_embeddings, config.dropout) == ("all", 0.3)
    assert (run.folder / "tokenizer.json").read_bytes() == (place / "encoder/tokenizer.json").read_bytes()
    assert read_training_file(run.folder)["lr"] == pytest.approx(0.5 / 16)  # that of a fresh model
    assert read_json(run.folder / "metadata.json")["init_from"]["path"] == str(place / "encoder")
    assert "pretraining" not in read_json(run.folder / "metadata.json")


def test_a_decoder_of_another_shape(place: Path, tmp_path: Path, begun: list[Weights]) -> None:
    run, listener = start(
        place, tmp_path / "model", "encoder", num_decoder_layers=2, decoder_d_model=8, decoder_d_ff=9, dropout=0.2
    )
    config = load_model(run.folder).model.config
    assert config.decoder == StackConfig(num_layers=2, d_model=8, num_heads=2, d_ff=9)
    assert (config.tie_embeddings, config.dropout) == ("decoder", 0.2)
    given, own = weights_of(load_model(place / "encoder").model), fresh(run)
    for name, weight in begun[0].items():
        assert torch.equal(weight, given.get(name, own[name])), name
    (message,) = [text for text in listener.messages if text.startswith("took")]
    assert message.endswith("; the target embeddings and decoder are fresh")


def test_learned_positions_of_the_target_are_fresh(place: Path, tmp_path: Path, begun: list[Weights]) -> None:
    run, listener = start(place, tmp_path / "model", "learned")
    given, own = weights_of(load_model(place / "learned").model), fresh(run)
    name = "target_embedding.position_embedding.weight"
    assert torch.equal(begun[0][name], own[name])
    name = "source_embedding.position_embedding.weight"
    assert torch.equal(begun[0][name], given[name])
    assert any(text.endswith("the target embeddings and decoder are fresh") for text in listener.messages)


def test_a_denoising_model_gives_everything(place: Path, tmp_path: Path, begun: list[Weights]) -> None:
    run, listener = start(place, tmp_path / "model", "denoising")
    given = weights_of(load_model(place / "denoising").model)
    assert begun[0].keys() == given.keys()
    assert all(torch.equal(begun[0][name], weight) for name, weight in given.items())
    count = sum(weight.numel() for weight in given.values())
    assert f"took all weights ({count:,}) from {place}/denoising" in listener.messages
    assert read_training_file(run.folder)["lr"] == pytest.approx(0.2 * 0.5 / 16)  # that of fine-tuning
    assert read_training_file(run.folder)["dropout"] == 0.1


@pytest.mark.parametrize("name", ["encoder", "denoising"])
@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_run_from_a_pretrained_model_that_was_killed_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, step: int
) -> None:
    whole, run = (make_training(place, **PLAIN, init_from=place / name, folder=tmp_path / half) for half in "ab")
    train_from_text(whole)
    interrupted(run, step, monkeypatch)
    train_from_text(run)
    for file in ("model.safetensors", "training.toml", "config.json"):
        assert (run.folder / file).read_bytes() == (whole.folder / file).read_bytes()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"arch": "tiny"}, "--arch"),
    ({"num_layers": 2}, "--layers"),
    ({"num_encoder_layers": 2}, "--enc-layers"),
    ({"d_model": 32}, "--d-model"),
    ({"encoder_d_model": 32}, "--enc-d-model"),
    ({"num_heads": 4}, "--heads"),
    ({"norm": "last"}, "--norm"),
    ({"tie_embeddings": "none"}, "--tie-embeddings"),
]


@pytest.mark.parametrize(("values", "option"), REFUSED)
def test_what_the_encoder_brings_cannot_be_asked_for(
    place: Path, tmp_path: Path, values: dict[str, Any], option: str
) -> None:
    run = make_training(place, init_from=place / "encoder", folder=tmp_path / "model")
    run = replace(run, architecture=ArchitectureConfig(**values))
    with pytest.raises(ConfigError, match=f"{option} does not go with --init-from: the model brings its architecture"):
        train_from_text(run)
    assert not (tmp_path / "model").exists()
    train_from_text(replace(run, architecture=ArchitectureConfig(num_decoder_layers=1)))


def test_what_the_model_is_may_be_asked_for(place: Path, tmp_path: Path) -> None:
    run = make_training(place, init_from=place / "denoising", folder=tmp_path / "model")
    sizes = {"arch": "base", "num_layers": 1, "d_model": 16, "num_heads": 2, "d_ff": 16}
    asked: dict[str, Any] = {
        **sizes,
        "tie_embeddings": "all",
        "share_layers": "none",
        "num_encoder_layers": 1,
        "decoder_d_model": 16,
    }
    train_from_text(replace(run, architecture=ArchitectureConfig(**asked), asked=frozenset(asked)))
    for other in ({"arch": "base"}, {"arch": "base", "num_layers": 1}, {"num_layers": 2}, {"share_layers": "all"}):
        run = replace(run, architecture=ArchitectureConfig(**other), asked=frozenset(other), overwrite=True)
        with pytest.raises(ConfigError, match="does not go with --init-from: the model brings its architecture"):
            train_from_text(run)


def test_dropout_inside_the_layers_is_the_models(place: Path, tmp_path: Path) -> None:
    own: dict[str, Any] = {"attention_dropout": 0.1, "activation_dropout": 0.2}
    train_from_text(make_training(place, folder=tmp_path / "base", max_steps=1, **own))
    run = make_training(place, **PLAIN, init_from=tmp_path / "base", folder=tmp_path / "model", max_steps=1)
    others: list[dict[str, Any]] = [{"attention_dropout": 0.0}, {"activation_dropout": 0.0}]
    for other in others:
        with pytest.raises(ConfigError, match="-dropout does not go with --init-from"):
            train_from_text(replace(run, architecture=ArchitectureConfig(**other), asked=frozenset(other)))
    train_from_text(replace(run, architecture=ArchitectureConfig(**own), asked=frozenset(own)))
    config = read_config(run.folder)
    assert (config.attention_dropout, config.activation_dropout) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": ArchitectureConfig(d_model=30, num_heads=4)}, "must be divisible by num_heads"),
        ({"init_from": "denoising", "architecture": ArchitectureConfig(num_layers=3)}, "--layers does not go with"),
        ({"architecture": ArchitectureConfig(encoder_mixer="conv", kernel_width=2)}, r"kernel_width \(2\) must be odd"),
        (
            {"architecture": ArchitectureConfig(encoder_d_model=64, tie_embeddings="all")},
            "'all' needs one width, but the encoder's d_model is 64",
        ),
        ({"architecture": ArchitectureConfig(share_layers="all"), "training": FSDP}, "--fsdp does not go with --share"),
        ({"init_from": "encoder", "architecture": ArchitectureConfig(decoder_d_model=15)}, "15"),
        ({"init_from": "denoising", "adaptation": AdaptationConfig(freeze=("encoder.9",))}, "has layers 1 to 1"),
        ({"init_from": "denoising", "init_checkpoint": "99"}, "has no checkpoint 99; kept steps: "),
    ],
)
def test_a_model_that_cannot_be_is_refused_before_the_text_is_read(
    place: Path, tmp_path: Path, values: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_training(place, folder=tmp_path / "model", **PLAIN)
    run = replace(run, **{"architecture": ArchitectureConfig(), **values})
    if run.init_from is not None:
        run = replace(run, init_from=place / run.init_from)
    for name in ("prepare_data", "choose_tokenizers"):
        monkeypatch.setattr(f"transformer_core.experiments.train_from_text.{name}", lambda *_: pytest.fail("reads it"))
    with pytest.raises((ConfigError, ModelError), match=message):
        train_from_text(run)


def test_an_architecture_that_some_text_might_get_is_not_refused(place: Path) -> None:
    """Only with a preset for a large corpus are both stacks as wide, or can so many heads be turned."""
    for asked in (
        ArchitectureConfig(encoder_d_model=512, tie_embeddings="all"),
        ArchitectureConfig(num_heads=128, positions="rotary"),
    ):
        require_possible(replace(make_training(place, **PLAIN), architecture=asked))


def test_other_weights_than_the_best_may_be_taken(
    place: Path, tmp_path: Path, begun: list[Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_training(place, **PLAIN, folder=tmp_path / "base")
    base = replace(base, training=replace(base.training, max_steps=6, save_every=2, valid_every=6, keep_last=9))
    interrupted(base, 3, monkeypatch)
    run = make_training(place, **PLAIN, init_from=base.folder, folder=tmp_path / "model")
    with pytest.raises(ModelError, match="base: has no best weights yet, training has validated nothing; its checkpoi"):
        train_from_text(run)
    train_from_text(replace(run, init_checkpoint="last", folder=tmp_path / "of-last"))
    train_from_text(base)
    interrupted(replace(run, init_checkpoint="4"), 1, monkeypatch)
    train_from_text(run)  # what is not given again is as it was
    for weights, step in ((begun[1], 2), (begun[3], 4)):
        path = base.folder / f"checkpoints/step-{step:08}/model.safetensors"
        assert all(torch.equal(weights[name], weight) for name, weight in load_file(path).items())
    assert read_json(run.folder / "metadata.json")["init_from"]["checkpoint"] == "4"
    assert read_training_file(run.folder)["init_checkpoint"] == "4"
    with pytest.raises(ConfigError, match=r"--init-checkpoint was 4 when .* and is 6 now"):
        train_from_text(replace(run, init_checkpoint="6"))


def test_of_a_complete_model_the_decoder_is_its_own(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--dec-layers does not go with --init-from"):
        start(place, tmp_path / "model", "denoising", num_decoder_layers=2)


# --- Another vocabulary


def other_tokenizer(path: Path, kind: Kind = "word") -> Tokenizer:
    """A vocabulary that lacks words of the task, has words that the models do not know, and orders them otherwise."""
    lines = ["zebra yak", *(line.partition(" ")[2] for line in animal_lines(30, seed=9)), "zebra catdog"]
    tokenizer = train_tokenizer(lines, TokenizerConfig(kind=kind, vocabulary_size=300 if kind == "bpe" else 50))
    tokenizer.save(path)
    return tokenizer


@pytest.mark.parametrize("name", ["encoder", "denoising"])
def test_under_another_vocabulary_known_entries_keep_their_vectors(
    place: Path, tmp_path: Path, begun: list[Weights], name: str
) -> None:
    new = other_tokenizer(tmp_path / "new.json")
    run, listener = start(place, tmp_path / "model", name, tokenizer=tmp_path / "new.json")
    loaded = load_model(place / name)
    given, own, old = weights_of(loaded.model), fresh(run), loaded.source_tokenizer
    table = "source_embedding.token_embedding.weight"
    assert [key for key, weight in begun[0].items() if weight.shape != given.get(key, weight).shape] == [table]
    rows = dict(zip(new.pieces, begun[0][table], strict=True))
    old_rows = dict(zip(old.pieces, given[table], strict=True))
    fresh_rows = dict(zip(new.pieces, own[table], strict=True))
    known = rows.keys() & old_rows.keys()
    assert known > {"<pad>", " cat"}
    assert rows.keys() - known >= {" zebra", " yak", " catdog"}  # a vocabulary of words cannot spell them
    for piece, row in rows.items():
        assert torch.equal(row, old_rows.get(piece, fresh_rows[piece])), piece
    for key in begun[0].keys() - {table}:
        assert torch.equal(begun[0][key], given.get(key, own[key])), key
    (message,) = [text for text in listener.messages if text.startswith("took ")]
    assert message.endswith(
        f"; of the new vocabulary {len(known)} of {new.vocabulary_size} entries are known and keep their vectors, "
        f"0 begin as the mean of the pieces that spelled them, {new.vocabulary_size - len(known)} are fresh"
    )
    fresh_parts = ["source_embedding", "decoder"] if name == "encoder" else ["source_embedding"]
    assert read_json(run.folder / "metadata.json")["init_from"]["fresh"] == fresh_parts
    assert (run.folder / "tokenizer.json").read_bytes() == (tmp_path / "new.json").read_bytes()


def test_each_side_may_have_another_vocabulary(place: Path, tmp_path: Path, begun: list[Weights]) -> None:
    sides = {}
    for side, lines in {
        "source": animal_lines(30, seed=9),
        "target": ["lion " + line for line in animal_lines(9)],
    }.items():
        sides[side] = train_tokenizer(lines, TokenizerConfig(kind="word", vocabulary_size=50))
        sides[side].save(tmp_path / f"{side}.json")
    files: dict[str, Any] = {f"{side}_tokenizer": tmp_path / f"{side}.json" for side in sides}
    train_from_text(make_training(place, **PLAIN, **files, folder=tmp_path / "first", tie_embeddings="none"))
    new = other_tokenizer(tmp_path / "new.json")
    files["target_tokenizer"] = tmp_path / "new.json"
    run = make_training(place, **PLAIN, **files, init_from=tmp_path / "first", folder=tmp_path / "model")
    listener = Listener()
    train_from_text(run, listener)
    given, own = weights_of(load_model(tmp_path / "first").model), fresh(run)
    for table in ("target_embedding.token_embedding.weight", "output_projection.weight"):
        old_rows = dict(zip(sides["target"].pieces, given[table], strict=True))
        for piece, row, fresh_row in zip(new.pieces, begun[-1][table], own[table], strict=True):
            assert torch.equal(row, old_rows.get(piece, fresh_row)), piece
    table = "source_embedding.token_embedding.weight"
    assert torch.equal(begun[-1][table], given[table])
    assert any("; of the new target vocabulary " in text for text in listener.messages)


def test_one_table_takes_no_two_vocabularies(place: Path, tmp_path: Path) -> None:
    other_tokenizer(tmp_path / "new.json")
    files = {"source_tokenizer": tmp_path / "new.json", "target_tokenizer": tmp_path / "new.json"}
    with pytest.raises(ConfigError, match="has one vocabulary for both sides; give --tokenizer, not one for each"):
        start(place, tmp_path / "model", "denoising", **files)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("step", [0, 2])
def test_a_run_under_another_vocabulary_that_was_killed_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    other_tokenizer(tmp_path / "new.json", "bpe")
    values = {**PLAIN, "tokenizer": tmp_path / "new.json", "init_from": place / "denoising"}
    whole, run = (make_training(place, **values, folder=tmp_path / half) for half in "ab")
    train_from_text(whole)
    interrupted(run, step, monkeypatch)
    train_from_text(run)
    assert (run.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_the_decoder_begins_with_what_the_vocabulary_of_the_target_says(place: Path, tmp_path: Path) -> None:
    imported, own = tmp_path / "imported.json", tmp_path / "own.json"
    Tokenizer.from_json(vocabulary().to_json()).save(imported)  # its decoder starts with <pad>
    other_tokenizer(own)
    first, _ = start(place, tmp_path / "first", "denoising", tokenizer=imported)
    assert load_model(first.folder).model.config.bos_id == 0
    second, _ = start(tmp_path, tmp_path / "second", "first", tokenizer=own)
    assert load_model(second.folder).model.config.bos_id == 1
    sides: dict[str, Any] = {"source_tokenizer": imported, "target_tokenizer": own}
    train_from_text(make_training(place, **PLAIN, **sides, folder=tmp_path / "third"))
    assert load_model(tmp_path / "third").model.config.bos_id == 1


def test_weights_of_another_shape_are_not_taken(place: Path, tmp_path: Path) -> None:
    given = load_model(place / "encoder").model
    wider = replace(given.config, encoder=replace(given.config.encoder, d_ff=40), decoder=given.config.encoder)
    torch.manual_seed(1)
    model = Transformer(wider)
    torch.manual_seed(1)
    own = Transformer(wider)
    tokenizer = load_model(place / "encoder").source_tokenizer
    taken = take_weights(model, (tokenizer, tokenizer), place / "encoder")
    before, after, donor = weights_of(own), weights_of(model), weights_of(given)
    for name, weight in after.items():
        fits = name in donor and donor[name].shape == weight.shape
        assert torch.equal(weight, donor[name] if fits else before[name]), name
    assert taken.summary.endswith("; the encoder and decoder are fresh")
    assert taken.fresh_parts == ("encoder", "decoder")
    with pytest.raises(ModelError, match="does not exist"):
        take_weights(model, (tokenizer, tokenizer), tmp_path / "missing")


def test_fine_tuning_from_a_pretrained_encoder_learns(place: Path, tmp_path: Path) -> None:
    run = make_training(
        place, **{**PLAIN, "max_steps": 12, "valid_every": 6}, init_from=place / "encoder", folder=tmp_path / "model"
    )
    losses: list[float] = []

    def noted(original: Callable[[Trainer], Any]) -> Callable[[Trainer], Any]:
        def validate(trainer: Trainer) -> Any:  # noqa: ANN401
            values, decoded = original(trainer)
            losses.append(values["loss"])
            return values, decoded

        return validate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "validate", noted(Trainer.validate))
        train_from_text(run)
    assert losses[1] < losses[0]


# --- Parts of it


@pytest.mark.parametrize(
    "values", [{"freeze": ("encoder", "embeddings")}, {"lora_rank": 2}, {"lora_rank": 2, "freeze": ("encoder",)}]
)
def test_what_is_not_trained_is_in_the_model_bit_for_bit(place: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    run, listener = start(
        place, tmp_path / "model", "denoising", adaptation=AdaptationConfig(**values), weight_decay=0.1, average_last=3
    )
    given, found = weights_of(load_model(place / "denoising").model), weights_of(load_model(run.folder).model)
    last = read_weights(checkpoint_path(run.folder, "last"), expected_shapes(load_model(run.folder).model))
    assert found.keys() == given.keys()
    moved = {name for name, weight in found.items() if not torch.equal(weight, given[name])}
    assert moved == {name for name, weight in last.items() if not torch.equal(weight, given[name])}
    if "lora_rank" in values:
        matrices = {name for name, weight in given.items() if weight.dim() > 1 and "embedding" not in name}
        assert moved == {name for name in matrices if "freeze" not in values or name.startswith("decoder.")}
        assert all(torch.linalg.matrix_rank(found[name] - given[name], rtol=1e-3) == 2 for name in moved)
        assert (run.folder / "checkpoints" / "base.safetensors").exists()
    else:
        assert moved == {name for name in given if name.startswith("decoder.")}
    assert any(" weights are trained, " in text for text in listener.messages)
    assert (
        read_training_file(run.folder).items()
        >= {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}.items()
    )
    average_models(find_weights([run.folder]), tmp_path / "mean")  # it looks like any other


@pytest.mark.parametrize("step", [0, 2, 4, 5])
@pytest.mark.parametrize(("name", "freeze"), [("denoising", ("encoder.1",)), ("denoising", ()), ("encoder", ())])
def test_a_run_with_adapters_that_was_killed_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, freeze: tuple[str, ...], step: int
) -> None:
    adaptation = AdaptationConfig(freeze=freeze, lora_rank=2, lora_alpha=8.0)
    whole, run = (
        make_training(place, **PLAIN, init_from=place / name, folder=tmp_path / half, adaptation=adaptation)
        for half in "ab"
    )
    train_from_text(whole)
    interrupted(run, step, monkeypatch)
    train_from_text(replace(run, init_from=None, adaptation=AdaptationConfig()))  # not asked for is as it was
    files = [path.relative_to(whole.folder) for path in whole.folder.rglob("*.safetensors")]
    assert any(path.name == "adapters.safetensors" for path in files)
    for file in (*files, Path("training.toml"), Path("config.json")):
        assert (run.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file


def test_adapters_want_the_rate_of_a_fresh_model(place: Path, tmp_path: Path) -> None:
    run, _ = start(place, tmp_path / "model", "denoising", adaptation=AdaptationConfig(lora_rank=2))
    assert read_training_file(run.folder)["lr"] == pytest.approx(0.5 / 16)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("denoising", {"freeze": ("encoder.9",)}, r"--freeze encoder\.9: the encoder has layers 1 to 1"),
        ("encoder", {"freeze": ("decoder",)}, "--freeze decoder: something in it is fresh"),
        ("denoising", {"freeze": ("encoder", "decoder", "embeddings")}, "leaves nothing to train"),
    ],
)
def test_what_cannot_be_adapted_leaves_nothing(
    place: Path, tmp_path: Path, name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        start(place, tmp_path / "model", name, adaptation=AdaptationConfig(**values))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("values", "option"), [({"freeze": ("encoder",)}, "--freeze"), ({"lora_rank": 2}, "--lora-r")])
def test_without_a_model_there_is_nothing_to_keep(place: Path, values: dict[str, Any], option: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{option}.* keeps what a model has learned; name the model with --init-from"
    ):
        make_training(place, adaptation=AdaptationConfig(**values))
