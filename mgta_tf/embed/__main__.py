"""Encodes all images of a folder to a table of names and vectors, in the order of the data.

  python -m mgta_tf.embed --saved_model=DIR --data_dir=PHOTOS --output=photos.npz
  python -m mgta_tf.embed --saved_model=DIR --data_dir=PHOTOS --output=photos.parquet

An interrupted command resumes: rerun the same command. Partial results are kept in a folder next to
the output. Images that cannot be read are skipped, counted, and listed in a .skipped.txt next to
it.
"""

from __future__ import annotations

import dataclasses

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.embed import stream, table
from mgta_tf.embed.config import EncodeConfig
from mgta_tf.embed.embedder import open_embedder
from mgta_tf.errors import UserError, quantity


@dataclasses.dataclass(frozen=True)
class EmbedConfig:
    """The table."""

    output: str = flag(
        "",
        "Table to write: .npz (arrays name and embedding), .csv, or .parquet (needs pyarrow).",
    )
    encode: EncodeConfig = group(EncodeConfig)
    data: DataConfig = group(DataConfig)


def main(config: EmbedConfig) -> None:
    if not config.output:
        raise UserError("--output is required: the table to write, .npz, .csv or .parquet")
    table.check_path(config.output)
    config.encode.require()
    source = open_source(config.data)
    print(f"{source.format}: {quantity(len(source.names), 'image')}", flush=True)
    embedder = open_embedder(config.encode.saved_model, config.encode.endpoint)
    batch_size = config.encode.batch_size
    rows = stream.write_table(source, embedder, config.data, batch_size, config.output)
    print(f"{config.output}: {rows:,} vectors of {embedder.dimensions} numbers")


if __name__ == "__main__":
    cli.run(main, EmbedConfig)
