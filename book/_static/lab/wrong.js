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

  function step_of_one_thousandth(score, x, t, _s, noise) {
    const mean = plus(times(1 - t.f * 1e-3, x), t.g ** 2 * 1e-3, score(x, t.time));
    return plus(mean, t.g * Math.sqrt(1e-3), noise(x));
  }

  function variance_for_its_root(score, x, t, s, noise) {
    const [r, q] = transition(s, t);
    return plus(plus(times(2 - r, x), q ** 2, score(x, t.time)), q ** 2, noise(x));
  }

  /** The flow ODE's Euler step with the drift of g_for_g_squared, at eta = 0. */
  function g_for_g_squared(score, x, t, s) {
    const h = t.time - s.time;
    return plus(times(1 - t.f * h, x), (t.g / 2) * h, score(x, t.time));
  }

  /** Inpainting with the kernel's mean built from the noisy state. */
  function mean_from_the_noisy_state(score, sde, _y, known) {
    return (x, t) => {
      const out = score(x, t);
      for (let i = known; i < x.length; i += 2) out[i] = ((sde.alpha(t) - 1) * x[i]) / sde.sigma(t) ** 2;
      return out;
    };
  }

  sdelib.wrong = {
    steps: {
      plus_for_minus,
      step_doubled,
      coefficients_of_the_reversed_time,
      signs_of_the_other_clock,
      step_of_one_thousandth,
      variance_for_its_root,
      g_for_g_squared,
    },
    mean_from_the_noisy_state,
  };
})();
