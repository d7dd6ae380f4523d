/* What can be set, within which bounds, and how a setting is written into the page's address and read from it. */
(() => {
  const choice = (initial, of) => ({ kind: 'choice', initial, of });
  const number = (initial, low, high, step) => ({ kind: 'number', initial, low, high, step });
  const slider = (...numbers) => ({ ...number(...numbers), slider: true });
  const flag = (initial) => ({ kind: 'flag', initial });

  const TARGETS = {
    face: 'a face',
    line: 'a mixture on the line',
    plane: 'a mixture in the plane',
    drawing: 'your drawing',
    digits: 'digits of 8 by 8 pixels',
  };
  const PROCESSES = {
    VPSDE: 'VP',
    VESDE: 'VE',
    SubVPSDE: 'sub-VP',
    CosineSDE: 'cosine',
    FlowSDE: 'straight paths',
  };
  const SOLVERS = {
    euler_maruyama: 'Euler-Maruyama',
    reverse_diffusion: 'reverse diffusion',
    ancestral: 'ancestral',
    heun: 'Heun, on the flow',
    dpm_solver_2m: 'DPM-Solver++ 2M, on the flow',
    adams: 'Adams, on the flow',
  };
  const GRIDS = { log_linear: 'log-linear', log_snr: 'log-SNR', edm: 'EDM', uniform: 'uniform' };
  const WRONG = {
    none: 'none',
    plus_for_minus: "the score's sign turned",
    step_doubled: 'the drift of f doubled',
    g_for_g_squared: 'g for g² in the flow',
    variance_for_its_root: 'noise times its variance',
    signs_of_the_other_clock: 'signs of the other clock',
    coefficients_of_the_reversed_time: 'f and g at 1 - t',
    beta_itself: 'β for √β as g (VP)',
    shrink_twice: 'mean without its ½ (VP)',
    geometric_without_log: 'g without √(2 log) (VE)',
    deviation_for_variance: 'deviation read as variance',
    backwards: 'corrector before predictor',
    mean_from_the_noisy_state: 'inpainting from the noisy state',
  };
  /** What a run has to be for a wrong formula to be one of its own. */
  const NEEDS = {
    plus_for_minus: { solver: 'euler_maruyama' },
    step_doubled: { solver: 'euler_maruyama' },
    g_for_g_squared: { solver: 'euler_maruyama', eta: 0 },
    variance_for_its_root: { solver: 'reverse_diffusion' },
    signs_of_the_other_clock: { solver: 'euler_maruyama' },
    coefficients_of_the_reversed_time: { solver: 'euler_maruyama' },
    beta_itself: { solver: 'euler_maruyama', process: 'VPSDE' },
    shrink_twice: { process: 'VPSDE', score: 'exact' },
    geometric_without_log: { solver: 'euler_maruyama', process: 'VESDE' },
    deviation_for_variance: { score: 'exact', label: 0 },
    backwards: { solver: 'ancestral', corrector_steps: 2 },
    mean_from_the_noisy_state: { known: 'x', label: 0 },
  };
  /** Where sigma/alpha stays at most 152, which VP ends at: the network has seen no more noise. */
  const LEARNED = {
    sigma_max: { high: 152 },
    beta_min: { high: 0.1 },
    beta_max: { high: 20 },
    alpha_end: { low: 0.0066 },
  };
  const FIRST_ORDER = ['euler_maruyama', 'reverse_diffusion', 'ancestral', 'heun']; // steps that correctors may follow

  /** Of the page as a whole. */
  const COMMON = {
    target: choice('face', TARGETS),
    direction: choice('reverse', { reverse: 'noise to data', forward: 'data to noise' }),
    n: number(800, 10, 2000, 10),
    seed: number(1, 0, 9999, 1),
    smooth: slider(0.05, 0.01, 0.5, 0.01),
    arrows: flag(true),
    density: flag(true),
    compare: flag(false),
    at: number(1, 0, 1, 0.001), // the place in the film, 0 to 1
  };
  /** Of each run. */
  const RUN = {
    process: choice('VPSDE', PROCESSES),
    sigma_min: number(0.01, 0.0001, 1, 0.01),
    sigma_max: number(50, 1.5, 200, 0.5),
    beta_min: number(0.1, 0.01, 1, 0.01),
    beta_max: number(20, 1, 40, 1),
    alpha_end: number(0.001, 0.0001, 0.2, 0.001),
    score: choice('exact', { exact: 'exact', learned: 'learned' }),
    solver: choice('euler_maruyama', SOLVERS),
    eta: slider(1, 0, 2, 0.05),
    order: number(4, 2, 6, 1),
    corrector_steps: number(0, 0, 5, 1),
    snr: number(0.16, 0.01, 0.5, 0.01),
    n_steps: { ...number(60, 1, 500, 1), slider: 'stops' },
    grid: choice('log_linear', GRIDS),
    label: number(0, 0, 16, 1), // 0 is none
    scale: slider(1, 0, 10, 0.1),
    known: choice('none', { none: 'none', x: 'x is known', y: 'y is known' }),
    value: slider(0.5, -4, 4, 0.05),
    wrong: choice('none', WRONG),
  };

  /** Components by target, each with its fields in this order. */
  const COMPONENT = {
    line: { weight: slider(0.5, 0, 1, 0.01), mean: slider(0, -8, 8, 0.05), std: slider(0.5, 0.05, 3, 0.05) },
    plane: {
      weight: slider(0.5, 0, 1, 0.01),
      x: slider(0, -4, 4, 0.05),
      y: slider(0, -4, 4, 0.05),
      length: slider(0.4, 0.02, 2, 0.02),
      width: slider(0.4, 0.02, 2, 0.02),
      turn: slider(0, -180, 180, 1),
    },
  };
  const COMPONENTS = {
    line: [
      [0.5, -3, 0.5],
      [0.5, 3, 1],
    ],
    plane: [
      [0.35, -1.1, 0.6, 0.6, 0.2, 35],
      [0.4, 1, 0.9, 0.25, 0.25, 0],
      [0.25, 0.4, -1.1, 0.7, 0.22, -15],
    ],
  };
  /** A spiral, to have something to draw on. */
  const POINTS = Array.from({ length: 110 }, (_, i) => {
    const [angle, radius] = [3.2 * Math.PI * Math.sqrt(i / 109), 0.12 + 0.85 * Math.sqrt(i / 109)];
    return [radius * Math.cos(angle), radius * Math.sin(angle)].map((v) => Math.round(100 * v) / 100);
  });
  const MOST = { components: 16, points: 240 };

  const named = (target, row) => Object.fromEntries(Object.keys(COMPONENT[target]).map((name, i) => [name, row[i]]));
  const initial = (fields) => Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.initial]));
  const components = () => ({
    line: COMPONENTS.line.map((row) => named('line', row)),
    plane: COMPONENTS.plane.map((row) => named('plane', row)),
  });

  function defaults() {
    return {
      ...initial(COMMON),
      components: components(),
      points: POINTS.map((p) => [...p]),
      a: initial(RUN),
      b: initial(RUN),
    };
  }

  const short = (value) => String(Number(value.toPrecision(6)));

  /** A number within its bounds; where it was outside, `notes` gets a sentence. */
  function bounded(name, value, { initial, low, high, step }, notes) {
    if (!Number.isFinite(value)) {
      notes.push(`${name} must be a number: ${short(initial)} is used`);
      return initial;
    }
    let within = Math.min(Math.max(value, low), high);
    if (step === 1) within = Math.round(within);
    if (value < low || value > high)
      notes.push(`${name} must be from ${short(low)} to ${short(high)}, got ${short(value)}: ${short(within)} is used`);
    return within;
  }

  function read(name, text, field, notes) {
    if (field.kind === 'flag') return text === '1' || text === 'true';
    if (field.kind === 'number') return bounded(name, text.trim() === '' ? Number.NaN : Number(text), field, notes);
    if (Object.hasOwn(field.of, text)) return text;
    notes.push(`${name} must be one of ${Object.keys(field.of).join(', ')}: ${field.initial} is used`);
    return field.initial;
  }

  const written = (value, field) =>
    field.kind === 'flag' ? (value ? '1' : '0') : field.kind === 'number' ? short(value) : value;

  /** The address of a state, without what is as usual. */
  function encode(state) {
    const parts = [];
    const usual = defaults();
    function add(values, usual, fields, prefix = '') {
      for (const [name, field] of Object.entries(fields))
        if (values[name] !== usual[name]) parts.push(`${prefix}${name}=${written(values[name], field)}`);
    }
    add(state, usual, COMMON);
    add(state.a, usual.a, RUN, 'a.');
    if (state.compare) add(state.b, usual.b, RUN, 'b.');
    const rows = (list) => list.map((c) => Object.values(c).map(short).join(',')).join(';');
    if (COMPONENT[state.target]) {
      const mixture = rows(state.components[state.target]);
      if (mixture !== rows(usual.components[state.target])) parts.push(`components=${mixture}`);
    }
    const drawn = (points) => points.map((p) => p.map(short).join(',')).join(';');
    if (state.target === 'drawing' && drawn(state.points) !== drawn(usual.points))
      parts.push(`points=${drawn(state.points)}`);
    return parts.join('&');
  }

  /** Text that a mail or a chat may have escaped on its way. */
  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  /** The state of an address, whatever is in it, and notes on what was out of bounds. */
  function decode(address) {
    const [state, notes] = [defaults(), []];
    const given = new Map(
      address
        .replace(/^#/, '')
        .split('&')
        .filter(Boolean)
        .map((part) => {
          const [name, ...value] = part.split('=');
          return [name, decoded(value.join('='))];
        }),
    );
    for (const [name, text] of given) {
      const [which, inner] = name.split('.');
      if (Object.hasOwn(COMMON, name)) state[name] = read(name, text, COMMON[name], notes);
      else if (/^[ab]$/.test(which) && inner && Object.hasOwn(RUN, inner))
        state[which][inner] = read(inner, text, RUN[inner], notes);
      else if (name !== 'components' && name !== 'points') notes.push(`there is nothing called ${name.slice(0, 30)}`);
    }
    const rows = (text) => text.split(';').map((row) => row.split(',').map(Number));
    const fields = COMPONENT[state.target];
    if (given.has('components') && fields) {
      const list = rows(given.get('components')).slice(0, MOST.components);
      state.components[state.target] = list.map((row) =>
        Object.fromEntries(
          Object.entries(fields).map(([name, field], i) => [name, bounded(name, row[i] ?? Number.NaN, field, notes)]),
        ),
      );
    }
    if (given.has('points')) {
      const list = rows(given.get('points')).filter((p) => p.length === 2 && p.every((v) => Math.abs(v) <= 1.5));
      state.points = list.slice(0, MOST.points);
    }
    return { state: settled(state, notes), notes: [...new Set(notes)] };
  }

  /** A state whose parts fit each other. */
  function settled(state, notes = []) {
    if (state.target === 'digits') state.direction = 'reverse'; // the page holds no digits to begin with
    for (const run of [state.a, state.b]) {
      if (state.target === 'digits') run.score = 'learned';
      else if (state.target !== 'face') run.score = 'exact';
      if (run.score === 'learned')
        for (const name of Object.keys(sdelib.sde[run.process]().parameters))
          run[name] = bounded(`with the network, ${name}`, run[name], { ...RUN[name], ...LEARNED[name] }, notes);
      if (!FIRST_ORDER.includes(run.solver)) run.corrector_steps = 0;
      run.label = Math.min(run.label, labels_for(state).length);
      if (state.target === 'line' || state.target === 'digits') run.known = 'none';
      if (run.label > 0) run.known = 'none';
      if (Object.keys(needed(run, run.wrong)).length) run.wrong = 'none';
    }
    return state;
  }

  function fits(run, name, value) {
    if (name === 'corrector_steps') return run.corrector_steps > 0;
    if (name === 'solver' && value === 'ancestral') return FIRST_ORDER.includes(run.solver);
    if (name === 'known') return run.known !== 'none';
    return run[name] === value;
  }

  /** What a wrong formula needs of a run, where the run does not have it already. */
  function needed(run, wrong) {
    const missing = Object.entries(NEEDS[wrong] ?? {}).filter(([name, value]) => !fits(run, name, value));
    return Object.fromEntries(missing);
  }

  /** A second run to compare with: the same but for its sampler. */
  const rival = (run) => ({ ...run, wrong: 'none', solver: run.solver === 'adams' ? 'euler_maruyama' : 'adams' });

  /** The wrong formulas that a target can show. */
  const wrong_for = (target) =>
    Object.fromEntries(
      Object.entries(WRONG).filter(([name]) => {
        const { known, score } = NEEDS[name] ?? {};
        if (target === 'digits') return !known && score !== 'exact';
        return target !== 'line' || !known;
      }),
    );

  /** What a sampler can be guided towards, the first called 1. */
  function labels_for({ target, components }) {
    if (target === 'digits') return Array.from({ length: 10 }, (_, k) => `digit ${k}`);
    return COMPONENT[target] ? components[target].map((_, k) => `component ${k + 1}`) : [];
  }

  /** One more component, beside the n that are there. */
  function fresh(target, n) {
    const [c, s] = [Math.cos(2.4 * n), Math.sin(2.4 * n)].map((v) => Math.round(100 * v) / 100);
    const row = target === 'line' ? [0.3, 3 * c, 0.5] : [0.3, 1.4 * c, 1.4 * s, 0.3, 0.3, 0];
    return named(target, row);
  }

  sdelib.settings = {
    COMMON,
    RUN,
    COMPONENT,
    MOST,
    FIRST_ORDER,
    TARGETS,
    WRONG,
    defaults,
    bounded,
    encode,
    decode,
    settled,
    needed,
    rival,
    wrong_for,
    labels_for,
    fresh,
    short,
  };
})();
