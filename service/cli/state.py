"""Commands that back up and restore an installation."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from panelworks.cli.options import Json
from panelworks.cli.output import print_json
from panelworks.settings import get_settings
from service.stack.database import Database

app = typer.Typer()


@app.command(
    epilog="Example: panelworks backup --to /mnt/backups; panelworks backup --to /mnt/backups --database postgres"
)
def backup(
    to: Annotated[Path, typer.Option(help="Folder that receives the file; it is created if it is missing.")],
    database: Annotated[
        Database | None,
        typer.Option(
            help="The database of 'panelworks up', if the installation has both; by default the one that exists.",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures",
            help="Include all pictures of the working store, not only the uploads of unfinished jobs.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Back up database, blocks, ledger, register of books, jobs and auth string into one file, also while 'up' runs.

    Run it on the machine, as the user and with the settings of 'panelworks up'. The file contains secrets.
    """
    from service.state.backup import write_backup
    from service.state.databases import open_source

    settings = get_settings()
    with open_source(settings, database) as source:
        done = write_backup(to.absolute(), source, settings, _report, pictures=pictures)
    if json:
        figures = {"path": str(done.path), "bytes": done.bytes, "seconds": round(done.seconds, 2)}
        print_json({**figures, "database": done.manifest.database, "files": len(done.manifest.members)})
    else:
        print(f"{done.path}: {done.bytes / 2**20:.1f} MiB, {done.seconds:.1f} s, verified.")
    if done.manifest.key_digest is not None:
        print(
            "warning: the key of the blocks is in PREFECT_SERVER_ENCRYPTION_KEY and not in the backup: store it elsewhere.",
            file=sys.stderr,
        )


@app.command(epilog="Example: panelworks restore /mnt/backups/panelworks-20261126T030000Z.tar.gz --check")
def restore(
    file: Annotated[Path, typer.Argument(help="A file of 'panelworks backup'.")],
    check: Annotated[
        bool, typer.Option("--check", help="Verify the file and whether it can be restored; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Restore a backup into an installation whose database is empty. Start the service afterwards with 'panelworks up'.

    Existing files of ledger and store are kept. Interrupted, it can be repeated.
    """
    from service.state.restore import check_backup, restore_backup

    settings = get_settings()
    if check:
        manifest = check_backup(file, settings, _report)
        if json:
            print_json(
                manifest.model_dump(mode="json", exclude={"members"}) | {"files": len(manifest.members)}
            )
        else:
            print(f"{file} can be restored here.")
        return
    restored = restore_backup(file, settings, _report)
    if json:
        print_json(
            {"written": restored.written, "kept": restored.kept, "database": restored.manifest.database}
        )
        return
    option = " --database postgres" if restored.manifest.database == "postgres" else ""
    print(f"Restored. Start the service with: panelworks up{option}")


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
