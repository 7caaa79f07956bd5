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
    """A figure out of a sample. `cpu`: seconds of the relay per operation; `path`: operations per CPU second of relay and
    ends together, which is the rate of a core that has nothing else to do; `core`: per CPU second of the relay alone, which
    is the rate of a core that does nothing but relay."""
    if figure not in ("cpu", "path", "core"):
        return sample.get(figure)
    count = sample.get(CASES[case]["per"], 0)
    if figure == "cpu":
        return sample["cpu_seconds"] / count if count else None
    if figure == "core":
        return count / sample["cpu_seconds"] if sample["cpu_seconds"] else None
    whole = sample["cpu_seconds"] + sample.get("ends_seconds", 0)
    return count / whole if whole else None


def foreign(samples, cores):
    """The median share of the machine's CPU that other processes used during samples."""
    shares = [(s["machine_seconds"] - s["cpu_seconds"] - s["ends_seconds"]) / (s["seconds"] * cores)
              for s in samples if "ends_seconds" in s]
    return max(0.0, median(shares)) if shares else None


def spread(values):
    """Median, least and most."""
    values = list(values)
    return {"median": median(values), "min": min(values), "max": max(values), "n": len(values)} if values else None


def ratio(samples, mode, case, figure, variant, base):
    """Median of the per-round ratios; None where a round lacks one of both."""
    ours, theirs = (per_round(samples, mode, case, name, figure) for name in (variant, base))
    ratios = [ours[nth] / theirs[nth] for nth in ours if theirs.get(nth)]
    return spread(ratios)


def best_peer(samples, mode, case, figure, peers, lower=False):
    """The peer with the best median over all rounds. The best peer of each round, or the one with the worst ratio,
    would be the luckiest of several noisy figures: the more peers and noise, the less any single peer reaches it."""
    of = {}
    for peer in peers:
        found = per_round(samples, mode, case, peer, figure)
        if found:
            of[peer] = median(found.values())
    return (min if lower else max)(of, key=of.get) if of else None
