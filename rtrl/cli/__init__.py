"""What does a person type? The command line ``rtrl``; nothing here is loaded by ``import rtrl``."""

import importlib.util
import sys

NEEDS = ("typer", "rich", "matplotlib")


def main(arguments: list[str] | None = None) -> None:
    """Run ``rtrl`` with these arguments, by default those of the process, and exit."""
    for name in NEEDS:
        if importlib.util.find_spec(name) is None:  # found, not loaded: it may not be needed
            print(
                f"rtrl: the command line needs {name}, which is not installed: "
                "pip install 'rtrl[cli]'",
                file=sys.stderr,
            )
            sys.exit(2)
    from rtrl.cli._app import run

    run(sys.argv[1:] if arguments is None else arguments)
