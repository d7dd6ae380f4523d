/* Scores, functions (x, t) of states and a time: sdelib/score.py and sdelib/guidance.py, with their names. */
(() => {
  /** The true score of the mixture `target` carried forward by `sde`. */
  function exact_score(sde, target) {
    let [time, law] = [Number.NaN, null];
    return (x, t) => {
      if (t !== time) [time, law] = [t, target.perturb(sde.alpha(t), sde.sigma(t))];
      return law.score(x);
    };
  }

  /** The score of the process `to`, from that of `sde`, for the same data: the same but for scale at equal sigma/alpha. */
  function translate(score, sde, to) {
    return (x, t) => {
      const tau = sde.time_of(to.sigma(t) / to.alpha(t));
      const k = sde.alpha(tau) / to.alpha(t);
      return score(
        x.map((value) => k * value),
        tau,
      ).map((value) => k * value);
    };
  }

  /** (1 - scale) unconditional + scale conditional; a scale of 0 or 1 calls one of them only. */
  function classifier_free(conditional, unconditional, scale) {
    if (scale === 1) return conditional;
    if (scale === 0) return unconditional;
    return (x, t) => {
      const given = conditional(x, t);
      return unconditional(x, t).map((s, i) => (1 - scale) * s + scale * given[i]);
    };
  }

  /** Imputation by replacement: in the plane, coordinate `known` follows the kernel from the clean value `y`. */
  function inpaint(score, sde, y, known) {
    return (x, t) => {
      const [out, alpha, sigma] = [score(x, t), sde.alpha(t), sde.sigma(t)];
      for (let i = known; i < x.length; i += 2) out[i] = (alpha * y - x[i]) / sigma ** 2;
      return out;
    };
  }

  /** The same score; `count.calls` grows by one at each call. */
  function counted(score, count) {
    return (x, t) => {
      count.calls += 1;
      return score(x, t);
    };
  }

  sdelib.score = { exact_score, translate, counted };
  sdelib.guidance = { classifier_free, inpaint };
})();
