"""Flags as frozen dataclasses, declared in the modules that use them.

A module with settings declares them as a frozen dataclass whose fields are made by `flag`:

    @dataclasses.dataclass(frozen=True)
    class LossConfig:
        \"\"\"Losses (§3.3).\"\"\"

        margin: float = flag(0.3, "α of eq. 6, in units of embedding distance", minimum=0)

The config of a command is a frozen dataclass whose fields are such dataclasses (`group`). `define`
defines an absl flag for every leaf, `from_flags` builds the config from the parsed flags, and
`to_flagfile` writes it as a flagfile. Nothing is defined at import, so commands can share modules
without sharing flags.
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
    auto: str = "",
    advanced: bool = False,
) -> Any:
    """A dataclass field that `define` turns into an absl flag of the default's type.

    Args:
      default: bool, int, float, str, or a tuple of ints (written as a comma-separated list).
      help_text: Description with the unit, and the equation, section or protocol it comes from.
      choices: Allowed values of a str.
      minimum: Smallest allowed value of an int or a float.
      maximum: Largest allowed value of an int or a float.
      words: Words that are allowed in place of an int.
      auto: The word for a value that the command chooses for the images and the devices. On the
        command line it is the default; a config never holds it (`given`). Not for a bool.
      advanced: Whether only --help=all shows the flag.
    """
    metadata = dict(
        help=help_text,
        choices=choices,
        minimum=minimum,
        maximum=maximum,
        words=words,
        auto=auto,
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
    if isinstance(default, int):
        parser = absl_flags.IntegerParser(meta["minimum"], meta["maximum"])
    elif isinstance(default, float):
        parser = absl_flags.FloatParser(meta["minimum"], meta["maximum"])
    elif isinstance(default, tuple):
        parser, serializer = _IntTupleParser(), _IntTupleSerializer()
    elif meta["choices"]:
        parser = absl_flags.EnumParser(meta["choices"])
    else:
        parser = absl_flags.ArgumentParser()
    if words_for(field):
        parser = _OrWordParser(parser, words_for(field))
        serializer = _OrWordSerializer(serializer)
    absl_flags.DEFINE(
        parser,
        field.name,
        meta["auto"] or default,
        meta["help"],
        values,
        serializer,
        module_name=module,
    )


def words_for(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The words that may stand in place of a flag's value."""
    auto = field.metadata["auto"]
    return (*field.metadata["words"], *([auto] if auto else []))


class _OrWordParser(absl_flags.ArgumentParser):
    """Parses '100' by another parser, and 'auto' as 'auto'."""

    def __init__(self, other: absl_flags.ArgumentParser[Any], words: tuple[str, ...]):
        super().__init__()
        self._other, self._words = other, words
        self.syntactic_help = f"{other.syntactic_help} or {', '.join(words)}"

    def parse(self, argument: Any) -> Any:
        if isinstance(argument, str) and argument in self._words:
            return argument
        try:
            return self._other.parse(argument)
        except (TypeError, ValueError):
            raise ValueError(f"must be {self.syntactic_help}") from None

    def flag_type(self) -> str:
        return f"{self._other.flag_type()} or word"


class _OrWordSerializer(absl_flags.ArgumentSerializer):
    def __init__(self, other: absl_flags.ArgumentSerializer[Any]):
        self._other = other

    def serialize(self, value: Any) -> str:
        return value if isinstance(value, str) else self._other.serialize(value)


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
    """Builds a config from the parsed flags; a value that is to be chosen gets its default."""
    return from_dict(config_class, given(config_class, leaves(config_class, values)))


def leaves(config_class: type, values: absl_flags.FlagValues = absl_flags.FLAGS) -> dict[str, Any]:
    """The parsed flags by name, some of which may be the word for a value to be chosen."""
    names = [field.name for _, fields in groups(config_class) for field in fields]
    found = {name: values[name].value for name in names}
    return {name: expand_home(v) if isinstance(v, str) else v for name, v in found.items()}


def given(config_class: type, leaves: dict[str, Any]) -> dict[str, Any]:
    """The leaves without those that are to be chosen."""
    words = {f.name: f.metadata["auto"] for _, fields in groups(config_class) for f in fields}
    return {n: v for n, v in leaves.items() if not words.get(n) or v != words[n]}


def from_dict(config_class: type[Config], leaves: dict[str, Any]) -> Config:
    """Builds a config from leaf values by name; other leaves keep their defaults."""
    built = {}
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if "group" in field.metadata:
            built[field.name] = from_dict(field.metadata["group"], leaves)
        elif field.name in leaves:
            value = leaves[field.name]
            built[field.name] = expand_home(value) if isinstance(value, str) else value
    return config_class(**built)


def expand_home(value: str) -> str:
    """Expands ~ and ~user where a path begins: at the start, and after a comma, = or @.

    Shells do not expand it in `--data_dir=~/photos`.
    """
    return re.sub(r"(^|[,=@])(~[^/,]*)", lambda m: m[1] + os.path.expanduser(m[2]), value)


def to_dict(config: Any) -> dict[str, Any]:
    """All leaf values by flag name, in order of declaration."""
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        leaves.update(to_dict(value) if "group" in field.metadata else {field.name: value})
    return leaves


def to_flagfile(config: Any) -> str:
    """The text of a flagfile that gives this config."""
    return "".join(f"--{name}={format_value(v)}\n" for name, v in to_dict(config).items())


def to_arguments(flags: dict[str, Any]) -> list[str]:
    """Flag values by name as command-line arguments."""
    return [f"--{name}={format_value(value)}" for name, value in flags.items()]


def format_value(value: Any) -> str:
    """The value of a flag as typed on the command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
