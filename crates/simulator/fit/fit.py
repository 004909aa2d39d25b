#!/usr/bin/env python3
"""Fits the figures in src/callers.rs from a call log: python3 fit.py <calls.csv>

Columns: date,entry_s,ivr_s,queue_s,service_s,outcome,type. Times are seconds; entry_s counts from midnight. The log used:
Guedj and Mandelbaum, Technion: anonymous bank call centre, February 1999. Rows with a negative or zero time are left out of
the fit of that time (the log's own clock faults), rows marked PHANTOM out of everything.
"""
import csv
import math
import sys


def log_normal(seconds):
    logs = [math.log(s) for s in seconds]
    mean = sum(logs) / len(logs)
    return mean, math.sqrt(sum((x - mean) ** 2 for x in logs) / len(logs)), len(logs)


def show(name, seconds):
    mu, sigma, n = log_normal(seconds)
    print(f"{name:<14} mu {mu:.3f}  sigma {sigma:.3f}  median {math.exp(mu):.1f} s  mean {math.exp(mu + sigma**2 / 2):.1f} s  n {n}")


def main(path):
    rows = [r for r in csv.DictReader(open(path)) if r["outcome"] != "PHANTOM"]
    calls = len(rows)
    days = len({r["date"] for r in rows})
    print(f"{calls} calls on {days} days")

    hours = [0] * 24
    for r in rows:
        hours[int(r["entry_s"]) // 3600 % 24] += 1
    print("share of the day's calls per hour:", ", ".join(f"{h / calls:.4f}" for h in hours))

    show("ivr_s", [int(r["ivr_s"]) for r in rows if int(r["ivr_s"]) > 0])
    show("queue_s", [int(r["queue_s"]) for r in rows if int(r["queue_s"]) > 0])
    show("service_s", [int(r["service_s"]) for r in rows if r["outcome"] == "AGENT" and int(r["service_s"]) > 0])

    queued = [r for r in rows if int(r["queue_s"]) > 0]
    hung = [r for r in queued if r["outcome"] == "HANG"]
    early = [r for r in rows if r["outcome"] == "HANG" and int(r["queue_s"]) == 0]
    waited = sum(int(r["queue_s"]) for r in queued)
    print(f"waits at all   {len(queued) / calls:.4f}")
    print(f"abandons queue {len(hung) / len(queued):.4f} of those who wait")
    print(f"hangs up before the queue {len(early) / calls:.4f} of all")
    # Patience is censored by the answer: the exponential fit is all waiting divided by the abandonments seen.
    print(f"patience mean  {waited / len(hung):.0f} s")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
