"""Run the program as `python -m cli`, or in several processes as `torchrun -m cli`."""

from cli.main import main

if __name__ == "__main__":
    main()
