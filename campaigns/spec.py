"""What a campaign is, read from one YAML and checked before anything expensive runs.

::

    space: paper-he
    constraints:
      - {quantity: capacity, at_least: 220}

Everything else has a default; see the shipped campaigns under ``configs/campaigns``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from campaigns.ledger.records import fingerprint
from drxnet.composition import METALS_BY_NUMBER, Composition
from drxnet.errors import CompositionError, ConfigurationError
from drxnet.names import found, hint
from drxnet.process import Process
from drxnet.yaml_files import read_yaml, shipped
from screening.goals import RATE_RETENTION, ConstraintSpec, Goals, ObjectiveSpec, Rates
from screening.space import CandidateSpace, load_space, parse_space, validated
from screening.strategies import StrategyName

if TYPE_CHECKING:
    from screening.candidates import Candidates

Method = Literal["walk", "best-first", "evolution", "auto"]
FILE_NAME = "campaign.yaml"
LEDGER_NAME = "ledger.sqlite"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _canonical(formula: str) -> str:
    try:
        return Composition.parse(formula).formula
    except CompositionError as error:
        raise ValueError(str(error)) from None


def _unknown(symbols: Iterable[str]) -> list[str]:
    """Those that are no metal and not F."""
    return [symbol for symbol in symbols if symbol not in METALS_BY_NUMBER and symbol != "F"]


class Lab(_Frozen):
    """What the laboratory can do."""

    banned: tuple[str, ...] = ()
    """Elements that are out of stock or not wanted."""

    max_precursors: Annotated[int, Field(ge=3)] | None = None
    """Distinct precursors that one batch may need together."""

    per_batch: Mapping[str, int] = Field(default_factory=dict)
    """Most distinct ones in one batch: ``fluorine`` and ``lithium`` (amounts), ``redox_metal``, ``metal``."""

    budget_usd_per_round: Annotated[float, Field(gt=0)] | None = None
    """Most that the elements of one batch may cost, of the mass that is made of each composition."""

    cells: Literal["auto"] | None = None
    """``auto``: one cell at each rate, and a second one where it is worth more than another composition."""

    control: str | None = None
    """Composition to make again in every round; what it gives from round to round is the laboratory's own offset."""

    min_distance: Annotated[float, Field(ge=0)] = 0.05
    """Two compositions of a batch differ by at least this much in one element (per formula unit)."""

    references: tuple[str, ...] = ()
    """Compositions to make again in every round, so that rounds can be compared; they take places of the batch."""

    replicates: Annotated[int, Field(ge=0)] = 0
    """Places of the batch for making the best measured compositions again."""

    budget_usd_kg: Annotated[float, Field(gt=0)] | None = None
    """Highest price of the elements in a kilogram of product."""

    @field_validator("per_batch")
    @classmethod
    def _shared(cls, per_batch: Mapping[str, int]) -> Mapping[str, int]:
        known = ("fluorine", "lithium", "redox_metal", "metal")
        for name, most in per_batch.items():
            if name not in known:
                raise ValueError(f"per_batch knows {', '.join(known)}, got {name}")
            if most < 1:
                raise ValueError(f"per_batch allows at least 1 of each, got {name}: {most}")
        return per_batch

    @field_validator("control")
    @classmethod
    def _formula(cls, control: str | None) -> str | None:
        return None if control is None else _canonical(control)

    @field_validator("references")
    @classmethod
    def _formulas(cls, references: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_canonical, references))

    @field_validator("banned")
    @classmethod
    def _metals(cls, banned: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := _unknown(banned):
            raise ValueError(f"only metals and F can be banned, got {', '.join(unknown)}")
        return banned


class Synthesis(_Frozen):
    """How recipe sheets are worked out."""

    batch_mass_g: Annotated[float, Field(gt=0)] = 5.0
    """Product of one synthesis (g)."""

    route: Literal["solid-state", "mechanochemical"] | None = None
    """By default what keeps the fluorine."""

    li_excess: Annotated[float, Field(ge=0, le=1)] | None = None
    """Fraction of lithium weighed on top; by default what the route usually has."""

    f_excess: Annotated[float, Field(ge=0, le=1)] | None = None
    """Fraction of fluorine weighed on top; by default what the route usually has."""

    prefer: tuple[str, ...] = ()
    """Precursors to use as much as possible of, e.g. Li2O."""

    avoid: tuple[str, ...] = ()
    """Precursors not to use."""

    atmosphere: Literal["closed", "open"] = "closed"
    """``closed``: argon, every metal arrives in its final oxidation state; ``open``: oxygen may come and go."""


class FineTuning(_Frozen):
    """How the model learns from what comes back."""

    first_cycle_only: bool = True
    """Leave later cycles out; the campaign screens on first cycles."""

    options: Mapping[str, Any] = Field(default_factory=dict)
    """Keys of :class:`drxnet.finetuning.FineTuningOptions` that differ from its defaults."""


LITERATURE = "literature"
"""Name under which a campaign learns from published cells."""


class CampaignSpec(_Frozen):
    """One campaign: where it looks, what it wants, how it chooses."""

    name: str = "campaign"
    """Name of the campaign; by default that of its folder."""

    description: str = ""
    """What it is for, in your words."""

    space: str | Mapping[str, Any]
    """Name of a shipped space, a YAML or CSV file (relative to the campaign's YAML), or the keys of a space."""

    model: str = "default"
    """Ensemble that the campaign starts with: a name or a folder."""

    conditions: Rates = Rates()
    """The two rates, the window and the process that everything is compared under."""

    objectives: tuple[ObjectiveSpec, ...] = (RATE_RETENTION,)
    """What to make large or small, the first one leading."""

    constraints: tuple[ConstraintSpec, ...] = ()
    """What must hold beside; proposals show the probability that it does."""

    strategy: StrategyName = "logei"
    """How a batch is chosen."""

    first_strategy: StrategyName | None = None
    """Strategy while nothing is measured or pending, so that nothing tells yet whether the model is right in this
    space; by default `strategy`."""

    batch_size: Annotated[int, Field(ge=1, le=500)] = 8
    """Compositions of a round."""

    shortlist: Annotated[int, Field(ge=1)] = 2000
    """Candidates that the batch is chosen from jointly, drawn to be diverse from the best of the stream."""

    cells_per_rate: Annotated[int, Field(ge=1)] = 2
    """Cells that the lab makes of a composition at each of the two rates; stands in the recipe sheets."""

    prices: Mapping[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """What a kilogram of a contained element costs (USD), where the shipped price is another or none."""

    lab: Lab = Lab()
    """What the laboratory has, and how it wants its batches."""

    synthesis: Synthesis = Synthesis()
    """How recipe sheets are worked out."""

    fine_tuning: FineTuning = FineTuning()
    """How the model learns from what comes back."""

    first_cycle: Literal["cell", "staircase"] = "cell"
    """What counts as a first cycle at a rate: the first cycle of a cell, or in a rate staircase also the first cycle
    at that rate, flagged; only for ranking and choosing, never for learning."""

    learn_from: tuple[str, ...] = ()
    """Other laboratories: folders of campaigns, relative to this one's, or ``literature``. Each has an offset of its
    own and is used only where that makes this campaign's own cells, left out in turn, more probable."""

    composition: Literal["target", "measured"] = "target"
    """What models are told was made: what was aimed at, or the composition as measured (ICP) where there is one."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The same ledger and seed give the same batch."""

    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that score the space; by default as many as there are cores, 0 for none beside this one."""

    method: Method = "walk"
    """How the space is looked through: all of it, or by a search where it is too large; ``auto`` decides by the time
    limit and the measured speed, so that the same state may give another batch on another machine."""

    evaluations: Annotated[int, Field(ge=1)] = 200_000
    """Candidates that a search scores."""

    time_limit_s: Annotated[float, Field(gt=0)] | None = None
    """How long looking through the space may take (s)."""

    ledger: str | None = None
    """SQLAlchemy URL; $NAMES of the environment are filled in. By default a SQLite file in the campaign's folder."""

    folder: Annotated[Path | None, Field(exclude=True)] = None
    """Where relative paths start; set when the YAML is read."""

    @field_validator("prices")
    @classmethod
    def _priced(cls, prices: Mapping[str, float]) -> Mapping[str, float]:
        if unknown := _unknown(prices):
            raise ValueError(f"prices are those of metals and F, by symbols such as Nb. Got {', '.join(unknown)}")
        return prices

    @cached_property
    def goals(self) -> Goals:
        """Conditions, objectives and constraints."""
        return Goals(self.conditions, self.objectives, self.constraints, self.prices)

    def as_recorded(self, recorded: Mapping[str, Any]) -> CampaignSpec:
        """This specification with the conditions, objectives and constraints that a round recorded."""
        past = {k: recorded[k] for k in ("conditions", "objectives", "constraints", "prices") if k in recorded}
        return type(self).model_validate({**self.model_dump(mode="json"), **past})

    @cached_property
    def space_name(self) -> str:
        """Name of the space, for tables."""
        return self.space if isinstance(self.space, str) else str(self.space.get("name", "space"))

    @cached_property
    def candidate_space(self) -> CandidateSpace | None:
        """The space, filtered at the campaign's own prices; None when the candidates are a list in a CSV file.

        Raises:
            ConfigurationError: there is no such space or it is wrong.
        """
        if self._is_list:
            return None
        if isinstance(self.space, str):
            space = load_space(self._space_path)
        else:
            space = parse_space(self.space, f"{self.name}: space")
        return space.model_copy(update={"filters": space.filters.at_prices(self.prices)})

    @cached_property
    def ways(self) -> tuple[Process, ...]:
        """Processes that a proposal may choose from; empty where there is nothing to choose."""
        space = self.candidate_space
        return () if space is None else space.ways

    @property
    def model_source(self) -> str | Path:
        """Folder of the model, where it lies beside the YAML, else its name."""
        beside = (self.folder or Path()) / self.model
        return beside if beside.is_dir() else self.model

    def candidates(self) -> Candidates:
        """Open the space, or the list of candidates.

        Raises:
            ConfigurationError: it holds no composition.
        """
        from screening.candidates import CandidateList
        from screening.lattice import Lattice

        if self.candidate_space is None:
            return CandidateList.read(self._space_path)
        return Lattice(self.candidate_space)

    def ledger_url(self, folder: Path) -> str:
        """URL of the ledger of a campaign that lives in a folder."""
        from campaigns.ledger.database import sqlite_url

        if self.ledger is None:
            return sqlite_url(folder / LEDGER_NAME)
        url = os.path.expandvars(self.ledger)
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            return sqlite_url(folder / url.removeprefix("sqlite:///"))
        return url

    def resolved(self) -> dict[str, Any]:
        """Everything that decides what is proposed, as plain values; the ledger's URL is left out."""
        values = self.model_dump(mode="json", exclude={"ledger", "workers", "folder"})
        if self.candidate_space is not None:
            values["space"] = self.candidate_space.model_dump(mode="json")
        return values

    @property
    def hash(self) -> str:
        """Stands for :meth:`resolved`."""
        return fingerprint(self.resolved())

    @property
    def _is_list(self) -> bool:
        return isinstance(self.space, str) and self.space.lower().endswith(".csv")

    @property
    def _space_path(self) -> str | Path:
        assert isinstance(self.space, str)
        if self.space in shipped("spaces"):
            return self.space
        return (self.folder or Path()) / self.space if Path(self.space).suffix else self.space


def parse_spec(values: Mapping[str, Any], where: str = "campaign", folder: Path | None = None) -> CampaignSpec:
    """Build a specification from the keys of a YAML.

    Raises:
        ConfigurationError: an unknown key, a value out of range, a space that does not exist, ...
    """
    if isinstance(values, Mapping) and "folder" in values:
        raise ConfigurationError(f"{where}: unknown key 'folder'; a campaign lies where its YAML lies.")
    spec = validated(CampaignSpec, values, where)
    spec = spec.model_copy(update={"folder": folder})
    try:
        _ = spec.goals
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    if spec._is_list:
        if not found(Path(spec._space_path).is_file):
            raise ConfigurationError(f"{where}: no list of candidates {str(spec._space_path)!r}.")
    else:
        _ = spec.candidate_space
    return spec


def read_spec(source: str | Path) -> CampaignSpec:
    """Read a specification: a campaign's folder, a YAML file, or the name of a shipped campaign.

    Raises:
        ConfigurationError: there is none, or it is wrong; the message names the key.
    """
    path = find_spec(source)
    values = read_yaml(path)
    if isinstance(values, Mapping):
        name = path.parent.name if path.name == FILE_NAME else path.stem
        values = {"name": name, **values}
    return parse_spec(values, str(path), path.resolve().parent)


def find_spec(source: str | Path) -> Path:
    """Path of the YAML that a campaign's folder, a file or the name of a shipped campaign stands for.

    Raises:
        ConfigurationError: none of them.
    """
    path = Path(source)
    if found((path / FILE_NAME).is_file):
        return path / FILE_NAME
    if found(path.is_file):
        return path
    named = shipped("campaigns")
    if str(source) in named:
        return named[str(source)]
    if found(path.is_dir):
        raise ConfigurationError(f"{path}: a campaign's folder holds a {FILE_NAME}; this one does not.")
    raise ConfigurationError(
        f"No campaign {str(source)!r}. {hint(source, named)}Give a campaign's folder, a YAML file, or one of the "
        f"shipped campaigns: {', '.join(named)}."
    )
