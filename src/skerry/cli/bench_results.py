"""`skerry bench compare`, `import` and `schema`: results that lie there already."""

from __future__ import annotations

import json
from pathlib import Path

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command
from skerry.errors import Invalid

WORSE = 1


@command("compare", short_help="Set results beside each other, and say what really differs.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True), metavar="RESULT…")
@click.option("--fail-if-worse", is_flag=True, help="Exit with 1 where the second is really slower than the first.")
@click.option("--out", "-o", metavar="FILE", type=click.Path(), help="A page with tables and plots: report.html.")
def compare(invocation: Invocation, paths: tuple[str, ...], fail_if_worse: bool, out: str | None) -> None:
    """Set results beside each other: folders that --out left, and results of guidellm, AIPerf, genai-bench and vllm.

    \b
      skerry bench compare before after guidellm.json -o report.html
    Of two, differences are told with the interval that holds them with 95 % confidence.
    """
    from skerry.bench import results as reading
    from skerry.bench.report import compare as comparing
    from skerry.bench.report import table

    results = [result for path in paths for result in reading.load(Path(path))]
    output = invocation.output
    pair = len(results) == 2
    worse = comparing.worse(results[0], results[1]) if pair else []
    if output.json:
        told = [{"name": each.name, "tool": each.tool, "figures": dict(each.figures)} for each in results]
        output.emit({"results": told, "worse": worse})
    elif not output.quiet:
        for line in table.aligned(*comparing.side_by_side(results)):
            output.line(line)
        if pair:
            output.line()
            for line in table.aligned(*comparing.changes(results[0], results[1])):
                output.line(line)
    if out is not None:
        from skerry.bench.report.html import comparison

        Path(out).write_text(comparison("Benchmarks compared", results))
        output.note(f"written into {out}")
    if fail_if_worse:
        if not pair:
            raise Invalid("fail-if-worse: give two results", field="fail-if-worse")
        if worse:
            output.note(f"worse: {', '.join(worse)}")
            raise click.exceptions.Exit(WORSE)


@command("import", short_help="Read results of guidellm, AIPerf, genai-bench or vllm.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True), metavar="RESULT…")
@click.option("--out", "-o", metavar="FILE", type=click.Path(), required=True, help="Where they go, in our names.")
def import_results(invocation: Invocation, paths: tuple[str, ...], out: str) -> None:
    """Read results of guidellm, AIPerf, genai-bench or vllm, and keep them as one file for `compare`."""
    from skerry.bench import results as reading

    results = [result for path in paths for result in reading.load(Path(path))]
    Path(out).write_text(json.dumps(reading.document(results)) + "\n")
    for each in results:
        invocation.output.line(f"{each.name} ({each.tool})")


@command("schema", short_help="Print the JSON schema of files for --plan.")
def schema(invocation: Invocation) -> None:
    """Print the JSON schema of files for `skerry bench run --plan`, for editors."""
    from skerry.bench.campaign import schema as made

    invocation.output.line(json.dumps(made(), indent=2))
