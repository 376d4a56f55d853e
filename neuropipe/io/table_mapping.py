"""What a scientist declares about plain tables and arrays: which array is which variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from neuropipe.errors import ConfigError, SchemaError
from neuropipe.registry import hint
from neuropipe.schema import NODES, Var, declared

# What a value in the first unit is multiplied by to be in the second, the catalogue's.
CONVERSIONS = {
    ("ms", "s"): 1e-3,
    ("us", "s"): 1e-6,
    ("min", "s"): 60.0,
    ("mV", "V"): 1e-3,
    ("uV", "V"): 1e-6,
    ("%", "1"): 1e-2,
    ("cm", "mm"): 10.0,
    ("m", "mm"): 1e3,
    ("mm", "um"): 1e3,
}
TIME_UNITS = ("s", *(given for given, wanted in CONVERSIONS if wanted == "s"))


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Declared):
    """One array of a file, and what it is.

    `array` is a name in the file: a variable of a MATLAB file (``data.trials.start`` inside of a
    structure), a path in an HDF5 file, a column of a table, or a list of columns (``cell_*``
    takes all that match). `units` are those of the values after ``value * factor + offset``; text
    has none. `dims` are in the order of the file, needed where there is more than one.
    """

    array: str | tuple[str, ...]
    units: str | None = None
    dims: tuple[str, ...] = ()
    factor: float = Field(default=1.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)


class Node(_Declared):
    """How one node is made of a file's arrays.

    One of `rate_hz` (a number), `rate` (an array that holds it) and `time` (an array of times)
    says the clock of a node of signals. Node `spikes` takes `unit` and `time`, or `trains`, a
    MATLAB cell with one vector of times a unit. Names along the dims of `numbered` are 1, 2, ...
    where the file has none.
    """

    file: str = ""
    columns: tuple[str, ...] = ()
    delimiter: str = ""
    variable: str = ""
    array: str | tuple[str, ...] = ()
    units: str | None = None
    dims: tuple[str, ...] = ()
    factor: float = Field(default=1.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    variables: dict[str, Column] = Field(default_factory=dict)
    coords: dict[str, Column] = Field(default_factory=dict)
    numbered: tuple[str, ...] = ()
    rate_hz: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    rate: str = ""
    time: Column | None = None
    start_s: float = Field(default=0.0, allow_inf_nan=False)
    unit: str = ""
    trains: Column | None = None
    attrs: dict[str, str | float | int | bool | list[float]] = Field(default_factory=dict)

    @field_validator("variables", "coords", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Read ``condition: choice`` as ``condition: {array: choice}``."""
        if not isinstance(value, Mapping):
            return value
        return {k: {"array": v} if isinstance(v, str) else v for k, v in value.items()}

    @field_validator("time", "trains", mode="before")
    @classmethod
    def _short_time(cls, value: Any) -> Any:
        return {"array": value} if isinstance(value, str) else value


def read_mapping(nodes: Mapping[str, Any]) -> dict[str, Node]:
    """Check the declared nodes, before a file is opened.

    Parameters
    ----------
    nodes : mapping of node name to its keys; see `Node` and `Column`

    Raises
    ------
    ConfigError
        All faults at once, each with its place and the nearest known key.
    """
    faults: list[str] = []
    found: dict[str, Node] = {}
    for name, content in nodes.items():
        where = f"options: nodes: {name}"
        try:
            variables_of(str(name))
        except ConfigError as error:
            faults.append(f"{where}: {error}")
            continue
        if not isinstance(content, Mapping):
            faults.append(f"{where}: found {content!r}, expected keys and values")
            continue
        try:
            node = Node(**{str(key): value for key, value in content.items()})
        except ValidationError as error:
            faults += [f"{where}: {text}" for text in _faults(error)]
            continue
        faults += [f"{where}: {text}" for text in _inconsistent(str(name), node)]
        found[str(name)] = node
    if not nodes:
        faults.append("options: nodes: found none, expected at least one node with its arrays")
    if faults:
        raise ConfigError("reader table: " + "; ".join(faults))
    return found


