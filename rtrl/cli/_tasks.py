"""``rtrl tasks``: what there is to learn."""

from rtrl.cli._names import ALIASES, find_task
from rtrl.cli._progress import output_console
from rtrl.tasks import summary

KINDS = {
    "sequences": "Sequences, fresh batches without end",
    "stream": "Streams, learned in one pass",
    "labelled": "Labelled sets, with a part held out",
}


def list_tasks(name: str | None) -> None:
    """Print all tasks, or all of one."""
    from rich.table import Table

    console = output_console()
    if name is not None:
        task = find_task(name)
        console.print(f"{task.name}: {task.summary}\n\n{task.shapes}\n", soft_wrap=True)
        console.print(f"Floors: {task.floors}\n\nSource: {task.source}", soft_wrap=True)
        return
    also = {task: alias for alias, task in ALIASES.items()}
    for kind, title in KINDS.items():
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, min_width=60)
        table.add_column("task", no_wrap=True)
        table.add_column("what it asks")
        for task in summary():
            if task.kind == kind:
                alias = f" ({also[task.name]})" if task.name in also else ""
                table.add_row(task.name + alias, task.summary)
        console.print(table)
        console.print()
    console.print("More of one: rtrl tasks NAME. A file of your own: rtrl train FILE --target COL")
