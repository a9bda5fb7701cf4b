"""What `translate` does to a window of its input, here or in another process: records in, lines of the output out."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cli.garbage import without_collections
from cli.guidance_options import guide_of
from cli.line_fault import up_to_fault
from cli.line_translator import load_ensemble
from cli.translation_form import TranslationForm
from cli.translation_output import Tally
from transformer_core.data.records import Record
from transformer_core.decoding.config import LineGuide, TranslationConfig
from transformer_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformer_core.decoding.translation import Translation

__all__ = ["TranslatedWindow", "TranslationSetup", "TranslationWork", "Window"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Records whose batches are made without a look beyond them."""

    records: Sequence[Record]
    first: int  # number of the first one in the whole input, from 1
    file: str  # they come from, for messages
    line: int  # of the first one in the file, from 1


@dataclass(frozen=True, kw_only=True)
class TranslatedWindow:
    """What became of a window."""

    lines: Sequence[str]  # of the output, without their ends
    num_records: int  # that they are made of
    tally: Tally
    fault: DataError | None = None  # what is wrong with the record behind them, which ends the work


@dataclass(frozen=True, kw_only=True)
class TranslationSetup:
    """All that a translation depends on, beside its input."""

    folders: Sequence[Path]  # of the models that decode together
    checkpoint: str  # best, last, or a step
    device: str
    threads: int | None  # None: as many as torch sees fit
    socket: Path | None  # of a server that translates; None: models are loaded here
    config: TranslationConfig  # what is done with a line
    form: TranslationForm
    asked: LineGuide  # of every translation
    worker: int = 0  # number of the process among those that work side by side

    def __post_init__(self) -> None:
        if self.asked.constraints and not self.config.search.meets_constraints:
            raise ConfigError("constraints are met by beam search: give a --beam-size above 1, without --beam-groups")

    def start(self) -> "TranslationWork":
        """Load the models, or connect to a server; give what translates windows.

        Raises:
            ConfigError: models do not belong together, or lack a tag; the machine has no such device.
            ModelError: one is missing, damaged or has no decoder; or no server listens.
        """
        return TranslationWork(self)

    def prepare(self) -> "Callable[[], TranslationWork]":
        """Load the models with one thread, for forks to share; give what makes ready in each of them.

        Raises:
            ConfigError, ModelError: as `start`.
        """
        import torch

        num_threads = self.threads or torch.get_num_threads()
        work = replace(self, threads=1).start()

        def begin() -> "TranslationWork":
            torch.set_num_threads(num_threads)
            return work

        return begin


class LineTranslator(Protocol):
    """Turns lines into translations."""

    @property
    def num_halvings(self) -> int:
        """How often memory ran out."""

    def translate(self, lines: Sequence[str], first: int, guides: Sequence[LineGuide], /) -> "list[Translation]":
        """Translate lines, of which the first has the number `first` in the whole input."""


class TranslationWork:
    """Translates windows; it is called with one, and closed in the end."""

    def __init__(self, setup: TranslationSetup) -> None:
        self._resources = ExitStack()  # the connection to a server
        try:
            self._translator = self._connected(setup) if setup.socket is not None else self._loaded(setup)
        except BaseException:
            self.close()
            raise
        self._form, self._asked = setup.form, setup.asked
        self._window: Window | None = None  # that is being translated

    def _loaded(self, setup: TranslationSetup) -> LineTranslator:
        with without_collections():
            from transformer_core.decoding.refinement import RefiningTranslator
            from transformer_core.device import device_in_turn

            device = device_in_turn(setup.device, setup.worker)
            models = load_ensemble(
                list(setup.folders),
                setup.checkpoint,
                device,
                setup.threads,
                needs_shortlist=setup.config.search.shortlist,
            )
        return RefiningTranslator(models, setup.config, self._place)

    def _connected(self, setup: TranslationSetup) -> LineTranslator:
        from transformer_core.serving.client import RemoteModel, RemoteTranslator

        assert setup.socket is not None
        model = self._resources.enter_context(RemoteModel(setup.socket))
        return RemoteTranslator(model, setup.config, self._place)

    def close(self) -> None:
        """Close the connection to a server, if there is one."""
        self._resources.close()

    def __call__(self, window: Window) -> TranslatedWindow:
        """Translate the records of a window; say what is to be written of them."""
        self._window = window
        num_halvings = self._translator.num_halvings
        translations, fault = up_to_fault(self._translate, window.records, window.first)
        records = window.records[: len(translations)]
        tally = Tally(
            num_mended=sum(record.is_mended for record in records),
            num_halvings=self._translator.num_halvings - num_halvings,
        )
        tally.add(translations, window.first)
        numbered = enumerate(zip(translations, records, strict=True), window.first)
        return TranslatedWindow(
            lines=[line for number, pair in numbered for line in self._form.lines(*pair, number)],
            num_records=len(records),
            tally=tally,
            fault=fault,
        )

    def _translate(self, records: Sequence[Record]) -> "list[Translation]":
        """Translate the first records of the window."""
        assert self._window is not None
        guides = [guide_of(record, self._asked) for record in records]
        return self._translator.translate([record.text for record in records], self._window.first, guides)

    def _place(self, number: int) -> str:
        """Say where a record of the window stands: "file:line"."""
        assert self._window is not None
        return f"{self._window.file}:{self._window.line + number - self._window.first}"
