"""The commands for files of a bank without an API: make one, fetch it again, list them, import the bank's answer."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, acting_user, command
from refund_worker.cli.output import Column, Output, print_json, print_line, print_table
from refund_worker.domain.money import as_text
from refund_worker.errors import Conflict, InvalidRequest, UnreadableFile
from refund_worker.times import iso

if TYPE_CHECKING:
    from refund_worker.engine.payouts.bank_files import ExportResult
    from refund_worker.store.payouts.bank_files import StoredFile

ANSWER_BYTES_MAX = 64 << 20
ENDINGS = {"pain.001": "xml", "csv": "csv"}

AccountOption = Annotated[str, typer.Option("--processor-account", help="the account that is paid by files")]
FolderOption = Annotated[Path, typer.Option("--folder", help="where the file is written")]


def add_to(payouts: typer.Typer) -> None:
    """Register the commands in the group `payouts`."""
    _add_export(payouts)
    _add_file(payouts)
    _add_files(payouts)
    _add_import(payouts)


def _add_export(app: typer.Typer) -> None:
    @command(app, "export", "payouts export --form pain.001 --folder outbox")
    def export(
        form: Annotated[str, typer.Option("--form", help="pain.001 (SEPA) or csv")] = "pain.001",
        processor_account: AccountOption = "bank_file",
        folder: FolderOption = Path(),
        execution_date: Annotated[
            str | None, typer.Option("--execution-date", metavar="DAY", help="when the bank pays; today if missing")
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Put all payouts that wait for a file into one, for the bank's portal.

        They are pending from now on. The same file can be fetched again: `payouts file ID`.

        A payout that only a file of the other form can carry waits for that one, and is named.
        """
        from refund_worker.engine.payouts.bank_files import content_of, export_file

        day = _read_day(execution_date)
        with runtime.context() as context:
            made = export_file(context, processor_account, form=form, actor=acting_user(), execution_date=day)
            path = None
            if made.file is not None:
                path = _write(folder, made.file, content_of(context, made.file.file_id)[1])
        _show_export(made, path, output)


def _add_file(app: typer.Typer) -> None:
    @command(app, "file", "payouts file bf_0199… --folder outbox")
    def file(
        file_id: Annotated[str, typer.Argument(metavar="ID", help="the file's id, bf_…")],
        folder: FolderOption = Path(),
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Write a file again that was made before: always the same bytes.

        It names the payouts in it whose payee has another destination by now.
        """
        from refund_worker.engine.payouts.bank_files import changed_since, content_of

        with runtime.context() as context:
            stored, content = content_of(context, file_id)
            changed = changed_since(context, file_id)
        _show(stored, _write(folder, stored, content), output, changed=changed)


def _add_files(app: typer.Typer) -> None:
    @command(app, "files", "payouts files --limit 20")
    def files(
        limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 20, output: OutputOption = Output.TABLE
    ) -> None:
        """List the newest files."""
        from refund_worker.store.payouts.bank_files import newest

        with runtime.context() as context, context.database.read() as connection:
            found = newest(connection, limit)
        if output is Output.JSON:
            print_json({"data": [_as_json(each) for each in found]})
            return
        columns = [Column(name) for name in ("file", "account", "form", "payments", "amount", "made by", "made at")]
        print_table(
            columns,
            [(f.file_id, f.processor, f.format, f.payments, _amount(f), f.actor, iso(f.created_at)) for f in found],
        )


def _add_import(app: typer.Typer) -> None:
    @command(app, "import-answer", "payouts import-answer camt054.xml")
    def import_answer_(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="pain.002, camt.053, camt.054, or CSV")],
        processor_account: AccountOption = "bank_file",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Apply the bank's answer: payouts become paid, rejected or returned. The same file again changes nothing."""
        from refund_worker.engine.payouts.bank_files import import_answer

        content = _read(file)
        with runtime.context() as context:
            result = import_answer(context, processor_account, content)
        if output is Output.JSON:
            print_json(asdict(result))
            return
        print_line(f"{result.form}: {result.applied} payments of ours")
        for each in result.unknown:
            print_line(f"not in our files: {each}")


def _read_day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest("must be a day such as 2026-12-01", field="execution_date") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            content = opened.read(ANSWER_BYTES_MAX + 1)
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > ANSWER_BYTES_MAX:
        raise UnreadableFile(f"{path} is larger than {ANSWER_BYTES_MAX >> 20} MiB")
    return content


def _write(folder: Path, file: StoredFile, content: bytes) -> Path:
    """Write the file for its owner alone, and return its path. Raises `Conflict` for another file of that name."""
    path = folder / f"{file.file_id}.{ENDINGS[file.format]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(content)
    except FileExistsError:
        if path.read_bytes() != content:
            raise Conflict(f"{path} exists with another content: choose another --folder") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}", field="folder") from None
    return path


def _amount(file: StoredFile) -> str:
    return as_text(file.amount_minor, file.currency) if file.currency else "several currencies"


def _as_json(file: StoredFile) -> dict[str, object]:
    return {**asdict(file), "created_at": iso(file.created_at)}


def _show_export(made: ExportResult, path: Path | None, output: Output) -> None:
    if output is Output.JSON:
        shown = None if made.file is None else {**_as_json(made.file), "path": str(path)}
        others = [asdict(each) for each in made.left_for_other_form]
        # `destination_changed` is here as in the output of `payouts file`.
        left = {"left_out": list(made.left_out), "left_for_other_form": others}
        print_json({"file": shown, **left, "destination_changed": []})
        return
    if made.file is not None:
        print_line(_summary(made.file, path))
    elif made.left_for_other_form:
        print_line("no payout is in a file")
    else:
        print_line("no payout waits for a file")
    for payout_id in made.left_out:
        print_line(f"a person must see {payout_id}: no file can carry it")
    for each in made.left_for_other_form:
        print_line(f"{each.payout_id} waits for a file of the form {each.form}: {each.reason}")


def _summary(file: StoredFile, path: Path | None) -> str:
    return f"{path}: {file.payments} payments, {_amount(file)}"


def _show(file: StoredFile, path: Path, output: Output, *, changed: tuple[str, ...]) -> None:
    if output is Output.JSON:
        shown = {**_as_json(file), "path": str(path)}
        print_json({"file": shown, "left_out": [], "destination_changed": list(changed)})
        return
    print_line(_summary(file, path))
    for each in changed:
        print_line(f"{each}: the payee has another destination since the file was made; ask before the bank gets it")