def variables_of(name: str) -> Mapping[str, Var]:
    """Return what the catalogue says of a node; an unknown one names the nearest.

    Raises
    ------
    ConfigError
        No such node, or a family without the name of its child.
    """
    try:
        return declared(name)
    except SchemaError as error:
        family = f"{name}/*"
        more = (
            f"; a name of its own is missing, such as {name}/left"
            if family in NODES
            else hint(name, NODES)
        )
        raise ConfigError(f"unknown node {name!r}{more}") from error


def columns_of(name: str, node: Node) -> dict[str, Column]:
    """Return the variables of a node, whichever way they were written."""
    if not node.array:
        return dict(node.variables)
    named = node.variable or (name.partition("/")[2] if name.startswith("behavior/") else "")
    return {
        named: Column(
            array=node.array, units=node.units, dims=node.dims,
            factor=node.factor, offset=node.offset,
        ),
        **node.variables,
    }  # fmt: skip


def _inconsistent(name: str, node: Node) -> list[str]:
    catalogue = variables_of(name)
    if name == "spikes":
        return _faults_of_spikes(node)
    faults = [f"{key} is for node spikes only" for key in ("unit", "trains") if getattr(node, key)]
    columns = columns_of(name, node)
    if not columns:
        faults.append(
            "no array; write `variable:` and `array:`, or `variables: {<name>: {array: ...}}`"
        )
    if "" in columns:
        own = [key for key in catalogue if key != "time"]
        faults.append(f"variable is missing: which one is array {node.array!r}? The catalogue has "
                      f"{', '.join(own) or 'none of its own'}")  # fmt: skip
    given = [key for key in ("rate_hz", "rate", "time") if getattr(node, key) not in (None, "")]
    if "time" in catalogue:
        if len(given) != 1:
            faults.append(
                f"found {' and '.join(given) or 'no clock'}, expected one of rate_hz (a number), "
                "rate (an array that holds it) and time (an array of times)"
            )
    else:
        faults += [f"{key}: this node has no clock of its own; remove it" for key in given]
    if node.time is not None:
        faults += _faults_of_time("time", node.time)
        if node.start_s:
            faults.append("start_s goes with a rate; use time: {offset: ...}")
    missing = [
        key
        for key, var in catalogue.items()
        if not var.optional and key not in ("time", *columns, *node.coords, *node.numbered)
    ]
    if missing:
        faults.append(f"the catalogue wants {', '.join(missing)} as well; declare its array, "
                      "or name it under numbered")  # fmt: skip
    return faults


def _faults_of_spikes(node: Node) -> list[str]:
    foreign = [
        key
        for key in ("variable", "array", "variables", "coords", "rate_hz", "rate", "dims", "units")
        if getattr(node, key)
    ]
    faults = [
        f"{key}: node spikes takes unit and time, or trains; remove it or write it under node units"
        for key in foreign
    ]
    if node.trains is not None and (node.unit or node.time):
        faults.append("found trains beside unit or time, expected either")
    if node.trains is None and not (node.unit and node.time):
        faults.append("expected unit: <array> and time: {array: ..., units: s}, or trains: {...}")
    for key in ("time", "trains"):
        column = getattr(node, key)
        if column is not None:
            faults += _faults_of_time(key, column)
    return faults


def _faults_of_time(key: str, column: Column) -> list[str]:
    if column.units not in TIME_UNITS:
        return [
            f"{key}: units {column.units!r}, expected one of {', '.join(TIME_UNITS)}: write "
            f"{key}: {{array: {column.array}, units: s}}"
        ]
    return []


def _faults(error: ValidationError) -> list[str]:
    faults = []
    for fault in error.errors():
        place = [str(part) for part in fault["loc"]]
        key = ".".join(place)
        inside = len(place) > 1
        if fault["type"] == "extra_forbidden":
            known = (Column if inside else Node).model_fields
            faults.append(f"{key}: unknown key {place[-1]!r}{hint(place[-1], known)}")
        elif fault["type"] == "missing":
            faults.append(f"missing key {key!r}")
        else:
            faults.append(f"{key}: found {fault['input']!r}, {fault['msg']}")
    return faults
