import gzip
import lzma
import os
import re
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_core.data import lines
from transformer_core.data.byte_input import ByteInput
from transformer_core.data.lines import LineReader, LineWriter, is_blank, open_output, read_lines
from transformer_core.errors import ConfigError, DataError

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
SUFFIXES = list(PACK)
PACKED_SUFFIXES = [suffix for suffix in SUFFIXES if suffix]


def lines_of(content: bytes, folder: Path, name: str = "text", errors: str = "strict") -> list[str]:
    path = folder / name
    path.write_bytes(content)
    with LineReader(path, errors="replace" if errors == "replace" else "strict") as reader:
        return list(reader)


@contextmanager
def pipe_reader() -> Iterator[tuple[LineReader, int]]:
    """A LineReader on the reading end of a pipe, and the descriptor of the other end."""
    reading_end, writing_end = os.pipe()
    with LineReader(f"/dev/fd/{reading_end}") as reader:
        os.close(reading_end)
        yield reader, writing_end
    with suppress(OSError):
        os.close(writing_end)


# --- what a line is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r", ["a"]),
        (b"a\r\r\n", ["a\r"]),  # one "\r" only
        (b"a\rb\n", ["a\rb"]),
        (b"\xef\xbb\xbfa\n", ["a"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [""]),
        (b"a\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),  # not at the start of the file: a character
        (b" a \t\n", [" a \t"]),
        (b"a\x00b\n", ["a\x00b"]),
    ],
)
def test_what_a_line_is(content: bytes, expected: list[str], tmp_path: Path) -> None:
    assert lines_of(content, tmp_path) == expected


def test_every_character_at_which_splitlines_cuts_stays_inside_its_line(tmp_path: Path) -> None:
    line = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\rj"
    assert len(line.splitlines()) == 10
    assert lines_of(f"{line}\n{line}\n".encode(), tmp_path) == [line, line]


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=200).map(lambda data: data.decode("utf-8", "ignore").encode()))
def test_as_many_lines_as_newlines_and_all_their_text(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    content += b"\n"
    lines = lines_of(content, tmp_path_factory.getbasetemp())
    assert len(lines) == content.count(b"\n")
    expected = content.removeprefix(b"\xef\xbb\xbf").decode().split("\n")[:-1]
    assert lines == [line.removesuffix("\r") for line in expected]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_characters_and_lines_across_the_borders_of_chunks(suffix: str, tmp_path: Path) -> None:
    lines = ["€" * 30_000, "", "x" + "𝄞" * 50_000, "é"]  # longer than a chunk, and cut inside of characters
    content = "\n".join(lines).encode()
    assert lines_of(PACK[suffix](content), tmp_path, f"text{suffix}") == lines


# --- not UTF-8 --------------------------------------------------------------------------------------------------------


def test_invalid_utf8_names_file_line_byte_and_column_after_the_good_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes("gut\nschön \xff".encode("latin-1").replace("ö".encode("latin-1"), "ö".encode()) + b"\nnie\n")
    reader = LineReader(path)
    iterator = iter(reader)
    assert next(iterator) == "gut"
    with pytest.raises(DataError) as caught:
        next(iterator)
    assert str(caught.value) == (
        f"{path}:2: is not UTF-8 (byte 0xff at column 7); convert the file or pass --errors replace"
    )
    assert reader.line_number == 1


def test_invalid_utf8_is_replaced_and_counted_by_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"a\xff\xfeb\nc\n\xc3\n")
    with LineReader(path, errors="replace") as reader:
        assert list(reader) == ["a\ufffd\ufffdb", "c", "\ufffd"]
    assert reader.num_invalid == 2


