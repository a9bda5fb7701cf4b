"""Run the program as `transduce` or `python -m cli`, or in several processes as `torchrun -m cli`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until everything is imported Ctrl-C ends the program without a word

from cli.main import main

if __name__ == "__main__":
    main()
