"""What the fairness benchmark counts."""

from collections.abc import Mapping, Sequence


def jain_index(shares: Sequence[float]) -> float:
    """Return Jain's index of what owners got: 1 if all got the same, 1 / n if one of n got everything.

    Jain, Chiu, Hawe: A Quantitative Measure of Fairness and Discrimination, DEC-TR-301 (1984), section 3.
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def unequal_loads(owners: int, smallest: int, largest: int) -> dict[str, int]:
    """Return how many jobs each owner queues, from the largest to the smallest, each the same factor below the last."""
    factor = (smallest / largest) ** (1 / (owners - 1))
    return {f"owner{number:02}": round(largest * factor**number) for number in range(owners)}


def per_weight(served: Mapping[str, int], weights: Mapping[str, float]) -> list[float]:
    """Return what each owner got, divided by its weight."""
    return [served[owner] / weights.get(owner, 1) for owner in served]
