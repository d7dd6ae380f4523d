/* Forward SDEs with an affine drift, on the time interval [0, 1]: sdelib/sde.py, with its names. Here as in the other files
   of this folder states are one Float64Array, row after row, and times are numbers. */
(() => {
  globalThis.sdelib ??= {};

  /** A process: its formulas, its name in Python and the arguments it was made with. */
  function make(name, parameters, formulas) {
    const sde = { name, parameters, ...formulas };
    sde.at = (time) => ({
      time,
      f: sde.f(time),
      g: sde.g(time),
      alpha: sde.alpha(time),
      sigma: sde.sigma(time),
      sde,
    });
    sde.path = (ts) => ts.map(sde.at);
    return Object.freeze(sde);
  }

  function VESDE({ sigma_min = 0.01, sigma_max = 50 } = {}) {
    const log_ratio = Math.log(sigma_max / sigma_min);
    return make(
      'VESDE',
      { sigma_min, sigma_max },
      {
        f: () => 0,
        g: (t) => sigma_min * Math.exp(t * log_ratio) * Math.sqrt(2 * log_ratio),
        alpha: () => 1,
        sigma: (t) => sigma_min * Math.sqrt(Math.expm1(2 * t * log_ratio)),
        time_of: (ratio) => Math.min(Math.log1p((ratio / sigma_min) ** 2) / (2 * log_ratio), 1),
      },
    );
  }

  /** What VP and sub-VP share: the rate of noise, its integral and the drift. */
  function rates({ beta_min = 0.1, beta_max = 20 }) {
    const beta = (t) => beta_min + t * (beta_max - beta_min);
    const int_beta = (t) => t * beta_min + (t * t * (beta_max - beta_min)) / 2;
    const time_of_int_beta = (b) =>
      Math.min((2 * b) / (beta_min + Math.sqrt(beta_min ** 2 + 2 * (beta_max - beta_min) * b)), 1);
    const drift = { f: (t) => -beta(t) / 2, alpha: (t) => Math.exp(-int_beta(t) / 2) };
    return { parameters: { beta_min, beta_max }, beta, int_beta, time_of_int_beta, drift };
  }

  function VPSDE(given = {}) {
    const { parameters, beta, int_beta, time_of_int_beta, drift } = rates(given);
    return make('VPSDE', parameters, {
      ...drift,
      beta,
      int_beta,
      g: (t) => Math.sqrt(beta(t)),
      sigma: (t) => Math.sqrt(-Math.expm1(-int_beta(t))),
      time_of: (ratio) => time_of_int_beta(Math.log1p(ratio ** 2)),
    });
  }

  function SubVPSDE(given = {}) {
    const { parameters, beta, int_beta, time_of_int_beta, drift } = rates(given);
    return make('SubVPSDE', parameters, {
      ...drift,
      beta,
      int_beta,
      g: (t) => Math.sqrt(beta(t) * -Math.expm1(-2 * int_beta(t))),
      sigma: (t) => -Math.expm1(-int_beta(t)),
      time_of: (ratio) => time_of_int_beta(2 * Math.asinh(ratio / 2)),
    });
  }

  function CosineSDE({ alpha_end = 1e-3 } = {}) {
    const omega = Math.acos(alpha_end);
    return make(
      'CosineSDE',
      { alpha_end },
      {
        f: (t) => -omega * Math.tan(omega * t),
        g: (t) => Math.sqrt(2 * omega * Math.tan(omega * t)),
        alpha: (t) => Math.cos(omega * t),
        sigma: (t) => Math.sin(omega * t),
        time_of: (ratio) => Math.min(Math.atan(ratio) / omega, 1),
      },
    );
  }

  function FlowSDE({ alpha_end = 1e-3 } = {}) {
    const fall = 1 - alpha_end;
    return make(
      'FlowSDE',
      { alpha_end },
      {
        f: (t) => -fall / (1 - fall * t),
        g: (t) => Math.sqrt(2 * t + (2 * fall * t * t) / (1 - fall * t)),
        alpha: (t) => 1 - fall * t,
        sigma: (t) => t,
        time_of: (ratio) => Math.min(ratio / (1 + fall * ratio), 1),
      },
    );
  }

  /** Scale and standard deviation of the step p(x_t | x_s) = N(r x_s, q^2 I). */
  function transition(s, t) {
    const r = t.alpha / s.alpha;
    return [r, Math.sqrt(Math.abs(t.sigma ** 2 - (r * s.sigma) ** 2))];
  }

  sdelib.sde = { VESDE, VPSDE, SubVPSDE, CosineSDE, FlowSDE, transition, make };
})();
