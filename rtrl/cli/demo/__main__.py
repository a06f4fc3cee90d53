"""``python -m rtrl.cli.demo``."""

from rtrl.cli.demo import main

if __name__ == "__main__":
    main()
