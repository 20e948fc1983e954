"""How long a job will take, from what the stages of its profile took before."""

from collections.abc import Mapping, Sequence

from diffedit.contract.stages import Stage


def eta_of(
    fields: Mapping[str, str], left: Sequence[Stage], running: Stage | None, done_share: float, wait: float | None
) -> float | None:
    """Return the seconds until a job is done, or None if a stage was never measured.

    Args:
        fields: the record. `expected` holds what stages took when the job was submitted.
        left: the stages that are not done.
        running: the one that runs, if one does, of which `done_share` (0 to 1) is done.
        wait: what the next stage waits for first, as a number of turns of that stage; None if it is not known.
    """
    words = fields.get("expected", "").split()
    seconds = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    if not left or wait is None or any(stage.value not in seconds for stage in left):
        return None
    shares = dict.fromkeys(left, 1.0)
    if running in shares:
        shares[running] = 1 - done_share
    return round(wait * seconds[left[0].value] + sum(share * seconds[each.value] for each, share in shares.items()), 2)
