"""Commands beside the day and the night: settings, benchmarks, the demonstration."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ada_memory.cli.common import JsonFlag, answer, options

config = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What can be set, and how it is set now."
)
bench = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The benchmarks behind every figure in the README."
)


def register(app: typer.Typer) -> None:
    """Add the workshop's commands to the app."""
    app.add_typer(config, name="config")
    app.add_typer(bench, name="bench")
    app.command()(demo)


@config.command("show")
def config_show(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Every setting as it counts now: etc/ada.toml < environment < --set.

    \b
    Examples:
      ada config show
      ada config show --json | jq .sunset
    """
    values = options(ctx).load()[0].model_dump(mode="json")
    typer.echo(json.dumps(values) if as_json else toml(values))


def toml(values: dict[str, dict[str, Any]]) -> str:
    """Settings as the TOML that would set them."""
    blocks = [
        "\n".join([f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())])
        for section, table in values.items()
    ]
    return "\n\n".join(blocks)


@config.command("template")
def config_template() -> None:
    """etc/ada.toml with every key explained and at its default.

    \b
    Example:
      ada config template > etc/ada.toml
    """
    from ada_memory.settings import template

    typer.echo(template(), nl=False)


@config.command("path")
def config_path(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Where the settings file lies, or would lie.

    \b
    Example:
      ${EDITOR:-vi} "$(ada config path)"
    """
    from ada_memory.settings import home_root

    file = home_root(options(ctx).environment()) / "etc" / "ada.toml"
    typer.echo(json.dumps({"path": str(file), "exists": file.is_file()}) if as_json else str(file))


@bench.callback()
def bench_root() -> None:
    """The benchmarks behind every figure in the README."""


@bench.command("night")
def bench_night(
    ctx: typer.Context,
    facts: Annotated[int, typer.Option(min=1, help="How many new facts the day holds.")] = 20,
    seed: Annotated[int, typer.Option(help="Decides the facts and every draw of the night.")] = 7,
    as_json: JsonFlag = False,
) -> None:
    """One day of new facts, one night: what is known before, after, and what it cost.

    Runs on a home of its own that is thrown away, unless --home names one to keep.

    \b
    Examples:
      ada bench night --facts 20 --seed 7
      ada bench night --facts 20 --seed 7 --json | tail -1 | jq .recall_heldout
    """
    from ada_memory.bench import night

    chosen = options(ctx)
    result = night.run(facts=facts, seed=seed, json=as_json, home=chosen.home, settings=chosen.flags)

    def render() -> Any:
        from ada_memory.cli.show import facts as two_columns

        return two_columns((name.replace("_", " "), value) for name, value in result.items())

    answer(result, as_json, render)


def demo(ctx: typer.Context) -> None:
    """A whole day and night, live, on a throw-away home.

    It is what `make night` runs.

    \b
    Example:
      ada demo
    """
    from ada_memory.bench import demo as first_night

    raise typer.Exit(first_night.run(home=options(ctx).home))
