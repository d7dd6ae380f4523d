/* The Gaussian mixture on the line and in the plane: sdelib/mixtures.py, with its names. A law on the line is kept as one in
   the plane with nothing across: mean 0, covariance 0, variance 1, which adds nothing to any density. */
(() => {
  const NEGLIGIBLE = 40; // exp(-40) is below the rounding of 1

  /** The mixture of `weights`, `means` (K rows of dim) and `covs` (K rows: xx for dim 1; xx, xy, yy for dim 2). */
  function GaussianMixture({ dim, weights, means, covs }) {
    const K = weights.length;
    const [mx, my] = [new Float64Array(K), new Float64Array(K)];
    const [xx, xy, yy] = [new Float64Array(K), new Float64Array(K), new Float64Array(K).fill(1)];
    for (let k = 0; k < K; k++) {
      mx[k] = means[k * dim];
      xx[k] = covs[dim === 1 ? k : 3 * k];
      if (dim === 2) [my[k], xy[k], yy[k]] = [means[2 * k + 1], covs[3 * k + 1], covs[3 * k + 2]];
    }
    return law(dim, Float64Array.from(weights), mx, my, xx, xy, yy);
  }

  function law(dim, weights, mx, my, xx, xy, yy) {
    const K = weights.length;
    const [pxx, pxy, pyy, c] = [0, 0, 0, 0].map(() => new Float64Array(K)); // inverse covariance, logarithm at the mean
    for (let k = 0; k < K; k++) {
      const det = xx[k] * yy[k] - xy[k] ** 2;
      [pxx[k], pxy[k], pyy[k]] = [yy[k] / det, -xy[k] / det, xx[k] / det];
      c[k] = Math.log(weights[k]) - (dim * Math.log(2 * Math.PI) + Math.log(det)) / 2;
    }
    const std = xx.map(Math.sqrt);
    const [logs, px, py] = [0, 0, 0].map(() => new Float64Array(K));

    /** Fill `logs`, the logarithms of the weighted densities at a point, and the pulls; return the largest logarithm. */
    function visit(x, y) {
      let top = -Infinity;
      for (let k = 0; k < K; k++) {
        const dx = x - mx[k];
        const dy = y - my[k];
        px[k] = pxx[k] * dx + pxy[k] * dy;
        py[k] = pxy[k] * dx + pyy[k] * dy;
        const log = c[k] - (dx * px[k] + dy * py[k]) / 2;
        logs[k] = log;
        if (log > top) top = log;
      }
      return top;
    }

    function log_prob(x) {
      const out = new Float64Array(x.length / dim);
      for (let i = 0; i < out.length; i++) {
        const top = visit(x[i * dim], dim === 2 ? x[2 * i + 1] : 0);
        let sum = 0;
        for (let k = 0; k < K; k++) if (logs[k] > top - NEGLIGIBLE) sum += Math.exp(logs[k] - top);
        out[i] = top + Math.log(sum);
      }
      return out;
    }

    function score(x) {
      const out = new Float64Array(x.length);
      for (let i = 0; i < x.length; i += dim) {
        const top = visit(x[i], dim === 2 ? x[i + 1] : 0);
        let sum = 0;
        let gx = 0;
        let gy = 0;
        for (let k = 0; k < K; k++) {
          if (logs[k] < top - NEGLIGIBLE) continue;
          const w = Math.exp(logs[k] - top);
          sum += w;
          gx -= w * px[k];
          gy -= w * py[k];
        }
        out[i] = gx / sum;
        if (dim === 2) out[i + 1] = gy / sum;
      }
      return out;
    }

    /** The law of alpha X + sigma Z. */
    function perturb(alpha, sigma) {
      const [a2, s2] = [alpha ** 2, sigma ** 2];
      const spread = (v) => a2 * v + s2;
      const across = dim === 2 ? yy.map(spread) : yy;
      return law(
        dim,
        weights,
        mx.map((m) => alpha * m),
        my.map((m) => alpha * m),
        xx.map(spread),
        xy.map((v) => a2 * v),
        across,
      );
    }

    /** n points; `random` has uniform() and normal(). */
    function sample(n, random) {
      const out = new Float64Array(n * dim);
      for (let i = 0; i < n; i++) {
        let [k, u] = [0, random.uniform()];
        while (k < K - 1 && u >= weights[k]) u -= weights[k++];
        const a = random.normal();
        out[i * dim] = mx[k] + Math.sqrt(xx[k]) * a;
        if (dim === 1) continue;
        const along = xy[k] / Math.sqrt(xx[k]);
        out[2 * i + 1] = my[k] + along * a + Math.sqrt(yy[k] - along ** 2) * random.normal();
      }
      return out;
    }

    /** The law of X given that coordinate `i` is y + std N(0, 1) (Bayes' rule), in the plane. */
    function condition(i, y, std) {
      const log_evidence = new Float64Array(K);
      const [means, covs] = [new Float64Array(2 * K), new Float64Array(3 * K)];
      for (let k = 0; k < K; k++) {
        const spread = (i ? yy[k] : xx[k]) + std ** 2;
        const gap = y - (i ? my[k] : mx[k]);
        const [ux, uy] = i ? [xy[k], yy[k]] : [xx[k], xy[k]]; // covariance of X with what is seen
        log_evidence[k] = Math.log(weights[k]) - (gap ** 2 / spread + Math.log(spread)) / 2;
        means.set([mx[k] + (ux * gap) / spread, my[k] + (uy * gap) / spread], 2 * k);
        covs.set([xx[k] - ux ** 2 / spread, xy[k] - (ux * uy) / spread, yy[k] - uy ** 2 / spread], 3 * k);
      }
      const top = Math.max(...log_evidence);
      const raw = log_evidence.map((l) => Math.exp(l - top));
      const total = raw.reduce((a, b) => a + b);
      return GaussianMixture({ dim: 2, weights: raw.map((w) => w / total), means, covs });
    }

    /** The law of one coordinate. */
    const marginal = (i) => GaussianMixture({ dim: 1, weights, means: i ? my : mx, covs: i ? yy : xx });
    const component = (k) => law(dim, new Float64Array([1]), ...[mx, my, xx, xy, yy].map((v) => v.slice(k, k + 1)));

    function cdf_at(x) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += weights[k] * ndtr((x - mx[k]) / std[k]);
      return sum;
    }

    function density_at(x) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += Math.exp(c[k] - ((x - mx[k]) / std[k]) ** 2 / 2);
      return sum;
    }

    const cdf = (x) => x.map(cdf_at);

    /** Points where the distribution function has the increasing `levels`, by Newton's method kept between bounds. */
    function quantile(levels) {
      let low = Math.min(...mx.map((m, k) => m - 40 * std[k]));
      const end = Math.max(...mx.map((m, k) => m + 40 * std[k]));
      let x = mx[0];
      return levels.map((level) => {
        let high = end;
        x = Math.max(x, low);
        for (let i = 0; i < 200; i++) {
          const excess = cdf_at(x) - level;
          if (excess < 0) low = x;
          else high = x;
          const wanted = x - excess / density_at(x);
          const next = wanted > low && wanted < high ? wanted : (low + high) / 2;
          const done = Math.abs(next - x) <= 1e-11 * (1 + Math.abs(next));
          x = next;
          if (done) break;
        }
        return x;
      });
    }

    const mean = [mx, my].slice(0, dim).map((m) => m.reduce((sum, value, k) => sum + weights[k] * value, 0));
    /** The mean variance of a coordinate. */
    function variance() {
      let sum = 0;
      for (let k = 0; k < K; k++) {
        sum += weights[k] * (xx[k] + (mx[k] - mean[0]) ** 2);
        if (dim === 2) sum += weights[k] * (yy[k] + (my[k] - mean[1]) ** 2);
      }
      return sum / dim;
    }
    const parts = { mx, my, xx, xy, yy };
    return {
      dim,
      weights,
      parts,
      mean,
      variance,
      log_prob,
      score,
      perturb,
      sample,
      condition,
      marginal,
      component,
      cdf,
      quantile,
    };
  }

  /** The standard normal distribution function: a series of positive terms near 0, a continued fraction in the tails. */
  function ndtr(x) {
    const a = Math.abs(x);
    if (a > 38) return x > 0 ? 1 : 0;
    const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
    if (a < 4) {
      let [term, sum] = [x, x];
      for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) {
        term *= (x * x) / n;
        sum += term;
      }
      return 0.5 + density * sum;
    }
    let fraction = a;
    for (let n = 60; n > 0; n--) fraction = a + n / fraction;
    return x > 0 ? 1 - density / fraction : density / fraction;
  }

  /** Equal weights on points, each widened to a normal law of standard deviation `std`: the smoothed empirical law. */
  function from_points(points, dim, std) {
    const K = points.length / dim;
    const row = dim === 1 ? [std ** 2] : [std ** 2, 0, std ** 2];
    const covs = Float64Array.from({ length: K * row.length }, (_, i) => row[i % row.length]);
    return GaussianMixture({ dim, weights: new Float64Array(K).fill(1 / K), means: points, covs });
  }

  sdelib.mixtures = { GaussianMixture, from_points, ndtr };
})();
