"""Writes special.json: log-gamma and Fisher's noncentral hypergeometric, from scipy, and from mpmath where scipy loses digits.
  python special.py        (numpy 2.4, scipy 1.17, mpmath 1.3)"""
import json, math, os
import mpmath
from scipy.special import gammaln
from scipy.stats import nchypergeom_fisher

mpmath.mp.dps = 50


def exact(canary, stable, bad, x, psi):
    """50 digits, from the mode outward until nothing is added"""
    lo, hi = max(0, bad - stable), min(canary, bad)
    r = lambda k: mpmath.mpf((canary - k) * (bad - k)) * psi / ((k + 1) * (stable - bad + k + 1))
    a, b = lo, hi
    while a < b:
        m = (a + b) // 2
        a, b = (a, m) if r(m) < 1 else (m + 1, b)
    mode, total = a, mpmath.mpf(1)
    t = mpmath.mpf(1)
    for k in range(mode, hi):
        t *= r(k); total += t
        if t < 1e-30: break
    t = mpmath.mpf(1)
    for k in range(mode - 1, lo - 1, -1):
        t /= r(k); total += t
        if t < 1e-30: break
    lc = lambda n, k: mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1) - mpmath.loggamma(n - k + 1)
    lw = lambda k: lc(canary, k) + lc(stable, bad - k)
    return float(lw(x) - lw(mode) + (x - mode) * mpmath.log(psi) - mpmath.log(total))


gamma = [[x, float(gammaln(x))] for x in
         [1e-3, 0.05, 0.2, 0.5, 0.95, 1.05, 1.5, 1.95, 2.05, 2.5, 3, 4.2, 7.7, 11, 15.9, 16, 16.1, 20.05, 57.5, 101, 999.3, 1e4, 123456.78, 1e6, 1e7 + 0.5]]
scipy_rows, exact_rows = [], []
for canary, stable in [(1, 11), (3, 40), (6, 6), (17, 320), (60, 240), (250, 4750), (1250, 3750), (2500, 2500)]:
    n = canary + stable
    for share in (0.002, 0.015, 0.06, 0.22, 0.7, 0.99):
        bad = max(1, min(n - 1, round(share * n)))
        for psi in (0.3, 1.0, 1.4, 4.0, 30.0):
            lo, hi = max(0, bad - stable), min(canary, bad)
            if lo == hi: continue
            mean = canary * bad / n
            for x in sorted({lo, hi, min(max(round(mean), lo), hi), min(max(round(mean + 3 * math.sqrt(mean)), lo), hi)}):
                want = exact(canary, stable, bad, x, psi)
                got = float(nchypergeom_fisher.logpmf(x, n, bad, canary, psi))
                if math.isfinite(got) and abs(got - want) <= 1e-10 * abs(want): scipy_rows.append([canary, stable, bad, x, psi, got])
                elif want < -1e-6: exact_rows.append([canary, stable, bad, x, psi, want])
for canary, stable, bad in [(10**5, 9 * 10**5, 15000), (10**6, 10**7, 240000), (10**7, 10**7, 4 * 10**6), (10**7, 5 * 10**6, 14 * 10**6)]:
    mean = canary * bad / (canary + stable)
    for psi in (1.0, 1.05, 2.0):
        for z in (-6, 0, 0.7, 5, 60): exact_rows.append([canary, stable, bad, round(mean + z * math.sqrt(mean)), psi, exact(canary, stable, bad, round(mean + z * math.sqrt(mean)), psi)])
out = {"ln_gamma": gamma, "allotment_scipy": scipy_rows[::3], "allotment_exact": exact_rows[::2]}
print({k: len(v) for k, v in out.items()}, len(scipy_rows), len(exact_rows))
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "special.json"), "w") as f:
    f.write("{\n" + ",\n".join(f'"{k}": [\n' + ",\n".join(json.dumps(r) for r in v) + "\n]" for k, v in out.items()) + "\n}\n")
