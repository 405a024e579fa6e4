"""Commands that show runs: in the browser, and in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Folders of runs, or that hold runs; runs by default.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Beyond loopback a key is demanded, and made where none is given.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 is a free one.")] = 8400,
    api_key: Annotated[str | None, typer.Option(envvar="LLMRL_VIEW_API_KEY", help="What a browser must show.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file that holds it.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A folder with tokenizer.json, for runs that have none.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in this machine's browser.")] = False,
    export: Annotated[Path | None, typer.Option(help="Write one .html file to send, and serve nothing.")] = None,
    step: Annotated[
        list[int] | None, typer.Option(help="Of --export: steps whose episodes go with it; the last by default.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=0, help="Of --export: how many, at most, of each run.")] = 100,
) -> None:
    """Show runs in the browser, live while they train, until ctrl-C."""
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
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    step: Annotated[int | None, typer.Option(min=0, help="The last by default; counted from 0.")] = None,
    worst: Annotated[int | None, typer.Option(min=1, help="Those with the least reward, so many.")] = None,
    best: Annotated[int | None, typer.Option(min=1, help="Those with the most.")] = None,
    verdict: Annotated[str, typer.Option(help="correct, wrong, unparsable, truncated, timeout, error or none.")] = "",
    text: Annotated[str, typer.Option(help="Words in prompt, answer or reason.")] = "",
    all_steps: Annotated[bool, typer.Option("--all", help="Of all steps.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Texts from end to end.")] = False,
) -> None:
    """Print episodes of a run: of a step the worst five, unless told otherwise."""
    from llmrl.view.terminal import ShowOptions, lines

    wanted = ShowOptions(
        step=step, worst=worst, best=best, verdict=verdict, text=text, all_steps=all_steps, whole=whole
    )
    for line in lines(run, wanted):
        typer.echo(line)
