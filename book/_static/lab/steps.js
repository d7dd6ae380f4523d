/* Steps (score, x, t, s, noise) from the instant t to the earlier s: sdelib/steps.py, with its names. Options, where a step
   has any, come last in an object. */
(() => {
  const { transition } = sdelib.sde;

  /** x + c y */
  const plus = (x, c, y) => x.map((value, i) => value + c * y[i]);
  const times = (c, x) => x.map((value) => c * value);

  function euler_maruyama(score, x, t, s, noise, { eta = 1 } = {}) {
    const h = t.time - s.time;
    const mean = plus(times(1 - t.f * h, x), ((1 + eta ** 2) / 2) * t.g ** 2 * h, score(x, t.time));
    return eta ? plus(mean, eta * t.g * Math.sqrt(h), noise(x)) : mean;
  }

  function reverse_diffusion(score, x, t, s, noise) {
    const [r, q] = transition(s, t);
    return plus(plus(times(2 - r, x), q ** 2, score(x, t.time)), q, noise(x));
  }

  function ancestral(score, x, t, s, noise) {
    const [r, q] = transition(s, t);
    const mean = times(1 / r, plus(x, q ** 2, score(x, t.time)));
    return plus(mean, (q * s.sigma) / t.sigma, noise(x));
  }

  function ddim(score, x, t, s) {
    const [r] = transition(s, t);
    return plus(times(1 / r, x), (t.sigma / r - s.sigma) * t.sigma, score(x, t.time));
  }

  const velocity = (score, x, t) => plus(times(t.f, x), -(t.g ** 2) / 2, score(x, t.time));

  function heun(score, x, t, s) {
    const h = t.time - s.time;
    const v = velocity(score, x, t);
    const w = velocity(score, plus(x, -h, v), s);
    return plus(x, -h / 2, plus(v, 1, w));
  }

  function rk4(score, x, t, s) {
    const h = t.time - s.time;
    const middle = t.sde.at((t.time + s.time) / 2);
    const k1 = velocity(score, x, t);
    const k2 = velocity(score, plus(x, -h / 2, k1), middle);
    const k3 = velocity(score, plus(x, -h / 2, k2), middle);
    const k4 = velocity(score, plus(x, -h, k3), s);
    return plus(x, -h / 6, plus(plus(k1, 2, plus(k2, 1, k3)), 1, k4));
  }

  function annealed_langevin(score, x, _t, s, noise, { snr = 0.16, n_steps = 1 } = {}) {
    const size = 2 * (snr * s.sigma) ** 2;
    for (let i = 0; i < n_steps; i++) x = plus(plus(x, size, score(x, s.time)), Math.sqrt(2 * size), noise(x));
    return x;
  }

  sdelib.steps = { euler_maruyama, reverse_diffusion, ancestral, ddim, heun, rk4, annealed_langevin, plus, times };
})();
