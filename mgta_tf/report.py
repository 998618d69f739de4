"""Writes the results of a run as one HTML page, W/report.html.

  python -m mgta_tf.report --workdir=runs/mine
  python -m mgta_tf.report --workdir=runs/mine --compare=runs/other,runs/third

The page is self-contained: pictures, figures and scripts are inside, and it makes no network
requests. A run that is not finished, or was interrupted, is reported as far as it has come.
"""

from __future__ import annotations

import dataclasses
import os

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.reporting import page, record
from mgta_tf.runtime.files import write_text


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """The report."""

    workdir: str = flag("", "Folder of the run; the page is written to its report.html.")
    compare: str = flag("", "Folders of other runs to show on the same page, separated by commas.")


def main(config: ReportConfig) -> None:
    if not config.workdir:
        raise UserError("--workdir is required: the folder of a run")
    paths = [config.workdir, *(path for path in config.compare.split(",") if path)]
    records = [record.read(path) for path in paths]
    target = records[0].workdir.report
    write_text(target, page.render(records))
    print(f"{target}: {page.status(records[0])}, {os.path.getsize(target) / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main, ReportConfig)
