/* Distances, each beside its sampling floor, what as many exact points would score on average: sdelib/metrics.py. */
(() => {
  /** 1-Wasserstein distance of points on the line to the law with the given quantile function. */
  function wasserstein(x, quantile, n_levels = 2000) {
    const points = Float64Array.from(x).sort();
    const n = points.length;
    const law = quantile(Array.from({ length: n_levels }, (_, i) => (i + 0.5) / n_levels));
    let [value, floor, i, j, last] = [0, 0, 0, 0, Math.min(points[0], law[0])];
    while (i < n || j < n_levels) {
      // both distribution functions are flat between one value and the next
      const next = j === n_levels || (i < n && points[i] < law[j]) ? points[i] : law[j];
      value += Math.abs(i / n - j / n_levels) * (next - last);
      last = next;
      while (i < n && points[i] === next) i++;
      while (j < n_levels && law[j] === next) j++;
    }
    for (let l = 1; l < n_levels; l++) floor += binomial_deviation(n, l / n_levels) * (law[l] - law[l - 1]);
    return { value, floor };
  }

  const log_factorials = [0];
  function log_factorial(n) {
    while (log_factorials.length <= n) log_factorials.push(log_factorials.at(-1) + Math.log(log_factorials.length));
    return log_factorials[n];
  }

  /** E|Bin(n, p) / n - p| (de Moivre). */
  function binomial_deviation(n, p) {
    const m = Math.floor(n * p) + 1;
    const log_choose = log_factorial(n) - log_factorial(m) - log_factorial(n - m);
    return (2 * m * (1 - p) * Math.exp(log_choose + m * Math.log(p) + (n - m) * Math.log1p(-p))) / n;
  }

  /** The sum of the distances of all points of x from all of y, in the plane; of x from itself each pair counts twice. */
  function distances(x, y) {
    const own = x === y;
    let sum = 0;
    for (let i = 0; i < x.length; i += 2) {
      const [a, b, end] = [x[i], x[i + 1], own ? i : y.length];
      for (let j = 0; j < end; j += 2) sum += Math.sqrt((a - y[j]) ** 2 + (b - y[j + 1]) ** 2);
    }
    return own ? 2 * sum : sum;
  }

  function energy_distance(x, y) {
    const [n, m] = [x.length / 2, y.length / 2];
    const [xy, xx, yy] = [distances(x, y), distances(x, x), distances(y, y)];
    return { value: (2 * xy) / (n * m) - xx / n ** 2 - yy / m ** 2, floor: ((1 / n + 1 / m) * yy) / (m * (m - 1)) };
  }

  sdelib.metrics = { wasserstein, energy_distance };
})();
