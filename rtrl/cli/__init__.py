"""What does a person type? The command line ``rtrl``; nothing here is loaded by ``import rtrl``."""

import sys

NEEDS = ("typer", "rich", "matplotlib")


def main(arguments: list[str] | None = None) -> None:
    """Run ``rtrl`` with these arguments, by default those of the process, and exit."""
    try:
        for name in NEEDS:
            __import__(name)
    except ImportError as error:
        print(
            f"rtrl: the command line needs {error.name}, which is not installed: "
            "pip install 'rtrl[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from rtrl.cli._app import run

    run(sys.argv[1:] if arguments is None else arguments)
