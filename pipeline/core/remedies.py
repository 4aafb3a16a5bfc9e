"""The ways out of a store that is of no use as it is: other ones for stages and for the library."""

from dataclasses import dataclass

from pipeline.core.errors import repaired


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """The advice for a store that is not there, is damaged or unfinished, is of other data, or of
    views that are made in another way now.
    """

    lost: str
    damaged: str
    unfinished: str
    other_data: str
    other_views: str

    @classmethod
    def of_stage(cls, stage: str) -> "Remedies":
        """Returns those of a store that a stage makes."""
        again = f"run `dvc repro {stage}`"
        return cls(
            lost=again,
            damaged=repaired(stage),
            unfinished=f"{again} to finish it",
            other_data=f"{again} for this data",
            other_views=f"the code that renders views has changed: {again}",
        )
