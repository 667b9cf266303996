"""Commands beside the day and the night: settings, benchmarks, the demonstration."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
def config_show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Every setting as it counts now: etc/ada.toml < environment < --set.

    \b
    Examples:
      ada config show
      ada config show --origin
      ada config show --json | jq .sunset
    """
    chosen = options(ctx)
    values = chosen.load()[0].model_dump(mode="json")
    if not origin:
        typer.echo(json.dumps(values) if as_json else toml(values))
        return
    from ada_memory.settings import home_root, origins

    env = chosen.environment()
    found = origins(env=env, flags=chosen.flags)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    section: {
                        key: {"value": value, "origin": at.kind, "name": at.name, "line": at.line}
                        for key, value in table.items()
                        for at in (found[f"{section}.{key}"],)
                    }
                    for section, table in values.items()
                }
            )
        )
        return
    file = home_root(env) / "etc" / "ada.toml"
    says = {key: str(at).replace(str(file), "etc/ada.toml") for key, at in found.items()}
    typer.echo(f"# etc/ada.toml is {file}{'' if file.is_file() else ', which is not there'}\n")
    typer.echo(toml(values, says))


def toml(values: dict[str, dict[str, Any]], says: Mapping[str, str] | None = None) -> str:
    """Settings as the TOML that would set them; with `says`, by `section.key`, as a comment beside each."""
    rows = {
        section: {key: f"{key} = {json.dumps(value)}" for key, value in table.items()}
        for section, table in values.items()
    }
    width = max((len(line) for table in rows.values() for line in table.values()), default=0)
    blocks = []
    for section, table in rows.items():
        comments = {key: f"  # {says[f'{section}.{key}']}" if says else "" for key in table}
        lines = [f"{line:<{width if says else 0}}{comments[key]}" for key, line in table.items()]
        blocks.append("\n".join([f"[{section}]", *lines]))
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


@bench.command("kills")
def bench_kills(
    ctx: typer.Context,
    kills: Annotated[int, typer.Option(min=1, help="How many processes are killed.")] = 200,
    seed: Annotated[int, typer.Option(help="Decides whom and when, as far as a machine repeats itself.")] = 7,
    rate: Annotated[float, typer.Option(min=0.1, help="Posts a second that go on all the while.")] = 4.0,
    as_json: JsonFlag = False,
) -> None:
    """Kill the daemon and its children, in every stage of the night and at any moment; count what is lost.

    Nights run on a tiny random model, so 200 kills take about a quarter of an hour. Exit 1 if anything was
    lost, kept twice, served half or left unfinished.

    \b
    Examples:
      ada bench kills --kills 40
      ada bench kills --kills 200 --json | tail -1 | jq '{lost, duplicated, served_bad, nights_unfinished}'
    """
    from ada_memory.bench import kills as bench_of_kills

    chosen = options(ctx)
    result = bench_of_kills.run(kills=kills, seed=seed, rate=rate, home=chosen.home, settings=chosen.flags)

    def render() -> Any:
        from ada_memory.cli.show import facts as two_columns

        return two_columns((name.replace("_", " "), value) for name, value in result.items())

    answer(result, as_json, render)
    raise typer.Exit(1 if any(result[name] for name in bench_of_kills.MUST_BE_ZERO) else 0)


@bench.command("flood")
def bench_flood(
    ctx: typer.Context,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Post at a steady rate and look meanwhile: what is lost, what is slow.

    Runs on a home of its own that is thrown away, unless --home names one to keep. Exits
    with 1 if a request failed or anything acknowledged is lost or there twice.

    \b
    Examples:
      ada bench flood --rate 50 --seconds 60
      ada bench flood --rate 50 --seconds 60 --json | jq '.lost, .p99_ms'
    """
    from ada_memory.bench import flood

    chosen = options(ctx)
    result = flood.run(rate=rate, seconds=seconds, home=chosen.home, settings=chosen.flags)

    def render() -> Any:
        from ada_memory.cli.show import facts as two_columns

        return two_columns((name.replace("_", " "), value) for name, value in result.items())

    answer(result, as_json, render)
    if any(result[name] for name in ("failed", "looks_failed", "lost", "duplicated", "unencoded")):
        raise typer.Exit(1)


def demo(ctx: typer.Context) -> None:
    """A whole day and night, live, on a throw-away home.

    It is what `make night` runs.

    \b
    Example:
      ada demo
    """
    from ada_memory.bench import demo as first_night

    raise typer.Exit(first_night.run(home=options(ctx).home))
