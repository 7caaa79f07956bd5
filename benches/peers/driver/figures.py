"""From samples to medians, spreads and ratios. A ratio is taken within a round, and then the median of the rounds."""

from statistics import median

from .measure import CASES


def per_round(samples, mode, case, variant, figure):
    """The figure in every round that has it."""
    rounds = {}
    for sample in samples:
        if (sample["mode"], sample["case"], sample["variant"]) == (mode, case, variant):
            value = value_of(sample, case, figure)
            if value is not None:
                rounds[sample["round"]] = value
    return rounds


def value_of(sample, case, figure):
    """A figure out of a sample; `cpu` is seconds of the relay per operation."""
    if figure != "cpu":
        return sample.get(figure)
    count = sample.get(CASES[case]["per"], 0)
    return sample["cpu_seconds"] / count if count else None


def spread(values):
    """Median, least and most."""
    values = list(values)
    return {"median": median(values), "min": min(values), "max": max(values), "n": len(values)} if values else None


def ratio(samples, mode, case, figure, variant, base):
    """Median of the per-round ratios; None where a round has not got both."""
    ours, theirs = (per_round(samples, mode, case, name, figure) for name in (variant, base))
    ratios = [ours[nth] / theirs[nth] for nth in ours if theirs.get(nth)]
    return spread(ratios)
