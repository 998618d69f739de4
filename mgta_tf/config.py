"""Flags as frozen dataclasses: declared where they are used, resolved once, passed down.

A module that has settings declares them as a frozen dataclass whose fields are made by `flag`:

    @dataclasses.dataclass(frozen=True)
    class LossConfig:
        \"\"\"Losses (§3.3).\"\"\"

        margin: float = flag(0.3, "α of eq. 6, in units of embedding distance", minimum=0)

A command's config is a frozen dataclass whose fields are such dataclasses (`group`). `define` makes
an absl flag of every leaf, `from_flags` builds the config from the parsed flags, and
`to_flagfile` writes it back as a flagfile that can be run.
Nothing is defined at import, so commands may share modules without sharing flags.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from absl import flags as absl_flags

Config = TypeVar("Config")


def flag(
    default: Any,
    help_text: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    words: tuple[str, ...] = (),
    advanced: bool = False,
) -> Any:
    """A dataclass field that `define` turns into an absl flag of the default's type.

    Args:
      default: bool, int, float, str, or a tuple of ints (written as a comma-separated list).
      help_text: What it is, its unit, and the equation, section or protocol it comes from.
      choices: The values allowed, for a str.
      minimum: Smallest value allowed, for an int or a float.
      maximum: Largest value allowed, for an int or a float.
      words: What may stand in place of an int.
      advanced: Whether --help leaves it to --help=all.
    """
    metadata = dict(
        help=help_text,
        choices=choices,
        minimum=minimum,
        maximum=maximum,
        words=words,
        advanced=advanced,
    )
    return dataclasses.field(default=default, metadata=metadata)


def group(config_class: type) -> Any:
    """A dataclass field that holds the config `config_class`, by default with its defaults."""
    return dataclasses.field(default_factory=config_class, metadata=dict(group=config_class))


def groups(config_class: type) -> Iterator[tuple[type, list[dataclasses.Field[Any]]]]:
    """Yields each dataclass that declares flags, with these fields, in order of declaration."""
    own = [f for f in dataclasses.fields(config_class) if "group" not in f.metadata]
    if own:
        yield config_class, own
    for field in dataclasses.fields(config_class):
        if "group" in field.metadata:
            yield from groups(field.metadata["group"])


def define(config_class: type, values: absl_flags.FlagValues = absl_flags.FLAGS) -> None:
    """Defines an absl flag for every leaf of `config_class`."""
    for owner, fields in groups(config_class):
        for field in fields:
            _define_one(field, owner.__module__, values)


def _define_one(field: dataclasses.Field[Any], module: str, values: absl_flags.FlagValues) -> None:
    default, meta = field.default, field.metadata
    parser: absl_flags.ArgumentParser[Any]
    serializer: absl_flags.ArgumentSerializer[Any] = absl_flags.ArgumentSerializer()
    if isinstance(default, bool):
        absl_flags.DEFINE_boolean(
            field.name, default, meta["help"], flag_values=values, module_name=module
        )
        return
    if meta["words"]:
        parser = _IntOrWordParser(meta["minimum"], meta["words"])
    elif isinstance(default, int):
        parser = absl_flags.IntegerParser(meta["minimum"], meta["maximum"])
    elif isinstance(default, float):
        parser = absl_flags.FloatParser(meta["minimum"], meta["maximum"])
    elif isinstance(default, tuple):
        parser, serializer = _IntTupleParser(), _IntTupleSerializer()
    elif meta["choices"]:
        parser = absl_flags.EnumParser(meta["choices"])
    else:
        parser = absl_flags.ArgumentParser()
    absl_flags.DEFINE(
        parser, field.name, default, meta["help"], values, serializer, module_name=module
    )


class _IntOrWordParser(absl_flags.ArgumentParser):
    """'100' → 100, 'auto' → 'auto'."""

    def __init__(self, minimum: int | None, words: tuple[str, ...]):
        super().__init__()
        self._number, self._words = absl_flags.IntegerParser(minimum), words
        self.syntactic_help = f"{self._number.syntactic_help} or {', '.join(words)}"

    def parse(self, argument: Any) -> int | str:
        if argument in self._words:
            return argument
        try:
            return self._number.parse(argument)
        except (TypeError, ValueError):
            raise ValueError(f"must be {self.syntactic_help}") from None

    def flag_type(self) -> str:
        return "int or word"


class _IntTupleParser(absl_flags.ArgumentParser):
    """'3,4,6,3' → (3, 4, 6, 3)."""

    syntactic_help = "comma-separated integers"

    def parse(self, argument: Any) -> tuple[int, ...]:
        if isinstance(argument, tuple):
            return argument
        try:
            return tuple(int(part) for part in argument.split(",") if part.strip())
        except ValueError:
            raise ValueError("must be integers separated by commas") from None

    def flag_type(self) -> str:
        return "comma-separated integers"


class _IntTupleSerializer(absl_flags.ArgumentSerializer):
    def serialize(self, value: tuple[int, ...]) -> str:
        return ",".join(str(part) for part in value)


def from_flags(
    config_class: type[Config], values: absl_flags.FlagValues = absl_flags.FLAGS
) -> Config:
    """The config that the parsed flags say."""
    return from_dict(config_class, {name: values[name].value for name in values})


def from_dict(config_class: type[Config], leaves: dict[str, Any]) -> Config:
    """The config with these leaf values; a leaf that is not named keeps its default."""
    built = {}
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if "group" in field.metadata:
            built[field.name] = from_dict(field.metadata["group"], leaves)
        elif field.name in leaves:
            value = leaves[field.name]
            built[field.name] = expand_home(value) if isinstance(value, str) else value
    return config_class(**built)


def expand_home(value: str) -> str:
    """A value with ~ and ~user as the home folder, where a path begins: after , = @ or at once.

    Shells leave `--data_dir=~/photos` as it is.
    """
    return re.sub(r"(^|[,=@])(~[^/,]*)", lambda m: m[1] + os.path.expanduser(m[2]), value)


def to_dict(config: Any) -> dict[str, Any]:
    """Every leaf by its flag name, in order of declaration."""
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        leaves.update(to_dict(value) if "group" in field.metadata else {field.name: value})
    return leaves


def to_flagfile(config: Any) -> str:
    """The text of a flagfile that, run again, resolves to this config."""
    return "".join(f"--{name}={format_value(v)}\n" for name, v in to_dict(config).items())


def to_arguments(flags: dict[str, Any]) -> list[str]:
    """Flags by name as the words of a command line."""
    return [f"--{name}={format_value(value)}" for name, value in flags.items()]


def format_value(value: Any) -> str:
    """A flag's value as it is typed on the command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
