"""How jobs are timed beside one another, and how their memory is counted."""

import random
import statistics
import time

import torch


def rounds(jobs: dict, repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each job in each round, in which all of them run: a busy moment hits
    them alike.

    Each runs once just before it is timed, and the order changes, so that none pays in every round
    for what another left behind: cold caches, or Python's garbage, whose collection would fall to
    the same job each time.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    order, shuffle = list(jobs.items()), random.Random(0).shuffle
    for _ in range(repeats):
        shuffle(order)
        for name, job in order:
            job()
            start = time.process_time()
            job()
            times[name].append(time.process_time() - start)
    return times


def interleaved(jobs: dict, repeats: int) -> dict[str, float]:
    """Median processor seconds of each job."""
    return {name: statistics.median(values) for name, values in rounds(jobs, repeats).items()}


def peak(job) -> int:
    """Most bytes that tensors held at once while the job ran, as torch's profiler counts them."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        job()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def slope(sizes, values) -> float:
    """The exponent p of values ~ sizes^p, by least squares on logarithms."""
    a, b = torch.tensor(sizes).double().log(), torch.tensor(values).double().log()
    return (((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum()).item()
