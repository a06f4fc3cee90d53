"""``python -m rtrl``: the command line."""

from rtrl.cli import main

if __name__ == "__main__":
    main()
