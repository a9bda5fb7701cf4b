"""Learn the pieces of a unigram language model (Kudo 2018) with SentencePiece.

The trainer of `tokenizers` sums up the words in the order of a hash table that differs from process to process, and
with it the rounding and the pieces. SentencePiece, the author's own, is repeatable, and takes words with their counts.
"""

import io
from collections import Counter
from collections.abc import Iterator

import sentencepiece

from tokenizer.errors import TokenizerDataError

__all__ = ["learn_pieces"]

# Expectations are summed per thread and then over the threads: another number of them would round otherwise.
NUM_THREADS = 4

# SentencePiece gives some characters a meaning of their own ("▁", "▅", tab). It sees none of them: each character is
# passed as another one, of the private planes from here on.
FIRST_STAND_IN = 0xF0000
MAX_ALPHABET = 0x110000 - FIRST_STAND_IN

# SentencePiece writes every word out as often as it was counted, at fifty bytes a character (0.2.3): 500 MB for these.
# A larger text is thinned out to this many characters, as if every n-th occurrence of each word had been taken.
MAX_CHARACTERS = 10_000_000

# SentencePiece starts from the strings that have at least two different continuations. A word that is always a whole
# word has one, its end, and would not be among them: a vocabulary for English came out with a quarter more tokens. So
# each word is followed by this once, a letter of another script than the stand-ins, with which no piece may join.
END_MARK = "A"


def learn_pieces(counts: Counter[str], max_pieces: int) -> list[tuple[str, float]]:
    """Learn pieces that make the words most probable; every character of the words is one of them.

    Args:
        counts: words and how often they occur.
        max_pieces: how many pieces to keep; at least as many as there are characters.

    Returns:
        pieces with the natural log of their probability, most probable first.

    Raises:
        TokenizerDataError: SentencePiece cannot learn from these words.
    """
    alphabet = sorted({character for word in counts for character in word})
    if len(alphabet) > MAX_ALPHABET:
        raise TokenizerDataError(f"unigram can tell {MAX_ALPHABET} characters apart, and this text has {len(alphabet)}")
    stand_ins = {ord(character): chr(FIRST_STAND_IN + index) for index, character in enumerate(alphabet)}
    originals = {ord(stand_in): chr(code) for code, stand_in in stand_ins.items()}
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_weighted(_thin_out(counts), stand_ins),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            vocab_size=max_pieces + 2,  # its own unknown token and the end mark are dropped
            hard_vocab_limit=False,
            num_threads=NUM_THREADS,
            minloglevel=2,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            # The words are normalised and cut already.
            normalization_rule_name="identity",
            character_coverage=1.0,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=True,  # keeps the end mark apart
            split_by_number=False,
            split_by_whitespace=False,
        )
    except RuntimeError as error:
        raise TokenizerDataError(f"no unigram vocabulary can be learned from this text ({error})") from None
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(learned.id_to_piece(index), learned.get_score(index)) for index in range(1, learned.get_piece_size())]
    return [(piece.translate(originals), score) for piece, score in pieces if piece != END_MARK]


def _thin_out(counts: Counter[str]) -> Counter[str]:
    """Divide the counts, and leave out the words of which less than half an occurrence is left, but no character."""
    num_characters = sum(len(word) * count for word, count in counts.items())
    if num_characters <= MAX_CHARACTERS:
        return counts
    share = MAX_CHARACTERS / num_characters
    thinned = Counter({word: round(count * share) for word, count in counts.items() if count * share > 0.5})
    lost = {character for word in counts for character in word}.difference(*thinned)
    return thinned + Counter(lost)


def _weighted(counts: Counter[str], stand_ins: dict[int, str]) -> Iterator[str]:
    """Each word with its count, one of them in front of the end mark."""
    for word in sorted(counts):
        text, count = word.translate(stand_ins), counts[word]
        if count > 1:
            yield f"{text}{END_MARK}\t1"
            count -= 1
        yield f"{text}\t{count}"