@pytest.mark.parametrize(
    ("content", "hint"), [("Hallo".encode("utf-16"), "UTF-16"), (gzip.compress(b"a", mtime=0), "compressed")]
)
def test_a_hint_says_what_the_bytes_look_like(content: bytes, hint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=hint):
        lines_of(content, tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_line_without_end_is_given_up_after_the_lines_before_it(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / f"text{suffix}"
    path.write_bytes(PACK[suffix](b"a\n" + bytes((1 << 20) - 1) + b"\n" + bytes(3 << 20)))
    found = []
    with pytest.raises(DataError, match=rf"text{suffix}:3: is longer than 1 MiB, so it is no line of text"):
        for line in LineReader(path):
            found.append(len(line))
    assert found == [1, (1 << 20) - 1]


# --- compressed files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", PACKED_SUFFIXES)
def test_concatenated_files_are_read_to_the_end(suffix: str, tmp_path: Path) -> None:
    pack = PACK[suffix]
    content = pack(b"a\nb") + pack(b"") + pack(b"c\nd\n")
    assert lines_of(content, tmp_path, f"text{suffix}") == ["a", "bc", "d"]


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_padding_after_a_compressed_file_is_no_text(suffix: str, tmp_path: Path) -> None:
    assert lines_of(PACK[suffix](b"a\n") + bytes(8), tmp_path, f"text{suffix}") == ["a"]


def test_a_frame_that_zstandard_says_to_skip_is_skipped(tmp_path: Path) -> None:
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"xyz"
    pack = PACK[".zst"]
    assert lines_of(pack(b"a\n") + skippable + pack(b"b\n"), tmp_path, "text.zst") == ["a", "b"]


@pytest.mark.parametrize("suffix", PACKED_SUFFIXES)
def test_every_truncation_is_an_error_that_names_the_file(suffix: str, tmp_path: Path) -> None:
    content = PACK[suffix]("".join(f"line {number}\n" for number in range(20)).encode())
    for num_bytes in range(len(content)):
        with pytest.raises(DataError, match=rf"text\{suffix}: .*ends too early"):
            lines_of(content[:num_bytes], tmp_path, f"text{suffix}")


@pytest.mark.parametrize("suffix", PACKED_SUFFIXES)
@pytest.mark.parametrize("content", [b"plain text\n", bytes(100)], ids=["text", "zeros"])
def test_what_is_not_of_the_format_of_its_suffix_is_an_error(suffix: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"text\{suffix}: "):
        lines_of(content, tmp_path, f"text{suffix}")


@pytest.mark.parametrize("suffix", PACKED_SUFFIXES)
def test_rubbish_after_a_compressed_file_is_an_error(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="damaged"):
        lines_of(PACK[suffix](b"a\n") + b"rubbish rubbish", tmp_path, f"text{suffix}")


def test_a_file_that_takes_much_memory_to_unpack_is_not_called_damaged(tmp_path: Path) -> None:
    # A frame of zstd with a window of 2^30 bytes (0xA0: 20 more than the 10 that all have), as --long=30 makes them,
    # and an empty last block. Of xz, the size of the dictionary in the block's header (36: 2^30 bytes) and its sum.
    zst = b"\x28\xb5\x2f\xfd\x00\xa0" + b"\x01\x00\x00"
    xz = bytearray(lzma.compress(b"a\n"))
    end_of_header = 12 + 4 * (xz[12] + 1) - 4
    xz[16] = 36
    xz[end_of_header : end_of_header + 4] = zlib.crc32(xz[12:end_of_header]).to_bytes(4, "little")
    for content, suffix, command in ((zst, ".zst", "zstd -d --long=31"), (bytes(xz), ".xz", "xz -dk")):
        with pytest.raises(DataError, match=rf"text\{suffix}: takes more memory .*; unpack it first: {command} "):
            lines_of(content, tmp_path, f"text{suffix}")


def test_the_lines_before_the_damage_are_handed_over(tmp_path: Path) -> None:
    content = PACK[".gz"]("".join(f"{number * 7919}\n" for number in range(20_000)).encode())
    path = tmp_path / "text.gz"
    path.write_bytes(content[: len(content) // 2])
    lines = []
    with pytest.raises(DataError, match="too early"):
        for window in LineReader(path).windows(100):
            lines += window
    assert lines == [str(number * 7919) for number in range(len(lines))]
    assert len(lines) > 1000


# --- inputs that cannot be opened -------------------------------------------------------------------------------------


def test_inputs_that_cannot_be_opened_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.txt: there is no such file"):
        LineReader(tmp_path / "missing.txt")
    with pytest.raises(DataError, match="is a folder"):
        LineReader(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        LineReader("a\0b")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be read"):
        LineReader(tmp_path / "file" / "below")


def test_a_file_without_rights_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything, so chmod would prove nothing there
    with pytest.raises(DataError, match="you may not read it"):
        LineReader(tmp_path / "secret")


def test_closed_standard_input_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        LineReader("-")


def test_standard_input_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO("ä\nb".encode())))
    with LineReader("-") as reader:
        assert list(reader.windows(10)) == [["ä", "b"]]
    assert (reader.name, reader.line_number) == ("standard input", 2)


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("max_lines", [1, 7, 1000, 5000])
def test_a_file_gives_full_windows(suffix: str, max_lines: int, tmp_path: Path) -> None:
    path = tmp_path / f"text{suffix}"
    lines = [f"line {number}" for number in range(5000)]
    path.write_bytes(PACK[suffix]("\n".join(lines).encode()))
    reader = LineReader(path)
    windows = list(reader.windows(max_lines))
    assert [line for window in windows for line in window] == lines
    assert {len(window) for window in windows[:-1]} <= {max_lines}
    assert reader.line_number == 5000


def test_windows_begin_at_multiples_of_their_size_where_single_lines_stopped(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a\nb\nc\nd\n")
    reader = LineReader(path)
    assert next(iter(reader)) == "a"
    assert list(reader.windows(2)) == [["b"], ["c", "d"]]


def test_windows_begin_at_multiples_of_their_size_wherever_a_pipe_pauses() -> None:
    with pipe_reader() as (reader, writing_end):
        windows = reader.windows(4)
        os.write(writing_end, b"1\n2\n3\n")
        assert next(windows) == ["1", "2", "3"]
        os.write(writing_end, b"4\n5\n6\n7\n8\n9\n")
        os.close(writing_end)
        assert list(windows) == [["4"], ["5", "6", "7", "8"], ["9"]]


def test_a_pause_hands_over_the_complete_lines() -> None:
    with pipe_reader() as (reader, writing_end):
        windows = reader.windows(100)
        os.write(writing_end, b"one\ntwo\nunfin")
        assert next(windows) == ["one", "two"]
        os.write(writing_end, b"ished\n")
        assert next(windows) == ["unfinished"]
        os.write(writing_end, "€".encode()[:2])  # a pause inside of a character
        answers: list[list[str]] = []
        thread = threading.Thread(target=lambda: answers.append(next(windows)))
        thread.start()
        time.sleep(0.05)
        assert not answers
        os.write(writing_end, "€".encode()[2:] + b"\n")
        thread.join(timeout=10)
        assert answers == [["€"]]
        os.write(writing_end, b"last")
        os.close(writing_end)
        assert list(windows) == [["last"]]


def test_a_pause_hands_over_lines_of_a_compressed_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe.zst"
    os.mkfifo(path)
    go_on = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            file.write(PACK[".zst"](b"a\n") + PACK[".zst"](b"b\n"))
            assert go_on.wait(10)
            file.write(PACK[".zst"](b"c\n"))

    thread = threading.Thread(target=write)
    thread.start()
    windows = LineReader(path).windows(100)
    assert next(windows) == ["a", "b"]
    go_on.set()
    assert list(windows) == [["c"]]
    thread.join(timeout=10)


def test_a_pipe_that_does_not_pause_fills_its_windows() -> None:
    with pipe_reader() as (reader, writing_end):
        os.write(writing_end, b"x\n" * 250)
        os.close(writing_end)
        assert [len(window) for window in reader.windows(100)] == [100, 100, 50]


def test_a_non_blocking_pipe_is_waited_for() -> None:
    with pipe_reader() as (reader, writing_end):
        assert isinstance(reader._input, ByteInput)
        os.set_blocking(reader._input._file.fileno(), False)

        def write_late() -> None:
            os.write(writing_end, b"late\n")
            os.close(writing_end)

        thread = threading.Timer(0.05, write_late)
        thread.start()
        assert list(reader) == ["late"]
        thread.join(timeout=10)


def test_a_coprocess_gets_its_answer_before_it_sends_the_next_line() -> None:
    program = (
        "from transformer_core.data.lines import LineReader, open_output\n"
        "with open_output('-') as output:\n"
        "    for window in LineReader('-').windows(1000):\n"
        "        for line in window:\n"
        "            output.write_line(line.upper())\n"
        "        output.flush()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for question in [b"a\n", "ä\n".encode(), b"\n"]:
            process.stdin.write(question)
            process.stdin.flush()
            assert process.stdout.readline().decode() == question.decode().upper()
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_a_terminal_is_read_line_by_line() -> None:
    pty = pytest.importorskip("pty")  # a POSIX system
    controller, terminal = pty.openpty()
    with LineReader(f"/dev/fd/{terminal}") as reader:
        windows = reader.windows(10)
        os.write(controller, b"hello\n")
        assert next(windows) == ["hello"]
        os.write(controller, b"\x04")  # Ctrl-D
        assert list(windows) == []
    os.close(controller)
    os.close(terminal)


# --- several files ----------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_read_lines_chains_files_that_lack_a_last_newline(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", "\ufeffa\nb"), write(tmp_path / "b", "\ufeffc\n")
    assert list(read_lines([first, second])) == ["a", "b", "c"]


# --- output -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    lines=st.lists(st.text(st.characters(codec="utf-8"), max_size=20) | st.text("\n\r\ufeff\u2028a", max_size=6)),
    suffix=st.sampled_from(SUFFIXES),
)
def test_what_is_written_is_read_back(lines: list[str], suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"round{suffix}"
    with open_output(path) as output:
        for line in lines:
            output.write_line(line)
    assert list(LineReader(path)) == [line.replace("\n", " ") for line in lines]


@pytest.mark.parametrize("suffix", PACKED_SUFFIXES)
def test_compressed_output_is_the_same_every_time_and_other_tools_read_it(suffix: str, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}{suffix}"
        with open_output(path) as output:
            output.write_line("ä")
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    unpack: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.decompress,
        ".xz": lzma.decompress,
        ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    assert unpack[suffix](contents[0]) == "ä\n".encode()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_leaves_the_old_file_and_nothing_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="midway"), open_output(path) as output:
        output.write_line("new")
        raise RuntimeError("midway")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with open_output(path) as output:
        output.write_line("a")
        output.flush()
        assert not path.exists()
    assert path.read_bytes() == b"a\n"


def test_outputs_without_a_place_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere/out")
    for path, message in (
        (tmp_path / "missing" / "out", f"{tmp_path / 'missing'}: no such folder; make it first"),
        (tmp_path / "link", f"{tmp_path / 'nowhere'}: no such folder; make it first"),
        (tmp_path, f"{tmp_path}: is a folder; name the file to write"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)), open_output(path):
            pass


def test_a_full_disk_names_the_output() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="/dev/full") as caught, open_output("/dev/full") as output:
        output.write_line("x" * 100_000)
    assert caught.value.filename == "/dev/full"


def test_what_is_no_ordinary_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    with open_output(os.devnull) as output:
        output.write_line("x")
    assert not Path(os.devnull).is_file()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    thread = threading.Thread(target=lambda: received.extend(LineReader(pipe)))
    thread.start()
    with open_output(pipe) as output:
        output.write_line("through")
    thread.join(timeout=10)
    assert received == ["through"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    with open_output(tmp_path / "link") as output:
        output.write_line("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"x\n"


def test_a_lone_surrogate_does_not_stop_the_output() -> None:
    buffer = BytesIO()
    LineWriter(buffer, "buffer").write_line("a\ud800b")
    assert buffer.getvalue() == b"a?b\n"


def test_a_closed_pipe_is_a_broken_pipe_error() -> None:
    program = (
        "import sys\n"
        "from transformer_core.data.lines import open_output\n"
        "try:\n"
        "    with open_output('-') as output:\n"
        "        while True:\n"
        "            output.write_line('y')\n"
        "except BrokenPipeError:\n"
        "    sys.stderr.write('broken')\n"
        "    sys.stderr.flush()\n"
        "    import os\n"
        "    os._exit(0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.stderr.read() == b"broken"


# --- memory and light imports -----------------------------------------------------------------------------------------


def test_memory_is_bounded_by_the_window(tmp_path: Path) -> None:
    path = tmp_path / "big.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(b"0123456789abcde\n" * (1 << 16))  # 64 MiB of text
    program = (
        "import resource, sys\n"
        "from transformer_core.data.lines import LineReader\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "num_lines = sum(len(window) for window in LineReader(sys.argv[1]).windows(1000))\n"
        "print(num_lines, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    num_lines, grown = map(int, result.stdout.split())
    assert num_lines == 64 << 16
    assert grown < 20_000  # KiB on Linux; the text is 65,536


def test_reading_lines_loads_no_torch() -> None:
    program = "import sys, transformer_core.data.lines; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_line_of_white_space_alone_is_blank() -> None:
    assert all(map(is_blank, ("", " ", "   ", "\t", "\u3000", "\x85")))
    assert not any(map(is_blank, ("a", " a ", "\u200b", ".")))
