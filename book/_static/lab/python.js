/* The lines of Python that do with sdelib what a run of the page does, with random numbers of their own. */
(() => {
  const { short } = sdelib.settings;
  const literal = (value) => (Number.isInteger(value) ? `${value}.0` : short(value));
  const list = (values) => `[${values.join(', ')}]`;
  const tensor = (values) => `torch.tensor(${list(values)})`;

  /** A long list over several lines. */
  function wrapped(items, open, close) {
    const lines = [];
    for (let i = 0; i < items.length; i += 6) lines.push(`    ${items.slice(i, i + 6).join(', ')},`);
    return [open, ...lines, close].join('\n');
  }

  function target_lines(state, uses) {
    const components = state.components[state.target];
    if (state.target === 'face') {
      uses('data', 'smile_curve');
      uses('mixtures', 'GaussianMixture');
      const { n, std } = sdelib.run.FACE;
      return [
        `points = smile_curve((torch.arange(${n}) + 0.5) / ${n})`,
        `target = GaussianMixture(torch.full((${n},), 1 / ${n}), points, torch.full_like(points, ${std}**2))`,
      ];
    }
    uses('mixtures', 'GaussianMixture');
    if (state.target === 'drawing') {
      const empty = !state.points.length;
      const points = (empty ? [sdelib.run.EMPTY.points] : state.points).map((p) => list(p.map((v) => v.toFixed(2))));
      const [n, std] = [points.length, empty ? sdelib.run.EMPTY.std : state.smooth];
      return [
        wrapped(points, 'points = torch.tensor([', '])'),
        `target = GaussianMixture(torch.full((${n},), 1 / ${n}), points, torch.full_like(points, ${short(std)}**2))`,
      ];
    }
    const weights = `weights = ${tensor(sdelib.run.shares(components).map(literal))}`;
    if (state.target === 'line')
      return [
        weights,
        `means = ${tensor(components.map((c) => list([literal(c.mean)])))}`,
        `variances = ${tensor(components.map((c) => list([literal(c.std ** 2)])))}`,
        'target = GaussianMixture(weights / weights.sum(), means, variances)',
      ];
    const rows = components.map((c) => sdelib.run.covariances(c).map(literal));
    return [
      weights,
      `means = ${tensor(components.map(({ x, y }) => list([literal(x), literal(y)])))}`,
      wrapped(
        rows.map(([xx, xy, yy]) => `[[${xx}, ${xy}], [${xy}, ${yy}]]`),
        'covs = torch.tensor([',
        '])',
      ),
      'target = GaussianMixture.from_covs(weights / weights.sum(), means, covs)',
    ];
  }

  function sde_line(run, uses) {
    uses('sde', run.process);
    const usual = sdelib.sde[run.process]().parameters;
    const given = Object.keys(usual).filter((name) => run[name] !== usual[name]);
    return `sde = ${run.process}(${given.map((name) => `${name}=${short(run[name])}`).join(', ')})`;
  }

  const EULER = (name, drift, g) => [
    '',
    '',
    `def ${name}(score, x, t, s, noise):`,
    ...drift,
    `    return x - drift * h + ${g} * h**0.5 * noise(x)`,
    '',
    '',
  ];
  /** The wrong steps, as tests/test_wrong_formulas.py has them. */
  const WRONG_STEPS = {
    plus_for_minus: EULER(
      'plus_for_minus',
      ['    h, drift = t.time - s.time, t.f * x + t.g**2 * score(x, t.now)'],
      't.g',
    ),
    step_doubled: EULER(
      'step_doubled',
      ['    h, drift = t.time - s.time, 2 * t.f * x - t.g**2 * score(x, t.now)'],
      't.g',
    ),
    coefficients_of_the_reversed_time: EULER(
      'coefficients_of_the_reversed_time',
      ['    u, h = t.sde.at(1 - t.time), t.time - s.time', '    drift = u.f * x - u.g**2 * score(x, t.now)'],
      'u.g',
    ),
    signs_of_the_other_clock: EULER(
      'signs_of_the_other_clock',
      ['    u, h = t.sde.at(1 - t.time), t.time - s.time', '    drift = -u.f * x + u.g**2 * score(x, t.now)'],
      'u.g',
    ),
    beta_itself: EULER(
      'beta_itself',
      ['    h, g = t.time - s.time, float(t.sde.beta(t.now))', '    drift = t.f * x - g**2 * score(x, t.now)'],
      'g',
    ),
    geometric_without_log: EULER(
      'geometric_without_log',
      [
        '    h, g = t.time - s.time, t.sde.sigma_min * math.exp(t.time * t.sde.log_ratio)',
        '    drift = t.f * x - g**2 * score(x, t.now)',
      ],
      'g',
    ),
    g_for_g_squared: [
      '',
      '',
      'def g_for_g_squared(score, x, t, s, noise):',
      '    drift = t.f * x - t.g / 2 * score(x, t.now)',
      '    return x - (t.time - s.time) * drift',
      '',
      '',
    ],
    variance_for_its_root: [
      '',
      '',
      'def variance_for_its_root(score, x, t, s, noise):',
      '    r, q = transition(s, t)',
      '    return (2 - r) * x + q**2 * score(x, t.now) + q**2 * noise(x)',
      '',
      '',
    ],
  };

  function score_lines(run, uses) {
    const lines = [];
    let [process, source] = ['sde', 'target'];
    if (run.wrong === 'shrink_twice') {
      uses('sde', 'VPSDE');
      lines.push(
        '',
        '',
        'class ShrinkTwice(VPSDE):',
        '    def alpha(self, t):',
        '        return torch.exp(-self.int_beta(t))',
        '',
        '',
      );
      process = `ShrinkTwice(${short(run.beta_min)}, ${short(run.beta_max)})`;
    }
    if (run.wrong === 'deviation_for_variance') {
      lines.push('wrong = GaussianMixture.from_covs(target.weights, target.means, target.covs @ target.covs)');
      source = 'wrong';
    }
    if (run.score === 'learned') {
      uses('learned', 'smile_score');
      const own = sde_line(run, () => {}) === 'sde = VPSDE()';
      if (!own) uses('score', 'translate');
      if (!own) uses('sde', 'VPSDE');
      lines.push(`score = ${own ? 'smile_score()' : 'translate(smile_score(), VPSDE(), sde)'}`);
    } else {
      uses('score', 'exact_score');
      lines.push(`score = exact_score(${process}, ${source})`);
    }
    if (run.label > 0) {
      uses('guidance', 'classifier_free');
      const k = run.label - 1;
      lines.push(
        `k = slice(${k}, ${k + 1})`,
        `part = GaussianMixture.from_covs(torch.ones(1), ${source}.means[k], ${source}.covs[k])`,
        `score = classifier_free(exact_score(${process}, part), score, ${short(run.scale)})`,
      );
    } else if (run.known !== 'none') {
      const y = run.known === 'x' ? [short(run.value), '0.0'] : ['0.0', short(run.value)];
      lines.push(`known = torch.tensor([${run.known === 'x' ? 'True, False' : 'False, True'}])`);
      if (run.wrong === 'mean_from_the_noisy_state') {
        lines.push(
          'free = score',
          '',
          '',
          'def score(x, t):',
          '    kernel = (sde.alpha(t) * x - x) / sde.sigma(t) ** 2',
          '    return torch.where(known, kernel, free(x, t))',
          '',
          '',
        );
      } else {
        uses('guidance', 'inpaint');
        lines.push(`score = inpaint(score, sde, ${tensor(y)}, known)`);
      }
    }
    return lines;
  }

  function solver_lines(run, std, uses) {
    if (run.solver === 'dpm_solver_2m') {
      uses('samplers', 'dpm_solver_2m');
      return ['solver = dpm_solver_2m'];
    }
    if (run.solver === 'adams') {
      uses('samplers', 'adams');
      uses('', 'math');
      return [`solver = adams(${run.order}, ${std}, math.inf)`];
    }
    uses('samplers', 'walk');
    const lines = WRONG_STEPS[run.wrong] ? [...WRONG_STEPS[run.wrong]] : [];
    const steps = [WRONG_STEPS[run.wrong] ? run.wrong : run.solver];
    if (steps[0] === run.solver) uses('steps', run.solver);
    if (run.wrong === 'variance_for_its_root') uses('sde', 'transition');
    if (run.wrong === 'geometric_without_log') uses('', 'math');
    if (steps[0] === 'euler_maruyama' && run.eta !== 1) {
      uses('functools', 'partial');
      steps[0] = `partial(euler_maruyama, eta=${literal(run.eta)})`;
    }
    if (run.corrector_steps > 0) {
      uses('functools', 'partial');
      uses('steps', 'annealed_langevin');
      steps.push(`partial(annealed_langevin, snr=${short(run.snr)}, n_steps=${run.corrector_steps})`);
    }
    if (run.wrong === 'backwards') steps.reverse();
    return [...lines, `solver = walk(${steps.join(', ')})`];
  }

  function distance_lines(run, dim, uses) {
    const free = run.known === 'none' ? null : run.known === 'x' ? 1 : 0;
    if (dim === 1) {
      uses('metrics', 'wasserstein');
      return [`print(wasserstein(x, ${run.label > 0 ? 'part' : 'target'}.quantile))`];
    }
    uses('metrics', run.label === 0 && free !== null ? 'wasserstein' : 'energy_distance');
    if (run.label > 0 || free === null)
      return [`print(energy_distance(x, ${run.label > 0 ? 'part' : 'target'}.sample(len(x))))`];
    const row = run.known === 'x' ? '[[1.0, 0.0]]' : '[[0.0, 1.0]]';
    return [
      `exact = target.condition(torch.tensor(${row}), ${tensor([literal(run.value)])}, 1e-3)`,
      `free = slice(${free}, ${free + 1})`,
      'law = GaussianMixture(exact.weights, exact.means[:, free], exact.covs[:, free, free][..., 0])',
      'print(wasserstein(x[:, free], law.quantile))',
    ];
  }

  /** The body of the program that draws digits. */
  function digits_lines(run, uses) {
    const sde = sde_line(run, uses);
    const { n, std } = sdelib.run.DIGITS;
    const lines = [sde, 'score = digits_score()'];
    uses('learned', 'digits_score');
    uses('samplers', 'sample');
    uses('samplers', run.grid);
    if (run.label > 0) {
      uses('functools', 'partial');
      uses('guidance', 'classifier_free');
      lines.push(`score = classifier_free(partial(score, label=${run.label - 1}), score, ${short(run.scale)})`);
    }
    if (sde !== 'sde = VPSDE()') {
      uses('score', 'translate');
      uses('sde', 'VPSDE');
      lines.push('score = translate(score, VPSDE(), sde)');
    }
    return [
      ...lines,
      ...solver_lines(run, std, uses),
      `x = sample(score, sde, (${n}, 1, 8, 8), solver, n_steps=${run.n_steps}, grid=${run.grid})`,
      'print(f"mean {x.mean():.2f}, deviation {x.std():.2f}")',
    ];
  }

  /** The body of the program that draws points. */
  function points_lines(state, run, uses) {
    const dim = state.target === 'line' ? 1 : 2;
    const lines = [...target_lines(state, uses), sde_line(run, uses)];
    if (state.direction === 'forward')
      return [
        ...lines,
        `x = target.sample(${state.n})`,
        'for t in torch.linspace(0, 1, 5):',
        '    x_t, _ = sde.perturb(x, t)',
        '    print(f"t = {t:.2f}: standard deviation {x_t.std():.3f}")',
      ];
    uses('samplers', 'sample');
    uses('samplers', run.grid);
    return [
      ...lines,
      ...score_lines(run, uses),
      ...solver_lines(run, sdelib.run.scale_of(sdelib.run.target_of(state)), uses),
      `x = sample(score, sde, (${state.n}, ${dim}), solver, n_steps=${run.n_steps}, grid=${run.grid})`,
      ...distance_lines(run, dim, uses),
    ];
  }

  /** The program for one run. */
  function program(state, run) {
    const used = {};
    const uses = (module, name) => {
      used[module] ??= new Set();
      used[module].add(name);
    };
    const body = state.target === 'digits' ? digits_lines(run, uses) : points_lines(state, run, uses);
    const imports = [
      ...(used['']?.has('math') ? ['import math'] : []),
      ...(used.functools ? ['from functools import partial'] : []),
      ...(used[''] || used.functools ? [''] : []),
      'import torch',
      '',
      ...Object.keys(used)
        .filter((module) => module && module !== 'functools')
        .sort()
        .map((module) => `from sdelib.${module} import ${[...used[module]].sort().join(', ')}`),
      '',
      `torch.manual_seed(${state.seed})`,
    ];
    const text = [...imports, ...body].join('\n').replace(/\n{4,}/g, '\n\n\n');
    return `${text}\n`;
  }

  sdelib.python = { program };
})();
