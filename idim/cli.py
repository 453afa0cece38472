"""The command line: thin. Parses with tyro, prints one line for what cannot be served, exits.

Status: 0 done; 2 the request cannot be served; 130 interrupted, what is finished kept. torch is
imported only when there is work, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from idim.comparison.request import CompareRequest, SubspaceRequest
from idim.delta_tuning.request import MethodsRequest
from idim.dimension.request import MeasureRequest
from idim.errors import RequestError
from idim.figures import FiguresRequest
from idim.learned.ipt_request import IPTRequest
from idim.learned.request import CurvatureRequest, DeltasRequest, EvaluateRequest
from idim.runs.sweeps.request import ExportRequest, StatusRequest, SweepRequest
from idim.spectral.request import SpectrumRequest
from idim.theory.request import BoundRequest

BAD_REQUEST, INTERRUPTED = 2, 130

NOISE = {  # what tyro says around the constraint and the value
    r"(Argument helptext|For full helptext).*": "",
    r"^Value error: (Error parsing [\w.]+: )?": "",
    r"^(Unrecognized options: )\1": r"\1",
    r"(Perhaps you meant: \S+).*": r"\1",
}


Request = (
    MeasureRequest
    | SpectrumRequest
    | MethodsRequest
    | SubspaceRequest
    | BoundRequest
    | SweepRequest
    | StatusRequest
    | ExportRequest
    | FiguresRequest
)
COMMANDS: dict[str, Callable[..., Any]] = {
    "measure": MeasureRequest,
    "spectrum": SpectrumRequest,
    "methods": MethodsRequest,
    "subspace": SubspaceRequest,
    "bound": BoundRequest,
    "sweep": SweepRequest,
    "status": StatusRequest,
    "export": ExportRequest,
    "figures": FiguresRequest,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit status."""
    try:
        status = _serve(_parse(sys.argv[1:] if arguments is None else list(arguments)))
        sys.stdout.flush()
        sys.exit(status)
    except RequestError as error:
        print(f"idim: {error}", file=sys.stderr)
        sys.exit(BAD_REQUEST)
    except BrokenPipeError:  # whoever read the table has seen enough of it, as in `idim status STORE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"idim: the disk must stay readable and writable; received: {error}", file=sys.stderr)
        sys.exit(BAD_REQUEST)
    except KeyboardInterrupt:
        print("idim: interrupted; what is finished is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _parse(arguments: list[str]) -> Request:
    """Parse with tyro, folding its framed complaint into one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.extras.subcommand_cli_from_dict(  # type: ignore[no-any-return]
                COMMANDS,
                prog="idim",
                description="Measures how many numbers learning really takes.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as leaving:
        if leaving.code == 0:
            raise
        raise RequestError(_one_line(complaint.getvalue())) from None


def _one_line(framed: str) -> str:
    """Return the text of a framed message on one line.

    >>> _one_line("╭─ Missing ─╮\\n│ Expected x. │\\n│ ─── │\\n╰───╯")
    'Missing: Expected x.'
    """
    lines = [re.sub(r"[╭╮╰╯│─┌┐└┘|]+", " ", line).strip() for line in framed.splitlines()]
    lines = [line for line in lines if line.strip("-")]  # rules are dashes where the terminal is not Unicode
    text = " ".join([f"{lines[0]}:", *lines[1:]]) if lines else "the command line could not be read; see idim --help"
    for noise, instead in NOISE.items():
        text = re.sub(noise, instead, text)
    return text.strip()


def _serve(request: Request) -> int:
    if isinstance(request, StatusRequest):
        return _status(request)
    if isinstance(request, SpectrumRequest):
        return _spectrum(request)
    if isinstance(request, MethodsRequest):
        return _methods(request)
    if isinstance(request, SubspaceRequest):
        return _subspace(request)
    if isinstance(request, BoundRequest):
        return _bound(request)
    if isinstance(request, SweepRequest):
        return _sweep(request)
    if isinstance(request, ExportRequest):
        return _export(request)
    if isinstance(request, FiguresRequest):
        return _figures(request)
    return _measure(request)


def _say(quiet: bool, report: object, wrote: str) -> int:
    """Print a report and what was written, unless that is not wanted, and return the status of success."""
    if not quiet:
        print(report, wrote, sep="\n\n")
    return 0


def _measure(request: MeasureRequest) -> int:
    from idim.dimension.measure import output_folder, run_measure

    folder = output_folder(request)
    result = run_measure(request)
    result.save(folder)
    return _say(request.quiet, result, f"wrote {folder / 'report.json'} and {folder / 'curve.png'}")


def _spectrum(request: SpectrumRequest) -> int:
    from idim.spectral.spectrum import run_spectrum

    report = run_spectrum(request)
    folder = report.save(request.folder)
    return _say(request.quiet, report, f"wrote report.json, matrices.parquet and the pictures in {folder}")


def _methods(request: MethodsRequest) -> int:
    from idim.delta_tuning.survey import output_folder, run_survey

    folder = output_folder(request)
    report = run_survey(request)
    report.save(folder)
    return _say(request.quiet, report, f"wrote report.json, table.md and methods.png in {folder}")


def _subspace(request: SubspaceRequest) -> int:
    from idim.learned import learning

    if isinstance(request.action, CompareRequest):
        return _compare(request.action)
    asked = request.action if isinstance(request.action, EvaluateRequest) else request.action.kind
    if isinstance(asked, EvaluateRequest):
        said = str(learning.evaluate(asked))
    elif isinstance(asked, CurvatureRequest):
        from idim.learned.looking import learn_curvature

        said = str(learn_curvature(asked))
    elif isinstance(asked, IPTRequest):
        from idim.learned.ipt import learn_ipt

        said = str(learn_ipt(asked))
    elif isinstance(asked, DeltasRequest):
        said = "\n\n".join(map(str, learning.learn_deltas(asked)))
    else:
        said = str(learning.learn_trajectory(asked))
    if not asked.quiet:
        print(said)
    return 0


def _bound(request: BoundRequest) -> int:
    from idim.theory.bounding import run_bound

    report = run_bound(request)
    folder = report.save(request.out)
    return _say(request.quiet, report, f"wrote {folder / 'report.json'}")


def _compare(request: CompareRequest) -> int:
    from idim.comparison.compare import output_folder, run_compare

    folder = output_folder(request)
    report = run_compare(request)
    report.save(folder)
    return _say(request.quiet, report, f"wrote report.json, compare.png and the bases in {folder}")


def _sweep(request: SweepRequest) -> int:
    from idim.runs.sweeps.sweep import dry_run, run_sweep

    report = dry_run(request) if request.dry_run else run_sweep(request)
    if request.dry_run or not request.quiet:
        print(report)
    return 0


def _status(request: StatusRequest) -> int:
    from idim.runs.overview import Overview

    print(Overview.read(request.store))
    return 0


def _export(request: ExportRequest) -> int:
    from idim.runs import table

    runs = table.read(request.stores)
    for path in request.files:
        table.write(runs, path)
        print(f"wrote {runs.num_rows} runs to {path}")
    return 0


def _figures(request: FiguresRequest) -> int:
    from idim.figures import run_figures

    for line in run_figures(request):
        if not request.quiet:
            print(line, file=sys.stderr if line.startswith("left out") else sys.stdout)
    if not request.quiet:
        print(f"wrote pdf, png and the numbers as json in {request.out}")
    return 0


if __name__ == "__main__":
    main()
