/* Formulas that were published wrong: those of tests/test_wrong_formulas.py that change what a sampler returns, with their
   names there. */
(() => {
  const { transition } = sdelib.sde;
  const { plus, times } = sdelib.steps;

  /** x - (a x + b score) h + c sqrt(h) z: what an Euler-Maruyama step makes of its coefficients. */
  const euler = (score, x, t, h, noise, a, b, c) =>
    plus(plus(times(1 - a * h, x), -b * h, score(x, t.time)), c * Math.sqrt(h), noise(x));

  function plus_for_minus(score, x, t, s, noise) {
    return euler(score, x, t, t.time - s.time, noise, t.f, t.g ** 2, t.g);
  }

  function step_doubled(score, x, t, s, noise) {
    return euler(score, x, t, t.time - s.time, noise, 2 * t.f, -(t.g ** 2), t.g);
  }

  function coefficients_of_the_reversed_time(score, x, t, s, noise) {
    const u = t.sde.at(1 - t.time);
    return euler(score, x, t, t.time - s.time, noise, u.f, -(u.g ** 2), u.g);
  }

  function signs_of_the_other_clock(score, x, t, s, noise) {
    const u = t.sde.at(1 - t.time);
    return euler(score, x, t, t.time - s.time, noise, -u.f, u.g ** 2, u.g);
  }

  function variance_for_its_root(score, x, t, s, noise) {
    const [r, q] = transition(s, t);
    return plus(plus(times(2 - r, x), q ** 2, score(x, t.time)), q ** 2, noise(x));
  }

  /** Euler's step on the flow ODE with the drift of g_for_g_squared at eta = 0. */
  function g_for_g_squared(score, x, t, s) {
    const h = t.time - s.time;
    return plus(times(1 - t.f * h, x), (t.g / 2) * h, score(x, t.time));
  }

  /** The Euler-Maruyama step of VP with beta for its root as the diffusion. */
  function beta_itself(score, x, t, s, noise) {
    const g = t.sde.beta(t.time);
    return euler(score, x, t, t.time - s.time, noise, t.f, -(g ** 2), g);
  }

  /** The Euler-Maruyama step of VE without sqrt(2 log) in its diffusion. */
  function geometric_without_log(score, x, t, s, noise) {
    const { sigma_min, sigma_max } = t.sde.parameters;
    const g = sigma_min * (sigma_max / sigma_min) ** t.time;
    return euler(score, x, t, t.time - s.time, noise, t.f, -(g ** 2), g);
  }

  /** The process with VP's mean exp(-int beta), without the 1/2. */
  function shrink_twice(sde) {
    return sdelib.sde.make(sde.name, sde.parameters, { ...sde, alpha: (t) => Math.exp(-sde.int_beta(t)) });
  }

  /** The mixture with standard deviations where variances belong: each covariance is squared. */
  function deviation_for_variance({ dim, weights, parts: { mx, my, xx, xy, yy } }) {
    const rows = [...weights].map((_, k) => [
      xx[k] ** 2 + xy[k] ** 2,
      ...(dim === 2 ? [xy[k] * (xx[k] + yy[k]), yy[k] ** 2 + xy[k] ** 2] : []),
    ]);
    const means = [...weights].flatMap((_, k) => (dim === 2 ? [mx[k], my[k]] : [mx[k]]));
    return sdelib.mixtures.GaussianMixture({ dim, weights, means, covs: rows.flat() });
  }

  /** Inpainting with the kernel's mean built from the noisy state. */
  function mean_from_the_noisy_state(score, sde, _y, known) {
    return (x, t) => {
      const out = score(x, t);
      for (let i = known; i < x.length; i += 2) out[i] = ((sde.alpha(t) - 1) * x[i]) / sde.sigma(t) ** 2;
      return out;
    };
  }

  const steps = {
    plus_for_minus,
    step_doubled,
    coefficients_of_the_reversed_time,
    signs_of_the_other_clock,
    variance_for_its_root,
    g_for_g_squared,
    beta_itself,
    geometric_without_log,
  };
  sdelib.wrong = { steps, shrink_twice, deviation_for_variance, mean_from_the_noisy_state };
})();
