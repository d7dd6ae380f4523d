/* A run: what the settings say, computed a few milliseconds at a time and kept state by state. */
(() => {
  const T_MIN = 1e-3;
  const LEVELS = 1000; // of the law on the line, for the distance
  const FACE = { n: 200, std: 0.025 };
  const DIGITS = { n: 9, std: 0.51 }; // images drawn, and the deviation of a pixel's level

  /** The process of a run. */
  function process_of(run) {
    return sdelib.sde[run.process](run);
  }

  /** The law of a component with its axes turned by `turn` degrees, as covariances. */
  function covariances({ length, width, turn }) {
    const [c, s] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
    const [a, b] = [length ** 2, width ** 2];
    return [a * c * c + b * s * s, (a - b) * c * s, a * s * s + b * c * c];
  }

  function shares(components) {
    const total = components.reduce((sum, { weight }) => sum + weight, 0);
    return components.map(({ weight }) => (total > 0 ? weight / total : 1 / components.length));
  }

  const EMPTY = { points: [0, 0], std: 0.5 }; // what stands in for a drawing without points

  /** The target's law. */
  function target_of(state) {
    const { GaussianMixture, from_points } = sdelib.mixtures;
    const list = state.components[state.target];
    if (state.target === 'line') {
      const [means, covs] = [list.map((c) => c.mean), list.map((c) => c.std ** 2)];
      return GaussianMixture({ dim: 1, weights: shares(list), means, covs });
    }
    if (state.target === 'plane') {
      const means = list.flatMap(({ x, y }) => [x, y]);
      return GaussianMixture({ dim: 2, weights: shares(list), means, covs: list.flatMap(covariances) });
    }
    if (state.target === 'drawing')
      return state.points.length
        ? from_points(state.points.flat(), 2, state.smooth)
        : from_points(EMPTY.points, 2, EMPTY.std);
    const places = Array.from({ length: FACE.n }, (_, i) => (i + 0.5) / FACE.n);
    return from_points(sdelib.data.smile_curve(places), 2, FACE.std);
  }

  /** Half the width of a window that shows the law at time 0. */
  function reach_of(law) {
    const { mx, my, xx, yy } = law.parts;
    let reach = law.dim === 2 ? 1.3 : 2;
    for (let k = 0; k < mx.length; k++) {
      if (law.weights[k] < 1e-3) continue;
      reach = Math.max(reach, Math.abs(mx[k]) + 2.8 * Math.sqrt(xx[k]));
      if (law.dim === 2) reach = Math.max(reach, Math.abs(my[k]) + 2.8 * Math.sqrt(yy[k]));
    }
    return reach;
  }

  /** The score that a run samples from, and the law it should arrive at. */
  function scores(run, target, sde) {
    const { exact_score, translate } = sdelib.score;
    const { classifier_free, inpaint } = sdelib.guidance;
    const { wrong } = sdelib;
    const process = run.wrong === 'shrink_twice' ? wrong.shrink_twice(sde) : sde;
    const source = run.wrong === 'deviation_for_variance' ? wrong.deviation_for_variance(target) : target;
    const exact = exact_score(process, source);
    const { smile_score } = sdelib.learned;
    let score = run.score === 'learned' ? translate(smile_score(), sdelib.sde.VPSDE(), sde) : exact;
    if (run.label > 0) {
      const conditional = exact_score(process, source.component(run.label - 1));
      return { score: classifier_free(conditional, score, run.scale), law: target.component(run.label - 1) };
    }
    if (run.known !== 'none' && target.dim === 2) {
      const known = run.known === 'x' ? 0 : 1;
      const how = run.wrong === 'mean_from_the_noisy_state' ? wrong.mean_from_the_noisy_state : inpaint;
      score = how(score, sde, run.value, known);
      return { score, law: target.condition(known, run.value, 1e-3).marginal(1 - known), free: 1 - known };
    }
    return { score, law: target };
  }

  function solver_of(run, std) {
    const { walk, dpm_solver_2m, adams } = sdelib.samplers;
    if (run.solver === 'dpm_solver_2m') return dpm_solver_2m;
    if (run.solver === 'adams') return adams({ order: run.order, scale: std, reach: Infinity });
    const options = { eta: run.eta };
    const step = sdelib.wrong.steps[run.wrong] ?? sdelib.steps[run.solver];
    const steps = [(score, x, t, s, noise) => step(score, x, t, s, noise, options)];
    if (run.corrector_steps > 0) {
      const how = { snr: run.snr, n_steps: run.corrector_steps };
      steps.push((score, x, t, s, noise) => sdelib.steps.annealed_langevin(score, x, t, s, noise, how));
    }
    return walk(...(run.wrong === 'backwards' ? steps.reverse() : steps));
  }

  /** The data's standard deviation, to three digits as it is shown. */
  const scale_of = (law) => Number(Math.sqrt(law.variance()).toPrecision(3));

  /** The states of the forward SDE at the instants `path`, by its exact transitions. */
  function* forward(_score, x, path, noise) {
    for (let i = 1; i < path.length; i++) {
      const [r, q] = sdelib.sde.transition(path[i - 1], path[i]);
      x = sdelib.steps.plus(sdelib.steps.times(r, x), q, noise(x));
      yield x;
    }
  }

  const number = (v) => (v >= 1000 ? v.toExponential(1) : v.toPrecision(2));

  /** What is particular to points: their law, their states, and how far these are from it. */
  function of_points(state, run, sde, { random, path, counted }) {
    const { n, seed } = state;
    const target = target_of(state);
    const { dim } = target;
    const { score, law, free } = scores(run, target, sde);
    const backward = state.direction === 'reverse';
    const start = backward
      ? sdelib.steps.times(sde.sigma(1), random.randn_like(new Float64Array(n * dim)))
      : target.sample(n, random);
    const solver = backward ? solver_of(run, scale_of(target)) : forward;
    // as many exact points as the distance in the plane is measured on
    const m = Math.min(n, 1000);
    const other = sdelib.random.generator(seed + 5000);
    const exact = dim === 2 && free === undefined ? law.sample(m, other) : null;
    const noise = exact && other.randn_like(exact);
    const from = run.label > 0 ? ` to component ${run.label}` : free === undefined ? '' : ' to the exact conditional';

    /** The distance of a state from the law at its time, with its floor. */
    function distance(x, t) {
      const [alpha, sigma] = [sde.alpha(t), sde.sigma(t)];
      if (exact) {
        const points = exact.map((value, j) => alpha * value + sigma * noise[j]);
        return sdelib.metrics.energy_distance(x.subarray(0, 2 * m), points);
      }
      const own = dim === 1 ? x : x.filter((_, j) => j % 2 === free);
      return sdelib.metrics.wasserstein(own, law.perturb(alpha, sigma).quantile, LEVELS);
    }
    const what = `${exact ? 'energy distance' : 'W₁'}${from}`;
    return {
      kind: dim === 1 ? 'line' : 'plane',
      dim,
      target,
      law,
      free,
      score,
      reach: reach_of(target),
      start,
      iterator: solver(counted(score), start, path, random.randn_like),
      measured: distance,
      words: ({ value, floor }) => `${what} ${number(value)}, floor ${number(floor)}`,
    };
  }

  /** What is particular to images, drawn by the network of chapter 9. */
  function of_digits(_state, run, sde, { random, path, counted }) {
    const { digits_score, PIXELS } = sdelib.digits;
    let score = digits_score();
    if (run.label > 0) score = sdelib.guidance.classifier_free(digits_score(run.label - 1), score, run.scale);
    score = sdelib.score.translate(score, sdelib.sde.VPSDE(), sde);
    const start = sdelib.steps.times(sde.sigma(1), random.randn_like(new Float64Array(DIGITS.n * PIXELS)));
    const solver = solver_of(run, DIGITS.std);

    /** The states, image by image: between two of them null, as one takes as long as a picture of the film. */
    function* together() {
      const images = Array.from({ length: DIGITS.n }, (_, k) => {
        const count_once = k ? score : counted(score);
        const image = start.subarray(k * PIXELS, (k + 1) * PIXELS);
        return solver(count_once, image, path, random.randn_like);
      });
      for (let i = 1; i < path.length; i++) {
        const x = new Float64Array(start.length);
        for (const [k, image] of images.entries()) {
          x.set(image.next().value, k * PIXELS);
          if (k + 1 < images.length) yield null;
        }
        yield x;
      }
    }

    /** Mean and standard deviation of the images' grey levels, from -1 to 1. */
    function levels(x) {
      const mean = x.reduce((a, b) => a + b) / x.length;
      const square = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (x.length - 1);
      return { mean, deviation: Math.sqrt(square) };
    }
    return {
      kind: 'digits',
      dim: PIXELS,
      score,
      start,
      iterator: together(),
      measured: levels,
      words: ({ mean, deviation }) => `grey levels: mean ${number(mean)}, deviation ${number(deviation)}`,
    };
  }

  /** A run that has just begun: call `advance` until it is `done`. */
  function begin(state, run) {
    const sde = process_of(run);
    const count = { calls: 0 };
    const backward = state.direction === 'reverse';
    const grid = sdelib.samplers[backward ? run.grid : 'log_linear'];
    const ts = [...grid(sde, backward ? run.n_steps : 100, T_MIN), 0];
    if (!backward) ts.reverse();
    const { start, iterator, measured, words, ...own } = (state.target === 'digits' ? of_digits : of_points)(
      state,
      run,
      sde,
      {
        random: sdelib.random.generator(state.seed),
        path: sde.path(ts),
        counted: (score) => sdelib.score.counted(score, count),
      },
    );
    const states = [Float32Array.from(start)];
    const calls = [0];
    const known = new Map();
    const self = { run, sde, ts, states, calls, backward, name: state.target, done: false, note: '', ...own };

    /** Compute states for so many milliseconds, or to the end. */
    self.advance = (budget) => {
      const stop = performance.now() + budget;
      while (!self.done) {
        const { value } = iterator.next();
        if (value) take(value);
        if (performance.now() > stop) break;
      }
    };

    function take(value) {
      if (!value.every((v) => Math.abs(v) < 1e30)) {
        // NaN fails as well
        self.note = `beyond all bounds from t = ${ts[states.length].toPrecision(3)} on, and stopped`;
        self.done = true;
        return;
      }
      states.push(Float32Array.from(value));
      calls.push(count.calls);
      self.done = states.length === ts.length;
    }

    /** The index of the last state at or before the film's time t; `reached`: of those that are computed. */
    self.due = (t) => {
      const passed = (time) => (backward ? time >= t - 1e-12 : time <= t + 1e-12);
      return ts.findLastIndex(passed);
    };
    self.reached = (t) => Math.min(Math.max(self.due(t), 0), states.length - 1);

    /** What is measured of state i, and in words. */
    self.measure = (i) => {
      if (!known.has(i)) known.set(i, measured(states[i], ts[i]));
      return known.get(i);
    };
    self.facts = (i) => words(self.measure(i));
    return self;
  }

  /** The film's times: even steps in the noise, from the side where a film begins. */
  function film_times(sde, direction, n_frames) {
    const ts = [...sdelib.samplers.log_linear(sde, n_frames - 2, T_MIN), 0];
    return direction === 'reverse' ? ts : ts.reverse();
  }

  sdelib.run = { begin, film_times, target_of, reach_of, covariances, shares, scale_of, FACE, DIGITS, EMPTY };
})();
