"""Commands that show runs: in the browser, and in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, or folders that contain runs; by default runs.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; other than loopback it needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = 8400,
    api_key: Annotated[str | None, typer.Option(envvar="LLMRL_VIEW_API_KEY", help="API key of the page.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File that holds the API key.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder with tokenizer.json, for runs that have none.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser of this machine.")] = False,
    export: Annotated[Path | None, typer.Option(help="Write one .html file and exit.")] = None,
    step: Annotated[
        list[int] | None, typer.Option(help="Steps whose episodes are exported; by default the last.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=0, help="Largest number of exported episodes per run.")] = 100,
) -> None:
    """Show runs in the browser, live while they train. Runs until Ctrl-C."""
    from llmrl.clients.bearer import read_key
    from llmrl.view.export import write
    from llmrl.view.server import serve

    folders = runs or [Path("runs")]
    if export is not None:
        size = write(folders, export, steps=step or (), episodes=episodes, tokenizer=tokenizer)
        typer.echo(f"page: {export}, {size / 1e6:.1f} MB")
        return
    key = read_key(api_key, api_key_file)
    raise typer.Exit(serve(folders, host=host, port=port, api_key=key, tokenizer=tokenizer, opened=open_))


def show(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    step: Annotated[int | None, typer.Option(min=0, help="Step, counted from 0; by default the last.")] = None,
    worst: Annotated[int | None, typer.Option(min=1, help="Number of episodes with the least reward.")] = None,
    best: Annotated[int | None, typer.Option(min=1, help="Number of episodes with the most reward.")] = None,
    verdict: Annotated[str, typer.Option(help="Only this verdict: correct, wrong, unparsable ... or none.")] = "",
    text: Annotated[str, typer.Option(help="Only episodes with this text.")] = "",
    all_steps: Annotated[bool, typer.Option("--all", help="Search all steps.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Print whole texts.")] = False,
) -> None:
    """Print episodes of a run. By default these are the worst five of the last step."""
    from llmrl.view.terminal import ShowOptions, lines

    wanted = ShowOptions(
        step=step, worst=worst, best=best, verdict=verdict, text=text, all_steps=all_steps, whole=whole
    )
    for line in lines(run, wanted):
        typer.echo(line)
