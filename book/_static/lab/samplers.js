/* Solvers, generators (score, x, path, noise) of the states after each interval, and grids: sdelib/samplers.py, with its
   names. */
(() => {
  const { ddim, plus, times } = sdelib.steps;

  /** The solver that takes its steps in turn on each interval; the one that ends at 0 is ddim's alone. */
  function walk(...steps) {
    return function* (score, x, path, noise) {
      for (let i = 1; i < path.length; i++) {
        const [t, s] = [path[i - 1], path[i]];
        for (const step of s.time ? steps : [ddim]) x = step(score, x, t, s, noise);
        yield x;
      }
    };
  }

  function* dpm_solver_2m(score, x, path) {
    let [last, h_last] = [null, Infinity];
    for (let i = 1; i < path.length; i++) {
      const [t, s] = [path[i - 1], path[i]];
      const d = times(1 / t.alpha, plus(x, t.sigma ** 2, score(x, t.time)));
      const h = s.sigma ? Math.log(((s.alpha / s.sigma) * t.sigma) / t.alpha) : 0;
      const ahead = last ? plus(times(-h / (2 * h_last), last), 1 + h / (2 * h_last), d) : d;
      const keep = s.sigma / t.sigma;
      x = plus(times(keep, x), s.alpha - keep * t.alpha, ahead);
      [last, h_last] = [d, h];
      yield x;
    }
  }

  /** Adams's method on the flow ODE in the angle of signal to noise. */
  function adams({ order = 4, scale = 1, reach = 1 } = {}) {
    return function* (score, x, path) {
      const c = path.map((t) => Math.hypot(scale * t.alpha, t.sigma));
      const phi = path.map((t) => Math.atan2(scale * t.alpha, t.sigma));
      const gain = path.map((t, i) => c[i] / (scale * t.alpha));
      const rows = adams_weights(phi, gain, order, reach);
      let us = [];
      for (let i = 0; i < rows.length; i++) {
        us = [plus(x, c[i] ** 2, score(x, path[i].time)), ...us.slice(0, order - 1)];
        x = times(c[i + 1] / c[i], x);
        us.forEach((u, j) => {
          const value = (path[i - j].sigma * gain[i - j]) / c[i - j] ** 2; // from u to the velocity V
          x = plus(x, rows[i][j] * c[i + 1] * value, u);
        });
        yield x;
      }
    };
  }

  /** Weights of the last velocities, latest first, in each step: take back the last prediction, correct it, predict. */
  function adams_weights(phi, gain, order, reach) {
    const rows = [];
    let before = null;
    for (let i = 0; i + 1 < phi.length; i++) {
      const back = (n) => Array.from({ length: Math.min(n, i + 1) }, (_, j) => phi[i - j]);
      const padded = (weights) => Array.from({ length: order }, (_, j) => weights[j] ?? 0);
      let [count, prediction] = [1, null];
      for (let n = 1; n < order; n++) {
        const trial = padded(integrals(back(n), phi[i], phi[i + 1]));
        const error = trial.reduce((sum, w, j) => sum + (w ? Math.abs(w) * gain[i - j] : 0), 0);
        if (n === 1 || error <= reach) [count, prediction] = [n, trial];
      }
      const row = [...prediction];
      if (before) {
        const correction = padded(integrals(back(before.count + 1), phi[i - 1], phi[i]));
        for (let j = 0; j < order; j++) row[j] += correction[j] - (j ? before.prediction[j - 1] : 0);
      }
      before = { count, prediction };
      rows.push(row);
    }
    return rows;
  }

  /** Weights with which values at `nodes` enter the integral of the polynomial through them, from its coefficients. */
  function integrals(nodes, start, end) {
    const middle = (start + end) / 2;
    const half = (end - start) / 2;
    return nodes.map((node, j) => {
      let coefficients = [1]; // of the Lagrange polynomial in y = (x - middle) / half
      nodes.forEach((other, l) => {
        if (l === j) return;
        const at = (other - middle) / half;
        const gap = (node - other) / half;
        const next = new Array(coefficients.length + 1).fill(0);
        coefficients.forEach((a, power) => {
          next[power + 1] += a / gap;
          next[power] -= (a * at) / gap;
        });
        coefficients = next;
      });
      return half * coefficients.reduce((sum, a, power) => sum + (power % 2 ? 0 : (2 * a) / (power + 1)), 0);
    });
  }

  const fractions = (n) => Array.from({ length: n + 1 }, (_, i) => i / n);
  const ends = (sde, t_min) => [1, t_min].map((t) => sde.sigma(t) / sde.alpha(t));
  const lerp = (a, b, f) => a + f * (b - a);

  /** Times with their ends free of rounding. */
  function from_one_to(t_min, ts) {
    ts[0] = 1;
    ts[ts.length - 1] = t_min;
    return ts;
  }

  function uniform(_sde, n_steps, t_min = 1e-3) {
    return from_one_to(
      t_min,
      fractions(n_steps).map((u) => 1 + u * (t_min - 1)),
    );
  }

  function log_snr(sde, n_steps, t_min = 1e-3) {
    const [high, low] = ends(sde, t_min);
    return from_one_to(
      t_min,
      fractions(n_steps).map((u) => sde.time_of(high * (low / high) ** u)),
    );
  }

  function edm(sde, n_steps, t_min = 1e-3, rho = 7) {
    const [high, low] = ends(sde, t_min).map((ratio) => ratio ** (1 / rho));
    return from_one_to(
      t_min,
      fractions(n_steps).map((u) => sde.time_of(lerp(high, low, u) ** rho)),
    );
  }

  function log_linear(sde, n_steps, t_min = 1e-3, bend = 0.02) {
    const [high, low] = ends(sde, t_min).map((ratio) => Math.asinh(ratio / bend));
    return from_one_to(
      t_min,
      fractions(n_steps).map((u) => sde.time_of(bend * Math.sinh(lerp(high, low, u)))),
    );
  }

  sdelib.samplers = { walk, dpm_solver_2m, adams, uniform, log_snr, edm, log_linear };
})();
